"""A model in words: who shares what, how large it is; and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from motc.cost import cost
from motc.diff.edit import signed
from motc.diff.partitions import words_for
from motc.ir.model import Model
from motc.report.scene import Names
from motc.report.words import braces, ranges, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Groups that share alike: their blocks, what they are called together, and their layers where these are some."""

    blocks: tuple[Names, ...]
    groups: Names
    layers: str

    def __str__(self) -> str:
        """`shared by text, image: attention`, `{text} {image} have their own: ffn in layers 1..27`."""
        where = f" in layers {self.layers}" if self.layers else ""
        what = f"{', '.join(self.groups)}{where}"
        if len(self.blocks) > 1:
            return f"{braces(self.blocks)} have their own: {what}"
        return f"{'shared by' if len(self.blocks[0]) > 1 else 'of'} {', '.join(self.blocks[0])}: {what}"


def sharing(model: Model) -> tuple[Sharing, ...]:
    """Who shares what, those first that are shared by most."""
    layers: dict[tuple[str, tuple[Names, ...]], list[tuple[int, int]]] = {}
    for segment in model.segments:
        for leaf in segment.layer.leaves():
            layers.setdefault((leaf.path, leaf.partition()), []).append((segment.first, segment.last))
    alike: dict[tuple[tuple[Names, ...], str], list[str]] = {}
    for (path, blocks), each in layers.items():
        count = sum(last - first + 1 for first, last in each)
        where = "" if count == model.layers else ranges(_joined(each))
        alike.setdefault((blocks, where), []).append(path)
    outer: dict[tuple[Names, ...], list[str]] = {}
    for leaf in model.outer_leaves():
        outer.setdefault(leaf.partition(), []).append(leaf.path)
    present = tuple(dict.fromkeys(path for path, _ in layers))
    said = [
        Sharing(blocks=blocks, groups=words_for(tuple(paths), present), layers=where)
        for (blocks, where), paths in alike.items()
    ]
    for blocks, paths in outer.items():
        place = next((i for i, each in enumerate(said) if each.blocks == blocks and not each.layers), None)
        if place is None:
            said.append(Sharing(blocks=blocks, groups=tuple(paths), layers=""))
        else:
            said[place] = Sharing(blocks=blocks, groups=(*said[place].groups, *paths), layers="")
    return tuple(sorted(said, key=lambda each: (len(each.blocks), -max(map(len, each.blocks)))))


def subtitle(model: Model) -> str:
    """`1.9M parameters, 4 layers; a token costs 1.8M (text), 1.8M (image) FLOPs`."""
    costs = cost(model)
    flops = ", ".join(f"{name} {short(amount)}" for name, amount in costs.flops_per_token.items())
    layers = f"{model.layers} layer{'s' if model.layers > 1 else ''}"
    return f"{short(costs.parameters)} parameters · {layers} · FLOPs a token: {flops}"


def subtitle_of_diff(before: Model, after: Model) -> str:
    """`1.9M parameters (before 1.1M, +853.4k) · 4 layers · FLOPs a token: text 1.8M (±0)`."""
    old, new = cost(before), cost(after)
    flops = ", ".join(
        f"{name} {short(amount)}"
        + (f" ({signed(amount - old.flops_per_token[name])})" if name in old.flops_per_token else " (new)")
        for name, amount in new.flops_per_token.items()
    )
    change = signed(new.parameters - old.parameters)
    layers = str(after.layers) if after.layers == before.layers else f"{before.layers} → {after.layers}"
    size = f"{short(old.parameters)} → {short(new.parameters)} parameters ({change})"
    return f"{size} · {layers} layers · FLOPs a token: {flops}"


def account(model: Model) -> str:
    """The model in sentences, for those who do not see its drawing."""
    told = [f"{model.name}: {subtitle(model)}."]
    told.append(f"Modalities {', '.join(model.names)}; towers {model.towers}.")
    told += [f"{str(each)[0].upper()}{str(each)[1:]}." for each in sharing(model)]
    return " ".join(told)


def _joined(each: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of layers, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for first, last in each:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
