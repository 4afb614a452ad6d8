"""What two modalities that share a group need differently is told in the words of the language (MOT046)."""

from __future__ import annotations

import pytest

from motc.driver import compile_ir
from motc.source import SourceFile, SpecError

SIZES = "width = 32; layers = 2; vocab = 9; modality text, image"
SPEC = f"model shared {{{{ {SIZES}; {{said}}; tower t = image {{{{ {{of_tower}} }}}} }}}}"
HEADS = "attention { heads = 2 }"


@pytest.mark.parametrize(
    "said, of_tower, told",
    [
        (HEADS, "width = 16", "attention.norm: width 32 and 16"),
        (HEADS, "norm { offset = 1 }", "attention.norm: offset 0 and 1"),
        (HEADS, "norm { weight = false }", "attention.norm: weight true and false"),
        (f"{HEADS}; norm {{ kind = layer }}", "norm { bias = false }", "attention.norm: bias true and false"),
        (HEADS, "attention { bias = true }", "attention.q: with and without a bias"),
        (HEADS, "attention { reads = text }", "attention.k: one of them maps what another tower has"),
        (HEADS, "ffn { kind = gelu }", "ffn.gate: one of them has none"),
        (f"{HEADS}; ffn {{ kind = moe, experts = 4 }}", "ffn { top_k = 3 }", "ffn.gate: experts a token 2 and 3"),
        (f"{HEADS}; ffn {{ kind = moe, experts = 4 }}", "ffn { scores = sigmoid }",
         "ffn.router: one of them is of another kind"),
        ("attention { heads = 2, qk_norm = rms }", "attention { qk_norm = layer }", "attention.q_norm: rms and layer"),
    ],
)  # fmt: skip
def test_in_words(said: str, of_tower: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_ir(SourceFile("shared.mot", SPEC.format(said=said, of_tower=of_tower)))
    group, difference = told.split(": ")
    messages = [each.message for each in caught.value.diagnostics]
    assert f"{group} is shared by text and image, but they need different ones: {difference}" in messages
    assert not any("(" in each or "=" in each for each in messages)
