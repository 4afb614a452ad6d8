"""One layer: its sublayers, each with its norm, added to the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, assert_never

import torch
from torch import Tensor

from motc.reference.conditions import Conditions, ReferenceModulation, part_of
from motc.reference.config import (
    Norms,
    Prefixes,
    ReferenceAttention,
    ReferenceFeedForward,
    ReferenceLayer,
    ReferenceSublayer,
)
from motc.reference.experts import Trace, mixture
from motc.reference.operators import Parameters, Streams, activated, linear, normalised, to_sequence
from motc.reference.rope import Positions, rotate_each
from motc.reference.visibility import ReferenceMask

Pairs = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Keys and values of all tokens [B, S, kv_heads, head_dim], and the same without gradient."""

See = Callable[[ReferenceMask], Tensor]
"""Which token sees which by a mask: bool [B, S, S]."""


def layer_forward(
    layer: ReferenceLayer,
    parameters: Parameters,
    x: Streams,
    tokens: dict[str, Tensor],
    positions: Positions,
    see: See,
    trace: Trace,
    conditions: Conditions,
) -> Streams:
    """Each sublayer with its norm and its residual, one after the other, or side by side."""
    entry, first = x, Groups(layer, layer.sublayers[0].name, parameters, conditions)
    for sublayer in layer.sublayers:
        groups = Groups(layer, sublayer.name, parameters, conditions)
        match sublayer.reads:
            case "stream":
                source = x
            case "entry":
                source = entry
            case "normed":  # which has no norm of its own
                source = first.adapted(first.normed("norm", entry))
            case _:
                assert_never(sublayer.reads)
        match sublayer.body:
            case ReferenceAttention() as body:
                function = partial(attention, groups, body, tokens=tokens, positions=positions, see=see)
            case ReferenceFeedForward() as body:
                function = partial(feed_forward, groups, body, tokens=tokens, trace=trace)
            case _:
                assert_never(sublayer.body)
        gating = first if sublayer.reads == "normed" else groups
        onto = entry if sublayer.onto == "entry" else x
        x = joined(sublayer, groups, gating, onto, source, function, found_by(layer, tokens, see))
    return x


def found_by(layer: ReferenceLayer, tokens: dict[str, Tensor], see: See) -> dict[str, Tensor] | None:
    """Of each modality that attends to others alone which tokens see some of these, bool [n_m]; None if none does."""
    masks = [each.body.mask for each in layer.sublayers if isinstance(each.body, ReferenceAttention)]
    if not any(mask.crosses for mask in masks):
        return None
    (mask,) = masks
    visible, finds = see(mask), {}
    for reader in mask.reads.keys() & tokens.keys():
        read = [tokens[other] for other in mask.reads[reader] if other in tokens]
        seen = torch.stack([visible & each[:, None, :] for each in read]) if read else torch.zeros_like(visible)[None]
        finds[reader] = seen.any(0).any(2)[tokens[reader]]
    return finds


@dataclass(frozen=True, slots=True)
class Groups:
    """Where the parameters of a sublayer's groups are found."""

    layer: ReferenceLayer
    sublayer: str
    parameters: Parameters
    conditions: Conditions

    def adapted(self, x: Streams) -> Streams:
        """What a norm gives, as each token's condition scales and shifts it."""
        return adapt(self.layer.modulations.get(self.sublayer, {}), self.parameters, self.conditions, x)

    def gated(self, x: Streams) -> Streams:
        """What is to be added, as each token's condition gates it."""
        modulations, gated = self.layer.modulations.get(self.sublayer, {}), dict(x)
        for m in x:
            gate = part_of(modulations.get(m), self.parameters, self.conditions, m, "gate")
            gated[m] = x[m] if gate is None else x[m] * gate
        return gated

    def prefixes(self, group: str) -> Prefixes:
        """The prefix of each modality's parameters; empty for a group that no modality has."""
        return self.layer.prefixes.get(f"{self.sublayer}.{group}", {})

    def normed(self, group: str, x: Streams) -> Streams:
        """Each modality's norm over the last dimension."""
        norms = self.layer.norms.get(f"{self.sublayer}.{group}", {})
        return normalise(self.prefixes(group), norms, self.parameters, x)


