"""Mixture-of-Transformers by boolean masks: the plain meaning, for checking against, with no care for speed.

Algorithm 1 of "Mixture-of-Transformers" (arXiv 2411.04996), generalised: every parameter group may be shared or untied
between modalities in its own way, norms may stand before, after or at the end of a sublayer, and towers may differ in
width. Tokens of modality m are held as [n_m, width_m], in order of batch row, then position. The dense model is the
case of one modality, or of one prefix for all modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from motc.reference.batch import Batch, Several
from motc.reference.conditions import condition_vectors, spans_of
from motc.reference.config import ReferenceConfig
from motc.reference.experts import Trace
from motc.reference.features import ReferenceFeatures, added_vectors, feature_tokens
from motc.reference.latents import grid_of, latent_prediction, latent_tokens, of_patches
from motc.reference.layer import adapt, layer_forward, normalise
from motc.reference.operators import Parameters, Streams, default_positions, linear, to_sequence
from motc.reference.positions import positions_by_rule
from motc.reference.rope import Positions, document_lengths
from motc.reference.visibility import ReferenceMask, visibility


def reference_forward(
    config: ReferenceConfig,
    parameters: Parameters,
    batch: Batch,
    trace: Trace | None = None,
    hidden: Streams | None = None,
) -> Tensor | dict[str, Tensor]:
    """Logits [B, S, vocab], or modality -> [B, S, vocab_m] with own vocabularies; zeros where there is no id.

    `hidden` is what `reference_hidden` gives, where that is known already.
    """
    hidden = reference_hidden(config, parameters, batch, trace) if hidden is None else hidden
    return logits_of(config, parameters, hidden, token_masks(config, batch.modality_ids))


def logits_of(
    config: ReferenceConfig, parameters: Parameters, hidden: Streams, tokens: dict[str, Tensor]
) -> Tensor | dict[str, Tensor]:
    """The logits of all tokens that have an id."""
    head = config.embedding if config.head is None else config.head
    spoken = [m for m in config.modalities if m not in config.continuous]
    if not spoken:
        return {}

    def logits(target: str, states: Tensor) -> Tensor:
        y = linear(parameters, head[target], states) * config.logit_scale
        cap = config.logit_softcap
        return y if cap is None else cap * torch.tanh(y / cap)

    if not config.own_vocabularies:
        return to_sequence({m: logits(m, hidden[m]) for m in spoken}, tokens)
    return {target: to_sequence({m: logits(target, hidden[m]) for m in spoken}, tokens) for target in spoken}


def reference_predictions(
    config: ReferenceConfig, parameters: Parameters, batch: Batch, hidden: Streams | None = None
) -> dict[str, Several]:
    """What is predicted of the noised latents of each continuous modality, in their shape; `hidden` as above."""
    if not batch.latents:
        return {}
    hidden = reference_hidden(config, parameters, batch) if hidden is None else hidden
    return predictions_of(config, parameters, hidden, batch)


def predictions_of(
    config: ReferenceConfig, parameters: Parameters, hidden: Streams, batch: Batch
) -> dict[str, Several]:
    """The predictions of all latents from their tokens' states."""
    return {
        m: latent_prediction(config.latents[m], parameters, hidden[m], x, batch.timesteps[m])
        for m, x in batch.latents.items()
    }


def reference_hidden(
    config: ReferenceConfig, parameters: Parameters, batch: Batch, trace: Trace | None = None
) -> Streams:
    """The vectors the head sees: after every layer and the final norm. Latents are noised ones."""
    modality_ids, position_ids = batch.modality_ids, batch.position_ids
    tokens = token_masks(config, modality_ids)
    if position_ids is None:
        position_ids = positions_of(config, batch)
    position_ids = position_ids.expand(*modality_ids.shape, *position_ids.shape[2:])
    documents = torch.zeros_like(modality_ids) if batch.document_ids is None else batch.document_ids
    lengths = document_lengths(position_ids, modality_ids, batch.document_ids)
    positions = Positions(position_ids, lengths, documents)
    x = {}
    for m in config.modalities:
        if m in config.features:
            x[m] = features_of(config.features[m], parameters, batch.features.get(m))
        elif m not in config.latents:
            table = parameters[config.embedding[m] + ".weight"]
            scale = torch.tensor(config.embedding_scale.get(m, 1.0), dtype=table.dtype, device=table.device)
            x[m] = table[batch.input_ids[tokens[m]]] * scale
        elif m in batch.latents:
            x[m] = latent_tokens(config.latents[m], parameters, batch.latents[m], batch.timesteps[m])
        else:
            weight = parameters[config.latents[m].prefix + ".decode.weight"]
            x[m] = weight.new_zeros(0, weight.shape[1])

    for m, prefix in config.position_embedding.items():  # of positions of one number
        x[m] = x[m] + parameters[prefix + ".weight"][position_ids[tokens[m]].reshape(-1)]

    x = normalise(config.embedding_norm_prefixes, config.embedding_norms, parameters, x)

    noised = noised_tokens(config, batch)

    def see(mask: ReferenceMask) -> Tensor:
        return visibility(mask, config.modalities, modality_ids, batch.document_ids, noised)

    conditions = conditions_of(config, parameters, batch, tokens)
    for number, layer in enumerate(config.layers):
        x = layer_forward(layer, parameters, x, tokens, positions, see, Trace() if trace is None else trace, conditions)
        for m, vectors in batch.features.items():
            added = added_vectors(config.features[m], vectors, number)
            if added is not None:
                x[m] = x[m] + feature_tokens(config.features[m], parameters, added)
    x = normalise(config.final_norm_prefixes, config.final_norms, parameters, x)
    return adapt(config.final_modulations, parameters, conditions, x)


