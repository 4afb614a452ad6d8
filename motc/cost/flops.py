"""Floating-point operations of the forward.

A matrix product of `in` by `out` costs a token 2 * in * out. Biases, norms, activations, residuals, embedding look-ups,
rotary positions, sorting and the softmax are not counted, nor are they by torch.utils.flop_counter.
"""

from __future__ import annotations

from motc.ir.attributes import layer_attributes
from motc.ir.model import Model
from motc.ir.operators import Embedding, Modulation


def flops_per_token(model: Model) -> dict[str, int]:
    """The matrix products a token of each modality passes through, the head included (also where it is the tied table).

    A token of a continuous modality passes through its ends, or its projector, instead of a head. Attention's own
    products grow with the sequence, and a timestep is embedded once a span, so they are not in it: see
    `attention_flops`, `latent_span_flops`.
    """
    flops = {modality.name: _outer_flops(model, modality.name) for modality in model.modalities}
    for layer, count in model.kinds:
        if any(body.readers for body in layer.attentions):
            for name, attributes in layer_attributes(layer, model.modalities).items():
                flops[name] += attributes.read_flops * count
        for leaf in layer.leaves():
            for block in leaf.blocks:
                of_a_token = block.operator.flops * count
                for modality in block.modalities:
                    flops[modality] += of_a_token
    return flops


def _outer_flops(model: Model, modality: str) -> int:
    """The head's product, or those of a continuous modality's ends or projector."""
    leaves = (leaf for leaf in (model.latents(), model.features()) if leaf is not None)
    own = sum(block.operator.flops for leaf in leaves if (block := leaf.block_of(modality)))
    return own + head_flops(model, modality)


def latent_span_flops(model: Model, modality: str) -> int:
    """What a span of a continuous modality pays once: the products of its timestep and its condition, and of what
    adaptive norms make of that. 0 for tokens.
    """
    own = (leaf.block_of(modality) for leaf in (model.latents(), model.conditions()) if leaf is not None)
    flops = sum(block.operator.latent_span_flops for block in own if block is not None)
    modulations = [(each.modulation, count) for layer, count in model.kinds for each in layer.sublayers]
    for leaf, count in (*modulations, (model.final_modulation, 1)):
        for block in () if leaf is None else leaf.blocks:
            if isinstance(block.operator, Modulation) and block.operator.by == modality:
                flops += count * block.operator.latent_span_flops
    return flops


def head_flops(model: Model, modality: str) -> int:
    """What one token of `modality` pays for its logits: 2 * width * vocab."""
    block = model.read_leaf.block_of(modality) if model.speaks else None
    if block is None:
        return 0
    return block.operator.head_flops if isinstance(block.operator, Embedding) else block.operator.flops


def attention_flops(model: Model, sequence_length: int) -> int:
    """The scores and the weighted sum of values for one sequence: 4 * heads * head_dim * S^2 a layer.

    The full square, for causal masks too, as torch.utils.flop_counter counts it.
    """
    return sum(
        sublayer.body.sequence_flops(sequence_length) * count
        for layer, count in model.kinds
        for sublayer in layer.sublayers
    )
