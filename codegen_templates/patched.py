"""Latents of several sizes, and those whose tokens have timesteps of their own: as patches, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .constants import on_device
from .latent_checks import AXES, by_modality, check_floating, grid_in, is_cut, patch_words, product_words

Level = str
"""What a timestep is of: a `span`, a `frame` (of latents with three axes the patches at one place of the first), or a
`token`.
"""

LEVELS = ("span", "frame", "token")


class Patched(NamedTuple):
    """The patches of a modality's latents, span by span.

    Those that share a timestep are a moment: the patches of a span or of a frame, or each by itself.
    """

    patches: Tensor  # [P, channels * patch]
    grids: tuple[tuple[int, ...], ...]  # of each span how many patches it has along each axis
    moments: Tensor  # int64 [P]: the moment of each patch
    spans: Tensor  # int64 [M]: the span of each moment
    level: Level  # what a moment is of
    listed: bool  # whether they were given as a list, and are given back so

    @property
    def lengths(self) -> list[int]:
        """How many patches each span has."""
        return [prod(grid) for grid in self.grids]


AnyLatents = Tensor | Patched


def values_of(latents: AnyLatents) -> Tensor:
    """Latents [n, channels, ...], or the patches of such as if each were one."""
    return latents.patches if isinstance(latents, Patched) else latents


def of_each(values: Tensor, latents: AnyLatents) -> Tensor:
    """Of each latent what is one for each, [n], or of each patch what is one for each moment, [M]."""
    return values[latents.moments] if isinstance(latents, Patched) else values


def moment_of(rank: Tensor, latents: AnyLatents, length: int) -> Tensor:
    """The span, int64, of patches of these ranks, int64 from 0 on; or their moment. A span has so many, if all have."""
    if isinstance(latents, Patched):
        return latents.moments[rank] if latents.patches.shape[0] else torch.zeros_like(rank)
    return torch.div(rank, length, rounding_mode="floor")


def named_latents(kind: str, given: Any, modalities: Any) -> Mapping[str, Any]:
    """What `named` gives, of latents that may be patches already."""
    values: Mapping[str, Any] = by_modality(kind, given, modalities, "continuous modality")
    for name, value in values.items():
        if not isinstance(value, Tensor | Patched):
            raise TypeError(f"{kind} of {name} must be a tensor, not {type(value).__name__}")
    return values


class OfLatents(NamedTuple):
    """What a batch has of its latents, by modality."""

    latents: Any
    timesteps: Any
    noise: Any
    clean: Any


def drawn_for(objective: Any) -> Level:
    """Of what a timestep is drawn."""
    return "span" if objective.times is None else objective.times.each


def in_patches(model: Any, given: OfLatents, *, draws: bool = False) -> OfLatents:
    """Latents in lists, and those with timesteps or roles for each token or frame, as patches; others stay.

    So are those of which timesteps are to be drawn, if it `draws`, for each token or frame.

    Of these timesteps and clean ones are one for each moment, and noise is patches too. Raises TypeError or ValueError
    for what does not fit.
    """
    kinds = dict(zip(given._fields, given, strict=True))
    by_name = {kind: by_modality(kind, of, model.latents, "continuous modality") for kind, of in kinds.items()}
    drawn = {
        name: drawn_for(model.objectives[name])
        for name in by_name["latents"]
        if draws and name not in by_name["timesteps"]
    }
    uneven = [
        name
        for name, x in by_name["latents"].items()
        if _is_uneven(x, by_name, name) or drawn.get(name, "span") != "span"
    ]
    if not uneven:
        return given
    changed = {kind: dict(of) for kind, of in by_name.items()}
    for name in uneven:
        of_one = {kind: of[name] for kind, of in by_name.items() if name in of}
        for kind, value in _patched(name, model.latents[name], of_one, drawn.get(name, "span")).items():
            changed[kind][name] = value
    return OfLatents(**changed)


def _is_uneven(x: Any, given: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    """Whether latents are a list, or what is one for each span is more."""
    more = (given[kind].get(name) for kind in ("timesteps", "clean"))
    return not isinstance(x, Patched) and (_is_list(x) or any(_is_list(each) or _is_table(each) for each in more))


def _is_list(x: Any) -> bool:
    return isinstance(x, list | tuple)


def _is_table(x: Any) -> bool:
    return isinstance(x, Tensor) and x.ndim == 2


def _patched(name: str, ends: Any, given: Mapping[str, Any], least: Level) -> dict[str, Any]:
    """Latents, and what goes with them, as patches, whose moments are of `least` at most."""
    if not hasattr(ends, "cut_up"):
        raise ValueError(f"latents of {name} go through a U-Net, which takes those of one size and timestep: a tensor")
    latents = given["latents"]
    spans = _each_latent("latents", name, latents, ends)
    grids = tuple(grid_in(x.shape[1:], ends.patch) for x in spans)
    levels, cut = {}, {}
    for kind in ("timesteps", "clean"):
        if kind in given:
            cut[kind], levels[kind] = _each_moment(kind, name, given[kind], grids, ends)
    level = max([least, *levels.values()], key=LEVELS.index)
    device = next(ends.parameters()).device
    counts = [moments_in(level, grid) for grid in grids]
    sizes = [prod(grid) // count for grid, count in zip(grids, counts, strict=True) for _ in range(count)]
    moments = _repeated(sizes, device)
    patches = joined([ends.cut_up(x[None])[0] for x in spans], ends)
    changed: dict[str, Any] = {
        "latents": Patched(patches, grids, moments, _repeated(counts, device), level, _is_list(latents)),
    }
    for kind, values in cut.items():
        wide = [_spread(each, count) for each, count in zip(values, counts, strict=True)]
        changed[kind] = torch.cat([each.to(device) for each in wide]) if wide else _none(kind, device)
    if "noise" in given:
        noise = _each_latent("noise", name, given["noise"], ends)
        shapes, wanted = ([[*x.shape] for x in each] for each in (noise, spans))
        if shapes != wanted:
            raise ValueError(f"noise of {name} must be as its latents, {wanted}, not {shapes}")
        changed["noise"] = joined([ends.cut_up(x[None])[0] for x in noise], ends)
    return changed


def joined(patches: list[Tensor], ends: Any) -> Tensor:
    """Patches [p, numbers] of spans, one behind the other; they may be of no span."""
    return torch.cat(patches) if patches else ends.encode.weight.new_zeros(0, ends.encode.in_features)


def _none(kind: str, device: torch.device) -> Tensor:
    return torch.zeros(0, dtype=torch.bool if kind == "clean" else torch.int64, device=device)


def _repeated(counts: list[int], device: torch.device) -> Tensor:
    """0, 1, 2 ..., each as often as it says, int64."""
    each = torch.arange(len(counts), device=device)
    return each.repeat_interleave(on_device(counts, device).long(), output_size=sum(counts))


def _each_latent(kind: str, name: str, given: Any, ends: Any) -> list[Tensor]:
    """Latents, or their noise, one by one [channels, ...]. Raises TypeError or ValueError for what are none."""
    axes = ", ".join(AXES[len(ends.patch)])
    if isinstance(given, Tensor):
        if given.ndim != 2 + len(ends.patch):
            raise ValueError(f"{kind} of {name} must be [spans, {ends.channels}, {axes}], not {[*given.shape]}")
        given = list(given)
    if not _is_list(given):
        raise TypeError(
            f"{kind} of {name} must be a tensor, or a list of one for each span, not {type(given).__name__}"
        )
    for number, x in enumerate(given):
        which = f"{kind} {number} of {name}"
        if not isinstance(x, Tensor):
            raise TypeError(f"{which} must be a tensor, not {type(x).__name__}")
        if x.ndim != 1 + len(ends.patch) or x.shape[0] != ends.channels:
            raise ValueError(f"{which} must be [{ends.channels}, {axes}], not {[*x.shape]}")
        if min(x.shape[1:]) < 1 or not is_cut(x.shape[1:], ends.patch):
            raise ValueError(f"{which} is {product_words(x.shape[1:])}: no multiple of {patch_words(ends.patch)}")
        check_floating(kind, name, x)
    return list(given)


def _each_moment(
    kind: str, name: str, given: Any, grids: Sequence[tuple[int, ...]], ends: Any
) -> tuple[list[Tensor], Level]:
    """Timesteps, or which are clean, of each span [1], [frames] or [tokens], and of what they are."""
    takes = f"one a span, {'a frame ' * (len(ends.patch) == 3)}or a token"
    if isinstance(given, Tensor) and given.ndim:
        given = list(given)
    for x in given if _is_list(given) else ():
        if not isinstance(x, Tensor):
            raise TypeError(f"{kind} of {name} must be tensors, not {type(x).__name__}")
    if not _is_list(given) or len(given) != len(grids):
        told = f"{len(given)} values" if _is_list(given) else type(given).__name__
        raise ValueError(f"{kind} of {name} must be tensors, {takes}, for {len(grids)} spans, not {told}")
    values, levels = [], ["span"]
    for x, grid in zip(given, grids, strict=True):
        x = x.reshape(1) if x.ndim == 0 else x
        fitting = [
            level for level in LEVELS if (level != "frame" or len(grid) == 3) and x.shape == (moments_in(level, grid),)
        ]
        if not fitting:
            raise ValueError(
                f"{kind} of {name} must be {takes}, and {[*x.shape]} fits no span of {product_words(grid)}"
            )
        values.append(x)
        levels.append(fitting[0])
    return values, max(levels, key=LEVELS.index)


def moments_in(level: Level, grid: tuple[int, ...]) -> int:
    """How many moments of patches a span has."""
    return {"span": 1, "frame": grid[0], "token": prod(grid)}[level]


def _spread(values: Tensor, count: int) -> Tensor:
    """Those of a span for more moments, which follow one another."""
    return values.repeat_interleave(count // values.shape[0])


def as_given(predictions: Mapping[str, Tensor], latents: Mapping[str, Any], ends: Any) -> dict[str, Any]:
    """Predictions of patches in the form in which their latents were given."""
    back: dict[str, Any] = dict(predictions)
    for name, x in latents.items():
        if isinstance(x, Patched):
            parts = torch.split(predictions[name], x.lengths)
            made = [ends[name].put_together(part, 1, grid)[0] for part, grid in zip(parts, x.grids, strict=True)]
            back[name] = made if x.listed else torch.stack(made)
    return back
