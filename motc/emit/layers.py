"""The classes of one kind of layer, as text: its steps, one line each."""

from __future__ import annotations

from typing import assert_never

from motc.emit.generate import LAYER_METHOD, attention_methods, ffn_methods
from motc.emit.leaves import Applied, definition
from motc.emit.mixture import mixture
from motc.emit.steps import PLACEMENT, activation, in_heads, rotate, variables
from motc.emit.text import method, statement
from motc.ir.layer import GATED, FfnKind
from motc.ir.leaf import Leaf
from motc.ir.steps import Activate, Add, Apply, Attend, MixExperts, Order, Permute, Rotate, Step, Value
from motc.plan import LayerPlan, ModulePlan, has_views, kernel
from motc.plan.constants import Constants


class Sublayer:
    """Writes the forward of one sublayer."""

    def __init__(self, module: ModulePlan, kind: LayerPlan, constants: Constants, sublayer: str) -> None:
        self.module = module
        self.kind = kind
        self.constants = constants
        self.text = Applied(module.execution)
        self.variables = variables(kind.layer)
        steps = kind.layer.steps_of(sublayer)
        entry = steps[0].reads[0]
        self.made_in: dict[str, Order] = {entry.name: entry.order}
        for step in steps:
            self._step(step)
        self.result = self._variable(steps[-1].writes)

    def _variable(self, value: Value) -> str:
        """What a value is called: by what made it, and with its order if that is not the one it was made in."""
        name = self.variables[value.name]
        return name if self.made_in[value.name] == value.order else f"{name}_{value.order}"

    def _in_pieces(self, value: Value) -> bool:
        return value.name in self.kind.pieces

    def _step(self, step: Step) -> None:
        expression = self._expression(step, [self._variable(value) for value in step.reads])
        if not step.permutes:
            self.made_in[step.writes.name] = step.writes.order
        if expression is not None:
            self.text.assign(self._variable(step.writes), expression)

    def _expression(self, step: Step, reads: list[str]) -> str | None:
        """What a step computes; None where another step does it along with its own."""
        match step.operation:
            case Apply(leaf=leaf):
                return self._leaf(step, leaf, reads[0])
            case Rotate():
                return rotate(reads[0], self.kind.layer.attention.rope)
            case Attend():
                return self._mix(reads)
            case Activate():
                return self._activation(step, reads)
            case MixExperts():
                return mixture(self.module, self.kind, self.text, reads[0], in_pieces=self._in_pieces(step.writes))
            case Add():
                return f"add({', '.join(reads)})" if self._in_pieces(step.writes) else " + ".join(reads)
            case Permute(to=order):
                return None if step.writes.name in self.kind.resorted else f"to_{order}({reads[0]}, layout)"
            case _:
                assert_never(step.operation)

    def _leaf(self, step: Step, leaf: Leaf, x: str) -> str:
        plan = self.kind.leaves[leaf.path]
        places = "layout.sorted_places" if step.order == "sorted" else "layout.places"
        writes = self._in_pieces(step.writes)
        if step.reads[0].name in self.kind.resorted:
            made = f"recomputed(self.sort_and_project, {self.variables[step.reads[0].name]}, layout)"
            return made if writes else self.text.joined(made, plan.counts)
        made = self.text.through(plan, x, places, reads_pieces=self._in_pieces(step.reads[0]), writes_pieces=writes)
        return in_heads(made, leaf, kind=self.kind, constants=self.constants)

    def _mix(self, reads: list[str]) -> str:
        a = self.kind.layer.attention
        causal = "mask is None" if kernel(a.mask, self.module.model) == "causal" else "False"
        gqa = ", enable_gqa=True" if a.kv_heads != a.heads else ""
        q, k, v = (f"{name}.transpose(1, 2)" for name in reads)
        if self.module.generates:
            self.text.lines += ["        if cache is not None:", f"            cache.fill({reads[1]}, {reads[2]})"]
        self.text.assign(reads[0], f"not_empty({reads[0]})")
        call = f"F.scaled_dot_product_attention({q}, {k}, {v}, attn_mask=mask, is_causal={causal}{gqa})"
        if has_views(self.module.model):
            lines = [
                "        if layout.rows.views is not None:",
                f"            mixed = attend_by_views({', '.join(reads)}, layout.rows.views)",
                "        else:",
                *statement("mixed = ", call, indent=12),
            ]
        else:
            lines = statement("mixed = ", call)
        self.text.lines += lines
        return "mixed.transpose(1, 2).flatten(2)  # [R, L, heads * head_dim]"

    def _activation(self, step: Step, reads: list[str]) -> str:
        counts = self.kind.ffn_counts
        firsts = [self.module.order[sum(counts[:index])] for index in range(len(counts))]
        kinds = [self.kind.layer.ffn.kinds[first] for first in firsts]
        gate, up = (reads[0] if len(reads) == 2 else "", reads[-1])
        if not self._in_pieces(step.writes):
            return activation(kinds[0], gate, up)
        if len(set(kinds)) == 1:
            each = activation(kinds[0], "g", "u")
            if kinds[0] in GATED:
                return f"[{each} for g, u in zip({gate}, {up}, strict=True)]"
            return f"[{each} for u in {up}]"
        pieces = [activation(kind, f"{gate}[{i}]", f"{up}[{i}]") for i, kind in enumerate(kinds)]
        return f"[{', '.join(pieces)}]"


