"""Layers that the language cannot say yet: from the IR on, a layer is whatever sublayers it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from motc.cost import attention_flops, kv_cache_bytes_per_token, total_parameters
from motc.driver import PASSES, stages
from motc.ir.attention import Attention
from motc.ir.execution import Strategy
from motc.ir.feed_forward import FeedForward
from motc.ir.identity import semantic_hash
from motc.ir.layer import Layer, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.model import Model, Segment
from motc.ir.print import print_ir
from motc.ir.verify import verify
from motc.loading import instantiate
from motc.schema import check
from motc.source import CompilerBug, SourceFile
from motc.syntax import read
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import differ_alike_both_ways, forget_generated, generates_what_it_predicts, obeys_every_law

SPEC = """
model open {
  width = 16, layers = 1, vocab = 16
  modality text, image
  attention { heads = 2, kv_heads = 1, qk_norm = rms }
  ffn { hidden = 24, kind = swiglu }
  tower t = text
  tower i = image {IMAGE}
  untie attention, ffn, norm, embedding, head
}
"""


def without_feed_forward(layer: Layer) -> Layer:
    return Layer(sublayers=layer.sublayers[:1])


def without_attention(layer: Layer) -> Layer:
    return Layer(sublayers=layer.sublayers[1:])


def the_other_way_round(layer: Layer) -> Layer:
    return Layer(sublayers=layer.sublayers[::-1])


def normed_behind(layer: Layer) -> Layer:
    """The attention's norm behind the sum, the feed-forward's after its body."""
    attention, ffn = layer.sublayers
    return Layer(
        sublayers=(
            replace(attention, before=None, joined=attention.before),
            replace(ffn, before=None, after=ffn.before),
        )
    )


def without_positions(layer: Layer) -> Layer:
    def still(sublayer: Sublayer) -> Sublayer:
        body = sublayer.body
        return replace(sublayer, body=replace(body, rope=None)) if isinstance(body, Attention) else sublayer

    return Layer(sublayers=tuple(map(still, layer.sublayers)))


def for_text_alone(layer: Layer) -> Layer:
    """Images have no feed-forward, where they have one of their own."""

    def kept(leaf: Leaf) -> Leaf:
        return replace(leaf, blocks=tuple(block for block in leaf.blocks if "text" in block.modalities))

    attention, ffn = layer.sublayers
    f = ffn.body
    if not isinstance(f, FeedForward) or ffn.before is None or len(f.up.blocks) == 1:
        return layer
    body = FeedForward(kinds=(f.kinds[0], None), gate=f.gate and kept(f.gate), up=kept(f.up), down=kept(f.down))
    return Layer(sublayers=(attention, replace(ffn, before=kept(ffn.before), body=body)))


Change = Callable[[Layer], Layer]
CHANGES: tuple[Change, ...] = (
    without_feed_forward,
    without_attention,
    the_other_way_round,
    normed_behind,
    without_positions,
    for_text_alone,
)


IMAGE = {
    "": "{ ffn { kind = gelu } }",
    "experts": "{ ffn { kind = moe, experts = 4, top_k = 2, balance = 0.1 } }",
    "narrow": "{ width = 8, ffn { kind = gelu } }",
    "alike": "",
}


def opened(*changes: Change, image: str = "", strategy: Strategy = "sorted", dense: bool = False) -> Model:
    """The model of a layer as the spec has it, and one for each change, after all passes."""
    spec = check(read(SourceFile("open.mot", SPEC.replace("{IMAGE}", IMAGE[image]))))
    _, model = next(stages(spec, dense=dense, strategy=strategy))
    layer = model.segments[0].layer
    return of_layers(model, (layer, *(change(layer) for change in changes)))


def of_layers(model: Model, layers: tuple[Layer, ...]) -> Model:
    """The model with other layers, after all passes."""
    model = replace(model, segments=tuple(Segment(first=i, last=i, layer=each) for i, each in enumerate(layers)))
    for rewrite in PASSES:
        model = rewrite(model)
        verify(model, rewrite.__name__)
    return model


@pytest.mark.laws
@pytest.mark.parametrize("image", IMAGE)
def test_a_layer_is_what_its_sublayers_are(image: str) -> None:
    obeys_every_law(opened(*CHANGES, image=image), opened(*CHANGES, image=image, dense=True), seed=3)


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["reference", "blend"])
def test_in_other_strategies_too(strategy: Strategy) -> None:
    obeys_every_law(opened(*CHANGES, strategy=strategy), opened(*CHANGES, dense=True), seed=4)


def test_no_two_of_them_have_one_hash_or_one_text() -> None:
    models = [opened(), *map(opened, CHANGES)]
    assert len({semantic_hash(model) for model in models}) == len({print_ir(model) for model in models}) == len(models)


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_told_and_adds_up(change: Change) -> None:
    differ_alike_both_ways(opened(), opened(change))
    differ_alike_both_ways(opened(lambda layer: layer), opened(change))


def test_attention_costs_where_there_is_some() -> None:
    whole, more = opened(), opened(without_attention)
    assert attention_flops(more, 8) == attention_flops(whole, 8) > 0
    assert kv_cache_bytes_per_token(more) == kv_cache_bytes_per_token(whole) > 0
    assert total_parameters(more) > total_parameters(whole)


def test_a_layer_has_a_sublayer_of_each_role_once() -> None:
    with pytest.raises(CompilerBug, match="two of one role"):
        opened(lambda layer: Layer(sublayers=layer.sublayers[:1] * 2))
    with pytest.raises(CompilerBug, match="missing"):
        opened(lambda layer: Layer(sublayers=()))


@pytest.mark.parametrize("image", ["", "narrow"])
def test_generating_is_the_forward_of_all_tokens(image: str) -> None:
    model: Any = instantiate(opened(*CHANGES, image=image), dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(0))
    ids, modality_ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0]])
    generates_what_it_predicts(model, ids, modality_ids, count=6)
    forget_generated()
