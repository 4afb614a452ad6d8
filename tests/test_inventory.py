"""The inventory of parameter groups, and the verifier that holds every IR against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from motc.driver import compile_ir
from motc.ir.attention import Attention
from motc.ir.attributes import LayerAttributes, layer_attributes
from motc.ir.feed_forward import FeedForward
from motc.ir.inventory import LAYER_GROUPS, LAYER_PATHS, OUTER_GROUPS, OUTER_PATHS
from motc.ir.layer import Layer
from motc.ir.leaf import Leaf
from motc.ir.model import Modality, Model
from motc.ir.operators import Experts, Linear, Operator
from motc.ir.verify import verify
from motc.source import CompilerBug, SourceFile, SpecError
from tests.handmade import LAYER, Recipe, Tower, untied

EACH = (("text",), ("image",))
RICH = Recipe(
    towers={"text": Tower(bias=True, qk_norm="layer", norm="layer"), "image": Tower(kind="gelu", qk_norm="rms")},
    runs=((2, untied(LAYER, *EACH)),),
    outer={"final_norm": EACH},
).model()


def test_a_model_made_by_hand_holds_what_the_inventory_says() -> None:
    verify(RICH, "hand")
    assert {leaf.path for leaf in RICH.segments[0].layer.leaves()} < {group.path for group in LAYER_GROUPS}
    assert {leaf.path for leaf in RICH.outer_leaves()} < {group.path for group in OUTER_GROUPS}


def holding(leaf: Leaf, operator: Operator) -> Leaf:
    """The leaf, its last block holding something else."""
    return replace(leaf, blocks=(*leaf.blocks[:-1], replace(leaf.blocks[-1], operator=operator)))


def attention_of(layer: Layer) -> Attention:
    (attention,) = layer.attentions
    return attention


def ffn_of(layer: Layer) -> FeedForward:
    (ffn,) = layer.feed_forwards
    assert isinstance(ffn, FeedForward)
    return ffn


def with_body(layer: Layer, body: Attention | FeedForward) -> Layer:
    """The layer, its body of this class being another."""
    sublayers = (replace(each, body=body) if type(each.body) is type(body) else each for each in layer.sublayers)
    return replace(layer, sublayers=tuple(sublayers))


def with_attention(layer: Layer, **changed: Leaf | None) -> Layer:
    return with_body(layer, replace(attention_of(layer), **changed))  # type: ignore[arg-type]


def with_ffn(layer: Layer, **changed: Leaf | None) -> Layer:
    return with_body(layer, replace(ffn_of(layer), **changed))  # type: ignore[arg-type]


EXPERTS = Experts(count=2, active=Fraction(1), in_features=64, out_features=96, bias=False)
PLANTED: dict[str, Callable[[Layer], Layer]] = {
    "attention.k of image is not what follows": lambda layer: with_attention(
        layer, k=holding(attention_of(layer).k, Linear(in_features=64, out_features=64, bias=False))
    ),
    "attention.k_norm of text, image is not what follows": lambda layer: with_attention(layer, k_norm=None),
    "attention.v has blocks that overlap": lambda layer: with_attention(
        layer, v=replace(v := attention_of(layer).v, blocks=v.blocks + v.blocks[:1])
    ),
    "attention.out has nothing for image": lambda layer: with_attention(
        layer, out=replace(out := attention_of(layer).out, blocks=out.blocks[:1])
    ),
    "a group is there twice": lambda layer: with_attention(layer, v=attention_of(layer).k),
    "ffn.up of image is not what follows": lambda layer: with_ffn(layer, up=holding(ffn_of(layer).up, EXPERTS)),
    "ffn.down of image is not what follows": lambda layer: with_ffn(
        layer, down=holding(ffn_of(layer).down, Linear(in_features=64, out_features=64, bias=False))
    ),
    "ffn.gate of text is not what follows": lambda layer: with_ffn(layer, gate=None),
    "the inventory has no ffn.side": lambda layer: with_ffn(layer, down=replace(ffn_of(layer).down, path="ffn.side")),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_does_not_follow_is_found(what: str) -> None:
    layer = PLANTED[what](RICH.segments[0].layer)
    wrong: Model = replace(RICH, segments=tuple(replace(segment, layer=layer) for segment in RICH.segments))
    with pytest.raises(CompilerBug, match=what):
        verify(wrong, "hand")


def test_what_a_pass_changes_is_looked_at_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Layer] = []

    def counted(layer: Layer, modalities: tuple[Modality, ...]) -> dict[str, LayerAttributes]:
        asked.append(layer)
        return layer_attributes(layer, modalities)

    monkeypatch.setattr("motc.ir.verify.layer_attributes", counted)
    layer = RICH.segments[0].layer
    verify(RICH.with_steps(lambda *_: ()), "a pass", RICH)
    assert asked == []
    changed = with_ffn(layer, gate=None)
    wrong = replace(RICH, segments=tuple(replace(segment, layer=changed) for segment in RICH.segments))
    with pytest.raises(CompilerBug, match=r"ffn\.gate of text is not what follows"):
        verify(wrong, "a pass", RICH)
    assert asked == [changed]


PLAIN = "model plain { width = 8; layers = 1; vocab = 4; modality text; attention { heads = 2 } }"
ABSENT = set(LAYER_PATHS + OUTER_PATHS) - {leaf.path for leaf in compile_ir(SourceFile("plain.mot", PLAIN)).leaves()}


@pytest.mark.parametrize("path", sorted(ABSENT))
def test_a_group_that_a_plain_model_lacks_is_told_with_a_way_out(path: str) -> None:
    with pytest.raises(SpecError) as refused:
        compile_ir(SourceFile("plain.mot", PLAIN.replace("vocab", f"untie {path}; vocab")))
    (told,) = refused.value.diagnostics
    assert told.code == "MOT040" and told.message.startswith(f"selector `{path}` matches nothing: ")
    assert told.help is not None and told.help.startswith("leave it out, or use ")
