"""Ends of a continuous modality: a convolutional U-Net with the transformer in its middle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .initialise import fill_normal
from .latent_time import TimestepEmbedding


class GroupNorm(nn.Module):
    """A norm of an image in 32 groups of channels, or as many fewer as divide them into groups of 8 at least.

    Statistics in float32 or wider.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.groups = next(n for n in (32, 16, 8, 4, 2, 1) if channels % n == 0 and (channels >= 8 * n or n == 1))

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide.reshape(count, self.groups, channels // self.groups * height * width)
        y = F.layer_norm(wide, wide.shape[-1:], eps=1e-5).view(x.shape).to(x.dtype)
        return self.weight[:, None, None] * y + self.bias[:, None, None]


class ResidualBlock(nn.Module):
    """Two convolutions of images, a timestep's vector added between (Ho et al., 2006.11239)."""

    def __init__(self, narrow: int, wide: int, time: int) -> None:
        super().__init__()
        self.norm_in = GroupNorm(narrow)
        self.conv_in = nn.Conv2d(narrow, wide, 3, padding=1)
        self.time = nn.Linear(time, wide)
        self.norm_out = GroupNorm(wide)
        self.conv_out = nn.Conv2d(wide, wide, 3, padding=1)
        self.skip = nn.Identity() if narrow == wide else nn.Conv2d(narrow, wide, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x))) + self.time(time)[:, :, None, None]
        y: Tensor = self.skip(x) + self.conv_out(F.silu(self.norm_out(h)))
        return y


class UnetEnds(nn.Module):
    """Residual blocks down to one pixel a patch, which is a token, and up again with skip connections.

    Level l has 2^l times the channels of the first; a patch of p x p has log2(p) + 1 levels. With `variances` twice as
    many channels are predicted.
    """

    def __init__(
        self, channels: int, patch: int, width: int, inside: int, blocks: int, variances: bool = False
    ) -> None:
        super().__init__()
        self.channels = channels
        self.patch = (patch, patch)
        wide = [inside * 2**level for level in range(patch.bit_length())]
        time = 4 * inside
        self.time = TimestepEmbedding(256, time)
        self.read = nn.Conv2d(channels, inside, 3, padding=1)
        self.down = nn.ModuleList()
        for level, size in enumerate(wide):
            first = wide[max(0, level - 1)]
            sizes = [first, *(size for _ in range(blocks - 1))]
            self.down.append(nn.ModuleList(ResidualBlock(narrow, size, time) for narrow in sizes))
        self.shrink = nn.ModuleList(nn.Conv2d(size, size, 3, stride=2, padding=1) for size in wide[:-1])
        self.encode = nn.Linear(wide[-1], width)
        self.decode = nn.Linear(width, wide[-1])
        self.up = nn.ModuleList(
            nn.ModuleList(ResidualBlock(2 * size, size, time) for _ in range(blocks)) for size in wide
        )
        self.grow = nn.ModuleList(nn.Conv2d(2 * size, size, 3, padding=1) for size in wide[:-1])
        self.norm = GroupNorm(inside)
        self.write = nn.Conv2d(inside, (1 + variances) * channels, 3, padding=1)

    def tokens(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens [n * patches, w] of noised latents [n, channels, height, width] at timesteps [n], and what to keep."""
        time = F.silu(self.time(timesteps))
        x, kept = self.read(latents), [time]
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, time)
                kept.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        return self.encode(x.flatten(2).transpose(1, 2)).flatten(0, 1), kept

    def prediction(self, states: Tensor, kept: list[Tensor]) -> Tensor:
        """What states [n * patches, w] predict, in the latents' shape."""
        time, *skips = kept
        count, wide, rows, columns = skips[-1].shape
        x = self.decode(states).view(count, rows, columns, wide).permute(0, 3, 1, 2)
        for level in reversed(range(len(self.up))):
            for block in self.up[level]:  # type: ignore[attr-defined]
                x = block(torch.cat((x, skips.pop()), dim=1), time)
            if level > 0:
                x = self.grow[level - 1](x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
        predicted: Tensor = self.write(F.silu(self.norm(x)))
        return predicted


@torch.no_grad()
def initialise_convolutions(model: nn.Module, seed: int) -> None:
    """Weights of convolutions ~ N(0, 1 / fan-in), drawn as the others are."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            deviation = module.weight[0].numel() ** -0.5
            fill_normal(module.weight, f"{int(seed)}:{path}", deviation)
