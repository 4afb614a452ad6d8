"""What a continuous modality's ends are made of: their parameters, a contract with checkpoints, and their products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from motc.ir.parameters import Parameterised

EndsKind = Literal["linear", "unet"]
Fit = Literal["crop", "interpolate"]

TIME_FREQUENCIES = 256
"""Numbers of a timestep's sinusoidal embedding, as in DiT (Peebles and Xie, arXiv 2212.09748)."""

KERNEL = 3

AXES = {1: ("length",), 2: ("height", "width"), 3: ("frames", "height", "width")}
"""What the axes of a latent are called behind its channels, by their number: of a sequence, an image or a volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndLayer:
    """A linear map, a convolution or (`is_norm`) a norm.

    `name` is its parameters' after `latents.MODALITY.`; `times` says how often a token goes through it, or a span where
    it is of the timestep.
    """

    name: str
    shape: tuple[int, ...]
    times: int = 1
    per_latent_span: bool = False
    is_norm: bool = False
    bias: bool = True

    @property
    def flops(self) -> int:
        """Of its products, for one token or one span."""
        return 0 if self.is_norm else 2 * prod(self.shape) * self.times


@dataclass(frozen=True, slots=True, kw_only=True)
class Unet:
    """A U-Net's channels at the first level, and its residual blocks a level on each side."""

    channels: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatTime:
    """A timestep's sinusoids, as many as a token has numbers, that go with each token through two maps.

    Their periods are from the one to the other, the whole of the noise's course being 1.
    """

    min_period: float
    max_period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SineTable:
    """Sines of a token's row and column in an image that are added to it. Places are counted or, with a `base`, go from
    0 to below that whatever the sides; with a `crop` the grid is the middle of one of that size, whose places do.
    """

    base: int | None = None
    crop: int | None = None

    @property
    def most(self) -> tuple[int, int] | None:
        """How many rows and columns an image may have; None for any."""
        return None if self.crop is None else (self.crop, self.crop)

    def __str__(self) -> str:
        """`sines of rows and columns to 16, of 96`."""
        base = "" if self.base is None else f" to {self.base}"
        return f"sines of rows and columns{base}{'' if self.crop is None else f', of {self.crop}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceTable:
    """A learnt vector for each row and column, which is added to the tokens there.

    An image of fewer patches has the middle of the table, `crop`, or one of any size the table brought to it.
    """

    rows: int
    columns: int
    fit: Fit = "crop"

    @property
    def most(self) -> tuple[int, int] | None:
        """How many rows and columns an image may have; None for any."""
        return (self.rows, self.columns) if self.fit == "crop" else None

    def __str__(self) -> str:
        """`a table of 32 x 32 places, crop`."""
        return f"a table of {self.rows} x {self.columns} places, {self.fit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentEnds(Parameterised):
    """What makes tokens of `width` from patches of a noised latent and a timestep, and a prediction from states.

    Linear maps, unless there is a U-Net. A timestep's vector, of `time_size` sinusoids of the timestep times
    `time_scale`, is added to linear ends' tokens, unless `time` says otherwise, or they are `untimed`; a `table` says
    more of their places. Their map of patches may have no `bias`, that of states no `out_bias`. With `variances` twice
    as many channels are predicted.
    `patch` is how much of a latent a token has along each of its axes: of images a number, if it is the same for both;
    else one for each of length, of height and width, or of frames, height and width.
    """

    channels: int
    patch: int | tuple[int, ...]
    width: int
    unet: Unet | None
    time: ConcatTime | None = None
    untimed: bool = False
    time_scale: float = 1.0
    time_size: int = TIME_FREQUENCIES
    table: SineTable | PlaceTable | None = None
    bias: bool = True
    out_bias: bool = True
    variances: bool = False

    @property
    def predicted(self) -> int:
        """How many channels are predicted."""
        return 2 * self.channels if self.variances else self.channels

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """How much of a latent a token has along each of its axes."""
        return (self.patch, self.patch) if isinstance(self.patch, int) else self.patch

    @property
    def words(self) -> str:
        """How wide a patch is: `2`, `1 x 4`, or of other than images `1 x 2 x 2 of frames, height, width`."""
        if isinstance(self.patch, int):
            return str(self.patch)
        axes = "" if len(self.patch) == 2 else f" of {', '.join(AXES[len(self.patch)])}"
        return " x ".join(map(str, self.patch)) + axes

    @property
    def told(self) -> str:
        """How linear ends are otherwise than plainly: `, no timesteps, sines of rows and columns, no bias in`."""
        parts = ["no timesteps"] * self.untimed
        if self.time is not None:
            parts.append(f"timesteps concatenated (periods {self.time.min_period:g} to {self.time.max_period:g})")
        parts += [f"timesteps times {self.time_scale:g}"] * (self.time_scale != 1)
        parts += [f"timesteps of {self.time_size} sinusoids"] * (self.time_size != TIME_FREQUENCIES)
        parts += [] if self.table is None else [str(self.table)]
        parts += [*["no bias in"] * (not self.bias), *["no bias out"] * (not self.out_bias)]
        return "".join(f", {part}" for part in parts)

    @property
    def kind(self) -> EndsKind:
        return "linear" if self.unet is None else "unet"

    def layers(self) -> tuple[EndLayer, ...]:
        """All layers of the ends, in the order of the forward."""
        if self.unet is not None:
            return tuple(_unet_layers(self, self.unet))
        numbers, predicted = (each * prod(self.patch_shape) for each in (self.channels, self.predicted))
        return (
            EndLayer(name="encode", shape=(self.width, numbers), bias=self.bias),
            *(_places(self.table, self.width) if isinstance(self.table, PlaceTable) else ()),
            *self._told_time(),
            EndLayer(name="decode", shape=(predicted, self.width), bias=self.out_bias),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each parameter's name after `latents.MODALITY.`, and its shape."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.layers():
            shapes[f"{layer.name}.weight"] = layer.shape
            shapes |= {f"{layer.name}.bias": layer.shape[:1]} if layer.bias else {}
        return shapes

    @property
    def flops(self) -> int:
        """Of a token's patch, in and out; a convolution is a linear map for each pixel that it makes."""
        return sum(layer.flops for layer in self.layers() if not layer.per_latent_span)

    def _told_time(self) -> tuple[EndLayer, ...]:
        """What tells linear ends' tokens their timestep."""
        if self.untimed:
            return ()
        return _time(self.width, self.time_size) if self.time is None else _concat_time(self.width)

    @property
    def latent_span_flops(self) -> int:
        """Of the timestep."""
        return sum(layer.flops for layer in self.layers() if layer.per_latent_span)


def _places(table: PlaceTable, width: int) -> tuple[EndLayer, ...]:
    return (EndLayer(name="table", shape=(table.rows * table.columns, width), times=0, bias=False),)


def _time(width: int, size: int = TIME_FREQUENCIES) -> tuple[EndLayer, ...]:
    return (
        EndLayer(name="time.hidden", shape=(width, size), per_latent_span=True),
        EndLayer(name="time.embed", shape=(width, width), per_latent_span=True),
    )


def _concat_time(width: int) -> tuple[EndLayer, ...]:
    return (EndLayer(name="time.hidden", shape=(width, 2 * width)), EndLayer(name="time.embed", shape=(width, width)))


def _unet_layers(ends: LatentEnds, unet: Unet) -> Iterator[EndLayer]:
    """Down to a pixel a token, and up again; level l has 2^l times the channels of the first, and 4^-l the pixels."""
    channels = [unet.channels * 2**level for level in range(ends.patch_shape[0].bit_length())]
    pixels = [4 ** (len(channels) - 1 - level) for level in range(len(channels))]
    time = 4 * unet.channels
    yield from _time(time)
    yield _convolution("read", ends.channels, channels[0], pixels[0])
    for level, wide in enumerate(channels):
        for block in range(unet.blocks):
            narrow = channels[max(0, level - 1)] if block == 0 else wide
            yield from _block(f"down.{level}.{block}", narrow, wide, time, pixels[level])
        if level + 1 < len(channels):
            yield _convolution(f"shrink.{level}", wide, wide, pixels[level + 1])
    yield EndLayer(name="encode", shape=(ends.width, channels[-1]))
    yield EndLayer(name="decode", shape=(channels[-1], ends.width))
    for level, wide in reversed(list(enumerate(channels))):
        for block in range(unet.blocks):
            yield from _block(f"up.{level}.{block}", 2 * wide, wide, time, pixels[level])
        if level > 0:
            yield _convolution(f"grow.{level - 1}", wide, channels[level - 1], pixels[level - 1])
    yield EndLayer(name="norm", shape=(channels[0],), is_norm=True)
    yield _convolution("write", channels[0], ends.predicted, pixels[0])


def _block(name: str, narrow: int, wide: int, time: int, pixels: int) -> Iterator[EndLayer]:
    yield EndLayer(name=f"{name}.norm_in", shape=(narrow,), is_norm=True)
    yield _convolution(f"{name}.conv_in", narrow, wide, pixels)
    yield EndLayer(name=f"{name}.time", shape=(wide, time), per_latent_span=True)
    yield EndLayer(name=f"{name}.norm_out", shape=(wide,), is_norm=True)
    yield _convolution(f"{name}.conv_out", wide, wide, pixels)
    if narrow != wide:
        yield EndLayer(name=f"{name}.skip", shape=(wide, narrow, 1, 1), times=pixels)


def _convolution(name: str, narrow: int, wide: int, pixels: int) -> EndLayer:
    return EndLayer(name=name, shape=(wide, narrow, KERNEL, KERNEL), times=pixels)
