"""What a program takes, by the names of a model's arguments; how large each may be, and a batch to trace it with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.export import Dim

from motc.exporting.batches import Asked, arguments_of, asked
from motc.ir.latent import AXES
from motc.ir.model import FeatureModality, LatentModality, Model

PLACES = ("rows", "columns")

FEWEST = 2
"""Patches of a latent along each of its axes: torch 2.13 traces what cuts them for one, or for more."""

SEEDS = 4
"""How often batches of models with latents are drawn: some have smaller ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One tensor that goes in, called as in `Asked`, such as `latents/image`.

    `shape` has a number, or a name for a size that varies; sizes of one name are equal. `units`: of what, of each size,
    only multiples are taken.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int | str, ...]
    units: tuple[int, ...]

    @property
    def is_latent(self) -> bool:
        return self.name.startswith("latents/")

    @property
    def shown(self) -> list[int | str]:
        """The shape, in words."""
        pairs = zip(self.shape, self.units, strict=True)
        return [size if unit == 1 else f"{unit} * {size}" for size, unit in pairs]


def flat_name(name: str) -> str:
    """What a tensor of `Asked` is called by programs that have no dicts."""
    return name.replace("/", "_")


def inputs_of(model: Model, network: Any, dtype: torch.dtype) -> tuple[Input, ...]:
    """Ids and modalities; positions where tokens are placed in grids; features, and latents with their timesteps."""
    whole = torch.int64
    inputs = [_input("input_ids", whole, PLACES), _input("modality_ids", whole, PLACES)]
    if by_grids(network):
        axes = (network.position_axes,) if network.position_axes > 1 else ()
        inputs.append(_input("position_ids", whole, (*PLACES, *axes)))
    for each in model.modalities:
        if isinstance(each, FeatureModality):
            inputs.append(_input(f"features/{each.name}", dtype, (f"tokens_{each.name}", *each.projector.given)))
        if isinstance(each, LatentModality):
            spans, patch = f"spans_{each.name}", each.ends.patch_shape
            sides = [f"{axis}_{each.name}" for axis in AXES[len(patch)]]
            shape: tuple[int | str, ...] = (spans, each.ends.channels, *sides)
            inputs.append(Input(name=f"latents/{each.name}", dtype=dtype, shape=shape, units=(1, 1, *patch)))
            times = whole if network.objectives[each.name].whole else torch.float32
            inputs.append(_input(f"timesteps/{each.name}", times, (spans,)))
            inputs += _conditions(each, dtype, spans)
    return tuple(inputs)


def _conditions(modality: LatentModality, dtype: torch.dtype, spans: str) -> Iterator[Input]:
    """What is given for a modality's condition, of each span."""
    condition = modality.condition
    if condition is None:
        return
    kinds = {"label": torch.int64, "number": torch.float32, "vector": dtype}
    sizes = {"vector": (condition.vector.size,)} if condition.vector is not None else {}
    for part in condition.given:
        yield _input(f"conditions/{modality.name}/{part}", kinds[part], (spans, *sizes.get(part, ())))


def _input(name: str, dtype: torch.dtype, shape: tuple[int | str, ...]) -> Input:
    return Input(name=name, dtype=dtype, shape=shape, units=(1,) * len(shape))


def by_grids(network: Any) -> bool:
    """Whether a token's position hangs on the size of a grid, so that whoever calls a program says where tokens are."""
    return any(rule.takes_grid for rule in network.position_rules)


def dynamic_shapes(inputs: tuple[Input, ...]) -> dict[str, Any]:
    """Which sizes vary, as torch.export takes it."""
    names = {size for each in inputs for size in each.shape if isinstance(size, str)}
    sides = {size for each in inputs if each.is_latent for size in each.shape[2:]}
    sizes = {name: Dim(name, min=FEWEST) if name in sides else Dim(name) for name in names}
    shapes: dict[str, Any] = {
        each.name: {
            place: unit * sizes[size] if unit > 1 else sizes[size]
            for place, (size, unit) in enumerate(zip(each.shape, each.units, strict=True))
            if isinstance(size, str)
        }
        for each in inputs
    }
    return arguments_of(shapes)


def given(inputs: tuple[Input, ...], batch: Asked) -> Asked:
    """A batch as a program takes it: an id where there is none, and nothing of a modality that it has not."""
    real = batch["modality_ids"] >= 0
    filled: Asked = {**batch, "input_ids": batch["input_ids"].where(real, 0).clamp(min=0)}
    for each in inputs:
        if each.name == "position_ids":  # one after the other, on each axis
            axes = each.shape[2:]
            places = filled.get(each.name, torch.arange(real.shape[1]).expand(real.shape))
            places = places if places.ndim > 2 else places.view(*real.shape, *(1 for _ in axes))
            filled[each.name] = places.expand(*real.shape, *axes)
        fewest = FEWEST if each.is_latent else 1
        nothing = [
            unit * fewest if isinstance(size, str) else size for size, unit in zip(each.shape, each.units, strict=True)
        ]
        filled.setdefault(each.name, torch.zeros(0, *nothing[1:], dtype=each.dtype))
    return {each.name: filled[each.name].to(each.dtype).contiguous() for each in inputs}


def questions(model: Model, inputs: tuple[Input, ...], dtype: torch.dtype) -> list[Asked]:
    """Batches to compare on. Documents are not asked of a program; what was drawn for them is a batch all the same,
    unless they cut the spans of latents."""
    latents = [each for each in inputs if each.is_latent]
    seeds = range(SEEDS if latents else 1)
    batches = [batch for seed in seeds for batch in asked(model, dtype, seed)]
    if latents:
        batches = [
            batch for batch in batches if "document_ids" not in batch and all(_fits(each, batch) for each in latents)
        ]
    return [given(inputs, batch) for batch in batches]


def _fits(latent: Input, batch: Asked) -> bool:
    sides = batch[latent.name].shape[2:] if latent.name in batch else ()
    return all(side >= FEWEST * unit for side, unit in zip(sides, latent.units[2:], strict=False))


def example(model: Model, inputs: tuple[Input, ...]) -> Asked:
    """A batch to trace with, in two rows all modalities; every size is more than 1, which torch takes for a number."""
    names = [modality.name for modality in model.modalities]
    patches = {
        modality.name: tuple(range(2, 2 + len(modality.ends.patch_shape))) for modality in model.latent_modalities()
    }
    row = [place for place, name in enumerate(names) for _ in range(prod(patches.get(name, (3,))))]
    modality_ids = torch.tensor([row, row])
    generator = torch.Generator().manual_seed(0)
    batch: Asked = {"input_ids": torch.zeros_like(modality_ids), "modality_ids": modality_ids}
    for each in inputs:
        kind, _, name = each.name.partition("/")
        if not name:
            continue
        sides = iter(patches.get(name, ()))
        count = 6 if kind == "features" else 2
        shape = [count, *(size if isinstance(size, int) else unit * next(sides)
                          for size, unit in zip(each.shape[1:], each.units[1:], strict=True))]  # fmt: skip
        batch[each.name] = torch.rand(shape, generator=generator).to(each.dtype)
    return given(inputs, batch)
