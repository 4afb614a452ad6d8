"""Floating-point operations of the forward.

A matrix product of `in` by `out` costs a token 2 * in * out. Biases, norms, activations, residuals, embedding look-ups,
rotary positions, sorting and the softmax are not counted, nor are they by torch.utils.flop_counter.
"""

from __future__ import annotations

from math import ceil

from motc.ir.latent import end_layers
from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, LatentEnds, Linear, Operator


def operator_flops(operator: Operator) -> int:
    """What one token pays for an operator: 2 * in * out for a linear map, nothing for a norm or a look-up.

    Of experts, for as many as a token goes to on average.
    The ends of a latent are such maps too; a convolution is one for each pixel it makes.
    """
    match operator:
        case Linear(in_features=in_features, out_features=out_features):
            return 2 * in_features * out_features
        case Experts(active=active, in_features=in_features, out_features=out_features):
            return ceil(2 * in_features * out_features * active)
        case LatentEnds():
            return sum(layer.flops for layer in end_layers(operator) if not layer.per_span)
        case _:
            return 0


def flops_per_token(model: Model, modality: str) -> int:
    """The matrix products one token of `modality` passes through, the head included (also where it is the tied table).

    A token of a continuous modality passes through its ends instead of a head. Attention's own products grow with the
    sequence, and a timestep is embedded once a span, so they are not in it: see `attention_flops`, `span_flops`.
    """
    flops = 0
    for layer, count in model.kinds():
        for leaf in layer.leaves():
            block = leaf.block_of(modality)
            if block is not None:
                flops += operator_flops(block.operator) * count
    latents = model.latents()
    ends = None if latents is None else latents.block_of(modality)
    return flops + (head_flops(model, modality) if ends is None else operator_flops(ends.operator))


def span_flops(model: Model, modality: str) -> int:
    """What a span of a continuous modality pays once: the products of its timestep. 0 for tokens."""
    latents = model.latents()
    ends = None if latents is None else latents.block_of(modality)
    match ends.operator if ends is not None else None:
        case LatentEnds() as operator:
            return sum(layer.flops for layer in end_layers(operator) if layer.per_span)
        case _:
            return 0


def head_flops(model: Model, modality: str) -> int:
    """What one token of `modality` pays for its logits: 2 * width * vocab."""
    block = (model.embedding if model.head is None else model.head).block_of(modality)
    match block.operator if block is not None else None:
        case Embedding(vocab=vocab, width=width):
            return 2 * vocab * width
        case Linear(in_features=in_features, out_features=out_features):
            return 2 * in_features * out_features
        case _:
            return 0


def attention_flops(model: Model, sequence_length: int) -> int:
    """The scores and the weighted sum of values for one sequence: 4 * heads * head_dim * S^2 a layer.

    The full square, for causal masks too, as torch.utils.flop_counter counts it.
    """
    return sum(
        4 * segment.layer.attention.heads * segment.layer.attention.head_dim * sequence_length**2 * segment.count
        for segment in model.segments
    )
