"""What a model with continuous modalities has besides, as text: patches into the stream, predictions out of it."""

from __future__ import annotations

from collections.abc import Iterable

from motc.emit.leaves import Applied, constructor
from motc.emit.text import literal, statement
from motc.ir.model import Modality, Objective
from motc.plan import ModulePlan
from motc.plan.constants import Constants

OBJECTIVES: dict[Objective, str] = {"ddpm": "DDPM", "flow": "Flow"}


def class_attributes(module: ModulePlan) -> list[str]:
    """The lines of the objectives and of their weights in the total, by modality."""
    latents = module.model.latent_modalities()
    objectives = ", ".join(f'"{m.name}": {OBJECTIVES[m.objective]}' for m in latents)
    return [
        *statement("objectives: ClassVar[Mapping[str, Any]] = ", f"{{{objectives}}}", indent=4),
        *statement("weights: ClassVar[Mapping[str, float]] = ", literal({m.name: m.weight for m in latents}), indent=4),
    ]


def feature_sizes(module: ModulePlan) -> list[str]:
    """The line of how many numbers a feature of each modality has."""
    sizes = literal({each.name: each.projector.size for each in module.model.feature_modalities()})
    return statement("feature_sizes: ClassVar[Mapping[str, int]] = ", sizes, indent=4)


def ends_definition(module: ModulePlan, constants: Constants) -> list[str]:
    """The lines of `__init__` that make the ends."""
    latents = module.model.latent_modalities()
    ends = ", ".join(f'"{modality.name}": {constructor(modality.ends, constants)}' for modality in latents)
    return statement("self.latents = ", f"nn.ModuleDict({{{ends}}})")


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
    pieces = Applied(module.execution).cut(f"{patches}.order", module.each)
    return f"in_piece({patches}, {pieces}[{place}])"