def attention_class(module: ModulePlan, kind: LayerPlan, constants: Constants) -> str:
    a = kind.layer.attention
    text = Sublayer(module, kind, constants, "attention")
    leaves = [plan for path, plan in kind.leaves.items() if path.startswith("attention.")]
    lines = [
        f"class {kind.attention_class}(nn.Module):",
        f'    """{PLACEMENT[kind.layer.placement]}, f being {a.mask} attention over all tokens of a document.',
        "",
        f"    {a.heads} heads, {a.kv_heads} key/value heads, head_dim {a.head_dim}.",
        '    """',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(line for plan in leaves for line in definition(plan, module.execution, constants)),
        "",
        *forward_of(module, kind),
        *text.text.lines,
        f"        return {text.result}",
        *(_project(module, kind) if kind.resorted else ()),
        *attention_methods(module, kind, constants),
    ]
    return "\n".join(lines)


def _project(module: ModulePlan, kind: LayerPlan) -> list[str]:
    """The method that sorts what attention made and projects it."""
    counts = kind.leaves["attention.out"].counts
    cut = Applied(module.execution).cut("to_sorted(mixed, layout)", counts)
    return [
        "",
        f"    def sort_and_project(self, mixed: Tensor, layout: {module.execution.layout_type}) -> list[Tensor]:",
        '        """What attention made [R, L, heads * head_dim], sorted and projected, in pieces."""',
        f"        projected: list[Tensor] = self.out({cut})",
        "        return projected",
    ]


def ffn_class(module: ModulePlan, kind: LayerPlan, constants: Constants) -> str:
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    text = Sublayer(module, kind, constants, "ffn")
    kinds = dict.fromkeys(kind.layer.ffn.kinds[index] for index in module.order)
    leaves = [plan for path, plan in kind.leaves.items() if path.startswith("ffn.")]
    has_shared = kind.layer.ffn.shared_up is not None
    balanced = module.is_balanced
    returned, result = (f"tuple[{stream}, Tensor]", f"{text.result}, balance") if balanced else (stream, text.result)
    lines = [
        f"class {kind.ffn_class}(nn.Module):",
        *_ffn_docstring(kind, list(kinds)),
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(("        self.shared = nn.Module()",) if has_shared else ()),
        *(line for plan in leaves for line in definition(plan, module.execution, constants)),
        "",
        *method("forward", [f"x: {stream}", f"layout: {module.execution.layout_type}"], returned),
        *text.text.lines,
        f"        return {result}",
        *ffn_methods(module, kind, constants),
    ]
    return "\n".join(lines)


def _ffn_docstring(kind: LayerPlan, kinds: list[FfnKind]) -> list[str]:
    start = f'    """{PLACEMENT[kind.layer.placement]}, f being {" / ".join(kinds)}.'
    if not kind.layer.ffn.moe:
        return [f'{start} Token by token."""']
    mixtures = "; ".join(dict.fromkeys(str(moe) for moe in kind.layer.ffn.moe if moe))
    more = (
        ["", "    Also gives the load-balancing loss of its routers, weighted."] if kind.layer.ffn.is_balanced else []
    )
    return [start, "", f"    A mixture of experts: {mixtures}.", *more, '    """']


def forward_of(module: ModulePlan, kind: LayerPlan, *, balanced: bool = False) -> list[str]:
    """The first lines of the forward of a layer, or of its attention."""
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    returned = f"tuple[{stream}, Tensor]" if balanced else stream
    arguments = [f"x: {stream}", f"layout: {module.execution.layout_type}", "mask: Tensor | None"]
    arguments += ["cos: Tensor", "sin: Tensor"] if kind.layer.attention.rope else []
    arguments += ["cache: KeyValues | None = None"] if module.generates else []
    return method("forward", arguments, returned)


def layer_class(module: ModulePlan, kind: LayerPlan) -> str:
    passed = ", cos, sin" if kind.layer.attention.rope else ""
    passed += ", cache" if module.generates else ""
    plural = "s" if "." in kind.where or "," in kind.where else ""
    forward = "\n".join(forward_of(module, kind, balanced=module.is_balanced))
    body = "        x = self.ffn(x, layout)\n        return x"
    if module.is_balanced:
        body = "        x, balance = self.ffn(x, layout)\n        return x, balance"
    decode = f"\n{LAYER_METHOD}" if module.generates else ""
    return f'''class {kind.layer_class}(nn.Module):
    """Layer{plural} {kind.where}: attention, then the feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = {kind.attention_class}()
        self.ffn = {kind.ffn_class}()

{forward}
        x = self.attention(x, layout, mask{passed})
{body}{decode}'''