def conditions_of(
    config: ReferenceConfig, parameters: Parameters, batch: Batch, tokens: dict[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """For tokens of each modality, by the modality whose spans these are: their spans' vectors, zeros where none is."""
    vectors: dict[str, dict[str, Tensor]] = {m: {} for m in config.modalities}
    for by, condition in config.conditions.items():
        nothing = torch.zeros(0, dtype=torch.int64)
        given = batch.conditions.get(by, {})
        times, own, starts, repeats = [nothing], list[int](), [0], list[int]()
        for x, of_span in zip(batch.latents.get(by, ()), batch.timesteps.get(by, ()), strict=True):
            times.append(of_span.reshape(-1))
            own += [
                starts[-1] + int(place) for place in of_patches(config.latents[by], x, torch.arange(len(times[-1])))
            ]
            starts.append(starts[-1] + len(times[-1]))
            repeats.append(len(times[-1]))
        of_each = {part: value.repeat_interleave(torch.tensor(repeats), 0) for part, value in given.items()}
        of_spans = condition_vectors(condition, parameters, torch.cat(times), of_each)
        of_spans = torch.cat((of_spans, of_spans.new_zeros(1, condition.width)))  # which -1 takes
        index = config.modalities.index(by) if by in config.modalities else len(config.modalities)
        spans = torch.tensor(spans_of(batch.modality_ids, batch.document_ids, index), dtype=torch.int64)
        first = torch.tensor([*starts[:-1], -1])[spans.reshape(batch.modality_ids.shape)]
        for m in config.modalities:
            vectors[m][by] = of_spans[torch.tensor(own, dtype=torch.int64) if m == by else first[tokens[m]]]
    return vectors


def are_noised(config: ReferenceConfig, batch: Batch, m: str) -> list[bool]:
    """Whether of each span of a modality's latents anything is noised."""
    clean = batch.clean.get(m)
    return [clean is None or not clean[number].all() for number in range(len(batch.latents[m]))]


def noised_tokens(config: ReferenceConfig, batch: Batch) -> Tensor:
    """Which tokens [B, S] are of latents that are not clean."""
    noised = torch.zeros_like(batch.modality_ids, dtype=torch.bool)
    for m, x in batch.latents.items():
        clean = [torch.tensor(False)] * len(x) if m not in batch.clean else batch.clean[m]
        each = [
            not is_clean
            for y, kept in zip(x, clean, strict=True)
            for is_clean in of_patches(config.latents[m], y, kept)
        ]
        noised[batch.modality_ids == config.modalities.index(m)] = torch.tensor(each)
    return noised


def features_of(features: ReferenceFeatures, parameters: Parameters, vectors: Tensor | None) -> Tensor:
    """The tokens of a batch's features, of which there may be none."""
    if vectors is None:
        vectors = next(iter(parameters.values())).new_zeros(0, features.size)
    first = vectors[:, 0] if vectors.ndim == 3 else vectors
    return feature_tokens(features, parameters, first)


def positions_of(config: ReferenceConfig, batch: Batch) -> Tensor:
    """The positions of a batch that gives none; latents say what grid each of their spans is."""
    if not config.position_rules:
        return default_positions(batch.modality_ids, batch.document_ids)
    grids = {config.modalities.index(m): [grid_of(config.latents[m], x) for x in of] for m, of in batch.latents.items()}
    return positions_by_rule(
        batch.modality_ids,
        batch.document_ids,
        config.position_rules,
        config.first_position,
        config.position_axes,
        grids,
        {config.modalities.index(m): are_noised(config, batch, m) for m in batch.latents},
    )


def token_masks(config: ReferenceConfig, modality_ids: Tensor) -> dict[str, Tensor]:
    """Modality to a boolean mask [B, S] of its tokens."""
    return {modality: modality_ids == index for index, modality in enumerate(config.modalities)}
