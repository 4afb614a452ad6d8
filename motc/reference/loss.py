"""What training makes smaller: cross-entropy of the next token, denoising of latents, and the balance of experts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from motc.reference.batch import Batch, Several
from motc.reference.config import ReferenceConfig
from motc.reference.experts import Trace
from motc.reference.latents import bits_of_variances, denoising
from motc.reference.model import logits_of, predictions_of, reference_hidden, token_masks
from motc.reference.operators import Parameters, Streams, at_least_float32
from motc.reference.visibility import visibility


class ReferenceLoss(NamedTuple):
    """The weighted mean over all counted targets, and over those of each modality (0 where there are none).

    `weights` are the sums of their targets' weights, or how many numbers their latents have; `weight` is what the
    cross-entropy in the total is divided by. `balance`, the load-balancing loss of experts, is part of the total, a
    mean over layers; None where there is none.
    """

    total: Tensor
    by_modality: dict[str, Tensor]
    weight: Tensor
    weights: dict[str, Tensor]
    balance: Tensor | None = None


def reference_loss(
    config: ReferenceConfig,
    parameters: Parameters,
    batch: Batch,
    trace: Trace | None = None,
    hidden: Streams | None = None,
) -> ReferenceLoss:
    """Next-token cross-entropy, and for latents, which are clean, the weighted mean squared error of denoising.

    `hidden` is what `reference_hidden` gives with this trace, where that is known already and there are no latents.
    """
    trace = Trace() if trace is None else trace
    spans = {
        m: denoising(config.latents[m], x, batch.timesteps[m], batch.noise[m], batch.clean.get(m))
        for m, x in batch.latents.items()
    }
    noised = replace(
        batch,
        latents={m: as_one([span.shown for span in of], batch.latents[m]) for m, of in spans.items()},
        timesteps={m: unless_clean(times, batch.clean.get(m)) for m, times in batch.timesteps.items()},
    )
    hidden = reference_hidden(config, parameters, noised, trace) if hidden is None else hidden
    logits = logits_of(config, parameters, hidden, token_masks(config, batch.modality_ids))
    sums, weights = cross_entropies(config, logits, batch)
    by_modality = {modality: sums[modality] / (weights[modality] or 1) for modality in sums}
    share = {modality: config.target_weights.get(modality, 1.0) for modality in sums}
    weight = sum((share[modality] * weights[modality] for modality in sums), torch.zeros(()))
    total = sum((share[modality] * sums[modality] for modality in sums), torch.zeros(())) / (weight or 1)
    predictions = predictions_of(config, parameters, hidden, noised)
    for modality, latent in config.latents.items():
        squares, numbers = torch.zeros((), dtype=total.dtype), 0
        for predicted, span in zip(predictions.get(modality, ()), spans.get(modality, ()), strict=True):
            wide = at_least_float32(predicted)
            mean, variance = wide[: latent.channels], wide[latent.channels :]
            squares = squares + ((mean - span.target) ** 2 * span.counts).sum()
            if latent.noising.variance == "learned":
                squares = squares + bits_of_variances(latent, span, mean, variance)
            numbers += span.numbers
        by_modality[modality] = squares / max(1, numbers)
        weights[modality] = torch.tensor(numbers)
        total = total + latent.weight * by_modality[modality]
    for modality in config.features:  # of which nothing is learnt
        by_modality[modality], weights[modality] = torch.zeros(()), torch.zeros(())
    by_modality = {modality: by_modality[modality] for modality in config.modalities}
    if not config.is_balanced:
        return ReferenceLoss(total, by_modality, weight, weights)
    balance = sum(trace.balance, torch.zeros_like(total)) / len(config.layers)
    return ReferenceLoss(total + balance, by_modality, weight, weights, balance)


def as_one(spans: list[Tensor], like: Several) -> Several:
    """Latents of spans, as those of the batch are."""
    return spans if isinstance(like, list) or not spans else torch.stack(spans)


def unless_clean(times: Several, clean: Several | None) -> Several:
    """Timesteps of spans, or of their tokens or frames, 0 where these are clean."""
    if clean is None:
        return times
    if isinstance(times, Tensor) and isinstance(clean, Tensor) and times.shape == clean.shape:
        return times * ~clean
    each = []
    for t, kept in zip(times, clean, strict=True):
        t, kept = t.reshape(-1), kept.reshape(-1)
        most = max(len(t), len(kept))
        each.append(t.repeat_interleave(most // len(t)) * ~kept.repeat_interleave(most // len(kept)))
    return each


def cross_entropies(
    config: ReferenceConfig, logits: Tensor | dict[str, Tensor], batch: Batch
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """For each modality of tokens, the weighted sum over its targets, and the sum of their weights."""
    labels = batch.input_ids if batch.labels is None else batch.labels
    weights = torch.ones(labels.shape) if batch.weights is None else batch.weights
    counted = counted_targets(config, batch, labels, weights)
    sums, totals = {}, {}
    for index, modality in enumerate(config.modalities):
        if modality in config.continuous:
            continue
        here = counted & (batch.modality_ids[:, 1:] == index)
        predicted = (logits[modality] if isinstance(logits, dict) else logits)[:, :-1][here]
        log_probabilities = F.log_softmax(at_least_float32(predicted), dim=-1)
        losses = -log_probabilities.gather(-1, labels[:, 1:][here][:, None]).flatten()
        sums[modality] = (losses * weights[:, 1:][here]).sum()
        totals[modality] = weights[:, 1:][here].sum()
    return sums, totals


def counted_targets(config: ReferenceConfig, batch: Batch, labels: Tensor, weights: Tensor) -> Tensor:
    """Which labels but the first of each row count, bool [B, S - 1].

    A target is the label of a token. It counts if the token and the one before it are real, of one document, and have
    ids, and unless it is -100 or its weight is 0, or the one before sees it and that is to be left out.
    """
    before, after = batch.modality_ids[:, :-1], batch.modality_ids[:, 1:]
    counted = (before >= 0) & (after >= 0) & (labels[:, 1:] != -100) & (weights[:, 1:] != 0)
    if batch.document_ids is not None:
        counted = counted & (batch.document_ids[:, :-1] == batch.document_ids[:, 1:])
    seen = torch.zeros_like(counted)
    for mask in config.masks:
        visible = visibility(mask, config.modalities, batch.modality_ids, batch.document_ids)
        seen = seen | visible.diagonal(offset=1, dim1=1, dim2=2)
    for index, modality in enumerate(config.modalities):
        if modality in config.continuous:
            counted = counted & (before != index) & (after != index)
        if modality in config.unseen_only:
            counted = counted & ~((after == index) & seen)
    return counted
