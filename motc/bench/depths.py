"""Whether compiling takes longer where there are more layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from motc.bench.portable.batches import make_batch, most_even
from motc.bench.portable.compiling import break_count, empty_caches, graph_count
from motc.bench.portable.settings import Settings
from motc.bench.portable.sides import Side
from motc.bench.portable.timing import Run
from motc.bench.run import Notify
from motc.bench.subject import COMPILED, Subject, data_modalities

TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthCompilation:
    """Seconds the first forward and backward take beyond the second, from empty caches; the better of two tries."""

    dtype: str
    side: str
    layers: int
    seconds: float
    graphs: int
    graph_breaks: int


def compile_depths(depths: Mapping[int, Subject], settings: Settings, notify: Notify) -> tuple[DepthCompilation, ...]:
    """Compile each side at each depth. `depths` holds the spec at each number of layers."""
    jobs = [
        (dtype, side, layers, subject)
        for dtype in settings.dtypes
        for side in COMPILED
        for layers, subject in depths.items()
    ]
    compilations = []
    for done, (dtype, side, layers, subject) in enumerate(jobs):
        notify(done / len(jobs), f"{dtype}: compiling {side} with {layers} layers")
        mixture = most_even(settings.mixtures)
        modalities = data_modalities(subject.ir(side))
        batch = make_batch(modalities, mixture, settings.batch, settings.seed, settings.device)
        seconds = []
        for _ in range(TRIES):
            with empty_caches(settings.device, settings.threads):
                graphs, breaks = graph_count(), break_count()  # after what starts the compiler
                network = subject.build(side, dtype, settings.device)
                run = partial(Side(network, settings.device).run_to_end, "backward", batch)
                seconds.append(_seconds(run) - _seconds(run))
        compilations.append(
            DepthCompilation(
                dtype=dtype,
                side=side,
                layers=layers,
                seconds=min(seconds),
                graphs=graph_count() - graphs,
                graph_breaks=break_count() - breaks,
            )
        )
    return tuple(compilations)


def _seconds(run: Run) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
