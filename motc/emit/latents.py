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


def placed(module: ModulePlan, text: Applied, x: str) -> str | None:
    """The expression of the stream with patches at their places; None where lines write them into its pieces."""
    if not module.stream_in_pieces:
        return f"place_patches({x}, patches)"
    for name, place in _places(module, module.model.continuous_modalities()):
        text.assign(f"{x}[{place}]", f"patch_piece({x}[{place}], {_in_piece(module, name, place)})")
    return None


def added(module: ModulePlan, text: Applied, x: str) -> str | None:
    """The expression of the stream with features' further vectors for the layer `number` added to it; None where lines
    add them to its pieces.
    """
    if not module.stream_in_pieces:
        return f"add_features({x}, patches, number)"
    adding = [modality for modality in module.model.feature_modalities() if modality.projector.added_after]
    for name, place in _places(module, adding):
        order = _order_in_piece(module, name, place)
        text.assign(f"{x}[{place}]", f'add_to_piece({x}[{place}], patches["{name}"], {order}, number)')
    return None


def predictions(module: ModulePlan, text: Applied, x: str) -> str:
    """The expression of predictions, of the pieces of the normed stream."""
    places = _places(module, module.model.latent_modalities())
    states = (f'"{name}": patch_states({x}[{at}], {_in_piece(module, name, at)})' for name, at in places)
    text.assign("states", f"{{{', '.join(states)}}}")
    return "self.predictions(states, patches)"


def _places(module: ModulePlan, modalities: Iterable[Modality]) -> list[tuple[str, int]]:
    """Each of some modalities and its place in the order pieces have."""
    return [(modality.name, module.model.order.index(modality.name)) for modality in modalities]


def _in_piece(module: ModulePlan, name: str, place: int) -> str:
    """A modality's patches with their places in its own piece of the stream."""
    patches = f'patches["{name}"]'
    if module.execution.pieces_are_whole:
        return patches
    return f"in_piece({patches}, {_order_in_piece(module, name, place)})"


def _order_in_piece(module: ModulePlan, name: str, place: int) -> str:
    """The part of the order of a modality's patches that its own piece of the stream has."""
    order = f'patches["{name}"].order'
    if module.execution.pieces_are_whole:
        return order
    return f"{Applied(module.execution).cut(order, module.each)}[{place}]"
