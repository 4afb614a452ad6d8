"""`torch.export` of generated models: what comes out is what the model gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.driver import check_spec, spec_text

pytestmark = pytest.mark.compiled

SPEC = """
model exported {
  width = 16, layers = 1
  modality text { vocab = 11 }, image { vocab = 7 }
  attention { heads = 2, MASK }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
IDS = torch.tensor([[1, 2, 3, 4, 5], [2, 3, 1, 0, 0]])
KINDS = torch.tensor([[0, 0, 1, 1, 0], [1, 0, 0, -1, -1]])
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1], [5, 5, 5, 5, 5]])


def load(strategy: Any, mask: str = "qk_norm = rms", **how: Any) -> Any:
    return motc.load(SPEC.replace("MASK", mask), strategy=strategy, **how).eval()


def exported(model: Any, *args: Tensor, dynamic: Any = None, **kwargs: Any) -> Any:
    return torch.export.export(model, args, kwargs, dynamic_shapes=dynamic).module()


@cache
def with_a_layout(strategy: str) -> tuple[Any, Any]:
    """A program that takes layouts, and its model."""
    model = load(strategy)
    return exported(model, IDS, KINDS, layout=model.layout(KINDS)), model


def assert_equal(program: Any, model: Any, *args: Tensor, **kwargs: Any) -> None:
    expected = model(*args, **kwargs).logits
    for name, logits in program(*args, **kwargs).logits.items():
        torch.testing.assert_close(logits, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("strategy", ["blend", "sorted"])
@pytest.mark.parametrize("mask", ["qk_norm = rms", "mask { kind = prefix, prefix = text, bidirectional = image }"])
def test_it_is_exported_for_batches_of_any_size(mask: str, strategy: str) -> None:
    model = load(strategy, mask)
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("columns")}
    names = ("input_ids", "modality_ids", "document_ids")
    program = exported(model, IDS, KINDS, document_ids=DOCUMENTS, dynamic=dict.fromkeys(names, sizes))
    assert_equal(program, model, IDS, KINDS, document_ids=DOCUMENTS)
    kinds = torch.tensor([[0, 1, 1], [1, -1, -1], [0, 0, 0]])
    assert_equal(program, model, kinds * 2 + 2, kinds, document_ids=kinds * 0)
    for given in ([[0, 0]], [[1], [1]], [[-1, -1]]):  # one modality, one token a row, padding alone
        kinds = torch.tensor(given)
        assert_equal(program, model, kinds.clamp(min=0), kinds, document_ids=kinds * 0)


def test_a_loss_is_exported() -> None:
    model = load("blend")
    program = exported(model, IDS, KINDS, labels=IDS)
    expected = model.loss(IDS, KINDS)
    assert program(IDS, KINDS, labels=IDS).total.item() == pytest.approx(expected.total.item(), abs=1e-6)


def test_grouped_is_exported_in_bfloat16() -> None:
    model = load("grouped", dtype="bfloat16")
    assert_equal(exported(model, IDS, KINDS), model, IDS, KINDS)


@pytest.mark.parametrize("strategy", ["sorted", "reference"])
def test_what_reads_sizes_is_exported_with_a_layout(strategy: str) -> None:
    program, model = with_a_layout(strategy)
    assert_equal(program, model, IDS, KINDS, layout=model.layout(KINDS))
    alike = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, -1, -1]])  # as many of each in rows as long
    assert_equal(program, model, IDS, alike, layout=model.layout(alike))


def test_a_reference_program_serves_any_modalities() -> None:
    program, model = with_a_layout("reference")
    for given in ([[1, 1, 1, 1, 0], [0, 0, 1, -1, -1]], [[0] * 5, [-1] * 5]):
        kinds = torch.tensor(given)
        assert_equal(program, model, IDS, kinds, layout=model.layout(kinds))


def test_a_sorted_program_refuses_other_numbers_of_tokens() -> None:
    program, model = with_a_layout("sorted")
    others = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 1, -1, -1]])
    with pytest.raises(AssertionError, match="Guard failed: layout"):
        program(IDS, others, layout=model.layout(others))


def test_the_page_says_how_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent
    page = (root / "docs" / "execution.md").read_text(encoding="utf-8")
    begin, end = page.index("    class Logits"), page.index("The model itself can be exported too")
    code = "\n".join(line.removeprefix("    ") for line in page[begin:end].splitlines())
    kinds = KINDS.clamp(min=0)
    names: dict[str, Any] = {"motc": motc, "torch": torch, "input_ids": IDS, "modality_ids": kinds}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    shallow = spec_text(check_spec(root / "specs" / "emoji_mot.mot", {"layers": 1}))
    (tmp_path / "specs" / "emoji_mot.mot").write_text(shallow, encoding="utf-8")
    exec(code, names)
    loaded: Any = torch.export.load("emoji.pt2").module()
    for name, logits in names["model"](IDS[:1, :3], kinds[:1, :3]).items():
        torch.testing.assert_close(loaded(IDS[:1, :3], kinds[:1, :3])[name], logits, rtol=0, atol=1e-6)
