"""How a run's time divides into matrix products, attention and all else, by torch's profiler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile, record_function

from .timing import Run

PartKind = Literal["products", "attention"]

PRODUCTS = frozenset(
    "mm addmm bmm baddbmm _grouped_mm _addmm_activation _mkl_linear _linear_pointwise mkldnn_linear "
    "convolution convolution_backward mkldnn_convolution _convolution_pointwise".split()
)
"""Operators, of whatever library, that are matrix products or convolutions; with all that they call."""

ATTENTION = "attention"
"""What the names of all fused attention operators hold, forward and backward."""

WHOLE = "motc: a timed run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Seconds of a run, which the three add up to.

    On CPU they are seconds of the calling thread, from the run's beginning to its end; on CUDA those of kernels and
    copies on the device, without the gaps between them.
    """

    products: float
    attention: float
    other: float

    @property
    def rest(self) -> float:
        """All but products: what is left to the compiler, and attention."""
        return self.attention + self.other


def profile_run(run: Run, device: str) -> Parts:
    """A run under the profiler; it must be over, also on the device, when `run` returns."""
    on_cuda = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as recorded, record_function(WHOLE):
        run()
    events = recorded.events()
    assert events is not None, "the profiler recorded nothing"
    return parts_on_cuda(events) if on_cuda else parts_on_cpu(events)


def parts_on_cpu(events: Iterable[Any]) -> Parts:
    """From the durations of operators; one within another that counts is not counted again."""
    whole = 0.0
    seconds = {"products": 0.0, "attention": 0.0}
    for event in events:
        if event.name == WHOLE:
            whole += event.time_range.elapsed_us() / 1e6
        elif (kind := kind_of(event.name)) is not None and kind_within(event.cpu_parent) is None:
            seconds[kind] += event.time_range.elapsed_us() / 1e6
    return Parts(**seconds, other=whole - sum(seconds.values()))


def parts_on_cuda(events: Iterable[Any]) -> Parts:
    """From what ran on the device, by the operator that asked for it."""
    whole = 0.0
    seconds = {"products": 0.0, "attention": 0.0}
    for event in events:
        if event.device_type == DeviceType.CUDA:
            if not event.is_user_annotation:  # which spans the kernels of a region, and the gaps between them
                whole += event.time_range.elapsed_us() / 1e6
        elif event.kernels and (kind := kind_within(event)) is not None:
            seconds[kind] += sum(kernel.duration for kernel in event.kernels) / 1e6
    return Parts(**seconds, other=whole - sum(seconds.values()))


def kind_of(name: str) -> PartKind | None:
    """What an operator such as `aten::mm` counts as by itself."""
    library, _, operator = name.rpartition("::")
    if not library:
        return None
    if ATTENTION in operator:
        return "attention"
    return "products" if operator in PRODUCTS else None


def kind_within(event: Any) -> PartKind | None:
    """What an operator counts as where it was called: as the outermost of its callers that counts does."""
    outermost: PartKind | None = None
    while event is not None:
        outermost = kind_of(event.name) or outermost
        event = event.cpu_parent
    return outermost
