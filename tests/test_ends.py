"""Embeddings that are scaled, and logits with biases, scaled and capped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import motc
from motc.diff import diff
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.schema import check
from motc.source import SourceFile, SpecError
from motc.syntax import read
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import differ_alike_both_ways, generates_what_it_predicts, obeys_every_law

ALL = "embedding { scale = 3 }, head { bias = true, scale = 0.5, softcap = 2 }"
TIED = "embedding { scale = sqrt_width, tied = true }, head { scale = 0.5, softcap = 2 }"
SHARED = "vocab = 16\n modality text, image\n"
OWN = "modality text { vocab = 8 }, image { vocab = 9 }\n"
LATENT = "vocab = 16\n modality text, image { latent { channels = 2, patch = 1 } }\n"
FEATURES = "vocab = 16\n modality text, image { features { size = 3 } }\n"
NARROW = "vocab = 16\n modality text, image\n tower a = text\n tower b = image { width = 8 }\n untie *\n"
CASES: dict[str, Strategy] = {
    f"{SHARED} {TIED}": "sorted",
    f"{SHARED} {ALL}": "reference",
    f"{SHARED} untie *\n {ALL}": "blend",
    f"{OWN} untie *\n {TIED}": "sorted",
    f"{OWN} {ALL}": "blend",
    f"{LATENT} untie *\n {ALL}": "sorted",
    f"{FEATURES} untie embedding, head\n {ALL}": "sorted",
    f"{LATENT} {TIED}": "blend",
    f"{NARROW} {TIED}": "sorted",
}


def text(said: str) -> str:
    return f"model scaled {{ width = 16, layers = 1, {said}\n attention {{ heads = 2 }}\n ffn {{ hidden = 12 }} }}"


def model(said: str, *, dense: bool = False, strategy: Strategy = "sorted") -> Model:
    return final_ir(check(read(SourceFile("a.mot", text(said)))), dense=dense, strategy=strategy)


@pytest.mark.laws
@pytest.mark.parametrize("said", CASES)
def test_every_law(said: str) -> None:
    strategy = CASES[said]
    obeys_every_law(model(said, strategy=strategy), model(said, dense=True), seed=2)
    differ_alike_both_ways(model(said), model(SHARED))


@pytest.mark.parametrize("said", [f"{OWN} {ALL}", f"{SHARED} {ALL}", f"{LATENT} {ALL}"])
def test_generating_reads_the_same_logits(said: str) -> None:
    loaded: Any = motc.load(text(said), dtype=torch.float64)
    randomise(loaded, torch.Generator().manual_seed(0))
    ids, modality_ids = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 0, 0]])
    generates_what_it_predicts(loaded, ids, modality_ids, count=5)


def test_a_scale_is_rounded_to_the_dtype_of_embeddings() -> None:
    loaded: Any = motc.load(text(f"{SHARED} embedding {{ scale = 3.14159 }}"), dtype=torch.bfloat16)
    loaded.init_weights(0)
    ids = torch.arange(16)
    scale = torch.tensor(3.14159, dtype=torch.bfloat16)
    assert loaded.embedding(ids).equal(loaded.embedding.weight * scale)
    assert not loaded.embedding(ids).equal(loaded.embedding.weight * 3.14159)


def test_the_scale_of_the_width_is_a_towers_own() -> None:
    loaded: Any = motc.load(text(f"{NARROW} embedding {{ scale = sqrt_width }}"))
    assert {name: copy.scale for name, copy in loaded.embedding.items()} == {"a": 4.0, "b": 8**0.5}


def test_logits_at_padding_are_zeros_whatever_the_bias() -> None:
    for said in (SHARED, OWN):
        loaded: Any = motc.load(text(f"{said} head {{ bias = true }}"))
        randomise(loaded, torch.Generator().manual_seed(0))
        logits = loaded(torch.ones(1, 3).long(), torch.tensor([[0, -1, 0]])).logits
        for each in logits.values() if isinstance(logits, dict) else [logits]:
            assert each[0, 1].eq(0).all()
            assert each[0, ::2].ne(0).all()


def test_what_is_said_as_it_is_anyway_changes_no_model() -> None:
    plain = semantic_hash(model(SHARED))
    assert semantic_hash(model(f"{SHARED} embedding {{ scale = 1 }}, head {{ scale = 1, softcap = none }}")) == plain
    assert semantic_hash(model(f"{SHARED} embedding {{ scale = 4 }}")) != plain
    assert semantic_hash(model(f"{SHARED} head {{ scale = 4 }}")) != plain


def test_a_diff_tells_them() -> None:
    edits = [edit.describe().split(",")[0] for edit in diff(model(SHARED), model(f"{SHARED} {ALL}"))]
    assert edits == [
        "embedding.scale: 1 → 3",
        "head.bias: false → true",
        "head.scale: 1 → 0.5",
        "head.softcap: none → 2",
    ]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("embedding { tied = true }, head { bias = true }", "MOT069 a head that is the embedding's table has no bias"),
        ("embedding { scale = width }", "`embedding.scale` should be a number above 0 or sqrt_width, not `width`"),
        ("embedding { scale = 0 }", "should be a number above 0 or sqrt_width, not `0`"),
        ("embedding { scale = true }", "not `true`"),
    ],
)
def test_what_is_refused(said: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        model(f"{SHARED} {said}")
