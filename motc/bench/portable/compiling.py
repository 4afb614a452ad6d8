"""What compiling a network takes: seconds, graphs and graph breaks, from caches that start empty."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache

from .timing import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """`first_seconds`: of the first batch; `seconds`: of all batches, whose sizes ask for further graphs.

    Of the `graphs`, `recompilations` were made after the first batch.
    """

    first_seconds: float
    seconds: float
    graphs: int
    recompilations: int
    graph_breaks: int


def warm_up(runs: Sequence[Run], notify: Run, clock: Callable[[], float] = perf_counter) -> Compilation:
    """Run everything twice, from empty caches: what a run takes beyond the fastest is what compiling took.

    A run must be over, also on the device, when it returns.
    """
    graphs, breaks = [graph_count()], break_count()
    seconds = []
    with fresh_cache():  # another model's kernels must not be found there
        for run in (*runs, *runs):
            start = clock()
            run()
            seconds.append(clock() - start)
            graphs.append(graph_count())
            notify()
    beyond = [taken - min(seconds) for taken in seconds]
    return Compilation(
        first_seconds=beyond[0],
        seconds=sum(beyond),
        graphs=graphs[-1] - graphs[0],
        recompilations=graphs[-1] - graphs[1],
        graph_breaks=break_count() - breaks,
    )


def graph_count() -> int:
    """Graphs compiled so far in this process."""
    return int(counters["stats"]["unique_graphs"])


def break_count() -> int:
    """Graph breaks so far in this process."""
    return sum(counters["graph_break"].values())


@contextlib.contextmanager
def empty_caches(device: str, threads: int | None = None) -> Iterator[None]:
    """Compiled code goes to a new folder, removed in the end. The compiler itself has been started once.

    `threads` is torch's number of threads meanwhile, which compiled code for the CPU is made for.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        with fresh_cache():
            torch.compile(torch.cos)(torch.ones(64, device=device))  # headers precompiled, a driver loaded, …
            yield
    finally:
        torch.set_num_threads(before)
