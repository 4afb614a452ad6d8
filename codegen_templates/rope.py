"""Rotary positions (Su et al., arXiv 2104.09864)."""

import torch
from torch import Tensor


def rope_angles(position_ids: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine [B, S, 1, head_dim / 2] of each position's angles, computed in float32, cast to `dtype`."""
    powers = torch.arange(0, head_dim, 2, device=position_ids.device, dtype=torch.int64).float() / head_dim
    angles = position_ids.float()[:, :, None, None] * (1.0 / theta**powers)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim / 2) of x [B, S, heads, head_dim]."""
    rows, cos, sin = (y.flatten(0, 1) for y in (x, cos, sin))  # torch 2.11 joins no more than three dimensions
    a, b = rows.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).view_as(x)


def rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1) of x [B, S, heads, head_dim]."""
    rows, cos, sin = (y.flatten(0, 1) for y in (x, cos, sin))
    a, b = torch.unflatten(rows, -1, (-1, 2)).unbind(-1)  # whose gradient is one stack: those of two slices are summed
    rotated = (a * cos - b * sin, b * cos + a * sin)
    return torch.stack([y.flatten(1) for y in rotated], dim=-1).view_as(x)
