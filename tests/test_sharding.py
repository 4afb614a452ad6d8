"""How parameters are divided among ranks: by name, with what cannot be."""

from __future__ import annotations

from math import prod

import pytest

from motc.driver import compile_ir
from motc.ir.model import Model
from motc.ir.names import parameter_shapes
from motc.ir.sharding import divided_parameters, divisions
from motc.source import SourceFile

SPEC = """
model small {
  width = 32, layers = 2
  modality text { vocab = 40 }, image { vocab = 24 }
  attention { heads = 8, kv_heads = 2, qk_norm = rms, bias = true }
  ffn { hidden = 64, bias = true }
  tower image = image { ffn { kind = moe, experts = 4, hidden = 16, shared_experts = 1 } }
  untie attention, ffn, norm
}
"""


def model_of(spec: str, **overrides: object) -> Model:
    return compile_ir(SourceFile("small.mot", spec), overrides)


def local(ranks: int, **said: object) -> dict[str, tuple[int, ...]]:
    """The shapes of a rank's parts, of those that are cut."""
    parameters = divided_parameters(model_of(SPEC), ranks, **said)  # type: ignore[arg-type]
    assert {name: each.shape for name, each in parameters.items()} == parameter_shapes(model_of(SPEC))
    return {name: each.local for name, each in parameters.items() if each.dimension is not None}


def test_each_parameter_is_cut_as_its_group_says() -> None:
    parts = local(2)
    of_layer = {name.removeprefix("layers.1."): shape for name, shape in parts.items() if name.startswith("layers.1.")}
    of_text = {name: shape for name, shape in of_layer.items() if "image" not in name}
    assert of_text == {
        "attention.q.text.weight": (16, 32),
        "attention.q.text.bias": (16,),
        "attention.k.text.weight": (4, 32),
        "attention.k.text.bias": (4,),
        "attention.v.text.weight": (4, 32),
        "attention.v.text.bias": (4,),
        "attention.out.text.weight": (32, 16),
        "ffn.gate.text.weight": (32, 32),
        "ffn.gate.text.bias": (32,),
        "ffn.up.text.weight": (32, 32),
        "ffn.up.text.bias": (32,),
        "ffn.down.text.weight": (32, 32),
    }
    assert of_layer["ffn.up.image.weight"] == (4, 8, 32) and of_layer["ffn.up.image.bias"] == (4, 8)
    assert of_layer["ffn.down.image.weight"] == (4, 32, 8) and "ffn.down.image.bias" not in of_layer
    assert of_layer["ffn.shared.up.image.weight"] == (8, 32) and of_layer["ffn.shared.down.image.weight"] == (32, 8)
    assert {name: shape for name, shape in parts.items() if not name.startswith("layers.")} == {
        "embedding.text.weight": (20, 32),
        "embedding.image.weight": (12, 32),
        "head.text.weight": (20, 32),
        "head.image.weight": (12, 32),
    }


def test_experts_are_whole_where_each_rank_has_some() -> None:
    parts = local(4, by_expert=True)
    assert parts["layers.0.ffn.up.image.weight"] == (1, 16, 32) and parts["layers.0.ffn.up.image.bias"] == (1, 16)
    assert parts["layers.0.ffn.down.image.weight"] == (1, 32, 16) and parts["layers.0.ffn.down.image.bias"] == (1, 32)


def test_fewer_kv_heads_than_ranks_are_on_all() -> None:
    parts = local(8)
    assert parts["layers.0.attention.q.text.weight"] == (4, 32)
    assert not any(".k." in name or ".v." in name for name in parts)


def test_what_stays_whole_is_not_cut() -> None:
    whole = {prefix for prefix in divisions(model_of(SPEC)) if prefix.startswith(("head", "layers.0.ffn"))}
    parts = local(2, whole=whole)
    assert not any(name.startswith(("head", "layers.0.ffn")) for name in parts)
    assert "layers.1.ffn.up.text.weight" in parts


def test_one_rank_has_all_of_any_model() -> None:
    parameters = divided_parameters(model_of(SPEC), 1)
    assert all(each.local == each.shape for each in parameters.values())
    assert sum(prod(each.local) for each in parameters.values()) > 0


@pytest.mark.parametrize(
    ("spec", "ranks", "said"),
    [
        (SPEC.replace("vocab = 24", "vocab = 25"), 2, "embedding.image has 25 vocab"),
        (SPEC, 3, "layers.0.attention.q.text has 8 heads; layers.0.attention.k.text has 2 kv_heads"),
        (SPEC.replace("heads = 8, kv_heads = 2", "heads = 6, kv_heads = 3, head_dim = 4"), 2, "has 3 kv_heads"),
        (SPEC.replace("qk_norm = rms", "qk_norm { kind = rms, over = heads }"), 2, "over all heads together"),
    ],
)
def test_what_ranks_do_not_divide_is_said_with_its_numbers(spec: str, ranks: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        divided_parameters(model_of(spec), ranks)


def test_attention_cannot_stay_whole() -> None:
    with pytest.raises(ValueError, match=r"layers.0.attention.q.text cannot stay whole: towers meet"):
        divided_parameters(model_of(SPEC), 2, whole={"layers.0.attention.q.text"})


def test_grouped_copies_are_not_divided() -> None:
    model = compile_ir(
        SourceFile(
            "small.mot", SPEC.replace("kind = moe, experts = 4, hidden = 16, shared_experts = 1", "hidden = 64")
        ),
        strategy="grouped",
    )
    with pytest.raises(ValueError, match="strategy grouped"):
        divided_parameters(model, 2)
