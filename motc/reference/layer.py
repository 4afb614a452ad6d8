"""One layer: attention and the feed-forward, each with its norm, added to the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor

from motc.reference.config import Norms, Prefixes, ReferenceLayer
from motc.reference.experts import Trace, mixture
from motc.reference.operators import Parameters, Streams, activated, linear, normalised, rotate, to_sequence


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
    return [
        {name: parameters[name][expert] for name in stacked if name in parameters}
        for expert in range(layer.moe[modality].experts)
    ]


def feed(layer: ReferenceLayer, modality: str, parameters: Parameters, tokens: Tensor, group: str = "ffn") -> Tensor:
    """Tokens [..., w] through the plain feed-forward of a modality's kind."""

    def through(name: str) -> Tensor:
        return linear(parameters, layer.prefixes[f"{group}.{name}"][modality], tokens)

    inner = activated(layer.ffn_kinds[modality], through("up"), lambda: through("gate"))
    return linear(parameters, layer.prefixes[f"{group}.down"][modality], inner)


def normalise(prefixes: Prefixes, norms: Norms, parameters: Parameters, x: Streams) -> Streams:
    """Each modality's norm over the last dimension; modalities without one pass through."""
    outputs = dict(x)
    for modality, prefix in prefixes.items():
        norm = norms[modality]
        outputs[modality] = normalised(norm.kind, parameters, prefix, x[modality], norm.eps)
    return outputs


def add(x: Streams, y: Streams) -> Streams:
    return {modality: x[modality] + y[modality] for modality in x}
