"""What a model with continuous modalities has besides, as text: patches into the stream, predictions out of it."""

from __future__ import annotations

from motc.emit.leaves import Applied, constructor
from motc.ir.model import Objective
from motc.plan import ModulePlan

OBJECTIVES: dict[Objective, str] = {"ddpm": "DDPM", "flow": "Flow"}


def class_attributes(module: ModulePlan) -> str:
    """The objectives and their weights, by modality."""
    latents = module.model.latent_modalities()
    objectives = ", ".join(f'"{m.name}": {OBJECTIVES[m.objective]}' for m in latents)
    weights = ", ".join(f'"{m.name}": {m.weight!r}' for m in latents)
    return f"\n    objectives = {{{objectives}}}\n    weights = {{{weights}}}  # of their losses in the total"


def ends_definition(module: ModulePlan) -> list[str]:
    """The lines of `__init__` that make the ends."""
    latents = module.model.latent_modalities()
    return [
        "        self.latents = nn.ModuleDict(",
        "            {",
        *(f'                "{modality.name}": {constructor(modality.ends)},' for modality in latents),
        "            }",
        "        )",
    ]


def place_lines(module: ModulePlan) -> list[str]:
    """The lines of `hidden` that put patches at their places."""
    if not module.stream_in_pieces:
        return ["        for found in patches.values():", "            x = place_patches(x, found)"]
    return [
        f"        x[{place}] = patch_piece(x[{place}], {_in_piece(module, name, place)})"
        for name, place in _places(module)
    ]


def predict_method(module: ModulePlan) -> str:
    """The method that makes predictions of states."""
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    lines = [
        "    def predict(",
        f"        self, x: {stream}, layout: ModalityLayout, patches: dict[str, Patches]",
        "    ) -> dict[str, Tensor]:",
        '        """The normed stream to predictions, each in the shape of its latents."""',
    ]
    if module.stream_in_pieces:
        lines.append("        states = {")
        for name, place in _places(module):
            lines.append(f'            "{name}": patch_states(x[{place}], {_in_piece(module, name, place)}),')
        lines.append("        }")
    else:
        lines.append("        states = {name: patch_states(x, found) for name, found in patches.items()}")
    ends = "self.latents[name].prediction(states[name], found.kept)"
    return "\n".join([*lines, f"        return {{name: {ends} for name, found in patches.items()}}"])


def head_lines(module: ModulePlan, text: Applied) -> None:
    """Lines that cut the normed stream `x` into `pieces` for a shared vocabulary's head."""
    source = "x"
    if module.sorts_ends:
        text.assign("states", "to_sorted(x, layout)")
        source = "states"
    counts = tuple(count for _, count in module.head_pieces)
    text.assign("pieces", source if module.stream_in_pieces else f"split({source}, layout, {counts})")


def merged_logits(module: ModulePlan, text: Applied, head: dict[str, str]) -> str:
    """The logits of every place of the stream, zeros at latents; `head` is the expression of each of its blocks."""
    head_lines(module, text)
    vocab = module.model.vocab
    made = ", ".join(
        f"absent(pieces[{i}], {vocab})" if block is None else head[block].format(x=f"pieces[{i}]")
        for i, (block, _) in enumerate(module.head_pieces)
    )
    counts = tuple(count for _, count in module.head_pieces)
    result = f"merge([{made}], layout, {counts})"
    return f"to_slots({result}, layout)" if module.sorts_ends else result


def sorted_losses(module: ModulePlan, text: Applied, head: dict[str, str]) -> None:
    """Lines that take the losses of a shared vocabulary's targets, piece by piece, latents left out."""
    head_lines(module, text)
    counts = tuple(count for _, count in module.head_pieces)

    def cut(values: str) -> str:
        return f"split({values}{'.flatten()[layout.order]' if module.sorts_ends else ''}, layout, {counts})"

    text.assign("ids", cut("wanted.ids"))
    text.assign("kinds", cut("wanted.modality_ids"))
    text.lines += weights_of_pieces(cut("wanted.weights"))
    present = [(i, block) for i, (block, _) in enumerate(module.head_pieces) if block is not None]
    losses = [f"cross_entropy({head[block].format(x=f'pieces[{i}]')}, ids[{i}], weights[{i}])" for i, block in present]
    kinds = [f"kinds[{i}]" for i, _ in present]
    if len(present) == 1:
        text.assign("losses", losses[0])
        text.assign("following", kinds[0])
    else:
        text.assign("losses", f"torch.cat([{', '.join(losses)}])")
        text.assign("following", f"torch.cat([{', '.join(kinds)}])")


def weights_of_pieces(cut: str) -> list[str]:
    """Lines that give each piece of `ids` its `weights`, cut as `cut` says, or None."""
    return [
        "        weights: list[Tensor | None] = [None for _ in ids]",
        "        if wanted.weights is not None:",
        f"            weights = [*{cut}]",
    ]


def _places(module: ModulePlan) -> list[tuple[str, int]]:
    """Each continuous modality and its place in the order pieces have."""
    return [(m.name, module.model.order.index(m.name)) for m in module.model.latent_modalities()]


def _in_piece(module: ModulePlan, name: str, place: int) -> str:
    """A modality's patches with their places in its own piece of the stream."""
    found = f'patches["{name}"]'
    if module.model.strategy == "blend":  # each piece has all places
        return found
    return f"in_piece({found}, split({found}.order, layout, {module.each})[{place}])"


ENCODE = '''    def encode(
        self,
        layout: ModalityLayout,
        latents: Mapping[str, Tensor] | None,
        timesteps: Mapping[str, Tensor] | None,
    ) -> dict[str, Patches]:
        """Noised latents to patches of the stream. Raises ValueError where they do not fit the batch."""
        return make_patches(self.latents, self.objectives, self.modalities, layout, latents, timesteps)'''


def words(module: ModulePlan) -> str:
    """The modality ids of tokens that have an id, as an expression."""
    if not module.continuous:
        return "layout.modality_ids"
    return f"without(layout.modality_ids, {module.continuous!r})"
