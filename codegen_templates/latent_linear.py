"""Ends of a continuous modality: linear maps of patches, and a timestep's embedding."""

from __future__ import annotations

from torch import Tensor, nn

from .latent_time import TimestepEmbedding


class LinearEnds(nn.Module):
    """A patch's channels x patch x patch numbers to a token and back; a token also has its timestep's vector added."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.patch = patch
        self.encode = nn.Linear(channels * patch**2, width)
        self.time = TimestepEmbedding(256, width)
        self.decode = nn.Linear(width, channels * patch**2)

    def tokens(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens [n * patches, w] of noised latents [n, channels, height, width] at timesteps [n], and what to keep."""
        count, channels, height, width = latents.shape
        rows, columns = height // self.patch, width // self.patch
        cut = latents.reshape(count, channels, rows, self.patch, columns, self.patch)
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x = self.encode(patches) + self.time(timesteps)[:, None]
        return x.flatten(0, 1), [latents]

    def prediction(self, states: Tensor, kept: list[Tensor]) -> Tensor:
        """What states [n * patches, w] predict, in the latents' shape."""
        count, channels, height, width = kept[0].shape
        rows, columns = height // self.patch, width // self.patch
        cut = self.decode(states).view(count, rows, columns, channels, self.patch, self.patch)
        predicted: Tensor = cut.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, height, width)
        return predicted