def joined(
    sublayer: ReferenceSublayer,
    groups: Groups,
    gating: Groups,
    x: Streams,
    source: Streams,
    function: Callable[[Streams], Streams],
    finds: dict[str, Tensor] | None,
) -> Streams:
    """x + f(norm(s)), norm(x + f(s)), Algorithm 1's x + norm(f(s)), x + out_norm(f(norm(s))), or x + f(s).

    s is the source. What is added to x is gated by the conditions of `gating`, and added so many times as the
    sublayer's scale, times the tanh of its gate; of tokens that find none of those to which they attend it is zeros.
    """

    def add(x: Streams, y: Streams) -> Streams:
        gates = {m: torch.tanh(groups.parameters[f"{p}.weight"]) for m, p in groups.prefixes("out_gate").items()}
        kept = {m: each[:, None] for m, each in (finds or {}).items()}
        return {m: x[m] + torch.where(kept.get(m, all_of(x[m])), y[m], 0) * gates.get(m, 1) * sublayer.scale for m in x}

    match sublayer.placement:
        case "pre":
            return add(x, gating.gated(function(groups.adapted(groups.normed("norm", source)))))
        case "post":
            return groups.normed("norm", add(x, function(source)))
        case "sublayer_output":
            return add(x, groups.normed("norm", function(source)))
        case "both":
            h = function(groups.adapted(groups.normed("norm", source)))
            return add(x, gating.gated(groups.normed("out_norm", h)))
        case "none":
            return add(x, function(source))
        case _:
            assert_never(sublayer.placement)


def all_of(x: Tensor) -> Tensor:
    """True for each token [n, w], bool [n, 1]."""
    return torch.ones(x.shape[0], 1, dtype=torch.bool, device=x.device)


def attention(
    groups: Groups, body: ReferenceAttention, x: Streams, tokens: dict[str, Tensor], positions: Positions, see: See
) -> Streams:
    """Each modality's own projections, one softmax attention over the whole sequence, each modality's own output.

    Zeros for modalities that have no projections; their tokens are those that the mask has as absent. Those that read
    others have queries alone, rotated by positions that count from 0, and the others' keys and values as `read` has it;
    or, where the mask crosses, as they are.
    """
    if not groups.prefixes("q").keys() & x.keys() or not groups.prefixes("k").keys() & x.keys():
        return {m: torch.zeros_like(tokens_of) for m, tokens_of in x.items()}
    reading = [tokens[m] for m in body.mask.reads if m in tokens]
    anew = positions.counted_anew(torch.stack(reading).any(0)) if reading else positions
    if body.shared_dim is None:
        q = positioned(groups, body, "q", body.heads, x, tokens, anew)
        k = positioned(groups, body, "k", body.kv_heads, x, tokens, positions)
        v = to_sequence(project(groups, body, "v", (body.kv_heads, body.value_dim), x), tokens)
    else:
        q, k, v = of_low_rank(groups, body, body.shared_dim, x, tokens, positions)
    scale = body.head_dim**-0.5 if body.scale is None else body.scale
    visible, stopped = see(body.mask), detached(body.mask, tokens)
    logits = {m: groups.parameters[f"{prefix}.weight"] for m, prefix in groups.prefixes("sinks").items() if m in x}
    nothing = q.new_full((body.heads,), -torch.inf)
    each_sink = {m: logits.get(m, nothing).expand(len(x[m]), -1) for m in x}
    sinks = to_sequence(each_sink, tokens) if logits else None

    def found(pairs: Pairs) -> Tensor:
        outputs = []
        for head in range(body.heads):
            kv_head = head * body.kv_heads // body.heads
            (keys, values), (fixed_keys, fixed_values) = ((each[:, :, kv_head] for each in pair) for pair in pairs)
            products = q[:, :, head] @ keys.transpose(1, 2)
            scores = torch.where(stopped, q[:, :, head] @ fixed_keys.transpose(1, 2), products) * scale
            if body.softcap is not None:
                scores = torch.tanh(scores / body.softcap) * body.softcap
            # A row that sees nothing would be 0/0 with -inf: the lowest finite score, then zero weights.
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
            if sinks is not None:  # which take their part, and bring nothing
                scores = torch.cat((scores, sinks[:, :, head, None]), dim=-1)
            weights = torch.softmax(scores, dim=-1)[:, :, : visible.shape[-1]] * visible
            outputs.append((weights * ~stopped) @ values + (weights * stopped) @ fixed_values)
        return torch.cat(outputs, dim=-1)

    pairs = ((k, v), (k.detach(), v.detach()))
    a, attended = found(pairs), {}
    for m, prefix in groups.prefixes("out").items():
        gate = groups.prefixes("gate").get(m)
        share = 1.0 if gate is None else torch.sigmoid(linear(groups.parameters, gate, x[m]))
        mine = found(read(groups, m, pairs)) if m in body.mask.reads and not body.mask.crosses else a
        attended[m] = linear(groups.parameters, prefix, mine[tokens[m]] * share)
    return {m: torch.zeros_like(tokens_of) for m, tokens_of in x.items()} | attended


