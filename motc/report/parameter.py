"""What is known of a parameter, or of a parameter group, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from motc.cost.flops import head_flops
from motc.ir.leaf import Block, Leaf
from motc.ir.model import Model
from motc.ir.names import correction_shapes, parameter_prefix
from motc.report.generated import Made, MadeBy
from motc.report.said import Said, said_of
from motc.report.subject import Subject
from motc.report.words import braces, held, ranges
from motc.source.nearest import nearest

Runs = tuple[tuple[int, int], ...]
IN_LAYER = re.compile(r"layers\.(?P<layer>\d+|\*)\.(?P<rest>.+)")


class UnknownParameter(LookupError):
    """A model has no parameter or group of this name; the message says what was probably meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A copy that was asked for: its name, the layer if it was said, and the `runs` of layers that have one like it."""

    name: str
    leaf: Leaf
    block: Block
    layer: int | None
    runs: Runs
    shapes: dict[str, tuple[int, ...]]
    flops: int
    is_head: bool
    said: tuple[Said, ...]
    made: Made | None

    @property
    def layers(self) -> str:
        """`layer 3, and one like it in each of 0..3`, or `outside the layers`."""
        if not self.runs:
            return "outside the layers"
        alike = ranges(self.runs)
        if self.layer is None or alike == str(self.layer):
            return f"layer{'' if alike.isdigit() else 's'} {alike}"
        return f"layer {self.layer}; layers {alike} have one each like it"

    @property
    def sharing(self) -> str:
        """Who has the group's copies."""
        if len(self.leaf.blocks) == 1:
            return "one copy for all" if len(self.block.modalities) > 1 else "the only copy"
        return f"{braces(self.leaf.partition())} have a copy each"

    def rows(self) -> dict[str, str | list[str]]:
        """What is told, by its labels."""
        return {
            "used by": ", ".join(self.block.modalities),
            "where": self.layers,
            "shared": self.sharing,
            **({"tied": "its table is the head too"} if self.is_head else {}),
            "holds": held(self.block.operator),
            "shapes": [f"{name} [{', '.join(map(str, shape))}]" for name, shape in self.shapes.items()],
            "parameters": f"{self.block.operator.parameters:,}",
            "FLOPs a token": f"{self.flops:,}",
            "said": [f"{said.source.name}:{said.line}: {said.text}" for said in self.said],
            **({"made": f"model.py:{self.made.line}: {self.made.owner}.{self.made.attribute}"} if self.made else {}),
        }


def named(subject: Subject, text: str) -> tuple[Named, ...]:
    """The copies that a name is of: a parameter's (`layers.3.ffn.down.image.weight`), a copy's (without `.weight`), or
    a group's, in one layer (`layers.3.ffn.down`) or in all (`ffn.down`). Raises UnknownParameter.
    """
    match = IN_LAYER.fullmatch(text)
    layer = int(match["layer"]) if match and match["layer"] != "*" else None
    rest = match["rest"] if match else text
    model = subject.model
    if layer is not None and layer >= model.layers:
        raise UnknownParameter(f"{model.name} has no layer {layer}: they are 0..{model.layers - 1}")
    copies = [copy for copy in _copies(model) if layer is None or copy.is_in(layer)]
    if match:
        copies = [copy for copy in copies if copy.runs]
    matching = [copy for copy in copies if rest in copy.answers]
    if not matching and not match and rest.split(".")[0] == "head" and model.head is None and model.speaks:
        raise UnknownParameter(f"{model.name} has no head of its own: it is the table of `embedding`")
    if not matching:
        before = f"layers.{match['layer']}." if match else ""
        close = nearest(rest, (word for copy in copies for word in copy.answers))
        way_out = f"did you mean {before}{close}?" if close else "`motc show` lists the groups"
        raise UnknownParameter(f"{model.name} has no parameter or group {text!r}; {way_out}")
    made = MadeBy(model, subject.text)
    return tuple(_named(subject, made, copy, layer) for copy in matching)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """A copy in each of these runs of layers, or outside them."""

    leaf: Leaf
    block: Block
    runs: Runs
    shapes: dict[str, tuple[int, ...]]

    def is_in(self, layer: int) -> bool:
        return any(first <= layer <= last for first, last in self.runs)

    @property
    def answers(self) -> tuple[str, ...]:
        """The names it goes by, without its layer: its own, its group's and its modalities', each with a field too."""
        path = self.leaf.path
        names = (parameter_prefix(self.leaf, self.block, None), path, *(f"{path}.{m}" for m in self.block.modalities))
        return (*(f"{name}.{field}" for name in names for field in self.shapes), *names)


def _copies(model: Model) -> Iterator[_Copy]:
    """Every copy, alike ones in several layers as one."""
    corrections = correction_shapes(model)

    def of(leaf: Leaf, runs: Runs) -> Iterator[_Copy]:
        for block in leaf.blocks:
            shapes = block.operator.shapes()
            first = parameter_prefix(leaf, block, runs[0][0] if runs else None)
            if f"{first}.correction" in corrections:
                shapes = {**shapes, "correction": corrections[f"{first}.correction"]}
            yield _Copy(leaf=leaf, block=block, runs=runs, shapes=shapes)

    alike: dict[Leaf, list[tuple[int, int]]] = {}
    for segment in model.segments:
        for leaf in segment.layer.leaves():
            runs = alike.setdefault(leaf, [])
            if runs and runs[-1][1] == segment.first - 1:
                runs[-1] = (runs[-1][0], segment.last)
            else:
                runs.append((segment.first, segment.last))
    for leaf in model.leaves_before():
        yield from of(leaf, ())
    for leaf, runs in alike.items():
        yield from of(leaf, tuple(runs))
    for leaf in model.leaves_after():
        yield from of(leaf, ())


def _named(subject: Subject, made: MadeBy, copy: _Copy, layer: int | None) -> Named:
    model, leaf, block = subject.model, copy.leaf, copy.block
    every = {each for first, last in copy.runs for each in range(first, last + 1)}
    asked = every if layer is None else {layer}
    name = parameter_prefix(leaf, block, layer)
    is_head = leaf.path == "embedding" and model.head is None
    kinds = (s.layer for s in model.segments if any(s.first <= each <= s.last for each in asked))
    return Named(
        name=f"layers.*.{name}" if copy.runs and layer is None else name,
        leaf=leaf,
        block=block,
        layer=layer,
        runs=copy.runs,
        shapes=copy.shapes,
        flops=head_flops(model, block.modalities[0]) if is_head else block.operator.flops,
        is_head=is_head,
        said=said_of(subject.checked, leaf.path, block.modalities, frozenset(asked), dense=subject.dense),
        made=made.find(leaf.path, next(kinds, None)),
    )
