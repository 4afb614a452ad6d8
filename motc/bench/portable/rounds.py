"""Networks warmed up, and timed in turns on one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn

from .batches import DataModality, DrawnBatch, ModalityMix
from .cells import Cell
from .compiling import Compilation, graph_count, warm_up
from .memory import peak_bytes
from .parts import Parts, profile_run
from .settings import Mode
from .sides import Side
from .timing import Run, interleave, stopwatch


def warm_up_side(side: Side, mode: Mode, batches: Sequence[DrawnBatch], notify: Run) -> Compilation:
    """What compiling a side for these batches takes."""

    def run(batch: DrawnBatch) -> None:
        side.drop_gradients()
        side.run_to_end(mode, batch)

    return warm_up([partial(run, batch) for batch in batches], notify)


def time_sides(
    sides: Mapping[str, Side],
    mode: Mode,
    mixture: ModalityMix,
    batch: DrawnBatch,
    *,
    modalities: Sequence[DataModality],
    dtype: str,
    rounds: int,
    profiled: Sequence[str],
    profiled_rounds: int,
) -> Cell:
    """The sides timed in turns, after one run of each; then those named in `profiled`, profiled in turns."""
    device = next(iter(sides.values())).device
    timed = {name: side.timed(mode, batch) for name, side in sides.items()}
    graphs = graph_count()
    interleave(timed, 1, stopwatch(device))
    seconds = interleave(timed, rounds, stopwatch(device))
    names = (modality.name for modality in modalities)
    return Cell(
        dtype=dtype,
        mode=mode,
        tokens=dict(zip(names, mixture.counts, strict=True)),
        share=mixture.share,
        batch=len(batch.modality_ids),
        seconds={name: tuple(each) for name, each in seconds.items()},
        graphs_meanwhile=graph_count() - graphs,
        parts=_parts({name: sides[name] for name in profiled}, mode, batch, profiled_rounds),
    )


def _parts(sides: Mapping[str, Side], mode: Mode, batch: DrawnBatch, rounds: int) -> dict[str, tuple[Parts, ...]]:
    profiles: dict[str, list[Parts]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(list(sides)):
            side = sides[name]
            side.drop_gradients()
            profiles[name].append(profile_run(partial(side.run_to_end, mode, batch), side.device))
    return {name: tuple(parts) for name, parts in profiles.items()}


def step_peak_bytes(side: Side, batch: DrawnBatch) -> int:
    """Peak memory of a step. Gradients and optimizer state are there before and written in place: they do not count."""
    side.run_to_end("step", batch)
    side.network.zero_grad(set_to_none=False)
    return peak_bytes(partial(side.run_to_end, "step", batch), side.device)


def parameter_bytes(network: nn.Module) -> int:
    """Bytes of all parameters."""
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
