"""Constants of a layout: one copy on each device, that nothing of a model has to keep."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import motc
from codegen_templates.constants import KEPT, constant

CPU = torch.device("cpu")
SPEC = """
model constants {
  width = 16, layers = 1
  modality text { vocab = 11 }, image { vocab = 7 }, speech { vocab = 5 }
  attention { heads = 2, MASK }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
MASKS = [
    "mask { kind = prefix, prefix = text, bidirectional = image }",
    "mask { kind = prefix, prefix = text }",
    "mask { kind = blocks, blocks = [text, [image, speech]] }",
    "mask { bidirectional = image, sees { text = [text, image] } }",
]
IDS, KINDS = torch.tensor([[1, 2, 3, 4, 1], [0, 1, 2, 3, 4]]), torch.tensor([[0, 0, 1, 2, -1], [0, 1, 1, 2, 2]])


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    KEPT.clear()
    yield
    KEPT.clear()


class Copied(TorchDispatchMode):
    """How often lists of numbers become a tensor: a single one, as in `x[:, 0] = True`, goes to a device by itself."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten.lift_fresh.default and args[0].ndim > 0
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("strategy", ["sorted", "grouped", "blend", "reference"])
def test_a_step_copies_no_number_that_an_earlier_one_has_copied(strategy: Any, mask: str) -> None:
    model: Any = motc.load(SPEC.replace("MASK", mask), strategy=strategy)
    documents = torch.zeros_like(KINDS)
    with Copied() as first:
        expected = model.loss(IDS, KINDS, document_ids=documents).total
    with Copied() as second:
        total = model.loss(IDS, KINDS, document_ids=documents).total
    assert total.equal(expected)
    assert first.count > 0 and second.count == 0


def test_constants_are_no_part_of_a_model() -> None:
    model: Any = motc.load(SPEC.replace("MASK", MASKS[0]), strategy="blend")
    names = [*model.state_dict()], [*model.buffers()]
    expected = model.loss(IDS, KINDS).total
    assert ([*model.state_dict()], [*model.buffers()]) == names
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.loss(IDS, KINDS).total.equal(expected)
    empty: Any = motc.load(SPEC.replace("MASK", MASKS[0]), strategy="blend", device="meta")
    assert empty.layout(KINDS.to("meta")).rows.mask.is_meta
    empty = empty.to_empty(device="cpu")
    empty.init_weights()
    assert empty.loss(IDS, KINDS).total.equal(expected)


def test_a_constant_is_of_its_kind_and_place() -> None:
    assert constant((1, 0), CPU) is constant((1, 0), CPU)
    assert constant((True, False), CPU).dtype == torch.bool
    assert constant((1, 0), CPU).dtype == torch.int64
    assert constant((1, 0), torch.device("meta")).is_meta


def test_a_constant_of_inference_serves_training() -> None:
    with torch.inference_mode():
        kept = constant((1.0, 2.0), CPU)
    weight = torch.ones(2, requires_grad=True)
    (weight * constant((1.0, 2.0), CPU)).sum().backward()  # type: ignore[no-untyped-call]
    assert constant((1.0, 2.0), CPU) is kept and weight.grad is not None and weight.grad.equal(kept)


def test_nothing_that_stands_for_a_tensor_is_kept() -> None:
    with FakeTensorMode():
        constant((1, 2), CPU)
    assert not KEPT
    for transform in (torch.func.grad, torch.func.functionalize):
        transform(lambda x: (x * constant((1, 2), CPU)).sum())(torch.ones(2))
        assert not KEPT
    compiled = torch.compile(lambda x: x + constant((1, 2), x.device), backend="eager", fullgraph=True)
    assert compiled(torch.zeros(2)).tolist() == [1, 2]
    assert not KEPT
