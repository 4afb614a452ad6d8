"""Towers whose queries and keys turn by frequencies of a theta of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import motc
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.source import SpecError
from tests.fuzz.properties import checked, differ_alike_both_ways, generates_what_it_predicts, obeys_every_law
from tests.texts import of_one_layer

SPEC = """
model towers {
  width = 16, layers = 2, vocab = 9
  modality text, image, sound
  attention { heads = 2, rope %s }
  ffn { hidden = 12 }
  tower seen = image { attention { rope { theta = 50 } } }
  tower heard = sound
  untie attention.q
  %s
}
"""
ROPES = [
    "{ theta = 300 }",
    "{ fraction = 0.5, pairing = interleaved }",
    "{ sections = [2, 1, 1] }",
    "{ scaling { kind = dynamic, factor = 2, original_length = 4 } }",
    "{ scaling { kind = yarn, factor = 2, original_length = 40 } }",
]
BY_LAYER = "layer 1 { tower heard { attention { rope { theta = 7 } } } }"
ABSENT = "layer 1 { tower heard { attention = none } }"


@pytest.mark.laws
@pytest.mark.parametrize("rope", ROPES)
def test_every_law_holds(rope: str) -> None:
    spec = checked(of_one_layer(SPEC % (rope, "")))
    obeys_every_law(final_ir(spec), final_ir(spec, dense=True), seed=1)


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["reference", "blend", "grouped"])
def test_in_other_strategies_and_by_layer_too(strategy: Strategy) -> None:
    spec = checked(SPEC % ("{ }", BY_LAYER))
    obeys_every_law(final_ir(spec, strategy=strategy), final_ir(spec, dense=True), seed=1)


@pytest.mark.laws
def test_beside_a_tower_without_attention() -> None:
    spec = checked((SPEC % ("{ }", ABSENT)).replace("untie attention.q", "untie attention, norm"))
    obeys_every_law(final_ir(spec), final_ir(spec, dense=True), seed=1)


def test_what_differs_is_told() -> None:
    one, other = (final_ir(checked(SPEC % ("{ theta = 300 }", more))) for more in ("", BY_LAYER))
    differ_alike_both_ways(one, other)
    differ_alike_both_ways(
        one, final_ir(checked((SPEC % ("{ theta = 300 }", "")).replace("theta = 50", "theta = 300")))
    )


def test_generating_is_the_forward_of_all_tokens() -> None:
    model: Any = motc.load(SPEC % ("{ }", BY_LAYER), dtype=torch.float64)
    ids = torch.randint(0, 9, (3, 5), generator=torch.Generator().manual_seed(0))
    modality_ids = torch.tensor([[0, 1, 1, 2, 0], [0, 1, 1, 1, 1], [2, 0, 1, 0, 2]])
    generates_what_it_predicts(model, ids, modality_ids, count=5)


@pytest.mark.parametrize(
    ("rope", "what"),
    [("= none", "there are no rotary positions"), ("{ axes = [4, 4], theta = [5, 6] }", "each axis has a theta")],
)
def test_what_does_not_go_together_is_told(rope: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        motc.load(SPEC % (rope, ""))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "MOT083"
    assert what in diagnostic.message
