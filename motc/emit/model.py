"""The model's own class, as text."""

from __future__ import annotations

import hashlib

from motc.emit import latents
from motc.emit.calls import counted_method, transform_method
from motc.emit.leaves import definition
from motc.emit.masks import model_masks
from motc.emit.outer import outer_methods
from motc.emit.text import LONGEST, docstring, listed, literal, method, names_tuple, numbers, statement
from motc.ir.positions import PositionRule
from motc.plan import ModulePlan
from motc.plan.constants import Constants


def model_class(module: ModulePlan, constants: Constants) -> str:
    parts = [
        _head_of_class(module),
        _init(module, constants),
        *_init_weights(module),
        *((UPDATE_CORRECTIONS,) if module.model.is_corrected else ()),
        *((REFUSE_COMPILE,) if not module.execution.compiles else ()),
        _layout(module),
        transform_method(module, constants),
        *outer_methods(module),
        counted_method(module),
    ]
    return "\n\n".join(part for part in parts if part is not None)


def _head_of_class(module: ModulePlan) -> str:
    model = module.model
    names = [modality.name for modality in model.modalities]
    sizes = {modality.name: modality.vocab or model.vocab for modality in model.token_modalities()}
    lines = [
        f"class {module.class_name}({', '.join(_bases(module))}):",
        *docstring(f"{model.name}: {model.layers} layer{'s' * (model.layers > 1)}, modalities {', '.join(names)}."),
        "",
        *statement("modalities = ", names_tuple(names), indent=4),
        *statement("vocabularies: ClassVar[Mapping[str, int]] = ", literal(sizes), indent=4),
        f'    semantic_hash = "{module.semantic_hash}"',
        f'    layout_key = "{_layout_key(module)}"',
        *statement("masks = ", listed(model_masks(model)), indent=4),
        *statement("into_stream = ", names_tuple(module.into_stream), indent=4),
        *_unlike_the_base(module),
        *(latents.class_attributes(module) if model.latents() else ()),
        *(latents.feature_sizes(module) if model.features() else ()),
        *(latents.conditioned_by(module) if model.conditioned_by else ()),
        *(statement("last_block = ", names_tuple(module.last_block), indent=4) if module.last_block else ()),
    ]
    return "\n".join(lines)


def _bases(module: ModulePlan) -> list[str]:
    """What the model is, and how it generates if it can."""
    has_latents, has_features = module.model.latents() is not None, module.model.features() is not None
    generates = []
    if module.last_block:
        generates.append("GeneratesLastBlock")
    elif module.generates and has_latents:
        generates.append("GeneratesLatents")
    elif module.generates:
        generates.append("GeneratesAfterFeatures" if has_features else "GeneratesTokens")
    generates += ["PlacedByRule"] * module.model.places_by_rule
    if has_latents:
        generates += ["TakesConditions"] * bool(module.model.conditioned_by)
        return [*generates, *(["TakesFeatures"] if has_features else []), "DenoisingModel"]
    return [*generates, "FeatureModel" if has_features else "MultimodalModel"]


def _unlike_the_base(module: ModulePlan) -> list[str]:
    """The class attributes that are not as for a model without copies."""
    model, lines = module.model, []
    if model.places_by_rule:
        rules = [_position_rule(modality.positions) for modality in model.modalities]
        lines += statement("position_rules = ", listed(rules), indent=4)
    if model.first_position:
        lines.append(f"    first_position = {model.first_position}")
    if model.position_axes > 1:
        lines.append(f"    position_axes = {model.position_axes}")
    if model.residual == "sorted":
        lines.append(f"    stream_sizes = {names_tuple(['piece' if module.stream_in_pieces else 'stream'])}")
    if not module.execution.reads:
        lines.append("    layout_reads = False")
    if model.vocab is None:
        lines.append("    own_vocabularies = True")
        if module.sorts_targets:
            lines.append("    sorts_targets = True")
    if module.is_balanced:
        lines.append("    is_balanced = True")
    has_windows = any(mask.window for mask in model.masks)
    if has_windows and len(model.masks) > 1 and module.generates and model.latents() is None:
        lines.append(f"    layer_masks = {numbers(module.layer_masks)}")
    if module.alike:
        lines.append(f"    alike = {module.alike!r}")
    weights = tuple(modality.loss.weight for modality in model.modalities)
    if set(weights) != {1.0}:
        lines.append(f"    target_weights = {weights!r}")
    return lines


