"""The model's own class, as text."""

from __future__ import annotations

import hashlib

from motc.emit import latents
from motc.emit.calls import call_methods
from motc.emit.ends import embed_method, read_method, score_method
from motc.emit.generate import facts, literal, model_methods
from motc.emit.leaves import definition, names_tuple
from motc.emit.masks import mask_literal
from motc.plan import ModulePlan


def model_class(module: ModulePlan) -> str:
    beside_latents = module.model.latents() is not None
    parts = [
        _head_of_class(module),
        _init(module),
        _init_weights(module),
        REFUSE_COMPILE if module.model.strategy == "reference" else COMPILE.format(cls=module.class_name),
        _layout(module),
        embed_method(module),
        *((latents.ENCODE,) if beside_latents else ()),
        _hidden(module),
        read_method(module),
        score_method(module),
        *((latents.predict_method(module),) if beside_latents else ()),
        *call_methods(module),
        *(model_methods(module) if module.generates else ()),
    ]
    return "\n\n".join(parts)


def _head_of_class(module: ModulePlan) -> str:
    model = module.model
    names = [modality.name for modality in model.modalities]
    count = model.layers
    sizes = {modality.name: modality.vocab or model.vocab for modality in model.token_modalities()}
    said = "".join(f"\n{line}" for line in facts(module, mask_literal(model))) if module.generates else ""
    said += latents.class_attributes(module) if model.latents() else ""
    weights = tuple(modality.loss.weight for modality in model.modalities)
    if set(weights) != {1.0}:
        said += f"\n    target_weights = {weights!r}  # of each modality's targets in the total's mean"
    return f'''class {module.class_name}(nn.Module):
    """{model.name}: {count} layer{"s" if count > 1 else ""}, modalities {", ".join(names)}."""

    modalities = {names_tuple(names)}
    vocabularies: Mapping[str, int] = {literal(sizes)}
    semantic_hash = "{module.semantic_hash}"
    layout_key = "{_layout_key(module)}"{said}'''


def _init(module: ModulePlan) -> str:
    lines = ["    def __init__(self) -> None:", "        super().__init__()", *definition(module.embedding)]
    if module.model.latents() is not None:
        lines += latents.ends_definition(module)
    runs = [f"[{module.layer_plans[kind].layer_class}() for _ in range({count})]" for kind, count in module.runs]
    if len(runs) == 1:
        lines.append(f"        self.layers = nn.ModuleList({runs[0]})")
    else:
        rest = [f"            + {run}" for run in runs[1:]]
        lines += ["        self.layers = nn.ModuleList(", f"            {runs[0]}", *rest, "        )"]
    for end in (module.final_norm, module.head):
        if end:
            lines += definition(end)
    return "\n".join([*lines, "        self.compiled: dict[str, Any] = {}"])


INIT_WEIGHTS = '''    def init_weights(self, seed: int = 0) -> None:
        """Fill every parameter, each from the seed and its own name. Works after `to_empty`."""
        initialise(self, layers={layers}, seed=seed)'''


def _init_weights(module: ModulePlan) -> str:
    text = INIT_WEIGHTS.format(layers=module.model.layers)
    if any(modality.ends.unet for modality in module.model.latent_modalities()):
        text += "\n        initialise_convolutions(self.latents, seed)"
    return text


COMPILE = '''    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each kind of layer once, and what comes before and after them; arguments as for torch.compile.

        One graph serves all batches, whatever their sizes and their shares of each modality.
        Raises RuntimeError where torch is older than 2.11.
        """
        check_compiler()
        kwargs.setdefault("fullgraph", True)
        if kwargs.get("backend", "inductor") == "inductor" and not kwargs.keys() & {{"mode", "options"}} and not args:
            kwargs["options"] = FUSE_MORE
        for layer in self.layers:
            layer.compile(*args, **kwargs)
        for name in ("embed", "read", "score"):
            self.compiled[name] = torch.compile(getattr({cls}, name), *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: all but compiled code, so that a copy is to be compiled anew."""
        return {{**super().__getstate__(), "compiled": {{}}}}  # type: ignore[no-untyped-call]'''

REFUSE_COMPILE = '''    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: this model routes tokens by boolean masks, which no one graph can hold. Raises RuntimeError."""
        raise RuntimeError("the reference strategy is the plain meaning, for checking; build another to compile it")'''


def _layout_arguments(module: ModulePlan) -> list[str]:
    """What a model's layouts depend on but the batch."""
    order = f"({module.order[0]},)" if len(module.order) == 1 else str(module.order)
    arguments = [f"modalities={order}", f"mask={mask_literal(module.model)}"]
    if module.sorts:
        arguments.append(f"stream_is_sorted={module.model.residual == 'sorted'}")
    return arguments


