"""Parameter groups as text: how one is made, and how it is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from motc.emit.text import names_tuple, statement
from motc.ir.condition import PARTS, Sinusoids
from motc.ir.execution import Execution
from motc.ir.latent import TIME_FREQUENCIES, PlaceTable, SineTable
from motc.ir.leaf import Block, Leaf
from motc.ir.operators import (
    Activation,
    Condition,
    Embedding,
    Experts,
    LatentEnds,
    Linear,
    Modulation,
    Norm,
    Operator,
    Projector,
    Router,
    Sinks,
    TanhGate,
)
from motc.ir.routing import GroupScore
from motc.plan import LeafPlan
from motc.plan.constants import Constants
from motc.source import CompilerBug


def constructor(operator: Operator, constants: Constants, path: str = "") -> str:
    """The expression that makes a module; sizes by their names where the model has such."""
    sizes = ", ".join(constants.sizes(path, operator))
    match operator:
        case Router():
            return _router(operator, sizes)
        case Linear(bias=bias):
            return f"nn.Linear({sizes}, bias={bias})"
        case Experts(count=count, bias=bias):
            return f"Experts({constants.named('EXPERTS', count)}, {sizes}, bias={bias})"
        case Norm(kind=kind, eps=eps):
            arguments = f"{sizes}, eps={constants.named('NORM_EPS', eps)}{_of_norm(operator)}"
            match kind:
                case "rms":
                    return f"RMSNorm({arguments})"
                case "layer":
                    return f"LayerNorm({arguments})"
                case _:
                    assert_never(kind)
        case Embedding(scale=scale):
            return f"nn.Embedding({sizes})" if scale == 1 else f"ScaledEmbedding({sizes}, scale={scale!r})"
        case LatentEnds(channels=channels, patch=patch, width=width, unet=unet):
            wide = constants.named("WIDTH", width)
            ends = f"{channels}, patch={patch}, width={wide}"
            if unet is None:
                return f"LinearEnds({ends}{_told(operator, wide)})"
            variances = ", variances=True" if operator.variances else ""
            return f"UnetEnds({ends}, inside={unet.channels}, blocks={unet.blocks}{variances})"
        case Projector():
            return _projector(operator, constants)
        case TanhGate():
            return "TanhGate()"
        case Sinks(heads=heads):
            return f"Sinks({constants.named('HEADS', heads)})"
        case Condition():
            return _condition(operator, constants)
        case Modulation(parts=parts, gate=gate) if not operator.has_maps:
            of = f'"{_shared_path(operator, path)}"' if operator.mapped else f'"{_vector(operator)}", in_parts=False'
            said = [of, f"width={constants.named('WIDTH', operator.width)}"]
            said += [f"parts={names_tuple(parts)}"] if parts != PARTS else []
            said += [*([] if gate == "linear" else [f'gate="{gate}"']), *(["table=True"] if operator.table else [])]
            return f"GivenModulation({', '.join(said)})"
        case Modulation(size=size, width=width, parts=parts, bias=bias, gate=gate):
            sides = (constants.named("WIDTH", each) for each in (size, width))
            said = [f'"{_vector(operator)}"', *sides, *([f"parts={names_tuple(parts)}"] if parts != PARTS else [])]
            said += [*([] if bias else ["bias=False"]), *([] if gate == "linear" else [f'gate="{gate}"'])]
            return f"Modulation({', '.join(said)})"
        case _:
            assert_never(operator)


def _of_norm(norm: Norm) -> str:
    """The arguments of what a norm has otherwise than the plain one of its kind."""
    said = (
        *([f"offset={norm.offset}"] if norm.offset else []),
        *([] if norm.weight else ["weight=False"]),
        *([] if norm.bias else ["bias=False"]),
        *(["over_heads=True"] if norm.over_heads else []),
    )
    return "".join(f", {argument}" for argument in said)


def _router(router: Router, sizes: str) -> str:
    """The expression that makes a router by which tokens choose otherwise than plainly."""
    choice, said = router.choice, [sizes, f"top_k={router.top_k}"]
    said += ["bias=True"] if router.bias else []
    said += ["sigmoid=True"] if choice.scores == "sigmoid" else []
    said += [] if choice.normalised else ["normalised=False"]
    said += [] if choice.scale == 1.0 else [f"scale={choice.scale!r}"]
    if choice.groups > 1:
        said.append(f"groups={choice.groups}, top_groups={choice.top_groups}, group_best={_best(choice.group_score)}")
    said += ["wide=True"] if choice.is_wide else []
    return f"{'CorrectedRouter' if choice.corrected else 'Router'}({', '.join(said)})"


def _best(score: GroupScore) -> int:
    """Of how many of its experts a group's worth is the sum."""
    match score:
        case "best_two":
            return 2
        case "best":
            return 1
        case _:
            assert_never(score)


