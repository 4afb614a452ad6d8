"""Peak memory of a run beyond what was allocated before it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.autograd.profiler import profile

from .timing import Run


def peak_bytes(run: Run, device: str) -> int:
    """The most bytes of tensors that were alive at once in a run, less those alive at its start.

    On CPU from torch's allocator as the profiler saw it, which knows nothing of scratch that libraries take for
    themselves; on CUDA from the caching allocator.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as recorded:
        run()
    assert recorded.kineto_results is not None, "the profiler recorded nothing"
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    return highest(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))


def highest(changes: Iterable[int]) -> int:
    """The highest sum on the way; 0 if none is above."""
    alive = most = 0
    for change in changes:
        alive += change
        most = max(most, alive)
    return most
