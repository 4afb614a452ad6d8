"""The benchmark: for each dtype, models for inference, then models for training, warmed up and timed in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from motc.bench.batches import Batch, Mixture, make_batch, most_even, rehearsals
from motc.bench.compiling import Compilation, empty_caches, graph_count, warm_up
from motc.bench.kernels import layer_kernels
from motc.bench.memory import peak_bytes
from motc.bench.report import Cell, Phase, Report, SideCompilation, SideKernels, SideMemory, machine
from motc.bench.settings import Mode, Settings
from motc.bench.sides import COMPILED, SIDES, Side, Subject
from motc.bench.timing import interleave
from motc.ir.identity import semantic_hash

Notify = Callable[[float, str], None]
"""Called with the fraction that is done and what is being done."""


def bench(subject: Subject, settings: Settings, notify: Notify) -> Report:
    """Time the model, its dense twin and the reference side by side."""
    model, mixture = subject.ir(), settings.mixtures[0]
    with empty_caches(settings.device, settings.threads):
        work = _Work(subject, settings, notify)
        for dtype in settings.dtypes:
            for phase in work.phases:
                work.time(dtype, phase)
        for dtype in settings.dtypes:
            for side in COMPILED:
                work.tell(f"{dtype}: kernels of {side}")
                work.kernels.append(side_kernels(subject, settings, dtype, side))
        return Report(
            model=model.name,
            semantic_hash=semantic_hash(model),
            batch=settings.batch,
            sequence=settings.sequence,
            pairs=settings.pairs,
            spans={model.modalities[index].name: mixture.side**2 for index in mixture.continuous},
            machine=machine(settings.device),
            cells=tuple(work.cells),
            compilations=tuple(work.compilations),
            memory=tuple(work.memory.values()),
            kernels=tuple(work.kernels),
        )


def list_kernels(subject: Subject, settings: Settings, notify: Notify) -> tuple[SideKernels, ...]:
    """What is generated for the layers of the model and of its twin, in each dtype."""
    jobs = [(dtype, side) for dtype in settings.dtypes for side in COMPILED]
    found = []
    with empty_caches(settings.device, settings.threads):
        for done, (dtype, side) in enumerate(jobs):
            notify(done / len(jobs), f"{dtype}: kernels of {side}")
            found.append(side_kernels(subject, settings, dtype, side))
    return tuple(found)


def side_kernels(subject: Subject, settings: Settings, dtype: str, side: str) -> SideKernels:
    """What is generated for a side's layers, on a mixture of all modalities in which no two have as many tokens."""
    model = subject.ir(side)
    mixture = [*rehearsals(settings.mixtures), *settings.mixtures][0]
    batch = make_batch(model, mixture, settings.batch, settings.seed, settings.device)
    layers = layer_kernels(partial(subject.build, side, dtype, settings.device, compiled=False), batch, settings.device)
    return SideKernels(dtype=dtype, side=side, layers=layers)


class _Work:
    """What has been found so far, and how far it has come."""

    def __init__(self, subject: Subject, settings: Settings, notify: Notify) -> None:
        self.subject = subject
        self.settings = settings
        self.notify = notify
        self.model = subject.ir()
        self.cells: list[Cell] = []
        self.compilations: list[SideCompilation] = []
        self.memory: dict[tuple[str, str], SideMemory] = {}
        self.kernels: list[SideKernels] = []
        self.phases = dict.fromkeys(_phase(mode) for mode in settings.modes)
        self.rehearsals = rehearsals(settings.mixtures)
        warm = 2 * len(COMPILED) * (len(self.rehearsals) + len(settings.mixtures)) * len(self.phases)
        cells = len(settings.modes) * len(settings.mixtures)
        self._total = len(settings.dtypes) * (warm + cells + len(COMPILED))
        self._done = 0

    def tell(self, what: str) -> None:
        self.notify(self._done / self._total, what)
        self._done += 1

    def time(self, dtype: str, phase: Phase) -> None:
        """Warm up, time and weigh one set of networks, which no other dtype or phase has compiled for."""
        settings = self.settings
        networks = {side: self.subject.build(side, dtype, settings.device) for side in SIDES}
        sides = {name: Side(network, settings.device) for name, network in networks.items()}
        modes = [mode for mode in settings.modes if _phase(mode) == phase]
        for name in COMPILED:
            found = self._warm_up(sides[name], modes[-1], f"{dtype}: compiling {name} for {phase}")
            self.compilations.append(SideCompilation(dtype=dtype, phase=phase, side=name, compilation=found))
        for mode in modes:
            for mixture in settings.mixtures:
                self.tell(f"{dtype}: {mode} of {_words(mixture)}")
                self.cells.append(self._cell(sides, dtype, mode, mixture))
        even = self._batch(most_even(settings.mixtures))
        for name in SIDES:
            before = self.memory.get((dtype, name))
            peak = _peak(sides[name], even) if phase == "training" else (before.peak if before else None)
            self.memory[dtype, name] = SideMemory(dtype=dtype, side=name, parameters=_bytes(networks[name]), peak=peak)

    def _warm_up(self, side: Side, mode: Mode, what: str) -> Compilation:
        batches = [self._batch(mixture) for mixture in (*self.rehearsals, *self.settings.mixtures)]

        def run(batch: Batch) -> None:
            side.drop_gradients()
            side.run(mode, batch)

        return warm_up([partial(run, batch) for batch in batches], partial(self.tell, what))

    def _cell(self, sides: dict[str, Side], dtype: str, mode: Mode, mixture: Mixture) -> Cell:
        batch = self._batch(mixture)
        timed = {name: side.timed(mode, batch) for name, side in sides.items()}
        graphs = graph_count()
        interleave(timed, 1)
        seconds = interleave(timed, self.settings.pairs)
        names = (modality.name for modality in self.model.modalities)
        return Cell(
            dtype=dtype,
            mode=mode,
            tokens=dict(zip(names, mixture.counts, strict=True)),
            share=mixture.share,
            batch=self.settings.batch,
            seconds={name: tuple(found) for name, found in seconds.items()},
            graphs_meanwhile=graph_count() - graphs,
        )

    def _batch(self, mixture: Mixture) -> Batch:
        settings = self.settings
        return make_batch(self.model, mixture, settings.batch, settings.seed, settings.device)


def _peak(side: Side, batch: Batch) -> int:
    """Gradients and optimizer state are there before and are written in place, so that they do not count."""
    side.run("step", batch)
    side.network.zero_grad(set_to_none=False)
    return peak_bytes(partial(side.run, "step", batch), side.device)


def _bytes(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def _phase(mode: Mode) -> Phase:
    return "inference" if mode == "forward" else "training"


def _words(mixture: Mixture) -> str:
    return " + ".join(str(count) for count in mixture.counts)
