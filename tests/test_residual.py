"""What joins the stream times a number, and queries, keys and values that are cut off: their laws."""

from __future__ import annotations

import pytest

from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.source import SpecError
from tests.fuzz.properties import checked, differ_alike_both_ways, obeys_every_law

SPEC = """
model joined {
  width = 16, layers = 1, vocab = 16
  modality text, image
  attention { heads = 2, kv_heads = 1, head_dim = 8 %s }
  ffn { hidden = 16 }
  residual { scale = %s }
  norm { placement = %s }
  parallel = %s
  tower gen = image { %s }
  untie %s
}
"""
CASES: dict[str, tuple[tuple[str, ...], Strategy]] = {
    "before": ((", clip = 0.1", "0.3", "pre", "none", "", "attention, ffn"), "sorted"),
    "behind": ((", clip = 0.1", "0.3", "post", "none", "", "ffn"), "blend"),
    "around": (("", "2", "both", "two_norms", "", "norm"), "grouped"),
    "of two widths": ((", clip = 0.1", "0.3", "pre", "one_norm", "width = 24", "*"), "sorted"),
    "read": ((", clip = 0.1", "0.3", "pre", "none", "attention { reads = text }", "attention"), "reference"),
}


@pytest.mark.laws
@pytest.mark.parametrize("name", CASES)
def test_every_law(name: str) -> None:
    said, strategy = CASES[name]
    one, dense = final_ir(checked(SPEC % said), strategy=strategy), final_ir(checked(SPEC % said), dense=True)
    obeys_every_law(one, dense, seed=5)
    differ_alike_both_ways(one, final_ir(checked(SPEC % ("", "1", *said[2:]))))


def test_one_is_as_if_nothing_were_said() -> None:
    said = SPEC % ("", "1", "pre", "none", "", "ffn")
    without = said.replace("residual { scale = 1 }", "")
    assert semantic_hash(final_ir(checked(said))) == semantic_hash(final_ir(checked(without)))
    assert semantic_hash(final_ir(checked(said.replace("scale = 1 ", "scale = 2 ")))) != semantic_hash(
        final_ir(checked(said))
    )


def test_a_tower_cuts_off_where_the_model_does() -> None:
    with pytest.raises(SpecError, match="MOT053 tower gen has clip 2, the model none; all towers meet"):
        final_ir(checked(SPEC % ("", "1", "pre", "none", "attention { clip = 2 }", "*")))