def _position_rule(rule: PositionRule | None) -> str:
    """The expression of a modality's rule."""
    if rule is None:
        return "PositionRule()"
    values = {key: getattr(rule, key) for key in ("start", "advance", "delimiters", "noised_advance")}
    plain = {"start": None, "advance": "tokens", "delimiters": False, "noised_advance": None}
    text = {key: f'"{value}"' if isinstance(value, str) else repr(value) for key, value in values.items()}
    said = (f"{key}={text[key]}" for key, value in values.items() if value != plain[key])
    kind = f'"{rule.kind}"'
    return f"PositionRule({', '.join([kind, *said])})"


def _init(module: ModulePlan, constants: Constants) -> str:
    lines = ["    def __init__(self) -> None:", "        super().__init__()"]
    for before in (module.embedding, module.position_table, module.embedding_norm):
        if before is not None:
            lines += definition(before, module.execution, constants)
    if module.model.latents() is not None:
        lines += latents.ends_definition(module, constants)
    if module.model.conditions() is not None:
        lines += latents.conditions_definition(module, constants)
    if module.model.features() is not None:
        lines += latents.projectors_definition(module, constants)
    runs = [
        f"[{module.layer_plans[kind].layer_class}() for _ in range({constants.named('LAYERS', count)})]"
        for kind, count in module.runs
    ]
    one_line = f"        self.layers = nn.ModuleList({' + '.join(runs)})"
    if len(one_line) <= LONGEST:
        lines.append(one_line)
    else:
        each = [f"            {runs[0]}", *(f"            + {run}" for run in runs[1:])]
        joined = f"            {' + '.join(runs)}"
        lines += ["        self.layers = nn.ModuleList(", *([joined] if len(joined) <= LONGEST else each), "        )"]
    for end in (module.final_norm, module.final_modulation, module.head):
        if end:
            lines += definition(end, module.execution, constants)
    return "\n".join(lines)


def _init_weights(module: ModulePlan) -> list[str]:
    """The method that fills what the base class does not know of, if there is such."""
    lines = []
    if any(modality.ends.unet for modality in module.model.latent_modalities()):
        lines.append("        initialise_convolutions(self.latents, seed)")
    if module.model.is_corrected:
        lines.append("        reset_corrections(self)")
    return ["\n".join([INIT_WEIGHTS, *lines])] if lines else []


INIT_WEIGHTS = '''    def init_weights(self, seed: int = 0) -> None:
        """Fill every parameter, each from the seed and its own name. Works after `to_empty`."""
        super().init_weights(seed)'''

UPDATE_CORRECTIONS = '''    def update_corrections(self, rate: float = 0.001) -> None:
        """After a training step: bring experts that were chosen too rarely, or too often, nearer to being chosen."""
        update_corrections(self, rate)'''

REFUSE_COMPILE = '''    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: this model routes tokens by boolean masks, which no one graph can hold. Raises RuntimeError."""
        raise RuntimeError("the reference strategy is the plain meaning, for checking; build another to compile it")'''


def _layout_arguments(module: ModulePlan) -> list[str]:
    """What a model's layouts depend on but the batch and the mask."""
    order = f"({module.order[0]},)" if len(module.order) == 1 else str(module.order)
    sorts = [f"stream_is_sorted={module.model.residual == 'sorted'}"] if module.execution.sorts else []
    return [f"modalities={order}", *sorts]


def _layout_key(module: ModulePlan) -> str:
    """What makes a model's layouts, and a digest: equal for models whose layouts of a batch are equal."""
    said = " ".join([*_layout_arguments(module), *model_masks(module.model)])
    return f"{module.execution.layout} {hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _layout(module: ModulePlan) -> str:
    ids, of_model = ["modality_ids", "document_ids"], ["masks=self.masks", "key=self.layout_key"]
    given = [*ids, *_layout_arguments(module), *of_model]
    arguments = ["modality_ids: Tensor", "document_ids: Tensor | None = None"]
    lines = [
        *method("layout", arguments, module.execution.layout_type),
        *docstring(
            "Where each token lies; optional, once a batch. Documents do not see each other; modality -1 is padding.",
            indent=8,
        ),
        *statement("return ", f"{module.execution.layout}({', '.join(given)})"),
    ]
    return "\n".join(lines)
