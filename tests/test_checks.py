"""What a model refuses of a batch: shapes, ids, documents and layouts that do not fit, alike in every strategy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from codegen_templates import checks

STRATEGIES = ["sorted", "grouped", "blend", "reference"]
SHARED = """
model shared {
  width = 32, layers = 2, vocab = 16
  modality text, image
  attention { heads = 4 }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
OWN = """
model own {
  width = 32, layers = 1
  modality text { vocab = 16 }, image { vocab = 8 }
  attention { heads = 4 }
  ffn { hidden = 24 }
  untie ffn
}
"""
IDS = torch.arange(12).view(2, 6)
KINDS = torch.tensor([[0, 0, 1, 1, 0, -1], [1, 1, 0, 0, 0, 0]])
CALLS = ["forward", "loss", "generate"]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    path = tmp_path_factory.mktemp("specs") / "spec.mot"

    @cache
    def loaded(strategy: Any, text: str = SHARED) -> Any:
        path.write_text(text)
        return motc.load(path, strategy=strategy)

    return loaded


def call(model: Any, name: str, *given: Any, **how: Any) -> Any:
    if name == "generate":
        return model.generate(*given, max_new_tokens=1, **how)
    return getattr(model, name)(*given, **how)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("ids", "kinds", "error", "said"),
    [
        (IDS.view(4, 3), KINDS, ValueError, r"input_ids must be \[B, S\] as modality_ids, \[2, 6\], not \[4, 3\]"),
        (IDS.view(6, 2), KINDS, ValueError, r"not \[6, 2\]"),
        (IDS.repeat(1, 2), KINDS, ValueError, r"not \[2, 12\]"),
        (IDS[:, :3], KINDS, ValueError, r"not \[2, 3\]"),
        (IDS.flatten(), KINDS, ValueError, r"not \[12\]"),
        (IDS.flatten(), KINDS.flatten(), ValueError, r"modality_ids must be \[B, S\].*not \[12\]"),
        (IDS[:0], KINDS[:0], ValueError, r"a row and a token at least, not \[0, 6\]"),
        (IDS[:, :0], KINDS[:, :0], ValueError, r"a row and a token at least, not \[2, 0\]"),
        (IDS.int(), KINDS, ValueError, r"input_ids must be int64, not torch.int32: give input_ids.long\(\)"),
        (IDS.float(), KINDS, ValueError, "input_ids must be int64, not torch.float32"),
        (IDS, KINDS.to(torch.int8), ValueError, "modality_ids must be int64, not torch.int8"),
        (IDS.tolist(), KINDS, TypeError, "input_ids must be a tensor, int64 .*not list"),
        (IDS, None, TypeError, "modality_ids must be a tensor, .*not NoneType"),
        (IDS.to("meta"), KINDS, ValueError, "input_ids must be on cpu as modality_ids, not on meta"),
        (IDS + 5, KINDS, ValueError, "input_ids have 16 in row 1, column 5, and text has a vocabulary of 16: .*0..15"),
        (IDS - 1, KINDS, ValueError, "input_ids have -1 in row 0, column 0, and text has a vocabulary of 16"),
        (IDS, KINDS + 1, ValueError, r"modality_ids must be -1 \(padding\) or 0..1, not 2 in row 0, column 2"),
        (IDS, KINDS - 1, ValueError, r"modality_ids must be -1 \(padding\) or 0..1, not -2 in row 0, column 5"),
    ],
)
def test_ids_that_do_not_fit(
    name: str, strategy: str, ids: Any, kinds: Any, error: type[Exception], said: str, load: Callable[..., Any]
) -> None:
    with pytest.raises(error, match=said):
        call(load(strategy), name, ids, kinds)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_own_vocabularies_and_what_padding_holds(strategy: str, load: Callable[..., Any]) -> None:
    model = load(strategy, OWN)
    ids = IDS.clone()
    ids[0, 5] = 2**40  # padding's may be anything
    with pytest.raises(ValueError, match=r"8 in row 1, column 1, and image has a vocabulary of 8: its ids are 0\.\.7"):
        model.loss(ids + (KINDS == 1), KINDS)
    assert model.loss(ids, KINDS).total.isfinite()


