"""What a model is called by, as text: `forward` and `loss`."""

from __future__ import annotations

from motc.emit.latents import words
from motc.plan import ModulePlan
from motc.plan.seen import Pairs, seen_targets

LABELS = {"labels": "Tensor", "weights": "Tensor"}
LATENTS = {"latents": "Mapping[str, Tensor]", "timesteps": "Mapping[str, Tensor]"}
DRAWN = {"noise": "Mapping[str, Tensor]", "generator": "torch.Generator"}
GIVEN = {"position_ids": "Tensor", "document_ids": "Tensor", "layout": "ModalityLayout"}
LOGITS = '''\
        """Logits, {shape}, zeros at padding; with `labels` no logits, but what `loss` returns.

        All arguments int64 [B, S]; `weights` floating-point, and `layout` what `self.layout` made.
        """'''
DENOISED = '''\
        """Logits, {shape}, zeros at padding and at latents, and predictions for latents.

        `latents` holds for each continuous modality the noised latents [n, channels, height, width] of its spans, in
        the order they come in the batch, rows first; `timesteps` [n]. All others int64 [B, S]; the input ids of latents
        may be anything. With `labels`, this is `loss`: latents are clean, and losses are returned.
        """'''
NEXT_TOKEN = '''\
        """Next-token cross-entropy: the mean over all counted targets, and by the modality of the target.

        `labels` int64 [B, S] are the tokens themselves, not shifted, and `input_ids` unless given; -100 is no target.
        `weights` [B, S] say how much each counts as a target: 1 unless given. Raises ValueError for other labels.
        """'''
DENOISING = '''\
        """Next-token cross-entropy of tokens after tokens, by the modality of the target, and what denoising costs.

        `latents` are clean ones, as for `forward`; timesteps and noise are drawn, from `generator`, unless given. The
        total is the mean cross-entropy over all counted targets and the weighted mean squared errors of predictions.
        `labels` int64 [B, S] are the tokens themselves, not shifted, and `input_ids` unless given; -100 is no target,
        nor is a latent. `weights` [B, S] say how much each counts as a target: 1 unless given.
        """'''


def call_methods(module: ModulePlan) -> tuple[str, ...]:
    """The methods by which a model is called, and what they share."""
    return (_forward(module), _losses(module), _loss(module))


def _optional(module: ModulePlan) -> dict[str, str]:
    """What `forward` and `loss` take beside the batch, and its type."""
    return {**LABELS, **({**LATENTS, **DRAWN} if module.model.latents() else {}), **GIVEN}


def _forward(module: ModulePlan) -> str:
    """Ids, and noised latents where there are any, to logits and predictions; or to losses."""
    beside_latents = module.model.latents() is not None
    shape = "a dict modality -> [B, S, V_m]" if module.model.vocab is None else "[B, S, V]"
    hidden = "hidden, balance" if module.is_balanced else "hidden"
    read = f'self.compiled.get("read", {module.class_name}.read)(self, hidden, layout)'
    balance = ", balance" if module.is_balanced else ""
    lines = [
        *_signature("forward", "ModelOutput | LossOutput", _optional(module)),
        (DENOISED if beside_latents else LOGITS).format(shape=shape),
        *_layout_lines(module),
        *_refuse_without_labels(module),
    ]
    if not beside_latents:
        lines += [
            f"        {hidden} = self.hidden(input_ids, layout, position_ids)",
            "        if labels is not None:",
            f"            return self.losses(hidden, layout, labels, weights{balance})",
            f"        return ModelOutput({read})",
        ]
    else:
        lines += [
            "        aims: dict[str, Tensor] = {}",
            "        if labels is not None:",
            "            noised = noise_latents(self.objectives, latents, timesteps, noise, generator)",
            "            latents, timesteps, aims = noised",
            "        patches = self.encode(layout, latents, timesteps)",
            f"        {hidden} = self.hidden(input_ids, layout, position_ids, patches)",
            "        if labels is not None:",
            f"            return self.losses(hidden, layout, labels, weights{balance}, patches, aims)",
            f"        logits, states = {read}",
            "        return ModelOutput(logits, self.predict(states, layout, patches))",
        ]
    return "\n".join(lines)


def _reads(module: ModulePlan) -> str:
    """Whether checks may read from the device: where a layout is made in a way that reads too."""
    return "reads" if module.model.strategy in ("sorted", "reference") else "False"


def _layout_lines(module: ModulePlan) -> list[str]:
    """Lines that check a batch and make its layout, unless one is given."""
    reads = _reads(module)
    given = "input_ids, modality_ids, position_ids, document_ids, layout"
    line = f"        layout = checked_layout(self, {given}, reads={reads})"
    return [*(["        reads = layout is None"] if reads == "reads" else []), line]


