"""The classes of one kind of layer, as text: its steps, one line each."""

from __future__ import annotations

from typing import assert_never

from motc.emit.inline import RETURN, inlined
from motc.emit.leaves import Applied, definition, each_piece
from motc.emit.mixture import MixtureText
from motc.emit.steps import activation, formula, in_heads, variables
from motc.emit.text import docstring, method, statement
from motc.ir.attention import Attention
from motc.ir.feed_forward import GATED, FeedForward, FfnKind, Mixture
from motc.ir.layer import Body, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.rope import Rope
from motc.ir.steps import Activate, Add, Apply, Attend, InLayers, MixExperts, Order, Permute, Rotate, Step, Value
from motc.plan import LayerPlan, ModulePlan, SublayerPlan, kernel
from motc.plan.constants import Constants

TITLES = {"ffn": "the feed-forward"}
"""What a sublayer is called in words, where it is not as its role."""


class Forward:
    """Writes the forward of one sublayer."""

    def __init__(self, module: ModulePlan, part: SublayerPlan, constants: Constants) -> None:
        self.module = module
        self.part = part
        self.constants = constants
        self.text = Applied(module.execution)
        self.variables = variables(part)
        entry = part.steps[0].reads[0]
        self.made_in: dict[str, Order] = {entry.name: entry.order}
        for step in part.steps:
            self._step(step)
        result = self._variable(part.steps[-1].writes)
        self.statements = inlined(self.text.statements, f"{result}, balance" if is_balanced(part) else result)

    @property
    def lines(self) -> list[str]:
        """The body of `forward`, as text."""
        starts = [f"{name} " if name == RETURN else f"{name} = " for name, _ in self.statements]
        expressions = [expression for _, expression in self.statements]
        return [line for pair in zip(starts, expressions, strict=True) for line in statement(*pair)]

    def _variable(self, value: Value) -> str:
        """What a value is called: by what made it, and with its order if that is not the one it was made in."""
        name = self.variables[value.name]
        return name if self.made_in[value.name] == value.order else f"{name}_{value.order}"

    def _in_pieces(self, value: Value) -> bool:
        return value.name in self.part.pieces

    def _step(self, step: Step) -> None:
        expression = self._expression(step, [self._variable(value) for value in step.reads])
        if not step.permutes:
            self.made_in[step.writes.name] = step.writes.order
        if expression is not None:
            self.text.assign(self._variable(step.writes), expression)

    def _expression(self, step: Step, reads: list[str]) -> str | None:
        """What a step computes; None where another step does it along with its own."""
        operation = step.operation
        assert isinstance(operation, InLayers)
        match operation:
            case Apply(leaf=leaf):
                return self._leaf(step, leaf, reads[0])
            case Rotate(rope=rope):
                return _rotated(rope, reads[0])
            case Attend(attention=attention):
                return self._mix(attention, reads)
            case Activate(kinds=kinds):
                return self._activation(kinds, reads, in_pieces=self._in_pieces(step.writes))
            case MixExperts(mixture=body):
                in_pieces = self._in_pieces(step.writes)
                return MixtureText(self.module, self.part, body, self.text).mixed(reads[0], in_pieces=in_pieces)
            case Add():
                return f"add({', '.join(reads)})" if self._in_pieces(step.writes) else " + ".join(reads)
            case Permute(to=order):
                return None if step.writes.name in self.part.resorted else f"to_{order}({reads[0]}, layout)"
            case _:
                assert_never(operation)

    def _leaf(self, step: Step, leaf: Leaf, x: str) -> str:
        plan = self.part.leaves[leaf.path]
        places = "layout.sorted_places" if step.order == "sorted" else "layout.places"
        writes = self._in_pieces(step.writes)
        if step.reads[0].name in self.part.resorted:
            applied = f"recomputed(self.sort_and_project, {self.variables[step.reads[0].name]}, layout)"
            return applied if writes else self.text.joined(applied, plan.counts)
        applied = self.text.through(plan, x, places, reads_pieces=self._in_pieces(step.reads[0]), writes_pieces=writes)
        return in_heads(applied, leaf, self.part.sublayer.body, self.constants)

    def _mix(self, a: Attention, reads: list[str]) -> str:
        given, scores = f"{', '.join(reads)}, mask", self._scores(a)
        needed = kernel(a.mask, self.module.model)
        match needed:
            case "causal":
                return f"attend({given}, cache{scores})"
            case "views":
                number = self.module.model.masks.index(a.mask)
                rows = f"layout.rows.others[{number - 1}]" if number else "layout.rows"
                return f"attend_in_views({given}, {rows}.views, cache{scores})"
            case "full" | "matrix":
                return f"attend({given}, cache, causal=False{scores})"
            case _:
                assert_never(needed)

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


def _rotated(rope: Rope, x: str) -> str:
    if rope.fraction == 1:
        return f"rotate_{rope.pairing}({x}, cos, sin)"
    return f"rotate_first(rotate_{rope.pairing}, {x}, cos, sin)"