def _projector(projector: Projector, constants: Constants) -> str:
    """The expression that makes a projector, saying what is not as for one linear map with a bias."""
    if projector.kind == "none":
        return "nn.Identity()"
    said = [] if projector.bias else ["bias=False"]
    if projector.kind != "linear":
        said += [f"hidden={projector.hidden}", f"activation={_function(projector.kind)}"]
    if projector.norm is not None:
        said.append(f"norm={constructor(projector.norm, constants)}")
    return f"Projector({', '.join([str(projector.size), constants.named('WIDTH', projector.width), *said])})"


def _told(ends: LatentEnds, wide: str) -> str:
    """The arguments of how linear ends are otherwise than plainly, whose tokens are told a timestep's vector."""
    said = [", time=NoTime()"] if ends.untimed else []
    if (ends.time_size, ends.time_scale) != (TIME_FREQUENCIES, 1):
        scale = f", {ends.time_scale!r}" if ends.time_scale != 1 else ""
        said.append(f", time=TimestepEmbedding({ends.time_size}, {wide}{scale})")
    if ends.time is not None:
        said.append(f", time=ConcatTime({wide}, {ends.time.min_period!r}, {ends.time.max_period!r})")
    if ends.table is not None:
        said.append(f", table={_table(ends.table, wide)}")
    said += [*[", bias=False"] * (not ends.bias), *[", out_bias=False"] * (not ends.out_bias)]
    said += [", variances=True"] * ends.variances
    return "".join(said)


def _table(table: SineTable | PlaceTable, wide: str) -> str:
    match table:
        case SineTable(base=base, crop=crop):
            sizes = {"base": base, "crop": crop}
            return f"SineTable({', '.join(f'{key}={size}' for key, size in sizes.items() if size)})"
        case PlaceTable(rows=rows, columns=columns, fit=fit):
            stretched = "" if fit == "crop" else ", interpolated=True"
            return f"PlaceTable({rows}, {columns}, {wide}{stretched})"
        case _:
            assert_never(table)


def _path(leaf: Leaf, block: Block) -> str:
    """What a module is asked for by: its group, and of shared modulations its copy."""
    is_shared = isinstance(block.operator, Modulation) and block.operator.shared is not None and block.name
    return f"{leaf.path}.{block.name}" if is_shared else leaf.path


def _vector(modulation: Modulation) -> str:
    """What a layer's conditions call the vector that maps are of."""
    return modulation.by if modulation.activated else f"{modulation.by}.plain"


def _shared_path(modulation: Modulation, path: str) -> str:
    """Where a layer's modulation, `attention.modulation.caption`, finds what is shared: `apart.attention.caption`."""
    role, _, *copy = path.split(".")
    return ".".join((modulation.shared or "", role, *copy))


def _condition(condition: Condition, constants: Constants) -> str:
    """The expression that makes what a span's condition is the sum of."""
    wide = constants.named("WIDTH", condition.width)
    said = [
        *([] if condition.timestep is None else [f"timestep={_sinusoids(condition.timestep, wide, constants)}"]),
        *([] if condition.number is None else [f"number={_sinusoids(condition.number, wide, constants)}"]),
        *([] if condition.label is None else [f"label=nn.Embedding({condition.label.rows}, {wide})"]),
    ]
    vector = condition.vector
    if vector is not None:
        hidden = constants.named("WIDTH", vector.hidden)
        plain = "" if vector.bias else ", bias=False"
        said.append(f"vector=GivenVector({vector.size}, {wide}, {hidden}, {_function(vector.activation)}{plain})")
    said += ["null=True"] if condition.label is not None and condition.label.null else []
    if condition.shared:
        pairs = (f'"{maps.path}": {constructor(maps.modulation, constants)}' for maps in condition.shared)
        said.append(f"shared=SharedModulations({{{', '.join(pairs)}}})")
    return f"Condition({', '.join(said)})"


def _sinusoids(waves: Sinusoids, wide: str, constants: Constants) -> str:
    said = [str(waves.count), wide, constants.named("WIDTH", waves.hidden)]
    said += [] if waves.max_period == 10000 else [f"max_period={waves.max_period!r}"]
    said += [] if waves.scale == 1 else [f"scale={waves.scale!r}"]
    said += ["closed=True"] if waves.closed else []
    said += [] if waves.periods is None else [f"periods={waves.periods!r}"]
    said += [] if waves.bias else ["bias=False"]
    return f"Sinusoids({', '.join(said)})"


def _function(activation: Activation) -> str:
    """An activation as a function of one tensor."""
    match activation:
        case "silu" | "gelu" | "relu":
            return f"F.{activation}"
        case "gelu_tanh" | "quick_gelu":
            return activation
        case "relu2":
            return "squared_relu"
        case _:
            assert_never(activation)


