"""Rotary frequencies, plain ones and such as are scaled to reach further than a model was trained, and their angles."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .constants import made_once
from .layout import Layout
from .rows import document_starts
from .tokens import look_up


def rope_turned(
    positions: Tensor, frequencies: Tensor, dtype: torch.dtype, attention_factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, S, 1, P] of positions times the frequencies of P pairs, computed in float32, cast to `dtype`.

    Positions are [B, S], or [B, S, P]: each pair's own. Both are multiplied by `attention_factor` before they are cast.
    """
    angles = (positions[..., None] if positions.ndim == 2 else positions).float()[:, :, None] * frequencies
    return (angles.cos() * attention_factor).to(dtype), (angles.sin() * attention_factor).to(dtype)


def powers(size: int, device: torch.device) -> Tensor:
    """0, 2 / size, 4 / size ... [size / 2]: what theta is raised to."""
    return torch.arange(0, size, 2, device=device, dtype=torch.int64).float() / size


def plain_frequencies(size: int, theta: float, device: torch.device) -> Tensor:
    """Each pair's frequency [size / 2]: 1 / theta^(2i / size)."""
    return 1.0 / theta ** powers(size, device)


@made_once
def linear_frequencies(size: int, theta: float, device: torch.device, *, factor: float) -> Tensor:
    """Each pair's frequency [size / 2] divided by `factor`."""
    return plain_frequencies(size, theta, device) / factor


@made_once
def llama3_frequencies(
    size: int,
    theta: float,
    device: torch.device,
    *,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_length: int,
) -> Tensor:
    """Frequencies [size / 2] as Llama 3.1 has them: low ones divided by `factor`, high ones left, a ramp between."""
    plain = plain_frequencies(size, theta, device)
    waves = 2 * math.pi / plain
    lowered = torch.where(waves > original_length / low_freq_factor, plain / factor, plain)
    share = (original_length / waves - low_freq_factor) / (high_freq_factor - low_freq_factor)
    between = (waves >= original_length / high_freq_factor) & (waves <= original_length / low_freq_factor)
    return torch.where(between, (1 - share) * lowered / factor + share * lowered, lowered)


@made_once
def yarn_frequencies(
    size: int,
    theta: float,
    device: torch.device,
    *,
    factor: float,
    beta_fast: float,
    beta_slow: float,
    original_length: int,
    truncate: bool,
) -> Tensor:
    """Frequencies [size / 2] as YaRN has them (arXiv 2309.00071): a ramp from plain to divided ones."""
    first, last = (
        size * math.log(original_length / (turns * 2 * math.pi)) / (2 * math.log(theta))
        for turns in (beta_fast, beta_slow)
    )
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    last += 0.001 if first == last else 0  # a ramp has a length
    ramp = ((torch.arange(size // 2, device=device, dtype=torch.float32) - first) / (last - first)).clamp(0, 1)
    raised = theta ** powers(size, device)
    kept = 1 - ramp
    return 1.0 / (factor * raised) * (1 - kept) + 1.0 / raised * kept


def dynamic_frequencies(
    size: int, theta: float, device: torch.device, *, factor: float, original_length: int, lengths: Tensor
) -> Tensor:
    """Frequencies [B, S, 1, size / 2] of a theta that grows with the length int64 [B, S] of a token's document."""
    grown = theta * ((factor * lengths.float() / original_length) - (factor - 1)) ** (size / (size - 2))
    base = torch.where(lengths > original_length, grown, theta)
    return 1.0 / base[:, :, None, None] ** powers(size, device)


def lengths_of(positions: Tensor, layout: Layout) -> Tensor:
    """Of each token the length int64 [R, L] of its document: one more than its largest position, on any axis."""
    positions = positions.amax(dim=2) if positions.ndim == 3 else positions
    if layout.document_ids is None:
        return (positions.amax(dim=1, keepdim=True) + 1).expand_as(positions)
    numbers = document_starts(layout.modality_ids, layout.document_ids).flatten().cumsum(0)
    document = look_up(numbers, layout.rows.slots, 0)  # 0: none
    largest = positions.new_zeros(numbers.numel() + 1)
    return largest.scatter_reduce(0, document.flatten(), positions.flatten(), "amax")[document] + 1


def of_modalities(layout: Layout, frequencies: tuple[Tensor, ...]) -> Tensor:
    """Each token's frequencies [R, L, 1, P]: those of its modality, of which there is one [P] or [R, L, 1, P] each."""
    modality_ids = layout.rows.modality_ids
    chosen = frequencies[0]
    for modality, others in enumerate(frequencies[1:], 1):
        chosen = torch.where((modality_ids == modality)[:, :, None, None], others, chosen)
    return chosen
