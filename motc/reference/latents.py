"""Continuous modalities: latents to tokens, states to predictions, and what is learnt of them, as the papers say it.

Transfusion (arXiv 2408.11039): a token is a patch of a noised latent image, with its timestep; the loss is the mean
squared error of the predicted noise (DDPM, arXiv 2006.11239, cosine schedule of arXiv 2102.09672), or of the velocity
(rectified flow, arXiv 2209.03003).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from motc.reference.batch import Several
from motc.reference.operators import Parameters, linear

STEPS = 1000
FREQUENCIES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceNoising:
    """What `ddpm` predicts, and the variance that each step adds: of a cosine schedule, or between two numbers.

    With a `variance` that is learned as many channels more say where that of a step lies.
    """

    prediction: Literal["noise", "velocity", "sample"] = "noise"
    variance: Literal["fixed", "learned"] = "fixed"
    schedule: Literal["cosine", "linear", "scaled_linear"] = "cosine"
    beta_start: float = 0.0001
    beta_end: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLatent:
    """A continuous modality; `prefix` is that of its ends' parameters, `weight` its loss's in the total.

    `blocks` are the residual blocks a level of a U-Net has on each side; None: the ends are linear. `patch` is how much
    of a latent a token has along each of its axes. With `periods`, the shortest and the longest of a timestep's
    sinusoids, these go through two maps with each token of linear ends; `untimed` ones are told nothing of it; to
    others a vector is added, made of `time_size` sinusoids of the timestep times `time_scale`. With `sines`, what
    places are scaled to and of how large a grid they are, a token of `width` has its place's added. With `places`, how
    many rows and columns a learnt table has and whether it is interpolated, it has that table's.
    """

    blocks: int | None
    channels: int
    patch: tuple[int, ...]
    periods: tuple[float, float] | None = None
    untimed: bool = False
    time_scale: float = 1.0
    time_size: int = 2 * FREQUENCIES
    sines: tuple[int | None, int | None] | None = None
    places: tuple[int, int, bool] | None = None
    width: int = 0
    objective: Literal["ddpm", "flow"]
    weight: float
    prefix: str
    noising: ReferenceNoising = ReferenceNoising()
    weighting: Literal["snr", "min_snr", "sigma_sqrt", "cosmap"] | None = None
    gamma: float = 5.0


def latent_tokens(latent: ReferenceLatent, parameters: Parameters, noised: Several, timesteps: Several) -> Tensor:
    """The tokens [n * patches, width] of noised latents [n, channels, ...]: by span, the last axis fastest."""
    if latent.blocks is not None:
        assert isinstance(noised, Tensor)
        assert isinstance(timesteps, Tensor)
        return unet_down(latent, parameters, noised, timesteps)[0]
    tokens = []
    for x, times in zip(noised, timesteps, strict=True):
        for place, timestep in zip(places_of_patches(latent, x), of_patches(latent, x, times), strict=True):
            token = linear(parameters, latent.prefix + ".encode", x[place].flatten())
            if latent.sines is not None:
                token = token + sines_of(latent, latent.sines, x, place).to(token)
            if latent.places is not None:
                token = token + learnt_of(latent, latent.places, parameters, x, place)
            tokens.append(told_time(latent, parameters, token, timestep))
    weight = parameters[latent.prefix + ".encode.weight"]
    return torch.stack(tokens) if tokens else weight.new_zeros(0, weight.shape[0])


def of_patches(latent: ReferenceLatent, x: Tensor, values: Tensor) -> list[float]:
    """What a span has once, or for each frame or token of its latent [channels, ...], for each of its patches."""
    each = values.reshape(-1).tolist()
    count = math.prod(grid_of(latent, x))
    return [each[number * len(each) // count] for number in range(count)]


def sines_of(
    latent: ReferenceLatent, sines: tuple[int | None, int | None], x: Tensor, place: tuple[slice, ...]
) -> Tensor:
    """What says where a patch lies in an image [channels, height, width], [width of the stream], in float32 (MAE)."""
    base, crop = sines
    grid, corner = grid_of(latent, x), [at.start // size for at, size in zip(place[1:], latent.patch, strict=True)]
    width, parts = latent.width, []
    for side, at in reversed([*zip(grid, corner, strict=True)]):  # columns first
        whole = side if crop is None else crop
        where = torch.tensor(float((whole - side) // 2 + at))
        where = where if base is None else where / (whole / base)
        for function in (torch.sin, torch.cos):
            frequencies = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
            parts.append(function(where.double() * frequencies))
    return torch.cat(parts).float()


def learnt_of(
    latent: ReferenceLatent, places: tuple[int, int, bool], parameters: Parameters, x: Tensor, place: tuple[slice, ...]
) -> Tensor:
    """What a table has of a patch's place [width]: of its middle, or of all of it by cubic convolution (Keys, 1981)."""
    *whole, is_interpolated = places
    table = parameters[latent.prefix + ".table.weight"]
    corner = [at.start // size for at, size in zip(place[1:], latent.patch, strict=True)]
    told = table.new_zeros(table.shape[1])
    sides = [
        weights_along(side, cells, at) if is_interpolated else {cells // 2 - side // 2 + at: 1.0}
        for side, cells, at in zip(grid_of(latent, x), whole, corner, strict=True)
    ]
    for row, of_row in sides[0].items():
        for column, of_column in sides[1].items():
            told = told + of_row * of_column * table[row * whole[1] + column]
    return told


def weights_along(side: int, cells: int, at: int) -> dict[int, float]:
    """Of one of `side` places how much each of so many cells counts, those beyond the ends as the last ones."""
    if side == cells:
        return {at: 1.0}
    centre = (at + 0.5) * cells / side - 0.5
    counts: dict[int, float] = {}
    for cell in range(math.floor(centre) - 1, math.floor(centre) + 3):
        away, a = abs(centre - cell), -0.75
        near = (a + 2) * away**3 - (a + 3) * away**2 + 1
        far = a * (away**3 - 5 * away**2 + 8 * away - 4)
        inside = min(max(cell, 0), cells - 1)
        counts[inside] = counts.get(inside, 0.0) + (near if away <= 1 else far)
    return counts


def grid_of(latent: ReferenceLatent, x: Tensor) -> tuple[int, ...]:
    """How many tokens latents [..., channels, ...] have along each axis."""
    return tuple(side // size for side, size in zip(x.shape[-len(latent.patch) :], latent.patch, strict=True))


def told_time(latent: ReferenceLatent, parameters: Parameters, token: Tensor, timestep: float) -> Tensor:
    """A token [width] with its timestep's vector added, or mixed with its sinusoids as in pi0 (openpi, pi0.py)."""
    if latent.untimed:
        return token
    if latent.periods is None:
        return token + time_vector(latent, parameters, timestep)
    both = torch.cat((token, waves_of_periods(token.shape[0], latent.periods, timestep).to(token)))
    return linear(
        parameters, latent.prefix + ".time.embed", F.silu(linear(parameters, latent.prefix + ".time.hidden", both))
    )


def waves_of_periods(count: int, periods: tuple[float, float], timestep: float) -> Tensor:
    """Sines and cosines [count] of a timestep, in float32, as in pi0 (openpi, pi0.py)."""
    shortest, longest = periods
    each = shortest * (longest / shortest) ** torch.linspace(0.0, 1.0, count // 2)
    angles = 1.0 / each * 2 * math.pi * (torch.tensor(timestep, dtype=torch.float32) / STEPS)
    return torch.cat((angles.sin(), angles.cos()))


def latent_prediction(
    latent: ReferenceLatent, parameters: Parameters, states: Tensor, noised: Several, timesteps: Several
) -> Several:
    """What the tokens' states [n * patches, width] predict, in the shape of the noised latents, or of twice their
    channels.
    """
    if latent.blocks is not None:
        assert isinstance(noised, Tensor)
        assert isinstance(timesteps, Tensor)
        return unet_up(latent, parameters, states, noised, timesteps)
    patches = iter(linear(parameters, latent.prefix + ".decode", states))
    channels = latent.channels * (2 if latent.noising.variance == "learned" else 1)
    predicted = [states.new_zeros(channels, *x.shape[1:]) for x in noised]
    for y, x in zip(predicted, noised, strict=True):
        for place in places_of_patches(latent, x):
            y[place] = next(patches).reshape(channels, *latent.patch)
    if isinstance(noised, list):
        return predicted
    return torch.stack(predicted) if predicted else states.new_zeros(0, channels, *noised.shape[2:])


def places_of_patches(latent: ReferenceLatent, x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Where the patches of a latent [channels, ...] lie, all channels of each, in the order of their tokens."""
    grid = (range(0, side, size) for side, size in zip(x.shape[1:], latent.patch, strict=True))
    for corner in itertools.product(*grid):
        sides = (slice(start, start + size) for start, size in zip(corner, latent.patch, strict=True))
        yield slice(None), *sides


def time_vector(latent: ReferenceLatent, parameters: Parameters, timestep: float) -> Tensor:
    """A timestep's vector [width] (DiT, arXiv 2212.09748): cosines and sines, angles in float32, then two maps."""
    count = latent.time_size // 2
    frequencies = 1.0 / 10000.0 ** (torch.arange(count).float() / count)
    angles = latent.time_scale * (torch.tensor(timestep, dtype=torch.float32) * frequencies)
    weight = parameters[latent.prefix + ".time.hidden.weight"]
    waves = torch.cat((angles.cos(), angles.sin())).to(weight)
    return linear(
        parameters, latent.prefix + ".time.embed", F.silu(linear(parameters, latent.prefix + ".time.hidden", waves))
    )


def unet_down(
    latent: ReferenceLatent, parameters: Parameters, noised: Tensor, timesteps: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Tokens [n * patches, width], every block's images for the way up, and each span's timestep vector."""
    assert latent.blocks is not None
    times = torch.stack([F.silu(time_vector(latent, parameters, timestep)) for timestep in timesteps.tolist()])
    x, images = convolve(parameters, f"{latent.prefix}.read", noised), []
    level = 0
    while True:
        for block in range(latent.blocks):
            x = residual_block(parameters, f"{latent.prefix}.down.{level}.{block}", x, times)
            images.append(x)
        if 2**level == latent.patch[0]:
            break
        x = convolve(parameters, f"{latent.prefix}.shrink.{level}", x, stride=2)
        level += 1
    pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return linear(parameters, f"{latent.prefix}.encode", pixels), images, times


def unet_up(
    latent: ReferenceLatent, parameters: Parameters, states: Tensor, noised: Tensor, timesteps: Tensor
) -> Tensor:
    """What the tokens' states predict, from a pixel a token up to the latents' size."""
    assert latent.blocks is not None
    _, images, times = unet_down(latent, parameters, noised, timesteps)
    n, _, rows, columns = images[-1].shape
    x = linear(parameters, f"{latent.prefix}.decode", states).reshape(n, rows, columns, -1).permute(0, 3, 1, 2)
    level = len(images) // latent.blocks - 1
    while True:
        for block in range(latent.blocks):
            x = torch.cat((x, images.pop()), dim=1)
            x = residual_block(parameters, f"{latent.prefix}.up.{level}.{block}", x, times)
        if level == 0:
            break
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = convolve(parameters, f"{latent.prefix}.grow.{level - 1}", x)
        level -= 1
    return convolve(parameters, f"{latent.prefix}.write", F.silu(group_norm(parameters, f"{latent.prefix}.norm", x)))


def residual_block(parameters: Parameters, prefix: str, x: Tensor, times: Tensor) -> Tensor:
    """x (or its map to other channels) + conv(silu(norm(conv(silu(norm(x))) + time)))."""
    h = convolve(parameters, f"{prefix}.conv_in", F.silu(group_norm(parameters, f"{prefix}.norm_in", x)))
    h = h + linear(parameters, f"{prefix}.time", times)[:, :, None, None]
    h = convolve(parameters, f"{prefix}.conv_out", F.silu(group_norm(parameters, f"{prefix}.norm_out", h)))
    return h + (convolve(parameters, f"{prefix}.skip", x) if f"{prefix}.skip.weight" in parameters else x)


def convolve(parameters: Parameters, prefix: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution that keeps the size, or with a stride of 2 halves it."""
    weight = parameters[f"{prefix}.weight"]
    return F.conv2d(x, weight, parameters[f"{prefix}.bias"], stride=stride, padding=weight.shape[-1] // 2)


def group_norm(parameters: Parameters, prefix: str, x: Tensor) -> Tensor:
    """Each image normed in up to 32 groups of channels, of 8 channels at least: the most that a power of two gives."""
    channels = x.shape[1]
    groups = math.gcd(32, channels)
    while groups > 1 and channels < 8 * groups:
        groups //= 2
    wide = x.reshape(x.shape[0], groups, -1)
    centred = wide - wide.mean(-1, keepdim=True)
    scaled = (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
    weight, bias = (parameters[f"{prefix}.{name}"][:, None, None] for name in ("weight", "bias"))
    return scaled * weight + bias


def denoising(
    latent: ReferenceLatent, clean: Several, timesteps: Several, noise: Several, kept: Several | None
) -> list[Noised]:
    """Latents noised to their timesteps, patch by patch, what is to be predicted of them, and what of it counts.

    Patches that are `kept` stay as they are, and nothing of them counts.
    """
    spans = []
    keeps = [torch.tensor([False])] * len(clean) if kept is None else kept
    for x, times, epsilon, stays in zip(clean, timesteps, noise, keeps, strict=True):
        shown, target, counts = (torch.zeros_like(x) for _ in range(3))
        steps: list[tuple[tuple[slice, ...], int]] = []
        patches = zip(of_patches(latent, x, times), of_patches(latent, x, stays), strict=True)
        for place, (timestep, is_clean) in zip(places_of_patches(latent, x), patches, strict=True):
            noised, target[place] = noised_to(latent, x[place], timestep, epsilon[place])
            shown[place] = x[place] if is_clean else noised
            counts[place] = 0.0 if is_clean else counted(latent, timestep)
            steps += [] if is_clean else [(place, int(timestep))]
        fraction = 1 - sum(of_patches(latent, x, stays)) / math.prod(grid_of(latent, x))
        spans.append(Noised(shown, target, counts, round(fraction * x.numel()), x, steps))
    return spans


class Noised(NamedTuple):
    """A latent that is noised, what is to be predicted of it, what errors count, and how many numbers do.

    And what it was, and the steps of those of its patches that are noised.
    """

    shown: Tensor
    target: Tensor
    counts: Tensor
    numbers: int
    clean: Tensor
    steps: list[tuple[tuple[slice, ...], int]]


def noised_to(latent: ReferenceLatent, x: Tensor, timestep: float, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """Part of a latent noised to a timestep, and what is to be predicted of it."""
    match latent.objective:
        case "ddpm":
            signal = signal_at(latent.noising, int(timestep))
            alpha, sigma = math.sqrt(signal), math.sqrt(1 - signal)
            velocity = alpha * epsilon - sigma * x
            target = {"noise": epsilon, "velocity": velocity, "sample": x}[latent.noising.prediction]
            return alpha * x + sigma * epsilon, target
        case "flow":
            sigma = timestep / STEPS
            return (1 - sigma) * x + sigma * epsilon, epsilon - x
        case _:
            assert_never(latent.objective)


def signal_at(noising: ReferenceNoising, timestep: int) -> float:
    """The signal's share of the variance after steps 0..timestep."""
    signal = 1.0
    for t in range(timestep + 1):
        signal *= 1 - added_noise(noising, t)
    return signal


def added_noise(noising: ReferenceNoising, t: int) -> float:
    """The variance that step t adds; of a cosine schedule, no more than 0.999."""

    def curve(t: int) -> float:
        return math.cos((t / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2

    part, start, end = t / (STEPS - 1), noising.beta_start, noising.beta_end
    match noising.schedule:
        case "cosine":
            return min(1 - curve(t + 1) / curve(t), 0.999)
        case "linear":
            return start + (end - start) * part
        case "scaled_linear":
            return (math.sqrt(start) + (math.sqrt(end) - math.sqrt(start)) * part) ** 2
        case _:
            assert_never(noising.schedule)


def bits_of_variances(latent: ReferenceLatent, span: Noised, predicted: Tensor, variance: Tensor) -> Tensor:
    """What variances cost that are predicted of a latent, in bits: how far each step is from the one that is known
    (arXiv 2102.09672, equations 11 to 15), or at the first step how unlikely data is, in bins of 2/255.
    """
    bits = torch.zeros((), dtype=predicted.dtype)
    for place, t in span.steps:
        x, noised = span.clean[place].to(predicted), span.shown[place].to(predicted)
        signal, before = signal_at(latent.noising, t), signal_at(latent.noising, t - 1)
        beta, left = added_noise(latent.noising, t), 1 - signal_at(latent.noising, max(t, 1) - 1)
        known = added_noise(latent.noising, max(t, 1)) * left / (1 - signal_at(latent.noising, max(t, 1)))
        fraction = (variance[place] + 1) / 2
        log_variance = fraction * math.log(beta) + (1 - fraction) * math.log(known)
        output, alpha, sigma = predicted[place].detach(), math.sqrt(signal), math.sqrt(1 - signal)
        sample = {
            "noise": (noised - sigma * output) / alpha,
            "velocity": alpha * noised - sigma * output,
            "sample": output,
        }[latent.noising.prediction]

        def mean(
            clean: Tensor, noised: Tensor = noised, signal: float = signal, before: float = before, beta: float = beta
        ) -> Tensor:
            rest = math.sqrt(1 - beta) * (1 - before)
            return (math.sqrt(before) * beta * clean + rest * noised) / (1 - signal)

        made = torch.distributions.Normal(mean(sample), (log_variance / 2).exp())
        if t > 0:
            right = torch.distributions.Normal(mean(x), math.sqrt(known))
            bits = bits + torch.distributions.kl_divergence(right, made).sum() / math.log(2)
            continue
        z = [(x - made.mean + side / 255) / made.stddev for side in (1, -1)]
        up, down = (0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (each + 0.044715 * each**3))) for each in z)
        likely = torch.where(x < -0.999, up, torch.where(x > 0.999, 1 - down, up - down))
        bits = bits - torch.log2(likely.clamp(min=1e-12)).sum()
    return bits


def counted(latent: ReferenceLatent, timestep: float) -> float:
    """What an error counts at a timestep.

    By `snr` and `min_snr` that of the sample counts signal over noise, as far as gamma (arXiv 2303.09556), and an error
    of the noise or the velocity as that of the sample that follows from it. By `sigma_sqrt` and `cosmap` as for SD3
    (arXiv 2403.03206; diffusers, training_utils.py), and nothing without noise.
    """
    sigma = timestep / STEPS
    match latent.weighting:
        case None:
            return 1.0
        case "snr" | "min_snr":
            signal = signal_at(latent.noising, int(timestep))
            most = latent.gamma if latent.weighting == "min_snr" else math.inf
            of_sample = {"noise": (1 - signal) / signal, "velocity": 1 - signal, "sample": 1.0}
            return min(signal / (1 - signal), most) * of_sample[latent.noising.prediction]
        case "sigma_sqrt":
            return sigma**-2 if sigma else 0.0
        case "cosmap":
            return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
        case _:
            assert_never(latent.weighting)
