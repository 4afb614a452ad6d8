"""The model's own class, as text."""

from __future__ import annotations

from motc.emit.layers import apply, definition, names_tuple
from motc.plan import LeafPlan, ModulePlan


def model_class(module: ModulePlan) -> str:
    model = module.model
    names = [modality.name for modality in model.modalities]
    attention = model.segments[0].layer.attention
    rope, causal = attention.rope, attention.mask.kind == "causal"
    count = model.layers
    stream = "list[Tensor]" if module.many else "Tensor"
    lines = [
        f"class {module.class_name}(nn.Module):",
        f'    """{model.name}: {count} layer{"s" if count > 1 else ""}, modalities {", ".join(names)}."""',
        "",
        f"    modalities = {names_tuple(names)}",
        f'    semantic_hash = "{module.semantic_hash}"',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *definition(module.embedding),
        *_layer_list(module),
    ]
    for end in (module.final_norm, module.head):
        if end:
            lines += definition(end)
    angles = (
        [
            "        positions = layout.positions if position_ids is None else position_ids",
            f"        cos, sin = rope_angles(positions, {attention.head_dim}, {rope.theta!r}, {_dtype(module)})",
        ]
        if rope
        else []
    )
    lines += [
        "",
        "    def init_weights(self, seed: int = 0) -> None:",
        '        """Fill every parameter, each from the seed and its own name. Works after `to_empty`."""',
        f"        initialise(self, layers={count}, seed=seed)",
        "",
        "    def compile(self, *args: Any, **kwargs: Any) -> None:",
        '        """Compile layer by layer, layers of one kind once; arguments as for torch.compile."""',
        "        for layer in self.layers:",
        "            layer.compile(*args, **kwargs)",
        "",
        "    def layout(self, modality_ids: Tensor, document_ids: Tensor | None = None) -> ModalityLayout:",
        '        """Where each token lies in the stream; optional, once a batch.',
        "",
        "        modality_ids int64 [B, S], -1 at padding; document_ids int64 [B, S]: documents do not see each other.",
        '        """',
        f"        return make_layout(modality_ids, document_ids, parts={module.parts!r}, causal={causal})",
        "",
        f"    def hidden(self, input_ids: Tensor, layout: ModalityLayout, position_ids: Tensor | None) -> {stream}:",
        '        """The stream after the last layer: a [n, width] for each of its parts."""'
        if module.many
        else '        """The stream after the last layer, [n, width]."""',
        "        ids = input_ids.flatten()[layout.order[: sum(layout.sizes)]]",
        *_embed(module),
        *angles,
        "        for layer in self.layers:",
        f"            x = layer(x, layout{', cos, sin' if rope else ''})",
        f"        return {apply(module.final_norm, 'x') if module.final_norm else 'x'}",
        "",
    ]
    lines += _logits(module, names)
    lines += _forward(module, names)
    lines += _loss(module, names)
    return "\n".join(lines)


def _dtype(module: ModulePlan) -> str:
    return "x[0].dtype" if module.many else "x.dtype"


def _layer_list(module: ModulePlan) -> list[str]:
    runs = [f"[{module.layer_plans[kind].layer_class}() for _ in range({count})]" for kind, count in module.runs]
    if len(runs) == 1:
        return [f"        self.layers = nn.ModuleList({runs[0]})"]
    rest = [f"            + {run}" for run in runs[1:]]
    return ["        self.layers = nn.ModuleList(", f"            {runs[0]}", *rest, "        )"]


def _counts(module: ModulePlan) -> tuple[int, ...]:
    return tuple(len(part) for part in module.parts)


def _embed(module: ModulePlan) -> list[str]:
    """Lines that make the stream's parts from token ids in stream order."""
    end = module.embedding
    if end.form == "single":
        return ["        x = self.embedding(ids)"]
    if end.form == "shared":
        return ["        x = [self.embedding(part) for part in ids.split(layout.parts)]"]
    pieces = "self.embedding(list(ids.split(layout.sizes)))"
    if not module.many:
        return [f"        x = torch.cat({pieces})"]
    if all(count == 1 for count in _counts(module)):
        return [f"        x = {pieces}"]
    return [f"        x = regroup({pieces}, {_counts(module)})"]


def _head_call(module: ModulePlan, name: str, x: str) -> str:
    """The expression for the logits of states `x` by the head called `name` (empty: the only one)."""
    owner = "embedding" if module.head is None else "head"
    path = f'self.{owner}["{name}"]' if name else f"self.{owner}"
    return f"F.linear({x}, {path}.weight)" if module.head is None else f"{path}({x})"


