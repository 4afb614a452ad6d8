"""Ends of a continuous modality: linear maps of patches, and a timestep's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from .latent_places import PlaceTable
from .latent_table import SineTable
from .latent_time import ConcatTime, NoTime, TimestepEmbedding
from .patched import Patched


class LinearEnds(nn.Module):
    """A patch's numbers to a token and back; a token also has its timestep's vector added, or what else `time` does.

    With a `table` it has what that says of its place added, before it is told the timestep. `bias` is of the map to
    tokens, `out_bias` of that from states, which with `variances` predicts twice as many channels.
    `patch` is how much of a latent a token has along each axis: a number for both sides of an image, or one each for
    the axes of a sequence, an image or a volume.
    """

    def __init__(
        self,
        channels: int,
        patch: int | tuple[int, ...],
        width: int,
        time: TimestepEmbedding | ConcatTime | NoTime | None = None,
        table: SineTable | PlaceTable | None = None,
        bias: bool = True,
        out_bias: bool = True,
        variances: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.patch = (patch, patch) if isinstance(patch, int) else patch
        self.encode = nn.Linear(channels * prod(self.patch), width, bias=bias)
        self.time = TimestepEmbedding(256, width) if time is None else time
        self.table = table
        self.decode = nn.Linear(width, (1 + variances) * channels * prod(self.patch), bias=out_bias)

    def tokens(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens [n * patches, w] of noised latents [n, channels, ...] at timesteps [n], and what to keep."""
        tokens = self.encode(self.cut_up(latents))
        if self.table is not None:
            rows, columns = self.cut(list(latents.shape[2:]))[::2]
            tokens = tokens + self.table.of((rows, columns), tokens)
        x = self.time.told(tokens, timesteps)
        return x.flatten(0, 1), [latents]

    def tokens_of_patches(self, latents: Patched, timesteps: Tensor) -> tuple[Tensor, list[Patched]]:
        """Tokens [P, w] of noised latents that are patches, at the timesteps [M] of their moments, and what to keep."""
        tokens = self.encode(latents.patches)
        if self.table is not None and latents.grids:
            tokens = tokens + torch.cat([self.table.of((rows, columns), tokens) for rows, columns in latents.grids])
        return self.time.told(tokens, timesteps, latents.moments), [latents]

    def prediction(self, states: Tensor, kept: Sequence[Tensor | Patched]) -> Tensor:
        """What states [n * patches, w] predict, in the latents' shape; of patches, patches [P, channels * patch].

        Where variances are predicted too, there are as many channels more.
        """
        numbers: Tensor = self.decode(states)
        (latents,) = kept
        if isinstance(latents, Patched):
            return numbers
        count, _, *sides = latents.shape
        return self.put_together(numbers, count, self.cut(sides)[::2])

    def cut_up(self, latents: Tensor) -> Tensor:
        """The patches [n, P, channels * patch] of latents [n, channels, ...], the last axis fastest."""
        count, channels, *sides = latents.shape
        axes = range(len(self.patch))
        cut = latents.reshape(count, channels, *self.cut(sides))
        patches = cut.permute(0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
        return patches.flatten(1 + len(self.patch)).flatten(1, -2)

    def put_together(self, patches: Tensor, count: int, grid: Sequence[int]) -> Tensor:
        """The latents [count, channels, ...] of which these are the patches [count * P, channels * patch]."""
        axes, channels = range(len(self.patch)), patches.shape[-1] // prod(self.patch)
        cut = patches.view(count, *grid, channels, *self.patch)
        turned = (place for axis in axes for place in (1 + axis, 2 + len(self.patch) + axis))
        sides = (number * size for number, size in zip(grid, self.patch, strict=True))
        return cut.permute(0, 1 + len(self.patch), *turned).reshape(count, channels, *sides)

    def cut(self, sides: list[int]) -> list[int]:
        """The sides of a latent as how many patches there are along each and how much of it each has, in turns."""
        return [number for side, size in zip(sides, self.patch, strict=True) for number in (side // size, size)]
