"""The laws of `motc.validate` hold for generated modules. That they fail for wrong ones: `test_planted_errors.py`."""

from __future__ import annotations

import pytest

from motc.validate import validate
from tests.planted import compiled, module_of, report
from tests.texts import of_one_layer

SPEC = """
model small {
  width = 8, layers = 2, %s
  modality %s
  attention { heads = 4, kv_heads = 2, head_dim = 4, bias = true, qk_norm = layer, rope { theta = 100 } %s }
  ffn { hidden = 12 }
  norm { kind = layer }
  %s
}
"""
SHARED, OWN = (
    ("vocab = 11", "text, image, speech"),
    ("", "text { vocab = 5 }, image { vocab = 6 }, speech { vocab = 7 }"),
)
EACH, PAIRS, NONE = "untie attention, ffn, norm", "untie attention, ffn, norm as {text} {image, speech}", ""
TIED = "; embedding { tied = true }"
LAWS = [
    "parameters",
    "dense twin parameters",
    "reference outputs",
    "reference gradients",
    "given layout",
    "dense twin reference outputs",
    "dense twin reference gradients",
    "single modality",
    "padding",
    "documents",
    "twin outputs",
    "twin gradients",
]


def spec(vocab: str, modalities: str, rest: str, mask: str = "") -> str:
    return SPEC % (vocab, modalities, mask, rest)


@pytest.mark.parametrize(
    ("ends", "untied"),
    [(SHARED, EACH), (OWN, PAIRS), (OWN, EACH + TIED), (SHARED, PAIRS + TIED), (SHARED, NONE)],
)
def test_a_right_module_passes_every_law(ends: tuple[str, str], untied: str) -> None:
    pair = compiled(spec(*ends, untied))
    result = validate(pair.sparse, pair.dense, module_of(pair), pair.twin)
    assert result.ok, result
    assert not result.skipped
    assert [law.name for law in result.laws] == LAWS


@pytest.mark.parametrize(
    "mask",
    [
        "kind = full",
        "kind = prefix, prefix = image, bidirectional = [image, speech]",
        "bidirectional = image, sees { text = text, image = [text, image] }",
        "kind = blocks, blocks = [image, [text, speech]]",
    ],
)
def test_every_mask_obeys_every_law(mask: str) -> None:
    result = report(of_one_layer(spec(*SHARED, PAIRS, f", mask {{ {mask} }}")))
    assert result.ok, result
    assert not result.skipped


def test_a_missing_parameter_is_found_before_anything_runs() -> None:
    each, pairs = compiled(spec(*SHARED, EACH)), compiled(spec(*SHARED, PAIRS))
    report = validate(each.sparse, each.dense, module_of(pairs), each.twin)
    assert [(law.name, law.ok) for law in report.laws] == [("parameters", False), ("dense twin parameters", True)]
    assert not report.ok


def test_towers_of_other_shapes_skip_the_twin_laws() -> None:
    result = report(spec(*SHARED, "tower wide = image { ffn { hidden = 16 } }\n  untie ffn"))
    assert result.ok, result
    assert [law.name for law in result.laws if law.name.startswith("twin")] == []
    assert len(result.skipped) == 2
    assert "layers.0.ffn.gate" in result.skipped[0]


def test_float32_is_refused() -> None:
    model = compiled(spec(*SHARED, EACH))
    with pytest.raises(ValueError, match="float64"):
        validate(model.sparse, model.dense, module_of(model).float(), model.twin)