def definition(leaf: LeafPlan, execution: Execution, constants: Constants) -> list[str]:
    """The lines of `__init__` that make a group."""
    constructors = [constructor(block.operator, constants, _path(leaf.leaf, block)) for block in leaf.leaf.blocks]
    attribute = f"self.{leaf.attribute}"
    if leaf.form in ("single", "shared"):
        return statement(f"{attribute} = ", constructors[0])
    names = tuple(block.name for block in leaf.leaf.blocks)
    extra = [] if leaf.route == names or leaf.form == "held" else [f"route={names_tuple(leaf.route)}"]
    cls = "nn.ModuleDict" if leaf.form == "held" else execution.by_tower
    if leaf.form == "by_place":
        cls = _by_place(leaf.leaf.blocks[0].operator)
    if leaf.form in ("by_place", "by_tower") and set(leaf.counts) != {1}:
        extra.append(f"ends={leaf.ends}")
    if leaf.untrained:
        extra.append(f"untrained={names_tuple(leaf.untrained)}")
    if len(set(constructors)) == 1:
        copies = f"{{name: {constructors[0]} for name in {names_tuple(names)}}}"
    else:
        pairs = (f'"{name}": {each}' for name, each in zip(names, constructors, strict=True))
        copies = f"{{{', '.join(pairs)}}}"
    return statement(f"{attribute} = ", f"{cls}({', '.join([copies, *extra])})")


def _by_place(operator: Operator) -> str:
    """What holds copies of which each token, wherever it stands, has its own."""
    match operator:
        case Norm():
            return "NormByTower"
        case Sinks():
            return "SinksByTower"
        case Modulation():
            return "ModulationByTower"
        case _:
            raise CompilerBug(f"{operator} is not chosen by place")


class Applied:
    """Writes lines that send values through groups, cutting and joining them where needed; each value is cut once."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.statements: list[tuple[str, str]] = []
        self._cut: dict[tuple[str, tuple[int, ...]], str] = {}

    def assign(self, name: str, expression: str) -> None:
        """A line `name = expression`; what was cut from an earlier value of the name is forgotten."""
        self._cut = {key: pieces for key, pieces in self._cut.items() if key[0] != name}
        self.statements.append((name, expression))

    @property
    def lines(self) -> list[str]:
        """What was assigned so far, as text."""
        return [line for name, expression in self.statements for line in statement(f"{name} = ", expression)]

    def through(self, leaf: LeafPlan, x: str, places: str, *, reads_pieces: bool, writes_pieces: bool) -> str:
        """The expression for `x`, a tensor or the pieces, after a group; `places` are the tokens' in its order."""
        match leaf.form:
            case "single":
                return f"self.{leaf.attribute}({x})"
            case "by_place":
                return f"self.{leaf.attribute}({x}, {places})"
            case "shared" | "by_tower" | "held":
                pass
            case _:
                assert_never(leaf.form)
        pieces = x if reads_pieces else self.pieces(x, leaf.counts)
        if leaf.form == "shared" and None in leaf.route:
            copies = ["lambda x: x" if name is None else f"self.{leaf.attribute}" for name in leaf.route]
            applied = each_piece(copies, leaf.counts, pieces)
        elif leaf.form == "shared":
            applied = f"[self.{leaf.attribute}(piece) for piece in {pieces}]"
        else:
            applied = f"self.{leaf.attribute}({pieces}, layout)"
        if leaf.adds_nothing:
            copies = ["lambda x: x" if name else "torch.zeros_like" for name in leaf.route]
            applied = each_piece(copies, leaf.counts, applied)
        if leaf.blank:
            fill = 'x.new_full((*x.shape[:-1], {}), float("inf"))' if leaf.open else "x.new_zeros(*x.shape[:-1], {})"
            copies = ["lambda x: " + ("x" if size is None else fill.format(size)) for size in leaf.blank]
            applied = each_piece(copies, leaf.counts, applied)
        return applied if writes_pieces else self.joined(applied, leaf.counts)

    def joined(self, pieces: str, counts: tuple[int, ...]) -> str:
        """The expression of pieces as one tensor."""
        return f"{self.execution.join}({pieces}, layout{self._of(counts)})"

    def cut(self, x: str, counts: tuple[int, ...]) -> str:
        """The expression of a tensor's pieces."""
        return f"{self.execution.cut}({x}, layout{self._of(counts)})"

    def _of(self, counts: tuple[int, ...]) -> str:
        """How many modalities each piece holds, as an argument; not said where sorted tokens are cut by modality."""
        return "" if self.execution.sorts and set(counts) == {1} else f", {counts}"

    def pieces(self, x: str, counts: tuple[int, ...]) -> str:
        """The name of the pieces of `x`; the line that cuts it where it is not cut yet."""
        if (x, counts) not in self._cut:
            others = sum(name == x for name, _ in self._cut)
            name = f"{x}_pieces" if not others else f"{x}_pieces_{others + 1}"
            self.statements.append((name, self.cut(x, counts)))
            self._cut[x, counts] = name
        return self._cut[x, counts]


def each_piece(functions: Sequence[str], counts: tuple[int, ...], *pieces: str) -> str:
    """The expression that applies to each piece a function of its own, of as many arguments as there are `pieces`."""
    several = f"({', '.join(functions)}{',' if len(functions) == 1 else ''})"
    return f"each_piece({several}, layout, {counts}, {', '.join(pieces)})"