def _refuse_without_labels(module: ModulePlan) -> list[str]:
    """Lines that check labels and weights; what only the loss reads is refused where there are none."""
    only = ["weights", *(DRAWN if module.model.latents() else ())]
    given = " and ".join(f"{name} is None" for name in only)
    said = f"{', '.join(only[:-1])} and {only[-1]} go" if len(only) > 1 else "weights go"
    return [
        "        if labels is None:",
        f"            if not ({given}):" if len(only) > 1 else "            if weights is not None:",
        f'                raise ValueError("{said} with labels")',
        "        elif labels is not input_ids or weights is not None:",
        f"            check_targets(self, labels, weights, input_ids, modality_ids, reads={_reads(module)})",
    ]


def _losses(module: ModulePlan) -> str:
    """Next-token losses, and what denoising and balancing experts cost where there is any."""
    beside_latents = module.model.latents() is not None
    by_head = module.model.vocab is None and module.model.strategy == "sorted"
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    arguments = {
        "hidden": stream,
        "layout": "ModalityLayout",
        "labels": "Tensor",
        "weights": "Tensor | None",
        **({"balance": "Tensor"} if module.is_balanced else {}),
        **({"patches": "dict[str, Patches]", "aims": "dict[str, Tensor]"} if beside_latents else {}),
    }
    balance = ", balance" if module.is_balanced else ""
    means = f"mean_losses(sums, targets.totals, self.modalities{balance})"
    sums = "sums, states" if beside_latents else "sums"
    lines = [
        "    def losses(",
        "        self,",
        *(f"        {name}: {kind}," for name, kind in arguments.items()),
        "    ) -> LossOutput:",
        '        """The losses of the stream after the last layer."""',
        f"        words, documents = {words(module)}, layout.document_ids",
        *_leave_out_seen(module),
        "        targets = find_targets(labels, weights, words, documents, layout.tokens, len(self.modalities))",
        f"        wanted = {'sort_targets(targets)' if by_head else 'targets'}",
        "        if self.compiled and not torch.compiler.is_compiling():",
        "            wanted.mark_sizes()",
        f'        {sums} = self.compiled.get("score", {module.class_name}.score)(self, hidden, layout, wanted)',
    ]
    if module.is_balanced:  # where no token is real, routers have balanced nothing
        lines.append("        balance = torch.where((layout.modality_ids >= 0).any(), balance, 0.0)")
    weights = [modality.loss.weight for modality in module.model.modalities]
    if not beside_latents and set(weights) == {1.0}:
        return "\n".join([*lines, f"        return {means}"])
    lines.append(f"        means = {means}")
    if set(weights) != {1.0}:
        plus_balance = " + balance" if module.is_balanced else ""
        lines += [
            "        weight = weighted_sum(targets.totals, self.target_weights)",
            f"        total = divided(weighted_sum(sums, self.target_weights), weight){plus_balance}",
            "        means = means._replace(total=total, weight=weight)",
        ]
    if not beside_latents:
        return "\n".join([*lines, "        return means"])
    lines += [
        "        denoising, numbers = denoising_losses(self.predict(states, layout, patches), aims)",
        "        weighted = sum(self.weights[name] * loss for name, loss in denoising.items())",
        "        return means._replace(",
        "            total=means.total + weighted,",
        "            by_modality={**means.by_modality, **denoising},",
        "            weights={**means.weights, **numbers},",
        "        )",
    ]
    return "\n".join(lines)


def _leave_out_seen(module: ModulePlan) -> list[str]:
    """Lines that make no label of a target that the token before it sees, where such are left out."""
    always, in_prefix = seen_targets(module.model)
    if not always and not in_prefix:
        return []
    lines = _neighbours("seen", always) if always else []
    if in_prefix:
        names = [modality.name for modality in module.model.modalities]
        prefix = tuple(names.index(name) for name in module.model.mask.prefix)
        lines += [
            *_neighbours("both" if always else "seen", in_prefix),
            f"        within = in_prefix(layout.modality_ids, documents, {prefix!r})",
            f"        seen = {'seen | (both & within)' if always else 'seen & within'}",
        ]
    return [*lines, "        labels = labels.masked_fill(seen, -100)"]


def _neighbours(name: str, pairs: Pairs) -> list[str]:
    """Lines that call by a name which tokens are such a pair with the one before them."""
    line = f"        {name} = neighbours(layout.modality_ids, {pairs!r})"
    if len(line) <= 120:
        return [line]
    rows = [f"                {row!r}," for row in pairs]
    head = [f"        {name} = neighbours(", "            layout.modality_ids,", "            ("]
    return [*head, *rows, "            ),", "        )"]


def _loss(module: ModulePlan) -> str:
    """`loss`: `forward` with labels. It goes through `self(...)`, so that FSDP's hooks are run for it too."""
    lines = [
        *_signature("loss", "LossOutput", _optional(module)),
        DENOISING if module.model.latents() else NEXT_TOKEN,
        "        labels = input_ids if labels is None else labels",
        "        losses: LossOutput = self(",
        "            input_ids,",
        "            modality_ids,",
        *(f"            {name}={name}," for name in _optional(module)),
        "        )",
        "        return losses",
    ]
    return "\n".join(lines)


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
