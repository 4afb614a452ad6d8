"""What a model with continuous modalities refuses of latents, timesteps and noise."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor

from .constants import on_device
from .rows_compact import compact_rows
from .tokens import look_up

AXES = {1: ("length",), 2: ("height", "width"), 3: ("frames", "height", "width")}
"""What the axes of a sequence, an image and a volume are called."""


def product_words(sides: Sequence[int]) -> str:
    """Sides in words: `4 x 6`."""
    return " x ".join(map(str, sides))


def patch_words(patch: Sequence[int]) -> str:
    """A patch in words: a number where it is the same along each axis."""
    return str(patch[0]) if len(set(patch)) == 1 else product_words(patch)


def is_cut(sides: Sequence[int], patch: Sequence[int]) -> bool:
    """Whether the sides of a latent are multiples of its patch's."""
    return not any(side % size for side, size in zip(sides, patch, strict=True))


def grid_in(sides: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """How many patches a latent of these sides has along each axis."""
    return tuple(side // size for side, size in zip(sides, patch, strict=True))


def patches_in(sides: Sequence[int], patch: Sequence[int]) -> int:
    """How many patches a latent of these sides has."""
    return prod(grid_in(sides, patch))


def by_modality(
    kind: str, given: Any, modalities: Iterable[str], called: str, values: str = "tensors"
) -> Mapping[str, Any]:
    """What is given for modalities, `called` so, whatever its `values` are; None is for none.

    Raises TypeError for no dict, and ValueError for other names than these.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{kind} must be a dict of {values} by modality, not {type(given).__name__}")
    for name in given:
        if name not in modalities:
            known = ", ".join(modalities) or "it has none"
            raise ValueError(f"{reprlib.repr(name)} is no {called} of this model: {known}")
    return given


def named(
    kind: str, given: Any, modalities: Iterable[str], called: str = "continuous modality"
) -> Mapping[str, Tensor]:
    """The tensors that are given for continuous modalities, `called` so; None is for none.

    Raises TypeError or ValueError for what is not.
    """
    tensors: Mapping[str, Tensor] = by_modality(kind, given, modalities, called)
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{kind} of {name} must be a tensor, not {type(value).__name__}")
    return tensors


def check_floating(kind: str, name: str, values: Tensor) -> None:
    """Raise ValueError for latents, or noise, of another kind of number."""
    if not values.is_floating_point():
        raise ValueError(f"{kind} of {name} must be floating-point numbers, not {values.dtype}")


def check_timesteps(name: str, timesteps: Tensor, spans: int, whole: bool = False) -> None:
    """Raise ValueError for timesteps of another shape than there are spans, or that are no numbers, or not `whole`."""
    if timesteps.shape != (spans,):
        raise ValueError(f"timesteps of {name} must be [{spans}], one a span, not {[*timesteps.shape]}")
    if timesteps.is_complex() or timesteps.dtype == torch.bool or (whole and timesteps.is_floating_point()):
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"timesteps of {name} must be {kind}, not {timesteps.dtype}")


def outside(timesteps: Tensor, objective: Any) -> Tensor:
    """Which timesteps [n] the objective does not have, NaN among them."""
    within: Tensor = (timesteps >= 0) & (timesteps <= objective.last)
    return ~within


def check_latents(name: str, latents: Tensor, timesteps: Tensor | None, ends: Any) -> None:
    """Raise ValueError for latents or timesteps of another shape or kind than a modality's ends take."""
    if latents.ndim != 2 + len(ends.patch) or latents.shape[1] != ends.channels:
        axes = ", ".join(AXES[len(ends.patch)])
        raise ValueError(f"latents of {name} must be [spans, {ends.channels}, {axes}], not {[*latents.shape]}")
    if not is_cut(latents.shape[2:], ends.patch):
        raise ValueError(
            f"latents of {name} are {product_words(latents.shape[2:])}: no multiple of {patch_words(ends.patch)}"
        )
    check_floating("latents", name, latents)
    if timesteps is None:
        raise ValueError(f"latents of {name} need timesteps: timesteps={{{name!r}: [{latents.shape[0]}]}}")
    check_timesteps(name, timesteps, latents.shape[0])


def check_spans(
    name: str, latents: Tensor, timesteps: Tensor | None, ends: Any, objective: Any, layout: Any, modality: int
) -> None:
    """Raise ValueError unless each span of a modality has one latent, whose patches are its tokens.

    A span is a longest run of its tokens in one document; padding does not break it. Latents must be finite.
    """
    assert timesteps is not None
    length = patches_in(latents.shape[2:], ends.patch)
    lengths = [length] * latents.shape[0]
    uneven = _refuse_spans(name, lengths, latents, timesteps, objective, layout, modality)
    if uneven:
        size = product_words(latents.shape[2:])
        raise ValueError(f"a span of {name} has another number of tokens than the {length} patches of {size} latents")


def check_patched(
    name: str, latents: Any, timesteps: Tensor | None, objective: Any, layout: Any, modality: int
) -> None:
    """The same of latents that are patches, which may be of several sizes."""
    moments = latents.spans.shape[0]
    if timesteps is None:
        raise ValueError(f"latents of {name} need timesteps: timesteps={{{name!r}: [{len(latents.grids)}]}}")
    check_timesteps(name, timesteps, moments)
    uneven = _refuse_spans(name, latents.lengths, latents.patches, timesteps, objective, layout, modality)
    if uneven:
        sizes = ", ".join(map(product_words, latents.grids))
        raise ValueError(f"spans of {name} have other numbers of tokens than the patches of their latents: {sizes}")


def _refuse_spans(
    name: str, lengths: list[int], latents: Tensor, timesteps: Tensor, objective: Any, layout: Any, modality: int
) -> bool:
    """Raise ValueError unless there are as many spans as `lengths`, and for what is no number or no timestep.

    Whether the spans have other numbers of tokens than these.
    """
    slots = compact_rows(layout.modality_ids)
    mine = look_up(layout.modality_ids.flatten(), slots, -1) == modality
    goes_on = mine[:, 1:] & mine[:, :-1]
    if layout.document_ids is not None:
        documents = look_up(layout.document_ids.flatten(), slots, -1)
        goes_on = goes_on & (documents[:, 1:] == documents[:, :-1])
    starts = mine.clone()
    starts[:, 1:] &= ~goes_on
    first = (mine.flatten().cumsum(0) - 1)[starts.flatten()]  # which of the modality's tokens begins each span
    begins = on_device([0, *accumulate(lengths)], first.device)
    expected = begins[: first.shape[0]] if first.shape[0] == len(lengths) else first
    numbers = torch.stack(
        [
            mine.sum(),
            starts.sum(),
            (first != expected).sum(),
            (~latents.isfinite()).sum().to(first.device),
            outside(timesteps, objective).sum().to(first.device),
        ]
    )
    tokens, spans, uneven, broken, beyond = numbers.tolist()
    if spans != len(lengths):
        raise ValueError(f"modality_ids have {spans} spans of {name}, and there are latents for {len(lengths)}")
    if uneven or tokens != sum(lengths):
        return True
    if broken:
        raise ValueError(f"{broken} of the numbers in the latents of {name} are infinite or NaN")
    if beyond:
        raise ValueError(f"timesteps of {name} must be 0..{objective.last}; {beyond} are not")
    return False


def check_features(name: str, features: Tensor, shape: tuple[int, ...], mine: Tensor) -> None:
    """Raise ValueError unless features are numbers [..., *shape], as many as a modality has tokens, `mine`."""
    check_floating("features", name, features)
    if features.ndim <= len(shape) or features.shape[-len(shape) :] != shape:
        what = ", of each token its vector and those that are added after layers" if len(shape) > 1 else ""
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"features of {name} must be [tokens, {sizes}]{what}, not {[*features.shape]}")
    if features.device != mine.device:
        raise ValueError(f"features of {name} must be on {mine.device} as modality_ids, not on {features.device}")
    tokens, broken = torch.stack([mine.sum(), (~features.isfinite()).sum()]).tolist()
    vectors = features.numel() // prod(shape)
    if tokens != vectors:
        raise ValueError(f"modality_ids have {tokens} tokens of {name}, and there are features for {vectors}")
    if broken:
        raise ValueError(f"{broken} of the numbers in the features of {name} are infinite or NaN")
