"""The classes of one kind of layer, as text: its steps, one line each."""

from __future__ import annotations

from motc.emit.generate import LAYER_METHOD, attention_methods, ffn_methods
from motc.emit.leaves import Applied, definition
from motc.emit.mixture import mixture
from motc.emit.steps import NORM_VARIABLE, PLACEMENT, VARIABLES, activation, in_heads, sublayers
from motc.emit.text import method, statement
from motc.ir.layer import GATED, FfnKind
from motc.ir.steps import Order, Step, base_name, is_sorted
from motc.plan import LayerPlan, ModulePlan, has_views, kernel
from motc.plan.constants import Constants


class Sublayer:
    """Writes the forward of one sublayer."""

    def __init__(
        self, module: ModulePlan, kind: LayerPlan, constants: Constants, steps: tuple[Step, ...], entry: str
    ) -> None:
        self.module = module
        self.kind = kind
        self.constants = constants
        self.text = Applied(module.execution)
        self.made_in: dict[str, Order] = {base_name(entry): "sorted" if is_sorted(entry) else "slots"}
        for step in steps:
            self._step(step)
        self.result = self._variable(steps[-1].writes)

    def _variable(self, value: str) -> str:
        """What a value is called: by what made it, and with its order if that is not the one it was made in."""
        base = base_name(value)
        name = base.rpartition(".")[2]
        short = NORM_VARIABLE[self.kind.layer.placement] if name == "norm" else VARIABLES[name]
        order: Order = "sorted" if is_sorted(value) else "slots"
        return short if self.made_in[base] == order else f"{short}_{order}"

    def _in_pieces(self, value: str) -> bool:
        return base_name(value) in self.kind.pieces

    def _step(self, step: Step) -> None:
        if step.permutes:
            if not (self.kind.resorts and base_name(step.writes) == "attention.mix"):
                (source,) = (self._variable(value) for value in step.reads)
                self.text.assign(self._variable(step.writes), self._permuted(step, source))
            return
        reads = [self._variable(value) for value in step.reads]
        expression = self._expression(step, reads)
        self.made_in[base_name(step.writes)] = "sorted" if is_sorted(step.writes) else "slots"
        self.text.assign(self._variable(step.writes), expression)

    def _permuted(self, step: Step, source: str) -> str:
        return f"to_{'sorted' if step.op == 'sort' else 'slots'}({source}, layout)"

    def _expression(self, step: Step, reads: list[str]) -> str:
        a = self.kind.layer.attention
        operation = step.op.rpartition(".")[2]
        if step.op in self.kind.leaves:
            return self._leaf(step, reads[0])
        match operation:
            case "rotate_q" | "rotate_k":
                pairing = "half" if a.rope and a.rope.pairing == "half" else "interleaved"
                return f"rotate_{pairing}({reads[0]}, cos, sin)"
            case "mix":
                return self._mix(reads)
            case "add":
                if self._in_pieces(step.writes):
                    return f"add({', '.join(reads)})"
                return " + ".join(reads)
            case "mixture":
                return mixture(self.module, self.kind, self.text, reads[0], in_pieces=self._in_pieces(step.writes))
            case "activation":
                return self._activation(step, reads)
            case _:
                raise AssertionError(step.op)

    def _leaf(self, step: Step, x: str) -> str:
        plan = self.kind.leaves[step.op]
        places = "layout.sorted_places" if step.order == "sorted" else "layout.places"
        writes = self._in_pieces(step.writes)
        if step.op == "attention.out" and self.kind.resorts:
            made = f"recomputed(self.sort_and_project, {self._variable(base_name(step.reads[0]))}, layout)"
            return made if writes else self.text.joined(made, plan.counts)
        made = self.text.through(plan, x, places, reads_pieces=self._in_pieces(step.reads[0]), writes_pieces=writes)
        return in_heads(made, step.op, kind=self.kind, constants=self.constants)

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
    steps, _ = sublayers(kind)
    text = Sublayer(module, kind, constants, steps, steps[0].reads[0])
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
        *(_project(module, kind) if kind.resorts else ()),
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
    attention, steps = sublayers(kind)
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    text = Sublayer(module, kind, constants, steps, attention[-1].writes)
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