def _head(module: ModulePlan) -> LeafPlan:
    return module.head or module.embedding


def _block_name(module: ModulePlan, modality: str) -> str:
    block = _head(module).leaf.block_of(modality)
    assert block is not None
    return block.name


def _logits(module: ModulePlan, names: list[str]) -> list[str]:
    """A method with the logits of every token, in stream order (one shared vocabulary only)."""
    if module.model.vocab is None:
        return []
    stream = "list[Tensor]" if module.many else "Tensor"
    head = _head(module)
    layout = "layout: ModalityLayout, " if head.form == "by_tower" else ""
    lines = [
        f"    def stream_logits(self, {layout}hidden: {stream}) -> Tensor:",
        '        """Logits [n, V] of every token of the stream."""',
    ]
    if head.form == "single":
        return [*lines, f"        return {_head_call(module, '', 'hidden')}", ""]
    if head.form == "shared":
        return [*lines, f"        return torch.cat([{_head_call(module, '', 'part')} for part in hidden])", ""]
    lines.append("        pieces: list[Tensor] = []")
    modalities = [names[index] for part in module.parts for index in part]
    if module.many and all(count == 1 for count in _counts(module)):
        states = [f"hidden[{index}]" for index in range(len(modalities))]
    else:
        if module.many:
            lines += ["        sizes = iter(layout.sizes)", "        split: list[Tensor] = []"]
            lines.append(f"        for part, count in zip(hidden, {_counts(module)}, strict=True):")
            lines.append("            split += part.split([next(sizes) for _ in range(count)])")
        else:
            lines.append("        split = hidden.split(layout.sizes)")
        states = [f"split[{index}]" for index in range(len(modalities))]
    for modality, state in zip(modalities, states, strict=True):
        lines.append(f"        pieces.append({_head_call(module, _block_name(module, modality), state)})")
    return [*lines, "        return torch.cat(pieces)", ""]


def _stream_logits_call(module: ModulePlan) -> str:
    layout = "layout, " if _head(module).form == "by_tower" else ""
    return f"self.stream_logits({layout}hidden)"


SIGNATURE = """        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: ModalityLayout | None = None,"""


def _forward(module: ModulePlan, names: list[str]) -> list[str]:
    own = module.model.vocab is None
    shape = "a dict modality -> [B, S, V_m]" if own else "[B, S, V]"
    lines = [
        "    def forward(",
        SIGNATURE,
        "    ) -> ModelOutput:",
        f'        """Logits, {shape}, zeros at padding. All arguments int64 [B, S]."""',
        "        layout = self.layout(modality_ids, document_ids) if layout is None else layout",
        "        hidden = self.hidden(input_ids, layout, position_ids)",
    ]
    if not own:
        return [*lines, f"        return ModelOutput(to_sequence([{_stream_logits_call(module)}], layout))", ""]
    lines.append(f"        states = {'torch.cat(hidden)' if module.many else 'hidden'}")
    lines += ["        logits: dict[str, Tensor] = {}"]
    for name in names:
        call = _head_call(module, _block_name(module, name), "states")
        lines.append(f'        logits["{name}"] = to_sequence([{call}], layout)')
    return [*lines, "        return ModelOutput(logits)", ""]


def _loss(module: ModulePlan, names: list[str]) -> list[str]:
    own = module.model.vocab is None
    lines = [
        "    def loss(",
        SIGNATURE,
        "    ) -> LossOutput:",
        '        """Next-token cross-entropy: the mean over all counted targets, and by the modality of the target."""',
        "        layout = self.layout(modality_ids, document_ids) if layout is None else layout",
        "        hidden = self.hidden(input_ids, layout, position_ids)",
        "        flat_ids = input_ids.flatten()",
        "        sums: dict[str, Tensor] = {}",
        "        counts: dict[str, int] = {}",
    ]
    if own:
        lines.append(f"        states = {'torch.cat(hidden)' if module.many else 'hidden'}")
        for index, name in enumerate(names):
            call = _head_call(module, _block_name(module, name), "states[rows]")
            lines += [
                f"        rows, places = counted_targets(layout, {index})",
                f"        logits = {call}",
                f'        sums["{name}"] = summed_cross_entropy(logits, flat_ids[places])',
                f'        counts["{name}"] = rows.numel()',
            ]
    else:
        lines += [
            f"        logits = {_stream_logits_call(module)}",
            "        for index, name in enumerate(self.modalities):",
            "            rows, places = counted_targets(layout, index)",
            "            sums[name] = summed_cross_entropy(logits[rows], flat_ids[places])",
            "            counts[name] = rows.numel()",
        ]
    return [*lines, "        return mean_losses(sums, counts)"]
