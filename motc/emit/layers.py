"""The classes of one kind of layer, as text."""

from __future__ import annotations

from collections.abc import Iterable

from motc.ir.model import GATED, Embedding, FfnKind, Linear, Norm, Operator
from motc.plan import LayerPlan, LeafPlan, ModulePlan

ACTIVATIONS: dict[FfnKind, str] = {
    "swiglu": "F.silu({gate}) * {up}",
    "geglu": "F.gelu({gate}) * {up}",
    "gelu": "F.gelu({up})",
    "relu2": "F.relu({up}).square()",
}


def constructor(operator: Operator) -> str:
    """The expression that makes a module."""
    match operator:
        case Linear(in_features=rows, out_features=columns, bias=bias):
            return f"nn.Linear({rows}, {columns}, bias={bias})"
        case Norm(kind="rms", shape=shape, eps=eps):
            return f"RMSNorm({shape[0]}, eps={eps!r})"
        case Norm(shape=shape, eps=eps):
            return f"LayerNorm({', '.join(map(str, shape))}, eps={eps!r})"
        case Embedding(vocab=vocab, width=width):
            return f"nn.Embedding({vocab}, {width})"


def definition(leaf: LeafPlan) -> list[str]:
    """The lines of `__init__` that make a group."""
    if leaf.form != "by_tower":
        return [f"        self.{leaf.attribute} = {constructor(leaf.leaf.blocks[0].operator)}"]
    names = tuple(block.name for block in leaf.leaf.blocks)
    route = "" if leaf.route == names else f"route={names_tuple(leaf.route)}"
    constructors = [constructor(block.operator) for block in leaf.leaf.blocks]
    if len(set(constructors)) == 1:
        copies = f"{{name: {constructors[0]} for name in {names_tuple(names)}}}"
        line = f"        self.{leaf.attribute} = ByTower({copies}{', ' + route if route else ''})"
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
    tail = [f"            {route},"] if route else []
    return [f"        self.{leaf.attribute} = ByTower(", *copies_lines, *tail, "        )"]


def names_tuple(items: Iterable[str | None]) -> str:
    """A tuple of names, as text."""
    quoted = ["None" if item is None else f'"{item}"' for item in items]
    return f"({quoted[0]},)" if len(quoted) == 1 else f"({', '.join(quoted)})"


def apply(leaf: LeafPlan, x: str) -> str:
    """The expression that sends `x` (a tensor, or the stream's parts) through a group."""
    if leaf.form == "shared":
        return f"[self.{leaf.attribute}(part) for part in {x}]"
    return f"self.{leaf.attribute}({x})"


def _residual(module: ModulePlan, kind: LayerPlan, norm: LeafPlan, branch: str) -> list[str]:
    """The last lines of a sublayer: its result `branch`, normed where the placement says so, added to x."""
    placement = kind.layer.placement

    def add(a: str, b: str) -> str:
        return f"add({a}, {b})" if module.many else f"{a} + {b}"

    match placement:
        case "pre":
            return [f"        return {add('x', branch)}"]
        case "sublayer_output":
            return [f"        out = {branch}", f"        return {add('x', apply(norm, 'out'))}"]
        case "post":
            return [f"        x = {add('x', branch)}", f"        return {apply(norm, 'x')}"]


PLACEMENT = {"pre": "x + f(norm(x))", "post": "norm(x + f(x))", "sublayer_output": "x + norm(f(x))"}


