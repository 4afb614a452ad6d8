"""Mixture-of-Transformers by boolean masks: the plain meaning, for checking against, with no care for speed.

Algorithm 1 of "Mixture-of-Transformers" (arXiv 2411.04996), generalised: every parameter group may be shared or untied
between modalities in its own way, norms may stand before, after or at the end of a sublayer, and towers may differ in
width. Tokens of modality m are held as [n_m, width_m], in order of batch row, then position. The dense model is the
case of one modality, or of one prefix for all modalities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from motc.reference.batch import Batch
from motc.reference.config import Norms, Prefixes, ReferenceConfig, ReferenceLayer
from motc.reference.experts import Trace, mixture
from motc.reference.latents import denoising, latent_prediction, latent_tokens
from motc.reference.operators import (
    Parameters,
    Streams,
    at_least_float32,
    default_positions,
    linear,
    rotate,
    to_sequence,
)
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


def reference_forward(
    config: ReferenceConfig, parameters: Parameters, batch: Batch, trace: Trace | None = None
) -> Tensor | dict[str, Tensor]:
    """Logits [B, S, vocab], or modality -> [B, S, vocab_m] with own vocabularies; zeros at padding and at latents."""
    hidden = reference_hidden(config, parameters, batch, trace)
    return logits_of(config, parameters, hidden, token_masks(config, batch.modality_ids))


def logits_of(
    config: ReferenceConfig, parameters: Parameters, hidden: Streams, tokens: dict[str, Tensor]
) -> Tensor | dict[str, Tensor]:
    """The logits of all tokens that have an id."""
    head = config.embedding if config.head is None else config.head
    spoken = [m for m in config.modalities if m not in config.latents]
    if not spoken:
        return {}
    if not config.own_vocabularies:
        return to_sequence({m: linear(parameters, head[m], hidden[m]) for m in spoken}, tokens)
    return {
        target: to_sequence({m: linear(parameters, head[target], hidden[m]) for m in spoken}, tokens)
        for target in spoken
    }


def reference_predictions(config: ReferenceConfig, parameters: Parameters, batch: Batch) -> dict[str, Tensor]:
    """What is predicted of the noised latents of each continuous modality, in their shape."""
    if not batch.latents:
        return {}
    return predictions_of(config, parameters, reference_hidden(config, parameters, batch), batch)


def predictions_of(config: ReferenceConfig, parameters: Parameters, hidden: Streams, batch: Batch) -> dict[str, Tensor]:
    """The predictions of all latents from their tokens' states."""
    return {
        m: latent_prediction(config.latents[m], parameters, hidden[m], x, batch.timesteps[m])
        for m, x in batch.latents.items()
    }


def reference_loss(
    config: ReferenceConfig, parameters: Parameters, batch: Batch, trace: Trace | None = None
) -> ReferenceLoss:
    """Next-token cross-entropy, and for latents, which are clean, the weighted mean squared error of denoising.

    A target is the label of a token. It counts if the token and the one before it are real, of one document, and no
    latents, and unless it is -100 or its weight is 0, or the one before sees it and that is to be left out.
    """
    modality_ids, document_ids = batch.modality_ids, batch.document_ids
    labels = batch.input_ids if batch.labels is None else batch.labels
    weights = torch.ones(labels.shape) if batch.weights is None else batch.weights
    trace = Trace() if trace is None else trace
    pairs = {m: denoising(config.latents[m], x, batch.timesteps[m], batch.noise[m]) for m, x in batch.latents.items()}
    noised = replace(batch, latents={m: pair[0] for m, pair in pairs.items()})
    hidden = reference_hidden(config, parameters, noised, trace)
    logits = logits_of(config, parameters, hidden, token_masks(config, modality_ids))
    counted = (modality_ids[:, :-1] >= 0) & (modality_ids[:, 1:] >= 0)
    for index, modality in enumerate(config.modalities):
        if modality in config.latents:
            counted = counted & (modality_ids[:, :-1] != index) & (modality_ids[:, 1:] != index)
    if document_ids is not None:
        counted = counted & (document_ids[:, :-1] == document_ids[:, 1:])
    counted = counted & (labels[:, 1:] != -100) & (weights[:, 1:] != 0)
    visible = visibility(config.layers[0].mask, config.modalities, modality_ids, document_ids)
    seen = visible.diagonal(offset=1, dim1=1, dim2=2)
    sums, totals = {}, {}
    for index, modality in enumerate(config.modalities):
        if modality in config.latents:
            continue
        here = counted & (modality_ids[:, 1:] == index)
        if modality in config.unseen_only:
            here = here & ~seen
        predicted = (logits[modality] if isinstance(logits, dict) else logits)[:, :-1][here]
        log_probabilities = F.log_softmax(at_least_float32(predicted), dim=-1)
        losses = -log_probabilities.gather(-1, labels[:, 1:][here][:, None]).flatten()
        sums[modality] = (losses * weights[:, 1:][here]).sum()
        totals[modality] = weights[:, 1:][here].sum()
    by_modality = {modality: sums[modality] / (totals[modality] or 1) for modality in sums}
    share = {modality: config.target_weights.get(modality, 1.0) for modality in sums}
    weight = sum((share[modality] * totals[modality] for modality in sums), torch.zeros(()))
    total = sum((share[modality] * sums[modality] for modality in sums), torch.zeros(())) / (weight or 1)
    predictions = predictions_of(config, parameters, hidden, noised)
    for modality, latent in config.latents.items():
        squares = torch.zeros(1, dtype=total.dtype)
        if modality in pairs:
            squares = (at_least_float32(predictions[modality]) - pairs[modality][1]) ** 2
        by_modality[modality] = squares.sum() / max(1, squares.numel())
        totals[modality] = torch.tensor(squares.numel() if modality in pairs else 0)
        total = total + latent.weight * by_modality[modality]
    by_modality = {modality: by_modality[modality] for modality in config.modalities}
    if not any(moe.balance for layer in config.layers for moe in layer.moe.values()):
        return ReferenceLoss(total, by_modality, weight, totals)
    balance = sum(trace.balance, torch.zeros_like(total)) / len(config.layers)
    return ReferenceLoss(total + balance, by_modality, weight, totals, balance)


