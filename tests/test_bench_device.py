"""What is measured on a device that is not here, by stand-ins for torch; and what is far from the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from motc.bench.portable.batches import DrawnBatch
from motc.bench.portable.checking import TOLERANCES, Check, check, find_truth
from motc.bench.portable.sides import Side
from motc.bench.portable.synchronisations import count_synchronisations
from motc.bench.portable.timing import stopwatch


def test_on_cuda_seconds_are_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            told.append("record")

        def synchronize(self) -> None:
            told.append("synchronize")

        def elapsed_time(self, end: Event) -> float:
            assert end is not self
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert stopwatch("cuda:0")(lambda: told.append("run")) == 0.25
    assert told == ["record", "run", "record", "synchronize"]


def test_synchronisations_are_counted_as_torch_tells_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def run() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    assert count_synchronisations(run, "cuda") == 3
    assert modes == ["warn", 0]
    assert count_synchronisations(run, "cpu") is None

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        count_synchronisations(fail, "cuda")
    assert modes == ["warn", 0, "warn", 0]


class Output:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


class Network(nn.Module):
    """Logits of two linear maps of the ids."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)
        self.change = change
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, ids: torch.Tensor, modality_ids: torch.Tensor) -> Output:
        logits = self.first(ids.to(self.first.weight.dtype))
        return Output(logits if self.change is None else self.change(logits))


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize(
    ("change", "ok"),
    [
        (None, True),
        (lambda x: x * 1.2, False),
        (lambda x: x.detach() + 0 * x, False),  # right outputs, wrong gradients
        (lambda x: x / 0, False),
        (lambda x: x * float("nan"), False),
        (lambda x: x[:1], False),
    ],
    ids=["same", "outputs", "gradients", "infinite", "nan", "shape"],
)
def test_what_is_far_from_the_reference_is_told(
    change: Callable[[torch.Tensor], torch.Tensor] | None, ok: bool, dtype: str
) -> None:
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 5]])
    batch = DrawnBatch(input_ids=ids, modality_ids=torch.zeros_like(ids))
    kind = getattr(torch, dtype)
    truth = find_truth(Side(Network().to(kind), "cpu"), batch)
    assert truth.outputs["logits"].dtype == torch.float32
    checked = check(Side(Network(change).to(kind), "cpu"), batch, truth, dtype)
    assert checked.ok is ok
    assert checked.output == "logits"


def test_where_rounding_is_above_the_tolerance_the_reference_is_the_measure() -> None:
    """1 + 1/256 is 1 in bfloat16: what is left of it when 1 is taken off is all rounding."""
    ids = torch.tensor([[1, 2, 3, 4]])
    batch = DrawnBatch(input_ids=ids, modality_ids=torch.zeros_like(ids))

    def check_of(factor: float) -> Check:
        cancelling = Network(lambda x: (256 + x) - 256)
        truth = find_truth(Side(cancelling.to(torch.bfloat16), "cpu"), batch)
        assert truth.output_rounding > TOLERANCES["bfloat16"][0]
        other = Network(lambda x: ((256 + x) - 256) * factor)
        return check(Side(other.to(torch.bfloat16), "cpu"), batch, truth, "bfloat16")

    assert check_of(1.0).ok
    assert not check_of(4.0).ok


def test_a_gradient_where_the_reference_has_none_is_wrong() -> None:
    class Everywhere(Network):
        def forward(self, ids: torch.Tensor, modality_ids: torch.Tensor) -> Output:
            return Output(super().forward(ids, modality_ids).logits + 1e-9 * self.unused(ids.float()))

    ids = torch.tensor([[1, 2, 3, 4]])
    batch = DrawnBatch(input_ids=ids, modality_ids=torch.zeros_like(ids))
    truth = find_truth(Side(Network(), "cpu"), batch)
    checked = check(Side(Everywhere(), "cpu"), batch, truth, "float32")
    assert not checked.ok and checked.parameter.startswith("unused") and checked.gradient_error is None


@pytest.mark.parametrize(("numbers", "ok"), [(4096, False), (4 * 4096, True)])
def test_longer_sums_may_round_more(numbers: int, ok: bool) -> None:
    """Off by 1.5e-5, where 1e-5 may be, or twice that where a product adds up four times as many numbers."""
    ids = torch.tensor([[1, 2, 3, 4]])
    batch = DrawnBatch(input_ids=ids, modality_ids=torch.zeros_like(ids))
    other = Network(lambda x: x * (1 + 1.5e-5))
    for network in (reference := Network(), other):
        network.register_parameter("long", nn.Parameter(torch.zeros(1, numbers)))
    assert check(Side(other, "cpu"), batch, find_truth(Side(reference, "cpu"), batch), "float32").ok is ok
