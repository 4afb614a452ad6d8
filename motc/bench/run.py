"""The benchmark: for each dtype, models for inference, then models for training, warmed up and timed in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from motc.bench.kernels import layer_kernels
from motc.bench.portable.batches import DrawnBatch, ModalityMix, make_batch, most_even, rehearsals
from motc.bench.portable.cells import Cell
from motc.bench.portable.compiling import empty_caches
from motc.bench.portable.rounds import parameter_bytes, step_peak_bytes, time_sides, warm_up_side
from motc.bench.portable.settings import Phase, Settings, phase_of
from motc.bench.portable.sides import Side
from motc.bench.report import Report, SideCompilation, SideKernels, SideMemory, machine
from motc.bench.subject import COMPILED, SIDES, Subject, data_modalities
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
    """The kernels of the layers of the model and of its twin, in each dtype."""
    jobs = [(dtype, side) for dtype in settings.dtypes for side in COMPILED]
    kernels = []
    with empty_caches(settings.device, settings.threads):
        for done, (dtype, side) in enumerate(jobs):
            notify(done / len(jobs), f"{dtype}: kernels of {side}")
            kernels.append(side_kernels(subject, settings, dtype, side))
    return tuple(kernels)


def side_kernels(subject: Subject, settings: Settings, dtype: str, side: str) -> SideKernels:
    """The kernels of a side's layers, on a mixture of all modalities, each with another number of tokens."""
    model = subject.ir(side)
    mixture = [*rehearsals(settings.mixtures), *settings.mixtures][0]
    batch = make_batch(data_modalities(model), mixture, settings.batch, settings.seed, settings.device)
    layers = layer_kernels(partial(subject.build, side, dtype, settings.device, compiled=False), batch, settings.device)
    return SideKernels(dtype=dtype, side=side, layers=layers)


class _Work:
    """The measurements so far, and how far the benchmark has come."""

    def __init__(self, subject: Subject, settings: Settings, notify: Notify) -> None:
        self.subject = subject
        self.settings = settings
        self.notify = notify
        self.modalities = data_modalities(subject.ir())
        self.cells: list[Cell] = []
        self.compilations: list[SideCompilation] = []
        self.memory: dict[tuple[str, str], SideMemory] = {}
        self.kernels: list[SideKernels] = []
        self.phases = dict.fromkeys(phase_of(mode) for mode in settings.modes)
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
        modes = [mode for mode in settings.modes if phase_of(mode) == phase]
        for name in COMPILED:
            batches = [self._batch(mixture) for mixture in (*self.rehearsals, *settings.mixtures)]
            notify = partial(self.tell, f"{dtype}: compiling {name} for {phase}")
            compilation = warm_up_side(sides[name], modes[-1], batches, notify)
            self.compilations.append(SideCompilation(dtype=dtype, phase=phase, side=name, compilation=compilation))
        for mode in modes:
            for mixture in settings.mixtures:
                self.tell(f"{dtype}: {mode} of {_words(mixture)}")
                cell = time_sides(
                    sides,
                    mode,
                    mixture,
                    self._batch(mixture),
                    modalities=self.modalities,
                    dtype=dtype,
                    rounds=settings.pairs,
                    profiled=COMPILED,
                    profiled_rounds=-(-settings.pairs // 3),
                )
                self.cells.append(cell)
        even = self._batch(most_even(settings.mixtures))
        for name in SIDES:
            before = self.memory.get((dtype, name))
            peak = before.peak if before else None
            if phase == "training":
                peak = step_peak_bytes(sides[name], even)
            parameters = parameter_bytes(networks[name])
            self.memory[dtype, name] = SideMemory(dtype=dtype, side=name, parameters=parameters, peak=peak)

    def _batch(self, mixture: ModalityMix) -> DrawnBatch:
        settings = self.settings
        return make_batch(self.modalities, mixture, settings.batch, settings.seed, settings.device)


def _words(mixture: ModalityMix) -> str:
    return " + ".join(str(count) for count in mixture.counts)
