"""Parameter groups as text: how one is made, and how it is applied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Norm, Operator
from motc.plan import LeafPlan


def constructor(operator: Operator) -> str:
    """The expression that makes a module."""
    match operator:
        case Linear(in_features=rows, out_features=columns, bias=bias):
            return f"nn.Linear({rows}, {columns}, bias={bias})"
        case Experts(count=count, in_features=rows, out_features=columns, bias=bias):
            return f"Experts({count}, {rows}, {columns}, bias={bias})"
        case Norm(kind="rms", shape=shape, eps=eps):
            return f"RMSNorm({shape[0]}, eps={eps!r})"
        case Norm(shape=shape, eps=eps):
            return f"LayerNorm({', '.join(map(str, shape))}, eps={eps!r})"
        case Embedding(vocab=vocab, width=width):
            return f"nn.Embedding({vocab}, {width})"
        case LatentEnds(channels=channels, patch=patch, width=width, unet=unet):
            sizes = f"{channels}, patch={patch}, width={width}"
            if unet is None:
                return f"LinearEnds({sizes})"
            return f"UnetEnds({sizes}, inside={unet.channels}, blocks={unet.blocks})"
        case _:
            assert_never(operator)


def definition(leaf: LeafPlan) -> list[str]:
    """The lines of `__init__` that make a group."""
    if leaf.form in ("single", "shared"):
        return [f"        self.{leaf.attribute} = {constructor(leaf.leaf.blocks[0].operator)}"]
    names = tuple(block.name for block in leaf.leaf.blocks)
    extra = [] if leaf.route == names or leaf.form == "held" else [f"route={names_tuple(leaf.route)}"]
    cls = "nn.ModuleDict" if leaf.form == "held" else "ByTower"
    if leaf.form == "norm_by_tower":
        cls = "NormByTower"
        ends = tuple(sum(leaf.counts[: index + 1]) for index in range(len(leaf.counts) - 1))
        extra = [f"route={names_tuple(leaf.route)}", f"ends={ends}"]
    constructors = [constructor(block.operator) for block in leaf.leaf.blocks]
    if len(set(constructors)) == 1:
        copies = f"{{name: {constructors[0]} for name in {names_tuple(names)}}}"
        line = f"        self.{leaf.attribute} = {cls}({', '.join([copies, *extra])})"
        if len(line) <= 120:
            return [line]
        copies_lines = [f"            {copies},"]
    else:
        pairs = zip(names, constructors, strict=True)
        copies_lines = [
            "            {",
            *(f'                "{name}": {made},' for name, made in pairs),
            "            },",
        ]
    return [
        f"        self.{leaf.attribute} = {cls}(",
        *copies_lines,
        *(f"            {e}," for e in extra),
        "        )",
    ]


def names_tuple(items: Iterable[str | None]) -> str:
    """A tuple of names, as text."""
    quoted = ["None" if item is None else f'"{item}"' for item in items]
    return f"({quoted[0]},)" if len(quoted) == 1 else f"({', '.join(quoted)})"


class Applied:
    """Writes lines that send values through groups, cutting and joining them where needed; each value is cut once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._cut: dict[tuple[str, tuple[int, ...]], str] = {}

    def assign(self, name: str, expression: str) -> None:
        """A line `name = expression`; what was cut from an earlier value of the name is forgotten."""
        self._cut = {key: found for key, found in self._cut.items() if key[0] != name}
        self.lines.append(f"        {name} = {expression}")

    def through(self, leaf: LeafPlan, x: str, places: str, *, reads_pieces: bool, writes_pieces: bool) -> str:
        """The expression for `x`, a tensor or the pieces, after a group; `places` are the tokens' in its order."""
        match leaf.form:
            case "single":
                return f"self.{leaf.attribute}({x})"
            case "norm_by_tower":
                return f"self.{leaf.attribute}({x}, {places})"
        pieces = x if reads_pieces else self.pieces(x, leaf.counts)
        if leaf.form == "shared":
            made = f"[self.{leaf.attribute}(piece) for piece in {pieces}]"
        else:
            made = f"self.{leaf.attribute}({pieces})"
        return made if writes_pieces else f"merge({made}, layout, {leaf.counts})"

    def pieces(self, x: str, counts: tuple[int, ...]) -> str:
        """The name of the pieces of `x`; the line that cuts it where it is not cut yet."""
        if (x, counts) not in self._cut:
            others = sum(name == x for name, _ in self._cut)
            name = f"{x}_pieces" if not others else f"{x}_pieces_{others + 1}"
            self.lines.append(f"        {name} = split({x}, layout, {counts})")
            self._cut[x, counts] = name
        return self._cut[x, counts]
