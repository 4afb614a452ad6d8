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
    for name, values in (("ids", "wanted.ids"), ("kinds", "wanted.modality_ids")):
        text.assign(name, f"split({values}{'.flatten()[layout.order]' if module.sorts_ends else ''}, layout, {counts})")
    present = [(i, block) for i, (block, _) in enumerate(module.head_pieces) if block is not None]
    losses = [f"cross_entropy({head[block].format(x=f'pieces[{i}]')}, ids[{i}])" for i, block in present]
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

FORWARD_INPUTS = """        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        latents: Mapping[str, Tensor] | None = None,
        timesteps: Mapping[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: ModalityLayout | None = None,"""

LOSS_INPUTS = """        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        latents: Mapping[str, Tensor] | None = None,
        timesteps: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: ModalityLayout | None = None,"""


def forward_method(module: ModulePlan) -> str:
    own = module.model.vocab is None
    shape = "a dict modality -> [B, S, V_m]" if own else "[B, S, V]"
    hidden = "hidden, _" if module.is_balanced else "hidden"
    return f'''    def forward(
{FORWARD_INPUTS}
    ) -> ModelOutput:
        """Logits, {shape}, zeros at padding and at latents, and predictions for latents.

        `latents` holds for each continuous modality the noised latents [n, channels, height, width] of its spans, in
        the order they come in the batch, rows first; `timesteps` [n]. All others int64 [B, S]; the input ids of latents
        may be anything.
        """
        layout = self.layout(modality_ids, document_ids) if layout is None else layout
        patches = self.encode(layout, latents, timesteps)
        {hidden} = self.hidden(input_ids, layout, position_ids, patches)
        logits, states = self.compiled.get("read", {module.class_name}.read)(self, hidden, layout)
        return ModelOutput(logits, self.predict(states, layout, patches))'''


def loss_method(module: ModulePlan) -> str:
    by_head = module.model.vocab is None and module.model.strategy == "sorted"
    hidden, more, real = "hidden", "", ""
    if module.is_balanced:
        hidden, more, real = "hidden, balance", ", balance", f"{REAL_BALANCE}\n"
    return f'''    def loss(
{LOSS_INPUTS}
    ) -> LossOutput:
        """Next-token cross-entropy of tokens after tokens, by the modality of the target, and what denoising costs.

        `latents` are clean ones, as for `forward`; timesteps and noise are drawn, from `generator`, unless given. The
        total is the mean cross-entropy over all counted targets and the weighted mean squared errors of predictions.
        """
        layout = self.layout(modality_ids, document_ids) if layout is None else layout
        noised, times, aims = noise_latents(self.objectives, latents, timesteps, noise, generator)
        patches = self.encode(layout, noised, times)
        {hidden} = self.hidden(input_ids, layout, position_ids, patches)
        words, documents = {words(module)}, layout.document_ids
        targets = find_targets(input_ids, words, documents, layout.tokens, len(self.modalities))
        wanted = {"sort_targets(targets)" if by_head else "targets"}
        if self.compiled and not torch.compiler.is_compiling():
            wanted.mark_sizes()
        sums, states = self.compiled.get("score", {module.class_name}.score)(self, hidden, layout, wanted)
{real}        means = mean_losses(sums, targets.counts, self.modalities{more})
        denoising = denoising_losses(self.predict(states, layout, patches), aims)
        weighted = sum(self.weights[name] * loss for name, loss in denoising.items())
        return LossOutput(means.total + weighted, {{**means.by_modality, **denoising}}{more})'''


REAL_BALANCE = "        balance = torch.where((layout.modality_ids >= 0).any(), balance, 0.0)"
"""Where no token is real, routers have balanced nothing."""


def words(module: ModulePlan) -> str:
    """The modality ids of tokens that have an id, as an expression."""
    return f"without(layout.modality_ids, {module.continuous!r})"