def sublayer_class(module: ModulePlan, part: SublayerPlan, constants: Constants) -> str:
    """The class of a sublayer: its norms, its body, and the residual."""
    forward, body = Forward(module, part, constants), part.sublayer.body
    has_shared = isinstance(body, Mixture) and body.shared_up is not None
    lines = [
        f"class {part.class_name}(nn.Module):",
        *_docstring(module, part.sublayer),
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(("        self.shared = nn.Module()",) if has_shared else ()),
        *(line for leaf in part.leaves.values() for line in definition(leaf, module.execution, constants)),
        "",
        *forward_of(arguments_of(module, body), balanced=is_balanced(part)),
        *forward.lines,
        *(_project(module, part) if part.resorted else ()),
    ]
    return "\n".join(lines)


def is_balanced(part: SublayerPlan) -> bool:
    """Whether a sublayer gives a load-balancing loss beside the stream."""
    return isinstance(part.sublayer.body, Mixture) and part.sublayer.body.is_balanced


def _docstring(module: ModulePlan, sublayer: Sublayer) -> list[str]:
    body, start = sublayer.body, f'    """{formula(sublayer)}, f being'
    match body:
        case Attention():
            return [f'{start} {body.mask} attention over all tokens of a document."""']
        case FeedForward():
            return [f'{start} {_kinds(module, body)}. Token by token."""']
        case Mixture():
            mixtures = "; ".join(dict.fromkeys(str(moe) for moe in body.moe if moe))
            also = ["Also gives the load-balancing loss of its routers, weighted."] if body.is_balanced else []
            summary = f"{formula(sublayer)}, f being {_kinds(module, body)}."
            return docstring(summary, f"A mixture of experts: {mixtures}.", *also)
        case _:
            assert_never(body)


def _kinds(module: ModulePlan, body: FeedForward | Mixture) -> str:
    """Each kind once, in the order that tokens are sorted in."""
    model = module.model
    kinds = (body.kinds[model.names.index(name)] for name in model.order)
    return " / ".join(dict.fromkeys(kind for kind in kinds if kind is not None))


def _project(module: ModulePlan, part: SublayerPlan) -> list[str]:
    """The method that sorts what attention made and projects it."""
    counts = part.leaves[part.sublayer.body.out.path].counts
    cut = Applied(module.execution).cut("to_sorted(mixed, layout)", counts)
    return [
        "",
        f"    def sort_and_project(self, mixed: Tensor, layout: {module.execution.layout_type}) -> list[Tensor]:",
        '        """What attention made [R, L, heads * head_dim], sorted and projected, in pieces."""',
        f"        projected: list[Tensor] = self.out({cut}, layout)",
        "        return projected",
    ]


def arguments_of(module: ModulePlan, body: Body | None = None) -> dict[str, str]:
    """What a layer is given, or the sublayer of a body: names and types."""
    arguments = {"x": "list[Tensor]" if module.stream_in_pieces else "Tensor"}
    arguments |= {"layout": module.execution.layout_type} if module.layers_take_layout else {}
    if body is not None and not isinstance(body, Attention):
        return arguments
    angles = {"cos": "Tensor", "sin": "Tensor"} if module.model.angles else {}
    return {**arguments, "mask": "Matrix | None", **angles, "cache": "KeyValues | None = None"}


def forward_of(arguments: dict[str, str], *, balanced: bool) -> list[str]:
    """The first lines of the forward of a layer or a sublayer; `balanced`: it also gives a load-balancing loss."""
    returned = f"tuple[{arguments['x']}, Tensor]" if balanced else arguments["x"]
    return method("forward", [f"{name}: {kind}" for name, kind in arguments.items()], returned)


def layer_class(module: ModulePlan, kind: LayerPlan) -> str:
    plural = "s" if "." in kind.where or "," in kind.where else ""
    bodies = ", then ".join(TITLES.get(part.sublayer.role, part.sublayer.role) for part in kind.sublayers)
    roles = [part.sublayer.role for part in kind.sublayers]
    lines = [
        f"class {kind.layer_class}(nn.Module):",
        f'    """Layer{plural} {kind.where}: {bodies}."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(f"        self.{role} = {part.class_name}()" for role, part in zip(roles, kind.sublayers, strict=True)),
        "",
        *forward_of(arguments_of(module), balanced=module.is_balanced),
    ]
    balances: list[str] = []
    for role, part in zip(roles, kind.sublayers, strict=True):
        call = f"self.{role}({', '.join(arguments_of(module, part.sublayer.body))})"
        if is_balanced(part):
            balances.append("balance" if not balances else f"balance_of_{role}")
            lines.append(f"        x, {balances[-1]} = {call}")
        else:
            lines.append(f"        x = {call}")
    balance = " + ".join(balances) or "torch.zeros((), device=layout.tokens.device)"
    lines.append(f"        return x, {balance}" if module.is_balanced else "        return x")
    return "\n".join(lines)
