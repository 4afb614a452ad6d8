"""The operations of layers as text: what each computes, what that is called, and what layers are given for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from motc.emit.activations import activation
from motc.emit.angles import angles_expression
from motc.emit.inline import inlined, lines_of, returning
from motc.emit.leaves import Applied, each_piece
from motc.emit.mixture import MixtureText
from motc.emit.text import listed, numbers, statement
from motc.ir.attention import Attention, Reader
from motc.ir.feed_forward import GATED, FfnKind, Mixture
from motc.ir.layer import Body
from motc.ir.leaf import Leaf
from motc.ir.rope import Rope
from motc.ir.steps import (
    Activate,
    Add,
    Apply,
    Attend,
    Gate,
    GateBranch,
    InLayers,
    JoinKeys,
    LeaveOut,
    MixExperts,
    Modulate,
    Order,
    Permute,
    Rotate,
    Step,
    Value,
    entering,
)
from motc.plan import LeafPlan, ModulePlan, SublayerPlan, kernel
from motc.plan.constants import Constants


class Forward:
    """Writes the forward of one sublayer."""

    def __init__(self, module: ModulePlan, part: SublayerPlan, constants: Constants) -> None:
        self.module = module
        self.part = part
        self.constants = constants
        self.text = Applied(module.execution)
        taken = {value.name: name.removesuffix(f"_{value.order}") for value, name in part.takes.items()}
        self.variables = {value.name: value.name for value in entering(part.steps)} | taken
        self.made_in: dict[str, Order] = dict.fromkeys(self.variables, module.model.residual)
        self.made_in |= {value.name: value.order for value in part.takes}
        self.variables[part.stream.name], self.made_in[part.stream.name] = "x", part.stream.order
        for step in part.steps:
            self._step(step)
        result = [self._variable(part.steps[-1].writes), *given_beside(module, part), *["balance"] * is_balanced(part)]
        statements = inlined(self.text.statements, ", ".join(result))
        self.lines = lines_of(returning(statements, "Tensor", ["x"]))

    def _variable(self, value: Value) -> str:
        """What a value is called: by what made it, and with its order if that is not the one it was made in."""
        shared = {**self.part.takes, **self.part.gives}
        if value in shared:
            return shared[value]
        name = self.variables[value.name]
        return name if self.made_in[value.name] == value.order else f"{name}_{value.order}"

    def _in_pieces(self, value: Value) -> bool:
        return value.name in self.part.pieces

    def _step(self, step: Step) -> None:
        name, expression = self._statement(step, [self._variable(value) for value in step.reads])
        self.variables[step.writes.name] = name
        if not step.permutes:
            self.made_in[step.writes.name] = step.writes.order
        if expression is not None:
            self.text.assign(self._variable(step.writes), expression)

    def _statement(self, step: Step, reads: list[str]) -> tuple[str, str | None]:
        """What is called how: the name of what a step writes, and what it computes; None where another step does it
        along with its own. What is normed, rotated or added to stays what it is.
        """
        operation, first = step.operation, step.reads[0]
        before = self.part.takes[first] if first in self.part.takes else self.variables[first.name]
        in_pieces = self._in_pieces(step.writes)
        assert isinstance(operation, InLayers)
        match operation:
            case Apply(leaf=leaf):
                return self._name_after(leaf, before), self._leaf(step, leaf, reads[0])
            case Rotate(rope=rope, of_last=of_last):
                return before, _rotated(rope, reads[0], of_last=of_last)
            case JoinKeys():
                return before, f"join_keys({reads[0]}, {reads[1]})"
            case Attend(attention=attention):
                return "mixed", self._mix(attention, reads)
            case Gate():
                return before, f"{reads[0]} * F.sigmoid({reads[1]})"
            case Activate(kinds=kinds):
                return "hidden", self._activation(kinds, reads, in_pieces=in_pieces)
            case MixExperts(mixture=body):
                mixture = MixtureText(self.module, self.part, body, self.text)
                return "out", mixture.mixed(reads[0], in_pieces=in_pieces)
            case Modulate(leaf=leaf):
                return before, self._conditioned("modulated", step, leaf, reads)
            case GateBranch(leaf=leaf):
                return before, self._conditioned("gated", step, leaf, reads)
            case LeaveOut(mask=mask):
                function = "leave_out_sorted" if step.order == "sorted" else "leave_out"
                return before, f"{function}({reads[0]}, layout, {self.module.model.masks.index(mask)})"
            case Add(scale=scale):
                return before, _added(reads[0], reads[1], scale, in_pieces=in_pieces)
            case Permute(to=order):
                return before, None if step.writes.name in self.part.resorted else f"to_{order}({reads[0]}, layout)"
            case _:
                assert_never(operation)

    def _name_after(self, leaf: Leaf, before: str) -> str:
        """What a value is called after a group."""
        sublayer = self.part.sublayer
        if leaf == sublayer.before:
            return "h"
        if leaf.is_norm or leaf == sublayer.out_gate:
            return before
        return "out" if leaf == sublayer.body.out else self.part.leaves[leaf.path].attribute

    def _leaf(self, step: Step, leaf: Leaf, x: str) -> str:
        plan = self.part.leaves[leaf.path]
        places = "layout.sorted_places" if step.order == "sorted" else "layout.places"
        writes = self._in_pieces(step.writes)
        if step.reads[0].name in self.part.resorted:
            applied = f"recomputed(self.sort_and_project, {self.variables[step.reads[0].name]}, layout)"
            return applied if writes else self.text.joined(applied, plan.counts)
        applied = self.text.through(plan, x, places, reads_pieces=self._in_pieces(step.reads[0]), writes_pieces=writes)
        return _in_heads(applied, leaf, self.part.sublayer.body, self.constants)

    def _conditioned(self, function: str, step: Step, leaf: Leaf, reads: list[str]) -> str:
        """The call that does what conditions say; what modulations make of them is made where it is first used."""
        plan = self.part.borrows or self.part.leaves[leaf.path]
        if not self.part.borrows and all(name != "modulation" for name, _ in self.text.statements):
            self.text.assign("modulation", made_of_conditions(plan, in_pieces=self.module.stream_in_pieces))
        in_pieces = self._in_pieces(step.writes)
        counts = self.module.counts_in_layers if in_pieces else None
        return conditioned(function, plan, step, reads, self.text, counts)

    def _mix(self, a: Attention, reads: list[str]) -> str:
        q, k, v, *sinks = reads
        given, scores = f"{q}, {k}, {v}, mask", self._scores(a) + "".join(f", sinks={each}" for each in sinks)
        needed = kernel(a.mask, self.module.model)
        if a.mask.reads and not a.mask.crosses:
            return self._reading(a, given, f"cache{scores}")
        match needed:
            case "causal":
                return self._detaching(a, "attend", f"{given}, cache{scores}")
            case "views":
                return self._detaching(a, "attend_in_views", f"{given}, {self._views(a)}, cache{scores}")
            case "full" | "matrix":
                return self._detaching(a, "attend", f"{given}, cache, causal=False{scores}")
            case _:
                assert_never(needed)

    def _views(self, a: Attention) -> str:
        """The views of its mask."""
        number = self.module.model.masks.index(a.mask)
        return f"layout.rows.others[{number - 1}].views" if number else "layout.rows.views"

    def _reading(self, a: Attention, given: str, rest: str) -> str:
        """The call of attention in which some modalities read others through maps of their own."""
        model, detach, readers = self.module.model, dict(a.mask.detach), []
        if kernel(a.mask, model) == "views":
            reader_of = {name: reader for reader in a.readers for name in reader.modalities}
            for name in a.mask.readers:
                readers.append(self._reader(replace(reader_of[name], modalities=(name,)), detach.get(name, ())))
            return f"attend_reading_in_views({listed(readers)}, layout, {given}, {self._views(a)}, {rest})"
        for reader in a.readers:
            for stopped in dict.fromkeys(detach.get(name, ()) for name in reader.modalities):
                alike = tuple(name for name in reader.modalities if detach.get(name, ()) == stopped)
                readers.append(self._reader(replace(reader, modalities=alike), stopped))
        others = any(name not in a.mask.readers for name in detach)
        detached = f", detached={self._detached(a)!r}" if others else ""
        return f"attend_reading({listed(readers)}, layout, {given}, {rest}{detached})"

    def _reader(self, reader: Reader, stopped: tuple[str, ...]) -> str:
        """Modalities that read others, of which these without gradient."""
        names = self.module.model.names
        ids = tuple(map(names.index, reader.modalities))
        without = f", {tuple(name in stopped for name in names)!r}" if stopped else ""
        return f'Reader({ids!r}, self.k["{reader.k.name}"], self.v["{reader.v.name}"]{without})'

    def _detaching(self, a: Attention, function: str, given: str) -> str:
        """The call of attention, or the one that makes it for each set of modalities that is read without gradient."""
        if not a.mask.detach:
            return f"{function}({given})"
        said, names = dict(a.mask.detach), self.module.model.names
        rest = f"{self._detached(a)!r}, layout.rows.modality_ids, {given})"
        views = a.mask.views(names) if function == "attend_in_views" else ()
        if views and all(len({said.get(name) for name in view.asking}) == 1 for view in views):
            asking = listed([str(names.index(view.asking[0])) for view in views])
            return f"attend_in_views_detached({asking}, {rest}"
        return f"attend_detached({function}, {rest}"

    def _detached(self, a: Attention) -> tuple[tuple[bool, ...], ...]:
        """Whether tokens of each modality read those of each without gradient."""
        said, names = dict(a.mask.detach), self.module.model.names
        return tuple(tuple(other in said.get(name, ()) for other in names) for name in names)

    def _scores(self, a: Attention) -> str:
        """The arguments that say what is done to scores, where it is not the usual."""
        given = {"scale": ("SCALE", a.scale), "softcap": ("SOFTCAP", a.softcap)}
        said = (f", {key}={self.constants.named(*value)}" for key, value in given.items() if value[1] is not None)
        return "".join(said)

    def _activation(self, kinds: tuple[FfnKind | None, ...], reads: list[str], *, in_pieces: bool) -> str:
        counts, model = self.part.counts, self.module.model
        firsts = [model.order[sum(counts[:index])] for index in range(len(counts))]
        of_pieces = [kinds[model.names.index(first)] for first in firsts]
        gate, up = (reads[0] if len(reads) == 2 else "", reads[-1])
        if not in_pieces:
            return activation(of_pieces[0], gate, up)
        if len(set(of_pieces)) == 1:
            each = activation(of_pieces[0], "g", "u")
            if of_pieces[0] in GATED:
                return f"[{each} for g, u in zip({gate}, {up}, strict=True)]"
            return f"[{each} for u in {up}]"
        functions = [f"lambda g, u: {activation(kind, 'g', 'u')}" for kind in of_pieces]
        return each_piece(functions, counts, gate or up, up)


def _added(x: str, branch: str, scale: float, *, in_pieces: bool) -> str:
    """A branch added to the stream."""
    if scale == 1:
        return f"add({x}, {branch})" if in_pieces else f"{x} + {branch}"
    return f"add({x}, [piece * {scale!r} for piece in {branch}])" if in_pieces else f"{x} + {branch} * {scale!r}"


def made_of_conditions(plan: LeafPlan, *, in_pieces: bool) -> str:
    """The expression of what a modulation makes of conditions; of pieces it is told which have it."""
    made = f"self.{plan.attribute}(conditions)"
    if plan.form != "single" or not in_pieces:
        return made
    return f"of_some({made}, {tuple(name is not None for name in plan.route)!r}, {plan.ends!r})"


def conditioned(
    function: str, plan: LeafPlan, step: Step, reads: list[str], text: Applied, counts: tuple[int, ...] | None
) -> str:
    """The call of what a modulation does to a value: a tensor, or pieces of so many modalities."""
    x, spans = reads
    if counts is not None:
        of = "" if set(counts) == {1} else f", {counts}"
        return f"{function}_pieces({x}, modulation, {text.pieces(spans, counts)}, layout{of})"
    if plan.form == "single":
        return f"{function}({x}, modulation, {spans})"
    places = "layout.sorted_places" if step.order == "sorted" else "layout.places"
    return f"{function}_by_place({x}, modulation, {spans}, {places})"


def _rotated(rope: Rope, x: str, *, of_last: bool) -> str:
    if of_last:
        return f"rotate_last(rotate_{rope.pairing}, {x}, cos, sin)"
    if rope.fraction == 1:
        return f"rotate_{rope.pairing}({x}, cos, sin)"
    return f"rotate_first(rotate_{rope.pairing}, {x}, cos, sin)"


HEAD_SIZES = {
    "attention.q": "HEAD_DIM",
    "attention.k": "HEAD_DIM | OWN_DIM",
    "attention.v": "HEAD_DIM | VALUE_DIM",
    "attention.k_rope": "ROPE_DIM",
}
"""What the size of the heads into which a group is cut is called; their number follows from the group's parameters,
of which a rank may have a part."""


def _in_heads(projected: str, leaf: Leaf, body: Body, constants: Constants) -> str:
    """What a group of a body made, cut into heads if it is queries, keys or values."""
    cut = body.heads_of(leaf) if isinstance(body, Attention) else None
    if not isinstance(body, Attention) or cut is None:
        return projected
    if body.clip is not None:
        projected = f"torch.clamp({projected}, {-body.clip!r}, {body.clip!r})"
    return f"torch.unflatten({projected}, -1, (-1, {constants.named(HEAD_SIZES[leaf.path], cut[1])}))"


def given_beside(module: ModulePlan, part: SublayerPlan) -> dict[str, str]:
    """What a sublayer gives others beside the stream: names and types."""
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    return dict.fromkeys(part.gives.values(), stream) | (modulation_of(module, part.lends) if part.lends else {})


def modulation_of(module: ModulePlan, plan: LeafPlan) -> dict[str, str]:
    """What modulations make of conditions: its name and type."""
    alone = plan.form == "single" and not module.stream_in_pieces
    return {"modulation": "Modulated" if alone else "ModulatedByTower"}


def is_balanced(part: SublayerPlan) -> bool:
    """Whether a sublayer gives a load-balancing loss beside the stream."""
    return isinstance(part.sublayer.body, Mixture) and part.sublayer.body.is_balanced


MASK = {"mask": "Matrix | None"}
ANGLES = {"cos": "Tensor", "sin": "Tensor"}
"""What attention is given of who sees whom, and of rotary positions: names and types."""


CONDITIONS = {"spans": "Tensor", "conditions": "dict[str, Tensor]"}
"""What adaptive norms are given: of each token which vector of its condition it has, and these vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What layers are given beside the stream and the layout, made once for all of them.

    `arguments` are its names and types, `lines` those of `transform` that make it. Where layers differ in it, `each` is
    the name of a list of each layer's own.
    """

    arguments: dict[str, str]
    lines: list[str]
    each: str | None

    @property
    def names(self) -> str:
        """As one is taken from a list."""
        names = ", ".join(self.arguments)
        return f"({names})" if len(self.arguments) > 1 else names


def given(module: ModulePlan, constants: Constants) -> tuple[Given, ...]:
    """All that layers are given: who sees whom, and cosine and sine of positions."""
    dtype = "x[0].dtype" if module.stream_in_pieces else "x.dtype"
    beside = [_given_masks(module, dtype)]
    if module.model.angles:
        beside.append(_given_angles(module, constants, dtype))
    return tuple(beside)


def _given_masks(module: ModulePlan, dtype: str) -> Given:
    several = len(module.model.masks) > 1
    lines = statement("mask = ", f"layout.rows.matrix({dtype})")
    if several:
        lines = statement("masks = ", f"layout.rows.matrices({dtype}, {numbers(module.layer_masks)})")
    return Given(arguments=MASK, lines=lines, each="masks" if several else None)


def _given_angles(module: ModulePlan, constants: Constants, dtype: str) -> Given:
    angles = [angles_expression(each, constants, dtype, module.model.names) for each in module.model.angles]
    several = len(angles) > 1
    lines = statement("cos, sin = ", angles[0])
    if several:
        lines = statement("angles = ", f"[{', '.join(angles)}]")
        lines += statement("angles = ", f"[angles[number] for number in {numbers(module.layer_angles)}]")
    return Given(arguments=ANGLES, lines=lines, each="angles" if several else None)


def arguments_of(module: ModulePlan, part: SublayerPlan | None = None) -> dict[str, str]:
    """What a layer is given, or one of its sublayers: names and types."""
    arguments = {"x": "list[Tensor]" if module.stream_in_pieces else "Tensor"}
    asks = module.layers_take_layout if part is None else module.takes_layout(part)
    arguments |= {"layout": module.execution.layout_type} if asks else {}
    takes = module.layers_take_conditions if part is None else part.sublayer.modulation is not None
    arguments |= CONDITIONS if takes else {}
    if part is not None and part.borrows is not None:
        arguments |= {"spans": CONDITIONS["spans"]} | modulation_of(module, part.borrows)
    if part is not None and not isinstance(part.sublayer.body, Attention):
        return arguments
    angles = ANGLES if module.model.angles else {}
    return {**arguments, **MASK, **angles, "cache": "KeyValues | None = None"}