@pytest.mark.parametrize("name", ["forward", "loss"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("positions", "error", "said"),
    [
        (torch.arange(5), ValueError, r"position_ids must be \[B, S\] as modality_ids, \[2, 6\], not \[5\]"),
        (torch.zeros(2, 1).long(), ValueError, r"not \[2, 1\]"),
        (torch.zeros(3, 6).long(), ValueError, r"not \[3, 6\]"),
        (torch.zeros(2, 6), ValueError, "position_ids must be int64, not torch.float32"),
        (list(range(6)), TypeError, "position_ids must be a tensor"),
    ],
)
def test_positions_that_do_not_fit(
    name: str, strategy: str, positions: Any, error: type[Exception], said: str, load: Callable[..., Any]
) -> None:
    with pytest.raises(error, match=said):
        call(load(strategy), name, IDS, KINDS, position_ids=positions)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_positions_for_all_rows(strategy: str, load: Callable[..., Any]) -> None:
    model, positions = load(strategy), torch.arange(6) * 2
    expected = model(IDS, KINDS, position_ids=positions.repeat(2, 1)).logits
    for given in (positions, positions[None]):
        assert model(IDS, KINDS, position_ids=given).logits.equal(expected)


@pytest.mark.parametrize("name", [*CALLS, "layout"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([[0] * 7] * 2, r"document_ids must be \[B, S\] as modality_ids, \[2, 6\], not \[2, 7\]"),
        ([[3] * 6, [7, 7, 9, 9, 7, 7]], "document 7 of row 1 comes back after another"),
        ([[5, 2**62, 2**62, 5, 5, 5], [3] * 6], "document 5 of row 0 comes back after another"),
    ],
)
def test_documents_that_do_not_fit(
    name: str, strategy: str, documents: list[list[int]], said: str, load: Callable[..., Any]
) -> None:
    given = (KINDS,) if name == "layout" else (IDS, KINDS)
    with pytest.raises(ValueError, match=said):
        call(load(strategy), name, *given, document_ids=torch.tensor(documents))


PADDED = torch.zeros(3, 8, dtype=torch.int64)
PADDED[:, 6:] = -1
SIX = [[0, 0, 1, 1, 2, 2, 0, 0]] * 3
LARGE = {
    "of padding": (PADDED, [[*row[:6], 2**63 - 1, 2**63 - 1] for row in SIX], SIX),
    "of tokens": (PADDED[:1].clamp(min=0).repeat(5, 1), [[0, 0, 2**62 - 1, 2**62 - 1, 1, 1, 3, 3]] * 5, None),
    "both ends": (PADDED, [[-(2**63)] * 3 + [2**63 - 1] * 3 + [-(2**63)] * 2] * 3, [[0, 0, 0, 1, 1, 1, 1, 1]] * 3),
    "padding within": (
        torch.tensor([[-1, 0, 0, -1, 0, -1, 1, 0]]),
        [[9, 1, 1, 5, 1, 2**62, 4, 4]],
        [[1, 1, 1, 1, 1, 1, 4, 4]],
    ),
}


@pytest.mark.parametrize("case", LARGE)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_document_ids_may_be_any_numbers_and_those_of_padding_count_for_nothing(
    strategy: str, case: str, load: Callable[..., Any]
) -> None:
    """Each as small ids give it; as are rows alone, for no row may see another."""
    model = load(strategy)
    kinds, large, small = LARGE[case]
    ids, documents = torch.arange(kinds.numel()).view(kinds.shape) % 11, torch.tensor(large)
    like = torch.tensor(small or [[0, 0, 1, 1, 2, 2, 3, 3]] * 5)
    logits = model(ids, kinds, document_ids=documents).logits
    torch.testing.assert_close(logits, model(ids, kinds, document_ids=like).logits, rtol=0, atol=1e-6)
    losses = [model.loss(ids, kinds, document_ids=given).total for given in (documents, like)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-6)
    for row in range(kinds.shape[0]):
        alone = model(ids[row : row + 1], kinds[row : row + 1], document_ids=documents[row : row + 1]).logits
        torch.testing.assert_close(logits[row : row + 1], alone, rtol=0, atol=1e-5)


DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1], [4, 4, 4, 4, 4, 4]])


