"""What a tower makes of the model's attributes."""

from __future__ import annotations

import pytest

from motc.ir.operators import HeadNorm
from motc.lower.attributes import layer_attributes
from motc.schema import check
from motc.schema.resolve import normalise
from motc.source import SourceFile
from motc.syntax import read

MODEL = """
model: towers
width: 32
layers: 1
vocab: 9
modalities: [text, image]
attention: {heads: 4, bias: true, out_bias: false, qk_norm: rms}
ffn: {kind: gelu, hidden: 48, bias: true}
norm: {kind: layer, eps: 0.25}
"""
MODELS_OWN = {
    "qk_norm": HeadNorm(kind="rms"),
    "attention_bias": True,
    "out_bias": False,
    "qk_norm_eps": 0.25,
    "hidden": 48,
}


@pytest.mark.parametrize(
    "tower, otherwise",
    [
        ("width: 16", {"width": 16}),
        ("attention: {bias: null, out_bias: null}, ffn: {kind: null, hidden: null}, norm: {eps: null}", {}),
        ("attention: {qk_norm: none}", {"qk_norm": None}),
        ("attention: {qk_norm: null}", {"qk_norm": None}),
        ("attention: {bias: false}", {"attention_bias": False}),
        ("attention: {qk_norm: {kind: rms, over: heads}}", {"qk_norm": HeadNorm(kind="rms", over_heads=True)}),
        (
            "norm: {kind: rms, offset: 1}",
            {"norm_kind": "rms", "norm_offset": 1, "qk_norm": HeadNorm(kind="rms", offset=1)},
        ),
        ("norm: {weight: false}", {"norm_weight": False, "norm_bias": False}),
        ("norm: {eps: 0.5}", {"norm_eps": 0.5, "qk_norm_eps": 0.5}),
        ("attention: {qk_norm_eps: 0.125}", {"qk_norm_eps": 0.125}),
        ("ffn: {kind: swiglu, bias: false}", {"ffn_kind": "swiglu", "ffn_bias": False}),
        ("ffn: {kind: moe, experts: 3}", {"ffn_kind": "gelu"}),
        ("ffn: {kind: moe, experts: 3, expert: geglu}", {"ffn_kind": "geglu"}),
    ],
)
def test_what_a_tower_does_not_say_the_model_does(tower: str, otherwise: dict[str, object]) -> None:
    text = f"{MODEL}towers: {{gen: {{modalities: [image], {tower}}}}}\n"
    spec = check(normalise(read(SourceFile("a.yaml", text)))).spec
    model, gen = layer_attributes(spec, None), layer_attributes(spec, spec.towers["gen"])
    assert {name: getattr(model, name) for name in MODELS_OWN} == MODELS_OWN
    names = [name for name in type(model).__dataclass_fields__ if name != "moe"]
    assert {name: getattr(gen, name) for name in names} == {name: getattr(model, name) for name in names} | otherwise
    assert (gen.moe is not None) == ("moe" in tower)