def of_low_rank(
    groups: Groups, body: ReferenceAttention, shared: int, x: Streams, tokens: dict[str, Tensor], positions: Positions
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), equations 37 to 43.

    [B, S, heads, head_dim], and [B, S, heads, value_dim], in sequence order, zeros at padding.
    """

    def rotated(y: Tensor) -> Tensor:
        return y if body.rope is None else rotate_each(y, positions, body.rope, tokens)

    def down(group: str) -> Streams:
        return {m: linear(groups.parameters, prefix, x[m]) for m, prefix in groups.prefixes(group).items() if m in x}

    own = body.head_dim - shared
    c_q = groups.normed("q_down_norm", down("q_down")) if groups.prefixes("q_down") else x
    c_kv = groups.normed("kv_down_norm", down("kv_down"))
    q = to_sequence(project(groups, body, "q", (body.heads, body.head_dim), c_q), tokens)
    k_own = to_sequence(project(groups, body, "k", (body.heads, own), c_kv), tokens)
    k_shared = to_sequence({m: each[:, None] for m, each in down("k_rope").items()}, tokens)
    v = to_sequence(project(groups, body, "v", (body.heads, body.value_dim), c_kv), tokens)
    q = torch.cat((q[..., :own], rotated(q[..., own:])), dim=-1)
    k = torch.cat((k_own, rotated(k_shared).repeat(1, 1, body.heads, 1)), dim=-1)
    return q, k, v


def read(groups: Groups, modality: str, pairs: Pairs) -> Pairs:
    """Keys and values as a modality reads them, all heads of a token through one map."""
    maps = (groups.prefixes("k")[modality], groups.prefixes("v")[modality])

    def through(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        k, v = (
            linear(groups.parameters, prefix, each.flatten(2)).view_as(each)
            for prefix, each in zip(maps, pair, strict=True)
        )
        return k, v

    with_gradient, without = pairs
    return through(with_gradient), through(without)


def detached(mask: ReferenceMask, tokens: dict[str, Tensor]) -> Tensor:
    """Which token reads which without gradient, bool [B, S, S]."""
    pairs = [
        tokens[reader][:, :, None] & tokens[read][:, None, :]
        for reader, others in mask.detach.items()
        for read in others
        if reader in tokens and read in tokens
    ]
    rows, length = next(iter(tokens.values())).shape
    nothing = torch.zeros(rows, length, length, dtype=torch.bool, device=next(iter(tokens.values())).device)
    return torch.stack([nothing, *pairs]).any(0)


def positioned(
    groups: Groups,
    body: ReferenceAttention,
    name: Literal["q", "k"],
    heads: int,
    x: Streams,
    tokens: dict[str, Tensor],
    positions: Positions,
) -> Tensor:
    """Queries or keys of every token, normed where its modality norms them, and rotated by their positions.

    [B, S, heads, head_dim], in sequence order, zeros at padding.
    """

    def rotated(y: Tensor) -> Tensor:
        return y if body.rope is None else rotate_each(y, positions, body.rope, tokens)

    y = project(groups, body, name, (heads, body.head_dim), x)
    if not body.norm_after_rope:
        return rotated(to_sequence(groups.normed(f"{name}_norm", y), tokens))
    sequence = rotated(to_sequence(y, tokens))
    return to_sequence(groups.normed(f"{name}_norm", {m: sequence[tokens[m]] for m in y}), tokens)


def project(groups: Groups, body: ReferenceAttention, name: str, heads: tuple[int, int], x: Streams) -> Streams:
    """Each modality's queries, keys or values, [n_m, *heads]; zeros for keys and values of those that read."""
    reading = body.mask.reads if name != "q" else {}
    return {
        m: x[m].new_zeros(x[m].shape[0], *heads)
        if m in reading
        else clipped(body, linear(groups.parameters, prefix, x[m])).reshape(-1, *heads)
        for m, prefix in groups.prefixes(name).items()
    }


