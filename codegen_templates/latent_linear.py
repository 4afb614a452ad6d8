"""Ends of a continuous modality: linear maps of patches, and a timestep's embedding."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from .latent_table import SineTable
from .latent_time import ConcatTime, NoTime, TimestepEmbedding


class LinearEnds(nn.Module):
    """A patch's numbers to a token and back; a token also has its timestep's vector added, or what else `time` does.

    With a `table` it has what that says of its place added, before it is told the timestep.
    `patch` is how much of a latent a token has along each axis: a number for both sides of an image, or one each for
    the axes of a sequence, an image or a volume.
    """

    def __init__(
        self,
        channels: int,
        patch: int | tuple[int, ...],
        width: int,
        time: TimestepEmbedding | ConcatTime | NoTime | None = None,
        table: SineTable | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.patch = (patch, patch) if isinstance(patch, int) else patch
        self.encode = nn.Linear(channels * prod(self.patch), width)
        self.time = TimestepEmbedding(256, width) if time is None else time
        self.table = table
        self.decode = nn.Linear(width, channels * prod(self.patch))

    def tokens(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens [n * patches, w] of noised latents [n, channels, ...] at timesteps [n], and what to keep."""
        count, channels, *sides = latents.shape
        axes = range(len(self.patch))
        cut = latents.reshape(count, channels, *self.cut(sides))
        patches = cut.permute(0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
        patches = patches.flatten(1 + len(self.patch)).flatten(1, -2)
        tokens = self.encode(patches)
        if self.table is not None:
            tokens = tokens + self.table.of(tuple(self.cut(sides)[::2]), tokens)
        x = self.time.told(tokens, timesteps)
        return x.flatten(0, 1), [latents]

    def prediction(self, states: Tensor, kept: list[Tensor]) -> Tensor:
        """What states [n * patches, w] predict, in the latents' shape."""
        count, channels, *sides = kept[0].shape
        axes = range(len(self.patch))
        cut = self.decode(states).view(count, *self.cut(sides)[::2], channels, *self.patch)
        turned = (place for axis in axes for place in (1 + axis, 2 + len(self.patch) + axis))
        predicted: Tensor = cut.permute(0, 1 + len(self.patch), *turned).reshape(kept[0].shape)
        return predicted

    def cut(self, sides: list[int]) -> list[int]:
        """The sides of a latent as how many patches there are along each and how much of it each has, in turns."""
        return [number for side, size in zip(sides, self.patch, strict=True) for number in (side // size, size)]
