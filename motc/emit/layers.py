"""The classes of one kind of layer, as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from motc.emit.leaves import Applied, definition
from motc.emit.operations import Forward, arguments_of, given_beside, is_balanced
from motc.emit.text import LONGEST, docstring, method
from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.plan import LayerPlan, ModulePlan, SublayerPlan
from motc.plan.constants import Constants

TITLES = {"ffn": "the feed-forward"}
"""What a sublayer is called in words, where it is not as its role."""


def sublayer_class(module: ModulePlan, part: SublayerPlan, constants: Constants) -> str:
    """The class of a sublayer: its norms, its body, and the residual."""
    forward, body = Forward(module, part, constants), part.sublayer.body
    has_shared = isinstance(body, Mixture) and body.shared_up is not None
    lines = [
        f"class {part.class_name}(nn.Module):",
        *_docstring(module, part),
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(("        self.shared: Any = nn.Module()",) if has_shared else ()),
        *(line for leaf in part.leaves.values() for line in definition(leaf, module.execution, constants)),
        "",
        *forward_of(_arguments(module, part), given_beside(module, part).values(), balanced=is_balanced(part)),
        *forward.lines,
        *(_project(module, part) if part.resorted else ()),
    ]
    return "\n".join(lines)


def _formula(part: SublayerPlan) -> str:
    """What a sublayer makes of x, f being its body: `x + f(norm(x))`."""
    sublayer = part.sublayer
    read = {"stream": "x", "entry": "entry", "normed": "h"}[sublayer.reads]
    norm = "norm" if sublayer.modulation is None else "adaptive norm"
    branch = f"f({norm}({read}))" if sublayer.before else f"f({read})"
    branch = f"norm({branch})" if sublayer.after else branch
    gated = part.borrows is not None or (sublayer.modulation is not None and sublayer.modulation.modulates("gate"))
    onto = "x" if sublayer.onto == "stream" else "entry"
    joined = f"{onto} + gate * {branch}" if gated else f"{onto} + {branch}"
    return f"norm({joined})" if sublayer.joined else joined


def _docstring(module: ModulePlan, part: SublayerPlan) -> list[str]:
    body, formula = part.sublayer.body, _formula(part)
    start = f'    """{formula}, f being'
    match body:
        case Attention():
            line = f'{start} {body.mask} attention over all tokens of a document."""'
            if len(line) <= LONGEST:
                return [line]
            summary = f"{formula}, f being attention over all tokens of a document."
            return docstring(summary, f"The mask: {body.mask}.")
        case FeedForward():
            return [f'{start} {_kinds(module, body)}. Token by token."""']
        case Mixture():
            mixtures = "; ".join(dict.fromkeys(str(moe) for moe in body.moe if moe))
            also = ["Also gives the load-balancing loss of its routers, weighted."] if body.is_balanced else []
            summary = f"{formula}, f being {_kinds(module, body)}."
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
    body = part.sublayer.body
    counts = part.leaves[body.out.path].counts
    size = "value_dim" if isinstance(body, Attention) and body.value_dim is not None else "head_dim"
    cut = Applied(module.execution).cut("to_sorted(mixed, layout)", counts)
    return [
        "",
        f"    def sort_and_project(self, mixed: Tensor, layout: {module.execution.layout_type}) -> list[Tensor]:",
        f'        """What attention made [R, L, heads * {size}], sorted and projected, in pieces."""',
        f"        projected: list[Tensor] = self.out({cut}, layout)",
        "        return projected",
    ]


def _arguments(module: ModulePlan, part: SublayerPlan) -> dict[str, str]:
    """What a sublayer is given: names and types."""
    x, *others = arguments_of(module, part).items()
    return dict([x, *((name, x[1]) for name in part.takes.values()), *others])


def forward_of(arguments: dict[str, str], gives: Iterable[str], *, balanced: bool) -> list[str]:
    """The first lines of the forward of a layer or a sublayer.

    It gives the stream, what it `gives` beside that, of these types, and if it is `balanced` a load-balancing loss.
    """
    types = [arguments["x"], *gives] + ["Tensor"] * balanced
    returned = types[0] if len(types) == 1 else f"tuple[{', '.join(types)}]"
    return method("forward", [f"{name}: {kind}" for name, kind in arguments.items()], returned)


def layer_class(module: ModulePlan, kind: LayerPlan) -> str:
    plural = "s" if "." in kind.where or "," in kind.where else ""
    titles = [TITLES.get(part.sublayer.role, part.sublayer.role) for part in kind.sublayers]
    bodies = ", then ".join(titles)
    if any(part.sublayer.reads != "stream" for part in kind.sublayers):
        bodies = f"{' and '.join(titles)}, side by side"
    roles = [part.sublayer.role for part in kind.sublayers]
    lines = [
        f"class {kind.layer_class}(nn.Module):",
        *docstring(f"Layer{plural} {kind.where}: {bodies}."),
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(f"        self.{role} = {part.class_name}()" for role, part in zip(roles, kind.sublayers, strict=True)),
        "",
        *forward_of(arguments_of(module), [], balanced=module.is_balanced),
    ]
    taken = {name: value for part in kind.sublayers for value, name in part.takes.items()}
    given = {name for part in kind.sublayers for name in given_beside(module, part)}
    lines += [f"        {name} = x" for name in taken if name not in given]
    balances: list[str] = []
    for role, part in zip(roles, kind.sublayers, strict=True):
        names = ["x", *given_beside(module, part)]
        if is_balanced(part):
            balances.append("balance" if not balances else f"balance_of_{role}")
            names.append(balances[-1])
        lines.append(f"        {', '.join(names)} = self.{role}({', '.join(_arguments(module, part))})")
    balance = " + ".join(balances) or "torch.zeros((), device=layout.tokens.device)"
    lines.append(f"        return x, {balance}" if module.is_balanced else "        return x")
    return "\n".join(lines)