def clipped(body: ReferenceAttention, y: Tensor) -> Tensor:
    """Numbers that are too large, or too small, as the limits that there are."""
    if body.clip is None:
        return y
    return torch.minimum(torch.maximum(y, y.new_tensor(-body.clip)), y.new_tensor(body.clip))


def feed_forward(
    groups: Groups, body: ReferenceFeedForward, x: Streams, tokens: dict[str, Tensor], trace: Trace
) -> Streams:
    """Each modality's own feed-forward, of its own kind; a mixture of experts for all that share them."""
    outputs = {}
    for modality in x:
        if modality not in body.kinds:
            outputs[modality] = torch.zeros_like(x[modality])
        elif modality not in body.moe:
            outputs[modality] = feed(groups, body, modality, groups.parameters, x[modality])
        elif modality not in outputs:
            up = groups.prefixes("up")
            pool = [m for m in x if m in body.moe and up[m] == up[modality]]
            routers = [(groups.prefixes("router")[m], x[m]) for m in pool]
            experts = expert_parameters(groups, body, modality)

            def apply(
                expert: int, token: Tensor, modality: str = modality, experts: list[Parameters] = experts
            ) -> Tensor:
                return feed(groups, body, modality, experts[expert], token)

            places = torch.cat([tokens[m].flatten().nonzero()[:, 0] for m in pool])
            mixed = mixture(body.moe[modality], routers, groups.parameters, places, apply, trace)
            if body.moe[modality].shared:  # each modality's own, or shared by others than the router
                mixed = mixed + torch.cat([feed(groups, body, m, groups.parameters, x[m], "shared.") for m in pool])
            outputs.update(zip(pool, torch.split(mixed, [x[m].shape[0] for m in pool]), strict=True))
    return {modality: outputs[modality] for modality in x}


def expert_parameters(groups: Groups, body: ReferenceFeedForward, modality: str) -> list[Parameters]:
    """Each expert's own parameters: its slice of the stacked ones."""
    prefixes = [groups.prefixes(name).get(modality) for name in ("gate", "up", "down")]
    stacked = [f"{prefix}.{kind}" for prefix in prefixes for kind in ("weight", "bias")]
    return [
        {name: groups.parameters[name][expert] for name in stacked if name in groups.parameters}
        for expert in range(body.moe[modality].experts)
    ]


def feed(
    groups: Groups,
    body: ReferenceFeedForward,
    modality: str,
    parameters: Parameters,
    tokens: Tensor,
    part: Literal["", "shared."] = "",
) -> Tensor:
    """Tokens [..., w] through the plain feed-forward of a modality's kind, or through its shared experts."""

    def through(name: str) -> Tensor:
        return linear(parameters, groups.prefixes(f"{part}{name}")[modality], tokens)

    inner = activated(body.kinds[modality], through("up"), lambda: through("gate"))
    out = linear(parameters, groups.prefixes(f"{part}down")[modality], inner)
    if part and modality in groups.prefixes("shared.router"):
        return torch.sigmoid(through("router")) * out
    return out


def normalise(prefixes: Prefixes, norms: Norms, parameters: Parameters, x: Streams) -> Streams:
    """Each modality's norm over the last dimension; modalities without one pass through."""
    outputs = dict(x)
    for modality, prefix in prefixes.items():
        norm = norms[modality]
        y = x[modality].flatten(-2) if norm.over_heads else x[modality]
        normed = normalised(norm, parameters, prefix, y)
        outputs[modality] = normed.reshape(x[modality].shape)
    return outputs


def adapt(
    modulations: Mapping[str, ReferenceModulation], parameters: Parameters, conditions: Conditions, x: Streams
) -> Streams:
    """x (1 + scale) + shift, of tokens whose modality has these."""
    adapted = dict(x)
    for m in x:
        scale, shift = (part_of(modulations.get(m), parameters, conditions, m, part) for part in ("scale", "shift"))
        adapted[m] = adapted[m] if scale is None else adapted[m] * (1 + scale)
        adapted[m] = adapted[m] if shift is None else adapted[m] + shift
    return adapted