def _layout_key(module: ModulePlan) -> str:
    """Equal for models whose layouts of a batch are equal."""
    said = f"{module.layout} {', '.join(_layout_arguments(module))}"
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _layout(module: ModulePlan) -> str:
    arguments = ["modality_ids", "document_ids", *_layout_arguments(module), "key=self.layout_key"]
    call = f"        return {module.layout}({', '.join(arguments)})"
    if len(call) > 120:
        inside = [f"            {', '.join(arguments)}"]
        if len(inside[0]) > 120:
            inside = [f"            {argument}," for argument in arguments]
        call = "\n".join([f"        return {module.layout}(", *inside, "        )"])
    return f'''    def layout(self, modality_ids: Tensor, document_ids: Tensor | None = None) -> ModalityLayout:
        """Where each token lies; optional, once a batch.

        modality_ids int64 [B, S], -1 at padding; document_ids int64 [B, S]: documents do not see each other.
        """
{call}'''


def _hidden(module: ModulePlan) -> str:
    attention = module.model.segments[0].layer.attention
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    balanced = module.is_balanced
    returned = f"tuple[{stream}, Tensor]" if balanced else stream
    sizes = '"stream"' if module.model.residual == "sorted" else '"rows", "length"'
    if module.stream_in_pieces:
        in_piece = '"piece"' if module.model.residual == "sorted" else sizes  # else each piece has all slots
        dtype, marked = "x[0].dtype", f"[mark_sizes(piece, {in_piece}) for piece in x]"
    else:
        dtype, marked = "x.dtype", f"mark_sizes(x, {sizes})"
    beside_latents = module.model.latents() is not None
    ids = (
        f"torch.where({latents.words(module)} >= 0, input_ids, 0).flatten()"
        if beside_latents
        else "input_ids.flatten()"
    )
    angles, passed = [], ""
    if attention.rope:
        passed = ", cos, sin"
        angles = [
            "        positions = layout.rows.positions",
            "        if position_ids is not None:",
            "            flat = position_ids.expand_as(layout.modality_ids).flatten()",
            "            positions = look_up(flat, layout.rows.slots, 0)",
            f"        cos, sin = rope_angles(positions, {attention.head_dim}, {attention.rope.theta!r}, {dtype})",
        ]
    mark_angles = (
        [
            '            cos = mark_sizes(cos, "rows", "length")',
            '            sin = mark_sizes(sin, "rows", "length")',
        ]
        if attention.rope
        else []
    )
    lines = [
        *_hidden_signature(module, returned),
        f'        """The stream after the last layer{", and the mean of the load-balancing losses" * balanced}."""',
        "        marks = bool(self.compiled) and not torch.compiler.is_compiling()",
        f"        ids = look_up({ids}, layout.tokens, 0)",
        "        if marks:",
        "            layout.mark_sizes()",
        "            mark_numbers(ids)",
        f'        x = self.compiled.get("embed", {module.class_name}.embed)(self, ids, layout)',
        *(latents.place_lines(module) if beside_latents else ()),
        *angles,
        f"        mask = None if layout.rows.mask is None else additive(layout.rows.mask, {dtype})",
        "        if marks:",
        *mark_angles,
        '            mask = None if mask is None else mark_sizes(mask, "rows", "one", "length", "length")',
        *(("        balance = torch.zeros((), device=ids.device)",) if balanced else ()),
        "        for layer in self.layers:",
        "            if marks:",
        f"                x = {marked}",
        *(
            (f"            x, more = layer(x, layout, mask{passed})", "            balance = balance + more")
            if balanced
            else (f"            x = layer(x, layout, mask{passed})",)
        ),
        f"        return ({marked} if marks else x), balance / {module.model.layers}"
        if balanced
        else f"        return {marked} if marks else x",
    ]
    return "\n".join(lines)


def _hidden_signature(module: ModulePlan, returned: str) -> list[str]:
    if module.model.latents() is None:
        inputs = "self, input_ids: Tensor, layout: ModalityLayout, position_ids: Tensor | None"
        return [f"    def hidden({inputs}) -> {returned}:"]
    return [
        "    def hidden(",
        "        self,",
        "        input_ids: Tensor,",
        "        layout: ModalityLayout,",
        "        position_ids: Tensor | None,",
        "        patches: dict[str, Patches],",
        f"    ) -> {returned}:",
    ]
