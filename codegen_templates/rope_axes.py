"""Rotary positions on several axes, such as time, height and width: each pair of components turns by one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import constant, made_once
from .rope_frequencies import plain_frequencies


def on_axes(positions: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The positions [B, S, P] of P pairs, each on its axis; positions [B, S] are those on all, and stay as they are."""
    return positions if positions.ndim == 2 else positions[..., constant(axes, positions.device)]


def split_axes(*pairs: int) -> tuple[int, ...]:
    """Each pair's axis where an axis's pairs follow one another: (0, 0, 1, 1, 1, 2) of 2, 3 and 1."""
    return tuple(axis for axis, count in enumerate(pairs) for _ in range(count))


def interleaved_axes(*pairs: int) -> tuple[int, ...]:
    """Each pair's axis where axes take turns; the first has what others leave: (0, 1, 2, 0, 1, 0) of 3, 2 and 1."""
    turns = (divmod(place, len(pairs)) for place in range(sum(pairs)))
    return tuple(axis if turn < pairs[axis] else 0 for turn, axis in turns)


def spatial_first_axes(*pairs: int) -> tuple[int, ...]:
    """Each pair's axis where those after the first take turns, as many pairs each, and then comes the first."""
    return tuple(range(1, len(pairs))) * pairs[1] + (0,) * pairs[0]


@made_once
def axis_frequencies(sizes: tuple[int, ...], theta: float | tuple[float, ...], device: torch.device) -> Tensor:
    """The pairs' frequencies of axes of so many components, each axis's by itself; theta may be each axis's own."""
    thetas = theta if isinstance(theta, tuple) else (theta,) * len(sizes)
    return torch.cat([plain_frequencies(size, base, device) for size, base in zip(sizes, thetas, strict=True)])