@pytest.mark.parametrize("name", ["forward", "loss"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_layout_of_another_batch(name: str, strategy: str, load: Callable[..., Any]) -> None:
    model = load(strategy)
    plain, packed = model.layout(KINDS), model.layout(KINDS, DOCUMENTS)
    others = KINDS.clone()
    others[1, 3] = 1

    def refused(layout: Any, said: str, error: type[Exception] = ValueError, **how: Tensor) -> None:
        with pytest.raises(error, match=said):
            call(model, name, IDS, KINDS, layout=layout, **how)

    refused(model.layout(KINDS.view(4, 3)), r"made of modality_ids \[4, 3\], and these are \[2, 6\]")
    refused(model.layout(others), "made of other modality_ids: they differ in row 1, column 3")
    refused(plain, "made without document_ids", document_ids=DOCUMENTS)
    later = DOCUMENTS.clone()
    later[0, 2] = 1
    refused(packed, "made of other document_ids: they differ in row 0, column 2", document_ids=later)
    padding = torch.where(KINDS < 0, 9, DOCUMENTS)
    assert (KINDS < 0).any()
    call(model, name, IDS, KINDS, layout=packed, document_ids=padding)
    refused(plain.to("meta"), r"the layout is on meta, and modality_ids on cpu: use layout.to\(...\)")
    refused(tuple(plain), r"layout must be what this model's layout\(\) gives, not tuple", TypeError)
    if strategy != "sorted":
        refused(load("sorted").layout(KINDS), "what this model's layout", TypeError)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("mask = causal", "mask = full"),
        ("mask { prefix = text, kind = prefix }", "mask = causal"),
        ("mask { bidirectional = image }", "mask { bidirectional = text }"),
        ("mask { kind = blocks, blocks = [text, image] }", "mask { kind = blocks, blocks = [image, text] }"),
    ],
)
def test_a_layout_of_another_mask(strategy: str, here: str, there: str, load: Callable[..., Any]) -> None:
    """It would decide who sees whom."""
    model, other = (load(strategy, SHARED.replace("heads = 4", f"heads = 4, {mask}")) for mask in (here, there))
    for name in ("forward", "loss"):
        with pytest.raises(ValueError, match="the layout is of a model with another mask"):
            call(model, name, IDS, KINDS, layout=other.layout(KINDS, DOCUMENTS))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_layout_keeps_the_ids_it_was_made_of(strategy: str, load: Callable[..., Any]) -> None:
    """A loader that fills the same tensors again would make it one of another batch."""
    model, kinds, documents = load(strategy), KINDS.clone(), DOCUMENTS.clone()
    layout = model.layout(kinds, documents)
    documents[0] = 0
    with pytest.raises(ValueError, match="made of other document_ids"):
        model(IDS, kinds, document_ids=documents, layout=layout)
    kinds.fill_(1)
    with pytest.raises(ValueError, match="made of other modality_ids"):
        model(IDS, kinds, layout=layout)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_layout_of_the_batch_is_taken_whoever_made_it(strategy: str, load: Callable[..., Any]) -> None:
    model, other = load(strategy), load(strategy, SHARED + "\n")
    expected = model(IDS, KINDS, document_ids=DOCUMENTS).logits
    layout = other.layout(KINDS.clone(), DOCUMENTS.clone())
    for how in ({"document_ids": DOCUMENTS}, {}):
        assert model(IDS, KINDS, layout=layout, **how).logits.equal(expected)
    with pytest.raises(ValueError, match="vocabulary of 16"):
        model(IDS + 5, KINDS, layout=layout)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_beside_a_layout_no_check_reads_from_a_gpu(
    strategy: str, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = load(strategy), list[bool]()
    layout = model.layout(KINDS, DOCUMENTS)
    monkeypatch.setitem(type(model).forward.__globals__, "refuse", lambda faults, reads: asked.append(reads))
    model.loss(IDS, KINDS, labels=IDS.clone(), weights=torch.ones(2, 6), layout=layout)
    assert asked == [False, False]
    model.loss(IDS, KINDS, labels=IDS.clone(), document_ids=DOCUMENTS)
    assert asked[2:] == [strategy in ("sorted", "reference")] * 3


@pytest.mark.parametrize("strategy", ["grouped", "blend"])
def test_what_masks_say_is_copied_to_a_gpu_without_a_wait(
    strategy: str, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`new_tensor` and `torch.tensor(..., device=)` wait for all that a GPU has queued; `constant` does not."""
    masked = SHARED.replace(
        "heads = 4", "heads = 4, mask { kind = prefix, prefix = text, bidirectional = image, sees { text = text } }"
    )
    model, tensor, devices = load(strategy, masked), torch.tensor, list[Any]()

    def recorded(values: Any, device: Any = None) -> Tensor:
        devices.append(device)
        return tensor(values, device=device)

    monkeypatch.setattr(torch, "tensor", recorded)
    monkeypatch.setattr(Tensor, "new_tensor", None)
    model.loss(IDS, KINDS)
    assert devices and set(devices) == {"cpu"}


def test_on_a_gpu_nothing_is_read_where_nothing_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the device asserts it."""
    right, wrong = torch.zeros(2, 2, dtype=torch.bool), torch.eye(2, dtype=torch.bool)
    stack = torch.stack

    class Cuda(Tensor):
        device = torch.device("cuda")

    monkeypatch.setattr(torch, "stack", lambda tensors: stack(tensors).as_subclass(Cuda))
    checks.refuse([(right, lambda row, column: "")], reads=False)
    with pytest.raises(RuntimeError, match="Expected Tensor with single nonzero value"):
        checks.refuse([(right, lambda row, column: ""), (wrong, lambda row, column: "")], reads=False)
    with pytest.raises(ValueError, match="at 0 0"):
        checks.refuse([(wrong, lambda row, column: f"at {row} {column}")], reads=True)