def reference_hidden(
    config: ReferenceConfig, parameters: Parameters, batch: Batch, trace: Trace | None = None
) -> Streams:
    """The vectors the head sees: after every layer and the final norm. Latents are noised ones."""
    modality_ids, position_ids = batch.modality_ids, batch.position_ids
    tokens = token_masks(config, modality_ids)
    if position_ids is None:
        position_ids = default_positions(modality_ids, batch.document_ids)
    position_ids = position_ids.expand(modality_ids.shape)
    x = {}
    for m in config.modalities:
        if m not in config.latents:
            x[m] = parameters[config.embedding[m] + ".weight"][batch.input_ids[tokens[m]]]
        elif m in batch.latents:
            x[m] = latent_tokens(config.latents[m], parameters, batch.latents[m], batch.timesteps[m])
        else:
            weight = parameters[config.latents[m].prefix + ".decode.weight"]
            x[m] = weight.new_zeros(0, weight.shape[1])
    for layer in config.layers:
        visible = visibility(layer.mask, config.modalities, modality_ids, batch.document_ids)
        x = layer_forward(layer, parameters, x, tokens, position_ids, visible, Trace() if trace is None else trace)
    return normalise(config.final_norm_prefixes, config.final_norms, parameters, x)


def layer_forward(
    layer: ReferenceLayer,
    parameters: Parameters,
    x: Streams,
    tokens: dict[str, Tensor],
    position_ids: Tensor,
    visible: Tensor,
    trace: Trace,
) -> Streams:
    """Attention, then the feed-forward, each with its residual and its norm."""

    def attend(a: Streams) -> Streams:
        return attention(layer, parameters, a, tokens, position_ids, visible)

    def feed(a: Streams) -> Streams:
        return feed_forward(layer, parameters, a, tokens, trace)

    return sublayer(layer, "ffn.norm", parameters, sublayer(layer, "attention.norm", parameters, x, attend), feed)


def sublayer(
    layer: ReferenceLayer,
    norm: str,
    parameters: Parameters,
    x: Streams,
    function: Callable[[Streams], Streams],
) -> Streams:
    """x + f(norm(x)), norm(x + f(x)), or Algorithm 1's x + norm(f(x))."""

    def normed(a: Streams) -> Streams:
        return normalise(layer.prefixes[norm], layer.norms[norm], parameters, a)

    match layer.placement:
        case "pre":
            return add(x, function(normed(x)))
        case "post":
            return normed(add(x, function(x)))
        case "sublayer_output":
            return add(x, normed(function(x)))
        case _:
            assert_never(layer.placement)


def attention(
    layer: ReferenceLayer,
    parameters: Parameters,
    x: Streams,
    tokens: dict[str, Tensor],
    position_ids: Tensor,
    visible: Tensor,
) -> Streams:
    """Each modality's own projections, one softmax attention over the whole sequence, each modality's own output."""
    q = project(layer, "q", layer.heads, parameters, x, tokens)
    k = project(layer, "k", layer.kv_heads, parameters, x, tokens)
    v = project(layer, "v", layer.kv_heads, parameters, x, tokens)
    if layer.rope_theta is not None:
        q = rotate(q, position_ids, layer.rope_theta, layer.rope_pairing)
        k = rotate(k, position_ids, layer.rope_theta, layer.rope_pairing)
    outputs = []
    for head in range(layer.heads):
        kv_head = head * layer.kv_heads // layer.heads
        scores = q[:, :, head] @ k[:, :, kv_head].transpose(1, 2) * layer.head_dim**-0.5
        # A row that sees nothing would be 0/0 with -inf: the lowest finite score, then zero weights.
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * visible
        outputs.append(weights @ v[:, :, kv_head])
    a = torch.cat(outputs, dim=-1)
    return {m: linear(parameters, prefix, a[tokens[m]]) for m, prefix in layer.prefixes["attention.out"].items()}


