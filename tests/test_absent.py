"""Towers and layers that have no attention, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.mask import Mask
from motc.loading import instantiate
from motc.reference.visibility import visibility
from motc.source import SourceFile, SpecError
from motc.validate.config import reference_mask
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import differ_alike_both_ways, forget_generated, generates_what_it_predicts, obeys_every_law
from tests.test_masks import NAMES, random_rows, run_template

SPEC = """
model absent {
  width = 16, layers = 5, vocab = 32
  modality text, image, speech
  attention { heads = 2, kv_heads = 1, qk_norm = rms, rope { theta = 100 } }
  ffn { hidden = 24 }
  tower gen = image { WIDTH ffn { hidden = 40 } }
  layer 0 { attention = none }
  layer 1 { tower gen { attention = none, ffn = none } }
  layer 2 { tower gen { attention = none }, MASK }
  layer 4 { tower speech { ffn = none }, tower text { attention = none } }
  untie *
}
"""
CAUSAL = "attention { window = 3 }"
RUNS = "attention { mask { kind = prefix, prefix = [text, image], bidirectional = speech } }"
BLOCKS = "attention { mask { kind = blocks, blocks = [[speech, image], text] } }"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget_generated()


def model_of(mask: str, strategy: Strategy = "sorted", *, width: str = "", dense: bool = False) -> Any:
    text = SPEC.replace("MASK", mask).replace("WIDTH", width)
    return compile_ir(SourceFile("a.mot", text), strategy=strategy, dense=dense)


@pytest.mark.laws
@pytest.mark.parametrize(
    ("mask", "strategy", "width"),
    [
        (CAUSAL, "sorted", ""),
        (RUNS, "sorted", "width = 8,"),
        (BLOCKS, "sorted", ""),
        (RUNS, "blend", ""),
        (RUNS, "reference", ""),
    ],
)
def test_a_tower_without_attention_is_neither_seen_nor_changed(mask: str, strategy: Strategy, width: str) -> None:
    sparse, dense = model_of(mask, strategy, width=width), model_of(mask, width=width, dense=True)
    obeys_every_law(sparse, dense, seed=3)
    differ_alike_both_ways(sparse, dense)


def test_tokens_of_an_absent_tower_pass_a_layer_as_they_are() -> None:
    model: Any = instantiate(model_of(CAUSAL), dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, given, result: seen.update({name: given[0], f"{name} out": result})

    model.layers[1].register_forward_hook(keep("layer"))
    ids, modality_ids = torch.randint(0, 32, (1, 6)), torch.tensor([[0, 1, 2, 1, 0, 2]])
    model(ids, modality_ids)
    before, after = (seen[name].reshape(6, -1) for name in ("layer", "layer out"))
    assert (before == after).all(1).sum() == 2


def test_who_sees_whom_without_some_modalities() -> None:
    masks = [
        Mask(kind="causal", absent=("image",)),
        Mask(kind="full", absent=("text",), window=3),
        Mask(kind="prefix", prefix=("text",), bidirectional=("action",), absent=("image",)),
        Mask(kind="blocks", blocks=(("action",), ("image",)), absent=("text",)),
        Mask(kind="causal", sees=(("text", ("text",)),), absent=("action",)),
    ]
    for number, mask in enumerate(masks):
        simple = mask.simplified(NAMES)
        for seed in range(3):
            modality_ids, document_ids = random_rows(10 * number + seed, 3)
            for documents in (document_ids, None):
                expected = visibility(reference_mask(simple), NAMES, modality_ids, documents)
                apart = (modality_ids < 0) | (modality_ids == NAMES.index(mask.absent[0]))
                itself = torch.eye(modality_ids.shape[1], dtype=torch.bool) & apart[:, :, None]
                assert torch.equal(run_template(simple, NAMES, modality_ids, documents), expected | itself)


@pytest.mark.parametrize("strategy", ["sorted", "blend"])
def test_generating_is_the_forward_of_all_tokens(strategy: Strategy) -> None:
    model: Any = instantiate(model_of(CAUSAL, strategy), dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(0))
    modality_ids = torch.tensor([[1, 1, 0, 2, 0], [1, 0, 1, 0, 1], [-1, -1, -1, 1, 2]])
    ids = torch.randint(0, 32, modality_ids.shape, generator=torch.Generator().manual_seed(1))
    generates_what_it_predicts(model, ids, modality_ids, count=6)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("layers 0..4 { attention = none }", "MOT087"),
        ("layer 2 { attention = none, ffn = none, tower gen { ffn = none } }", "MOT087"),
        ("untie attention as {text, image, speech}", "MOT046"),
        ("parallel = one_norm", "MOT087"),
    ],
)
def test_a_model_must_attend_and_a_layer_must_do_something(statement: str, code: str) -> None:
    text = SPEC.replace("WIDTH", "").replace("MASK", CAUSAL).replace("untie *", f"untie *\n{statement}")
    with pytest.raises(SpecError) as caught:
        compile_ir(SourceFile("a.mot", text))
    assert {each.code for each in caught.value.diagnostics} == {code}
