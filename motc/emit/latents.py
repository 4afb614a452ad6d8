"""What a model with continuous modalities has besides, as text: patches into the stream, predictions out of it."""

from __future__ import annotations

from motc.emit.leaves import Applied, constructor, each_piece
from motc.emit.steps import around, permuted
from motc.emit.text import literal, method, statement
from motc.ir.model import Objective
from motc.ir.steps import Order
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


def ends_definition(module: ModulePlan, constants: Constants) -> list[str]:
    """The lines of `__init__` that make the ends."""
    latents = module.model.latent_modalities()
    ends = ", ".join(f'"{modality.name}": {constructor(modality.ends, constants)}' for modality in latents)
    return statement("self.latents = ", f"nn.ModuleDict({{{ends}}})")


def place_lines(module: ModulePlan) -> list[str]:
    """The lines of `transform` that put patches at their places."""
    if not module.stream_in_pieces:
        return ["        for placed in patches.values():", "            x = place_patches(x, placed)"]
    return [
        f"        x[{place}] = patch_piece(x[{place}], {_in_piece(module, name, place)})"
        for name, place in _places(module)
    ]


def predict_method(module: ModulePlan) -> str | None:
    """The method that makes predictions of states, where these are in pieces."""
    if not module.stream_in_pieces:
        return None
    arguments = ["x: list[Tensor]", f"layout: {module.execution.layout_type}", "patches: dict[str, Patches]"]
    lines = [
        *method("predict", arguments, "dict[str, Tensor]"),
        '        """The normed stream to predictions, each in the shape of its latents."""',
        "        states = {",
    ]
    for name, place in _places(module):
        lines.append(f'            "{name}": patch_states(x[{place}], {_in_piece(module, name, place)}),')
    return "\n".join([*lines, "        }", "        return self.predictions(states, patches)"])


def states_for_head(module: ModulePlan, text: Applied) -> tuple[str, Order | None]:
    """The normed stream by its name in the order the head needs, and the order that logits are brought back into."""
    before, after = around(module.model.outer_steps.read)
    if before is None:
        return "x", after
    text.assign("states", permuted("x", before))
    return "states", after


def head_lines(module: ModulePlan, text: Applied) -> Order | None:
    """Lines that cut the normed stream into `pieces` for a shared vocabulary's head; the order to bring them back."""
    states, after = states_for_head(module, text)
    counts = tuple(count for _, count in module.head_pieces)
    text.assign("pieces", states if module.stream_in_pieces else text.cut(states, counts))
    return after


def merged_logits(module: ModulePlan, text: Applied, head: dict[str, str]) -> str:
    """The logits of every place of the stream, zeros at latents; `head` is the expression of each of its blocks."""
    after = head_lines(module, text)
    vocab = module.model.vocab
    none = f"lambda x: absent(x, {vocab})"
    each = [none if block is None else function_of(head[block]) for block, _ in module.head_pieces]
    counts = tuple(count for _, count in module.head_pieces)
    result = text.joined(each_piece(each, counts, "pieces"), counts)
    return permuted(result, after)


def function_of(expression: str) -> str:
    """A function of `x`, of an expression that has `{x}`: of a module's call, the module."""
    called = expression.removesuffix("({x})")
    return called if called != expression else f"lambda x: {expression.format(x='x')}"


def sorted_losses(module: ModulePlan, text: Applied, head: dict[str, str]) -> None:
    """Lines that take the losses of a shared vocabulary's targets, piece by piece, latents left out."""
    after = head_lines(module, text)
    counts = tuple(count for _, count in module.head_pieces)

    def cut(values: str) -> str:
        return text.cut(f"{values}{'.flatten()[layout.order]' if after else ''}", counts)

    text.assign("ids", cut("wanted.ids"))
    text.assign("kinds", cut("wanted.modality_ids"))
    text.assign("weights", f"weights_of_pieces(wanted.weights, lambda x: {cut('x')}, {len(counts)})")
    present = [(i, block) for i, (block, _) in enumerate(module.head_pieces) if block is not None]
    losses = [f"cross_entropy({head[block].format(x=f'pieces[{i}]')}, ids[{i}], weights[{i}])" for i, block in present]
    kinds = [f"kinds[{i}]" for i, _ in present]
    if len(present) == 1:
        text.assign("losses", losses[0])
        text.assign("following", kinds[0])
    else:
        text.assign("losses", f"torch.cat([{', '.join(losses)}])")
        text.assign("following", f"torch.cat([{', '.join(kinds)}])")


def _places(module: ModulePlan) -> list[tuple[str, int]]:
    """Each continuous modality and its place in the order pieces have."""
    return [(m.name, module.model.order.index(m.name)) for m in module.model.latent_modalities()]


def _in_piece(module: ModulePlan, name: str, place: int) -> str:
    """A modality's patches with their places in its own piece of the stream."""
    patches = f'patches["{name}"]'
    if module.execution.pieces_are_whole:
        return patches
    pieces = Applied(module.execution).cut(f"{patches}.order", module.each)
    return f"in_piece({patches}, {pieces}[{place}])"
