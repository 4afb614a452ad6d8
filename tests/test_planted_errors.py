"""A mistake planted in the generated text breaks the laws that it should, and no other."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from motc.validate import validate
from tests.fuzz.properties import twin_taken_as_right
from tests.planted import broken, compiled, module_of

SPEC = """
model planted {
  width = 24
  layers = 2
  modality text { vocab = 11 }, image { vocab = 7 }, speech { vocab = 5 }
  attention { heads = 4, kv_heads = 2, qk_norm = rms }
  ffn { hidden = 20 }
  norm { placement = sublayer_output }
  untie attention, ffn, norm
  untie ffn as {text} {image, speech} in layer 1
}
"""
REFERENCE, TWIN = {"reference outputs", "reference gradients"}, {"twin outputs", "twin gradients"}
BOTH = REFERENCE | TWIN
EVERY = {*BOTH, "single modality", "padding", "documents"}


class Mistake(NamedTuple):
    """What stands in the generated text, what stands there instead, and the laws that this breaks."""

    right: str
    wrong: str
    laws: set[str]
    spec: str = SPEC


MISTAKES = {
    "a wrong tower": Mistake(
        "result: Tensor = self[name](piece)",
        "result: Tensor = self[self.route[0]](piece)",
        {*BOTH, "single modality"},
    ),
    "a wrong tower's norm": Mistake(
        "torch.where(places >= end,",
        "torch.where(places > end,",
        {*REFERENCE, "single modality"},
    ),
    "a missing permutation to slots": Mistake(
        "permute(x, layout.inverse.flatten(), layout.order, gaps=(True, False))",
        "(x if x.shape[0] == rows * length else permute(x, layout.inverse.flatten(), layout.order))",
        {*BOTH, "padding", "documents"},
    ),
    "a missing permutation to sorted order": Mistake(
        "return permute(x.flatten(0, 1), layout.order, layout.inverse.flatten(), gaps=(False, True))",
        "return x.flatten(0, 1)[: layout.order.numel()]",
        {*BOTH, "padding", "documents"},
    ),
    "a wrong backward of the permutation": Mistake(
        "return permute(gradients[0], inverse, order, gaps=(ctx.gaps[1], ctx.gaps[0])), None, None, None",
        "return permute(gradients[0], inverse, order).flip(0), None, None, None",
        {"reference gradients", "twin gradients"},
    ),
    "a gradient that is lost": Mistake(
        "hidden = [F.silu(g) * u for g, u in zip(gate, up, strict=True)]",
        "hidden = [F.silu(g) * u.detach() for g, u in zip(gate, up, strict=True)]",
        {"reference gradients", "twin gradients"},
    ),
    "a norm placed elsewhere": Mistake(
        "        x = x + self.norm(out, layout.sorted_places)\n",
        "        x = self.norm(x + out, layout.sorted_places)\n",
        {*BOTH, "single modality"},
    ),
    "documents that see each other": Mistake(
        "document = document_starts(modality_ids, document_ids).flatten().cumsum(0)",
        "pass",
        {*BOTH, "documents"},
    ),
    "documents in one row that see each other": Mistake(
        "(document_ids[:, :, None] == document_ids[:, None, :])",
        "True",
        BOTH,
    ),
    "positions that go on in the next document": Mistake(
        "return index - (index * starts).cummax(dim=1).values",
        "return index.expand_as(starts)",
        {*BOTH, "documents"},
    ),
    "padding that is read": Mistake(
        "present = (order >= 0)",
        "present = (order >= -1)",
        {*BOTH, "single modality", "padding"},
    ),
    "a loss counted under the wrong modality": Mistake(
        "modalities = look_up(modality_ids.flatten(), following, -1)",
        "modalities = torch.where(following >= 0, look_up(modality_ids.flatten(), tokens, -1), -1)",
        BOTH,
        SPEC.replace("vocab = 7", "vocab = 11").replace("vocab = 5", "vocab = 11"),
    ),
    "no mask": Mistake("is_causal=causal,", "is_causal=False,", EVERY),
    "a given layout that is not taken as it is": Mistake(
        "        layout = self.prepared(",
        "        layout = layout and layout._replace(sorted_places=layout.sorted_places.flip(0))\n"
        "        layout = self.prepared(",
        {"given layout"},
    ),
    "no number": Mistake("keepdim=True) + self.eps)", "keepdim=True) * float('nan'))", {*EVERY, "given layout"}),
    "a parameter of another shape": Mistake(
        '"text": nn.Embedding(11, WIDTH)', '"text": nn.Embedding(12, WIDTH)', {"parameters"}
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_breaks_the_laws_that_should_find_it(mistake: str) -> None:
    right, wrong, laws, spec = MISTAKES[mistake]
    assert broken(spec, right, wrong) == laws


@pytest.mark.parametrize(
    ("right", "wrong", "laws"),
    [
        ("is_causal=causal,", "is_causal=False,", TWIN),
        ("present = (order >= 0)", "present = (order >= -1)", TWIN),
        ("F.silu(self.gate(x)) * self.up(x)", "F.silu(self.gate(x)) * self.up(x).detach()", {"twin gradients"}),
    ],
)
def test_a_mistake_in_the_dense_twin_alone_breaks_the_laws_of_twins(right: str, wrong: str, laws: set[str]) -> None:
    pair, dense = compiled(SPEC), compiled(SPEC.replace("untie ", "# untie "))
    with twin_taken_as_right():
        verdict = validate(pair.sparse, pair.dense, module_of(pair), module_of(dense, right, wrong))
    assert {law.name for law in verdict.laws if not law.ok} == laws
