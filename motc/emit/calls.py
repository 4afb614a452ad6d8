"""What a model is called by, as text: `forward`, and the losses."""

from __future__ import annotations

from motc.emit.latents import place_lines, words
from motc.emit.text import method, statement
from motc.plan import ModulePlan
from motc.plan.constants import Constants
from motc.plan.seen import Pairs, seen_targets

LATENTS = {
    "latents": "Mapping[str, Tensor]",
    "timesteps": "Mapping[str, Tensor]",
    "noise": "Mapping[str, Tensor]",
    "generator": "torch.Generator",
}
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


def call_methods(module: ModulePlan, constants: Constants) -> tuple[str, ...]:
    """The methods by which a model is called, and what they share."""
    return (_forward(module, constants), _losses(module))


def _forward(module: ModulePlan, constants: Constants) -> str:
    """Ids, and noised latents where there are any, to logits and predictions; or to losses."""
    model = module.model
    has_latents = model.latents() is not None
    shape = "a dict modality -> [B, S, V_m]" if model.vocab is None else "[B, S, V]"
    optional = {"labels": "Tensor", "weights": "Tensor", **(LATENTS if has_latents else {})}
    optional |= {"position_ids": "Tensor", "document_ids": "Tensor", "layout": module.execution.layout_type}
    arguments = ["input_ids: Tensor", "modality_ids: Tensor", "*"]
    arguments += [f"{name}: {kind} | None = None" for name, kind in optional.items()]
    balance = ["balance"] if module.is_balanced else []
    prepared = "self.prepared(layout, input_ids, modality_ids, position_ids, document_ids, labels, weights)"
    lines = [
        *method("forward", arguments, f"{'DenoisingOutput' if has_latents else 'ModelOutput'} | LossOutput"),
        (DENOISED if has_latents else LOGITS).format(shape=shape),
        *(_only_with_labels() if has_latents else ()),
        f"        layout = {prepared}",
        *(_noising() if has_latents else ()),
        *_embedding(module),
        *_context(module, constants),
        *(["        balance = torch.zeros((), device=layout.tokens.device)"] if balance else []),
        "        for layer in self.layers:",
        *_one_layer(module),
        *([f"        balance = balance / {constants.named('LAYERS', model.layers)}"] if balance else []),
        "        if labels is not None:",
    ]
    given = ["x", "layout", "labels", "weights", *balance, *(["patches", "aims"] if has_latents else [])]
    lines.append(f"            return self.losses({', '.join(given)})")
    if not has_latents:
        return "\n".join([*lines, "        return ModelOutput(self.read(x, layout))"])
    lines += [
        "        logits, states = self.read(x, layout)",
        "        return DenoisingOutput(logits, self.predict(states, layout, patches))",
    ]
    return "\n".join(lines)


def _only_with_labels() -> list[str]:
    """The line that refuses what only the loss reads."""
    return ["        only_with_labels(labels, weights=weights, noise=noise, generator=generator)"]


def _noising() -> list[str]:
    """Lines that noise latents for the loss, and make patches of them."""
    return [
        "        aims: dict[str, Tensor] = {}",
        "        if labels is not None:",
        "            noised = noise_latents(self.objectives, latents, timesteps, noise, generator)",
        "            latents, timesteps, aims = noised",
        "        patches = self.encode(layout, latents, timesteps)",
    ]


def _embedding(module: ModulePlan) -> list[str]:
    """Lines that make the stream `x` of ids, and patches where there are any."""
    if module.model.latents() is None:
        return ["        x = self.embed(in_stream(input_ids, layout), layout)"]
    ids = f"torch.where({words(module)} >= 0, input_ids, 0)"
    return [f"        ids = {ids}", "        x = self.embed(in_stream(ids, layout), layout)", *place_lines(module)]


def _context(module: ModulePlan, constants: Constants) -> list[str]:
    """Lines that make what all layers share beside the layout: cosine and sine of positions, and the mask."""
    dtype = "x[0].dtype" if module.stream_in_pieces else "x.dtype"
    mask = f"        mask = additive(layout.rows.mask, {dtype})"
    expression = angles(module, constants, "positions_in(layout, position_ids)", dtype)
    return [mask] if expression is None else [*statement("cos, sin = ", expression), mask]


def angles(module: ModulePlan, constants: Constants, positions: str, dtype: str) -> str | None:
    """The expression of cosine and sine, the same for all layers that rotate; None where none does."""
    if not module.model.ropes:
        return None
    ((rope, head_dim),) = module.model.ropes
    theta, size = constants.named("ROPE_THETA", rope.theta), constants.named("HEAD_DIM", head_dim)
    return f"rope_angles({positions}, {size}, {theta}, {dtype})"


def _one_layer(module: ModulePlan) -> list[str]:
    """Lines that send the stream through a layer."""
    passed = "x, layout, mask" + (", cos, sin" if module.model.ropes else "")
    if not module.is_balanced:
        return [f"            x = layer({passed})"]
    return [f"            x, more = layer({passed})", "            balance = balance + more"]


def _losses(module: ModulePlan) -> str:
    """Next-token losses, and what denoising and balancing experts cost where there is any."""
    beside_latents = module.model.latents() is not None
    by_head = module.model.vocab is None and module.execution.heads_in_pieces
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    arguments = [f"x: {stream}", f"layout: {module.execution.layout_type}", "labels: Tensor", "weights: Tensor | None"]
    arguments += ["balance: Tensor"] if module.is_balanced else []
    arguments += ["patches: dict[str, Patches]", "aims: dict[str, Tensor]"] if beside_latents else []
    balance = ", balance" if module.is_balanced else ""
    means = f"mean_losses(sums, targets.totals, self.modalities{balance})"
    lines = [
        *method("losses", arguments, "LossOutput"),
        '        """The losses of the stream after the last layer."""',
        f"        words, documents = {words(module)}, layout.document_ids",
        *_leave_out_seen(module),
        "        targets = find_targets(labels, weights, words, documents, layout.tokens, len(self.modalities))",
        f"        {'sums, states' if beside_latents else 'sums'} = self.score(x, layout, "
        f"{'sort_targets(targets)' if by_head else 'targets'})",
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
        (mask,) = module.model.masks
        prefix = tuple(module.model.names.index(name) for name in mask.prefix)
        lines += [
            *_neighbours("both" if always else "seen", in_prefix),
            f"        within = in_prefix(layout.modality_ids, documents, {prefix!r})",
            f"        seen = {'seen | (both & within)' if always else 'seen & within'}",
        ]
    return [*lines, "        labels = labels.masked_fill(seen, -100)"]


def _neighbours(name: str, pairs: Pairs) -> list[str]:
    """Lines that call by a name which tokens are such a pair with the one before them."""
    return statement(f"{name} = ", f"neighbours(layout.modality_ids, {pairs!r})")