def project(
    layer: ReferenceLayer, name: str, heads: int, parameters: Parameters, x: Streams, tokens: dict[str, Tensor]
) -> Tensor:
    """Queries, keys or values of every token, normed where its modality norms them, in sequence order.

    [B, S, heads, head_dim], zeros at padding.
    """
    prefixes = layer.prefixes[f"attention.{name}"]
    projected = {
        m: linear(parameters, prefix, x[m]).reshape(-1, heads, layer.head_dim) for m, prefix in prefixes.items()
    }
    group = f"attention.{name}_norm"
    normed = normalise(layer.prefixes.get(group, {}), layer.norms.get(group, {}), parameters, projected)
    return to_sequence(normed, tokens)


def feed_forward(
    layer: ReferenceLayer, parameters: Parameters, x: Streams, tokens: dict[str, Tensor], trace: Trace
) -> Streams:
    """Each modality's own feed-forward, of its own kind; a mixture of experts for all that share its router."""
    outputs = {}
    for modality in x:
        if modality not in layer.moe:
            outputs[modality] = feed(layer, modality, parameters, x[modality])
        elif modality not in outputs:
            router = layer.prefixes["ffn.router"][modality]
            pool = [m for m in x if layer.prefixes["ffn.router"].get(m) == router]

            experts = expert_parameters(layer, modality, parameters)

            def apply(
                expert: int, token: Tensor, modality: str = modality, experts: list[Parameters] = experts
            ) -> Tensor:
                return feed(layer, modality, experts[expert], token)

            joined = torch.cat([x[m] for m in pool])
            places = torch.cat([tokens[m].flatten().nonzero()[:, 0] for m in pool])
            mixed = mixture(layer.moe[modality], router, parameters, joined, places, apply, trace)
            if layer.moe[modality].shared:  # each modality's own, or shared by others than the router
                mixed = mixed + torch.cat([feed(layer, m, parameters, x[m], group="ffn.shared") for m in pool])
            outputs.update(zip(pool, torch.split(mixed, [x[m].shape[0] for m in pool]), strict=True))
    return {modality: outputs[modality] for modality in x}


def expert_parameters(layer: ReferenceLayer, modality: str, parameters: Parameters) -> list[Parameters]:
    """Each expert's own parameters: its slice of the stacked ones."""
    groups = [layer.prefixes.get(f"ffn.{name}", {}).get(modality) for name in ("gate", "up", "down")]
    stacked = [f"{prefix}.{kind}" for prefix in groups for kind in ("weight", "bias")]
    found = {name: parameters[name] for name in stacked if name in parameters}
    return [
        {name: parameter[expert] for name, parameter in found.items()} for expert in range(layer.moe[modality].experts)
    ]


def feed(layer: ReferenceLayer, modality: str, parameters: Parameters, tokens: Tensor, group: str = "ffn") -> Tensor:
    """Tokens [..., w] through the plain feed-forward of a modality's kind."""
    up = linear(parameters, layer.prefixes[f"{group}.up"][modality], tokens)
    kind = layer.ffn_kinds[modality]
    match kind:
        case "swiglu":
            inner = F.silu(linear(parameters, layer.prefixes[f"{group}.gate"][modality], tokens)) * up
        case "geglu":
            inner = F.gelu(linear(parameters, layer.prefixes[f"{group}.gate"][modality], tokens)) * up
        case "gelu":
            inner = F.gelu(up)
        case "relu2":
            inner = F.relu(up) ** 2
        case _:
            assert_never(kind)
    return linear(parameters, layer.prefixes[f"{group}.down"][modality], inner)


def normalise(prefixes: Prefixes, norms: Norms, parameters: Parameters, x: Streams) -> Streams:
    """Each modality's norm over the last dimension; modalities without one pass through. Statistics in float32."""
    outputs = dict(x)
    for modality, prefix in prefixes.items():
        norm, weight = norms[modality], parameters[prefix + ".weight"]
        wide = at_least_float32(x[modality])
        match norm.kind:
            case "rms":
                scaled = wide / (wide.square().mean(-1, keepdim=True) + norm.eps).sqrt()
                outputs[modality] = scaled.to(x[modality].dtype) * weight
            case "layer":
                centred = wide - wide.mean(-1, keepdim=True)
                scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
                outputs[modality] = scaled.to(x[modality].dtype) * weight + parameters[prefix + ".bias"]
            case _:
                assert_never(norm.kind)
    return outputs


def token_masks(config: ReferenceConfig, modality_ids: Tensor) -> dict[str, Tensor]:
    """Modality to a boolean mask [B, S] of its tokens."""
    return {modality: modality_ids == index for index, modality in enumerate(config.modalities)}


def add(x: Streams, y: Streams) -> Streams:
    return {modality: x[modality] + y[modality] for modality in x}