def attention_class(module: ModulePlan, kind: LayerPlan) -> str:
    a = kind.layer.attention
    leaf = {path.partition(".")[2]: plan for path, plan in kind.leaves.items() if path.startswith("attention.")}
    stream = "list[Tensor]" if module.many else "Tensor"
    pre = kind.layer.placement == "pre"
    lines = [
        f"class {kind.attention_class}(nn.Module):",
        f'    """{PLACEMENT[kind.layer.placement]}, f being {a.mask} attention over all tokens of a document.',
        "",
        f"    {a.heads} heads, {a.kv_heads} key/value heads, head_dim {a.head_dim}. The stream goes in and comes out.",
        '    """',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
    ]
    for plan in leaf.values():
        lines += definition(plan)
    angles = ", cos: Tensor, sin: Tensor" if a.rope else ""
    lines += ["", f"    def forward(self, x: {stream}, layout: ModalityLayout{angles}) -> {stream}:"]
    source = "x"
    if pre:
        lines.append(f"        h = {apply(leaf['norm'], 'x')}")
        source = "h"
    for name, count in (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads)):
        if module.many:
            lines.append(
                f"        {name} = [y.unflatten(-1, ({count}, {a.head_dim})) for y in {apply(leaf[name], source)}]"
            )
        else:
            lines.append(f"        {name} = {apply(leaf[name], source)}.unflatten(-1, ({count}, {a.head_dim}))")
    for name in ("q", "k"):
        if f"{name}_norm" in leaf:
            lines.append(f"        {name} = {apply(leaf[f'{name}_norm'], name)}")

    def reorder(name: str) -> str:
        return f"to_sequence({name}, layout)" if module.many else f"to_sequence([{name}], layout)"

    rotate = "" if a.rope is None else ("rotate_half" if a.rope.pairing == "half" else "rotate_interleaved")
    for name in ("q", "k"):
        value = f"{rotate}({reorder(name)}, cos, sin)" if rotate else reorder(name)
        lines.append(f"        {name}_seq = {value}  # [B, S, {name}'s heads, {a.head_dim}]")
    lines.append(f"        v_seq = {reorder('v')}")
    causal = "layout.mask is None" if a.mask.kind == "causal" else "False"
    lines += [
        "        mixed = F.scaled_dot_product_attention(",
        "            q_seq.transpose(1, 2),",
        "            k_seq.transpose(1, 2),",
        "            v_seq.transpose(1, 2),",
        "            attn_mask=layout.mask,",
        f"            is_causal={causal},",
    ]
    if a.kv_heads != a.heads:
        lines.append("            enable_gqa=True,")
    lines += ["        )", "        mixed = mixed.transpose(1, 2).flatten(2)  # [B, S, heads * head_dim]"]
    if module.many:
        lines.append("        tokens = to_stream(mixed, layout, layout.parts)")
    else:
        lines.append("        (tokens,) = to_stream(mixed, layout, layout.parts)")
    lines += _residual(module, kind, leaf["norm"], apply(leaf["out"], "tokens"))
    return "\n".join(lines)


def ffn_class(module: ModulePlan, kind: LayerPlan) -> str:
    leaf = {path.partition(".")[2]: plan for path, plan in kind.leaves.items() if path.startswith("ffn.")}
    stream = "list[Tensor]" if module.many else "Tensor"
    kinds = kind.layer.ffn.kinds
    per_part = [kinds[part[0]] for part in module.parts]
    lines = [
        f"class {kind.ffn_class}(nn.Module):",
        f'    """{PLACEMENT[kind.layer.placement]}, f being {" / ".join(dict.fromkeys(per_part))}. Token by token."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
    ]
    for plan in leaf.values():
        lines += definition(plan)
    lines += ["", f"    def forward(self, x: {stream}) -> {stream}:"]
    source = "x"
    if kind.layer.placement == "pre":
        lines.append(f"        h = {apply(leaf['norm'], 'x')}")
        source = "h"
    if not module.many:
        gate = apply(leaf["gate"], source) if "gate" in leaf else ""
        lines.append(f"        hidden = {ACTIVATIONS[per_part[0]].format(gate=gate, up=apply(leaf['up'], source))}")
    else:
        lines.append(f"        up = {apply(leaf['up'], source)}")
        if "gate" in leaf:
            lines.append(f"        gate = {apply(leaf['gate'], source)}")
        lines += _hidden(per_part)
    lines += _residual(module, kind, leaf["norm"], apply(leaf["down"], "hidden"))
    return "\n".join(lines)


def _hidden(per_part: list[FfnKind]) -> list[str]:
    if len(set(per_part)) == 1:
        activation = ACTIVATIONS[per_part[0]]
        if per_part[0] in GATED:
            return [f"        hidden = [{activation.format(gate='g', up='u')} for g, u in zip(gate, up, strict=True)]"]
        return [f"        hidden = [{activation.format(gate='', up='u')} for u in up]"]
    parts = [ACTIVATIONS[kind].format(gate=f"gate[{i}]", up=f"up[{i}]") for i, kind in enumerate(per_part)]
    return ["        hidden = [", *(f"            {part}," for part in parts), "        ]"]


def layer_class(module: ModulePlan, kind: LayerPlan) -> str:
    stream = "list[Tensor]" if module.many else "Tensor"
    rope = kind.layer.attention.rope
    angles, passed = (", cos: Tensor, sin: Tensor", ", cos, sin") if rope else ("", "")
    plural = "s" if "." in kind.where or "," in kind.where else ""
    return f'''class {kind.layer_class}(nn.Module):
    """Layer{plural} {kind.where}: attention, then the feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = {kind.attention_class}()
        self.ffn = {kind.ffn_class}()

    def forward(self, x: {stream}, layout: ModalityLayout{angles}) -> {stream}:
        return self.ffn(self.attention(x, layout{passed}))'''
