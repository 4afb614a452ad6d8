"""What a model is called by, as text: `forward` and `loss`."""

from __future__ import annotations

from motc.emit.latents import words
from motc.plan import ModulePlan

LATENTS = {"latents": "Mapping[str, Tensor]", "timesteps": "Mapping[str, Tensor]"}
DRAWN = {"noise": "Mapping[str, Tensor]", "generator": "torch.Generator"}
GIVEN = {"position_ids": "Tensor", "document_ids": "Tensor", "layout": "ModalityLayout"}
NEXT_TOKEN = '''\
        """Next-token cross-entropy: the mean over all counted targets, and by the modality of the target."""'''
DENOISED = '''\
        """Logits, {shape}, zeros at padding and at latents, and predictions for latents.

        `latents` holds for each continuous modality the noised latents [n, channels, height, width] of its spans, in
        the order they come in the batch, rows first; `timesteps` [n]. All others int64 [B, S]; the input ids of latents
        may be anything.
        """'''
DENOISING = '''\
        """Next-token cross-entropy of tokens after tokens, by the modality of the target, and what denoising costs.

        `latents` are clean ones, as for `forward`; timesteps and noise are drawn, from `generator`, unless given. The
        total is the mean cross-entropy over all counted targets and the weighted mean squared errors of predictions.
        """'''
LAYOUT = "        layout = self.layout(modality_ids, document_ids) if layout is None else layout"


def forward_method(module: ModulePlan) -> str:
    """Ids, and noised latents where there are any, to logits and predictions."""
    beside_latents = module.model.latents() is not None
    shape = "a dict modality -> [B, S, V_m]" if module.model.vocab is None else "[B, S, V]"
    hidden = "hidden, _" if module.is_balanced else "hidden"
    read = f'self.compiled.get("read", {module.class_name}.read)(self, hidden, layout)'
    if not beside_latents:
        lines = [
            *_signature("forward", "ModelOutput", GIVEN),
            f'        """Logits, {shape}, zeros at padding. All arguments int64 [B, S]."""',
            LAYOUT,
            f"        {hidden} = self.hidden(input_ids, layout, position_ids)",
            f"        return ModelOutput({read})",
        ]
    else:
        lines = [
            *_signature("forward", "ModelOutput", {**LATENTS, **GIVEN}),
            DENOISED.format(shape=shape),
            LAYOUT,
            "        patches = self.encode(layout, latents, timesteps)",
            f"        {hidden} = self.hidden(input_ids, layout, position_ids, patches)",
            f"        logits, states = {read}",
            "        return ModelOutput(logits, self.predict(states, layout, patches))",
        ]
    return "\n".join(lines)


def loss_method(module: ModulePlan) -> str:
    """Next-token losses, and what denoising and balancing experts cost where there is any."""
    beside_latents = module.model.latents() is not None
    hidden, balance = ("hidden, balance", ", balance") if module.is_balanced else ("hidden", "")
    by_head = module.model.vocab is None and module.model.strategy == "sorted"
    means = f"mean_losses(sums, targets.counts, self.modalities{balance})"
    if not beside_latents:
        patches, sums = "", "sums"
        lines = [
            *_signature("loss", "LossOutput", GIVEN),
            NEXT_TOKEN,
            LAYOUT,
        ]
        found = [
            "        documents, tokens = layout.document_ids, layout.tokens",
            "        targets = find_targets(input_ids, layout.modality_ids, documents, tokens, len(self.modalities))",
        ]
        end = [f"        return {means}"]
    else:
        patches, sums = ", patches", "sums, states"
        lines = [
            *_signature("loss", "LossOutput", {**LATENTS, **DRAWN, **GIVEN}),
            DENOISING,
            LAYOUT,
            "        noised, times, aims = noise_latents(self.objectives, latents, timesteps, noise, generator)",
            "        patches = self.encode(layout, noised, times)",
        ]
        found = [
            f"        words, documents = {words(module)}, layout.document_ids",
            "        targets = find_targets(input_ids, words, documents, layout.tokens, len(self.modalities))",
        ]
        end = [
            f"        means = {means}",
            "        denoising = denoising_losses(self.predict(states, layout, patches), aims)",
            "        weighted = sum(self.weights[name] * loss for name, loss in denoising.items())",
            f"        return LossOutput(means.total + weighted, {{**means.by_modality, **denoising}}{balance})",
        ]
    lines += [
        f"        {hidden} = self.hidden(input_ids, layout, position_ids{patches})",
        *found,
        f"        wanted = {'sort_targets(targets)' if by_head else 'targets'}",
        "        if self.compiled and not torch.compiler.is_compiling():",
        "            wanted.mark_sizes()",
        f'        {sums} = self.compiled.get("score", {module.class_name}.score)(self, hidden, layout, wanted)',
    ]
    if module.is_balanced:  # where no token is real, routers have balanced nothing
        lines.append("        balance = torch.where((layout.modality_ids >= 0).any(), balance, 0.0)")
    return "\n".join([*lines, *end])


def _signature(name: str, returned: str, optional: dict[str, str]) -> list[str]:
    """The first lines of a method that takes a batch and, by keyword, what may be None."""
    return [
        f"    def {name}(",
        "        self,",
        "        input_ids: Tensor,",
        "        modality_ids: Tensor,",
        "        *,",
        *(f"        {argument}: {kind} | None = None," for argument, kind in optional.items()),
        f"    ) -> {returned}:",
    ]
