"""What a model with continuous modalities has besides, as text: patches into the stream, predictions out of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import assert_never

from motc.emit.leaves import Applied, constructor
from motc.emit.text import literal, names_tuple, statement
from motc.ir.denoising import Noising, Times, TimesKind, TokenShift
from motc.ir.model import LatentModality, Modality
from motc.plan import ModulePlan
from motc.plan.constants import Constants


def class_attributes(module: ModulePlan) -> list[str]:
    """The lines of the objectives and of their weights in the total, by modality."""
    latents = module.model.latent_modalities()
    objectives = ", ".join(f'"{m.name}": {_objective(m)}' for m in latents)
    return [
        *statement("objectives: ClassVar[Mapping[str, Any]] = ", f"{{{objectives}}}", indent=4),
        *statement("weights: ClassVar[Mapping[str, float]] = ", literal({m.name: m.weight for m in latents}), indent=4),
    ]


def _objective(modality: LatentModality) -> str:
    """The expression of what is learnt of a modality's latents."""
    times = [] if modality.times == Times() else [f"times={_times(modality.times)}"]
    weighting = modality.weighting
    match modality.objective:
        case "ddpm":
            gamma = None if weighting is None else {"snr": 'float("inf")'}.get(weighting.kind, repr(weighting.gamma))
            arguments = [*_given(modality.noising, Noising()), *([f"gamma={gamma}"] if gamma else []), *times]
            return f"Diffusion({', '.join(arguments)})" if arguments else "DDPM"
        case "flow":
            arguments = [*([f'weighting="{weighting.kind}"'] if weighting else []), *times]
            return f"RectifiedFlow({', '.join(arguments)})" if arguments else "Flow"
        case _:
            assert_never(modality.objective)


def _times(times: Times) -> str:
    """The expression of how times are drawn."""
    names: dict[TimesKind, str] = {"uniform": "Uniform", "logit_normal": "LogitNormal", "mode": "Mode", "beta": "Beta"}
    arguments = [f"{names[times.kind]}({', '.join(map(repr, times.parameters.values()))})"]
    arguments += [f"{key}={getattr(times, key)!r}" for key in ("low", "high") if (times.low, times.high) != (0, 1)]
    match times.by_tokens:
        case None:
            arguments += [] if times.shift == 1 else [f"shift={times.shift!r}"]
        case TokenShift(kind="sqrt", base_tokens=tokens):
            arguments.append(f"shift=SqrtShift({tokens})")
        case TokenShift(kind="exponential") as line:
            numbers = (line.base_tokens, line.max_tokens, line.base_shift, line.max_shift)
            arguments.append(f"shift=ExponentialShift({', '.join(map(repr, numbers))})")
    arguments += [] if times.each == "span" else [f'each="{times.each}"']
    return f"Times({', '.join(arguments)})"


def _given(said: Noising, plain: Noising) -> list[str]:
    """The arguments of what is said otherwise than plainly."""
    each = {field.name: getattr(said, field.name) for field in fields(said)}
    differing = {name: value for name, value in each.items() if value != getattr(plain, name)}
    return [f'{name}="{value}"' if isinstance(value, str) else f"{name}={value!r}" for name, value in differing.items()]


def feature_sizes(module: ModulePlan) -> list[str]:
    """The lines of how many numbers a feature of each modality has, and after which layers there are more of them."""
    projectors = {each.name: each.projector for each in module.model.feature_modalities()}
    sizes = literal({name: projector.size for name, projector in projectors.items()})
    lines = statement("feature_sizes: ClassVar[Mapping[str, int]] = ", sizes, indent=4)
    layers = {name: projector.added_after for name, projector in projectors.items() if projector.added_after}
    if layers:
        lines += statement("added_after: ClassVar[Mapping[str, tuple[int, ...]]] = ", literal(layers), indent=4)
    if module.untrained_features:
        lines += statement("untrained_features = ", names_tuple(module.untrained_features), indent=4)
    return lines


def ends_definition(module: ModulePlan, constants: Constants) -> list[str]:
    """The lines of `__init__` that make the ends."""
    latents = module.model.latent_modalities()
    ends = ", ".join(f'"{modality.name}": {constructor(modality.ends, constants)}' for modality in latents)
    return statement("self.latents = ", f"nn.ModuleDict({{{ends}}})")


def conditions_definition(module: ModulePlan, constants: Constants) -> list[str]:
    """The lines of `__init__` that make what the conditions of spans are made by."""
    latents = module.model.latent_modalities()
    pairs = (f'"{each.name}": {constructor(each.condition, constants)}' for each in latents if each.condition)
    return statement("self.conditions = ", f"nn.ModuleDict({{{', '.join(pairs)}}})")


def conditioned_by(module: ModulePlan) -> list[str]:
    """The lines of whose condition the norms of each modality have."""
    return statement("conditioned_by: ClassVar[Mapping[str, str]] = ", literal(module.model.conditioned_by), indent=4)


def projectors_definition(module: ModulePlan, constants: Constants) -> list[str]:
    """The lines of `__init__` that make the projectors of features."""
    features = module.model.feature_modalities()
    projectors = ", ".join(f'"{each.name}": {constructor(each.projector, constants)}' for each in features)
    return statement("self.features = ", f"nn.ModuleDict({{{projectors}}})")


def placed(module: ModulePlan, x: str) -> str:
    """The expression of the stream with patches at their places."""
    if not module.stream_in_pieces:
        return f"place_patches({x}, patches)"
    places = _places(module.model.continuous_modalities(), module.each, module)
    return f"place_in_pieces({x}, patches, {places}, layout{_cut(module, module.each)})"


def added(module: ModulePlan, x: str) -> str:
    """The expression of the stream with features' further vectors for the layer `number` added to it."""
    if not module.stream_in_pieces:
        return f"add_features({x}, patches, number)"
    adding = [modality for modality in module.model.feature_modalities() if modality.projector.added_after]
    counts = module.counts_in_layers
    places = _places(adding, counts, module)
    return f"add_in_pieces({x}, patches, {places}, layout, number{_cut(module, counts)})"


def predictions(module: ModulePlan, x: str) -> str:
    """The expression of predictions, of the pieces of the normed stream."""
    places = _places(module.model.latent_modalities(), module.each, module)
    states = f"states_in_pieces({x}, patches, {places}, layout{_cut(module, module.each)})"
    return f"self.predictions({states}, patches)"


def _places(modalities: Iterable[Modality], counts: tuple[int, ...], module: ModulePlan) -> str:
    """The expression of each modality's place among pieces, piece i being of `counts[i]`."""
    pieces = [piece for piece, count in enumerate(counts) for _ in range(count)]
    return literal({modality.name: pieces[module.model.order.index(modality.name)] for modality in modalities})


def _cut(module: ModulePlan, counts: tuple[int, ...]) -> str:
    """The argument that says how an order of patches is cut into pieces, if each has not all tokens."""
    if module.execution.pieces_are_whole:
        return ""
    return f", lambda order: {Applied(module.execution).cut('order', counts)}"
