"""The jobs of a pack. What one finds goes into a dict as it comes, so that a job that is cut off leaves something."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import torch
from torch._dynamo.utils import counters

from .batches import DrawnBatch, ModalityMix, make_batch, most_even, rehearsals
from .cells import BASE
from .checking import Truth, check, find_truth
from .decoding import decode
from .pack import Job, Pack, PackedModel, build
from .products import time_products
from .rounds import parameter_bytes, step_peak_bytes, time_sides, warm_up_side
from .settings import DTYPES, Phase, phase_of
from .sides import Side
from .synchronisations import count_synchronisations

REFERENCE = "reference"
Entries = dict[str, list[dict[str, Any]]]
"""What a job has measured, by what it is: `checks`, `cells`, `compilations`, `memory`, `decoding`, `products`."""


class LeftOut(Exception):
    """A job, or the rest of it, is not done, and why."""


@dataclass(slots=True, kw_only=True)
class Workshop:
    """Where jobs are done. `save` is called whenever something was measured, `seconds_left` before something is begun.

    `quick` compiles for tests: graphs are captured, but no kernels are made of them. `one_size`: what is timed is the
    most even mixture alone, compiled for its sizes.
    """

    folder: Path
    pack: Pack
    device: str
    quick: bool
    save: Callable[[], None]
    seconds_left: Callable[[], float]
    one_size: bool = False
    _dense: dict[tuple[str, str, Phase], Side] = field(default_factory=dict)  # that this job or a later one needs
    _weighed: set[tuple[str, str, str]] = field(default_factory=set)

    def do(self, job: Job, entries: Entries) -> None:
        """Raises LeftOut, or whatever goes wrong."""
        model = self.pack.model(job.model)
        to_come = self.pack.jobs[self.pack.jobs.index(job) :]
        needed = {key for each in to_come for key in _twins(each)}
        self._dense = {key: side for key, side in self._dense.items() if key in needed}
        match job.kind:
            case "check":
                self._check(model, entries)
            case "time":
                self._time(model, job, entries)
            case "graphs":
                self._graphs(model, job, entries)
            case "decode":
                self._decode(model, job, entries)
            case "products":
                self._products(entries)
            case _:
                assert_never(job.kind)

    def _check(self, model: PackedModel, entries: Entries) -> None:
        """Not compiled, on the most even mixture and on the first; what is timed is checked again when compiled."""
        for dtype in DTYPES:
            for mixture in dict.fromkeys((most_even(model.mixtures()), model.mixtures()[0])):
                batch = self._batch(model, mixture)
                truth = self._truth(model, dtype, batch)
                for strategy in model.classes:
                    if strategy != BASE and not (strategy == REFERENCE and dtype == "float32"):
                        make = partial(self._side, model, strategy, dtype)
                        self._compare(make, batch, truth, _check_entry(model, strategy, dtype, False, mixture), entries)

    def _truth(self, model: PackedModel, dtype: str, batch: DrawnBatch) -> Truth:
        return find_truth(self._side(model, REFERENCE, dtype), batch)

    def _side(self, model: PackedModel, side: str, dtype: str) -> Side:
        return Side(build(self.folder, model, side, dtype, self.device, self.pack.seed), self.device)

    def _time(self, model: PackedModel, job: Job, entries: Entries) -> None:
        for phase in dict.fromkeys(phase_of(mode) for mode in job.modes):
            dense = self._dense_side(model, job, phase, entries)
            side = self._side(model, job.strategy, job.dtype)
            if job.strategy != REFERENCE:
                self._compile(side, {"backend": "eager"} if self.quick else {})
                self._warm_up(model, job, side, job.strategy, phase, entries)
                if phase == "training":
                    self._check_compiled(model, job, side, job.strategy, entries)
            self._cells(model, replace(job, modes=_modes(job, phase)), {job.strategy: side, BASE: dense}, entries)
            if phase == "training":
                self._weigh(model, job, {job.strategy: side, BASE: dense}, entries)

    def _graphs(self, model: PackedModel, job: Job, entries: Entries) -> None:
        if not self.device.startswith("cuda"):
            raise LeftOut("CUDA graphs need CUDA")
        name = f"{job.strategy}, CUDA graphs"
        mixture = most_even(model.mixtures())
        for phase in dict.fromkeys(phase_of(mode) for mode in job.modes):
            dense = self._dense_side(model, job, phase, entries)
            side = self._side(model, job.strategy, job.dtype)
            self._compile(side, {"mode": "reduce-overhead"})
            before = int(counters["inductor"]["cudagraph_skips"])
            self._warm_up(model, job, side, name, phase, entries, (mixture,))
            entries["compilations"][-1]["cuda_graphs_skipped"] = int(counters["inductor"]["cudagraph_skips"]) - before
            if phase == "training":
                self._check_compiled(model, job, side, name, entries)
            modes = replace(job, modes=_modes(job, phase))
            self._cells(model, modes, {name: side, BASE: dense}, entries, (mixture,), profiled=False)

    def _decode(self, model: PackedModel, job: Job, entries: Entries) -> None:
        ours, dense = (self._side(model, side, job.dtype).network.eval() for side in (job.strategy, BASE))
        for batch in job.batches:
            for mixed in (False, True) if batch > 1 else (False,):
                self._need_time()
                timed = decode(ours, dense, self.device, batch=batch, mixed=mixed, **dict(self.pack.decode))
                entries.setdefault("decoding", []).append({"dtype": job.dtype, **timed.to_json()})
                self.save()

    def _products(self, entries: Entries) -> None:
        for dtype in DTYPES:
            for pieces in (2, 3):
                for mode in ("forward", "backward"):
                    self._need_time()
                    times = time_products(pieces=pieces, dtype=dtype, mode=mode, **dict(self.pack.products))
                    entries.setdefault("products", []).extend(each.to_json() for each in times)
                    self.save()

    def _dense_side(self, model: PackedModel, job: Job, phase: Phase, entries: Entries) -> Side:
        """The twin, compiled when it is needed first; it serves all strategies."""
        key = (model.name, job.dtype, phase)
        if key not in self._dense:
            side = self._side(model, BASE, job.dtype)
            self._compile(side, {"backend": "eager"} if self.quick else {})
            self._warm_up(model, job, side, BASE, phase, entries)
            self._dense[key] = side
        return self._dense[key]

    def _compile(self, side: Side, how: Mapping[str, Any]) -> None:
        network: Any = side.network
        network.compile(**how, **({"dynamic": False} if self.one_size else {}))

    def _warm_up(
        self,
        model: PackedModel,
        job: Job,
        side: Side,
        name: str,
        phase: Phase,
        entries: Entries,
        warm: tuple[ModalityMix, ...] | None = None,
    ) -> None:
        mixtures = self._mixtures(model)
        rehearsed = () if self.one_size else rehearsals(mixtures)
        batches = [self._batch(model, each) for each in warm or (*rehearsed, *mixtures)]
        compilation = warm_up_side(side, "forward" if phase == "inference" else "backward", batches, lambda: None)
        entry = {"dtype": job.dtype, "phase": phase, "side": name, **asdict(compilation)}
        entries.setdefault("compilations", []).append(entry)
        self.save()

    def _check_compiled(self, model: PackedModel, job: Job, side: Side, name: str, entries: Entries) -> None:
        mixture = most_even(model.mixtures())
        batch = self._batch(model, mixture)
        entry = _check_entry(model, name, job.dtype, True, mixture)
        try:
            truth = self._truth(model, job.dtype, batch)
        except RuntimeError as error:  # too little memory for it, which need not keep anything from being timed
            entry["error"] = first_line(error)
            entries.setdefault("checks", []).append(entry)
            self.save()
        else:
            self._compare(lambda: side, batch, truth, entry, entries)

    def _compare(
        self, make: Callable[[], Side], batch: DrawnBatch, truth: Truth, entry: dict[str, Any], entries: Entries
    ) -> None:
        """A strategy that the device does not have keeps no other from being checked."""
        try:
            entry |= asdict(check(make(), batch, truth, entry["dtype"]))
        except RuntimeError as error:
            entry["error"] = first_line(error)
        entries.setdefault("checks", []).append(entry)
        self.save()

    def _cells(
        self,
        model: PackedModel,
        job: Job,
        sides: Mapping[str, Side],
        entries: Entries,
        only: tuple[ModalityMix, ...] | None = None,
        profiled: bool = True,
    ) -> None:
        """The reference has a third of the rounds: it is slow, and so far off that less tells.

        On CUDA one profile will do: what it has are seconds of kernels, and to take one is slow.
        """
        third = -(-self.pack.rounds // 3)
        for mode in job.modes:
            for mixture in only or self._mixtures(model):
                self._need_time()
                batch = self._batch(model, mixture)
                cell = time_sides(
                    sides,
                    mode,
                    mixture,
                    batch,
                    modalities=model.modalities,
                    dtype=job.dtype,
                    rounds=third if REFERENCE in sides else self.pack.rounds,
                    profiled=tuple(sides) if profiled else (),
                    profiled_rounds=1 if self.device.startswith("cuda") else third,
                )
                waits = {}
                for name, side in sides.items():
                    side.drop_gradients()
                    waits[name] = count_synchronisations(partial(side.run, mode, batch), self.device)
                    side.wait()
                entries.setdefault("cells", []).append({**cell.to_json(), "synchronisations": waits})
                self.save()

    def _weigh(self, model: PackedModel, job: Job, sides: Mapping[str, Side], entries: Entries) -> None:
        batch = self._batch(model, most_even(model.mixtures()))
        for name, side in sides.items():
            key = (model.name, job.dtype, name)
            if key in self._weighed:  # dense takes part in several jobs
                continue
            self._weighed.add(key)
            entry: dict[str, Any] = {"dtype": job.dtype, "side": name}
            entry |= {"parameter_bytes": parameter_bytes(side.network), "peak_step_bytes": step_peak_bytes(side, batch)}
            entries.setdefault("memory", []).append(entry)
        self.save()

    def _mixtures(self, model: PackedModel) -> tuple[ModalityMix, ...]:
        return (most_even(model.mixtures()),) if self.one_size else model.mixtures()

    def _batch(self, model: PackedModel, mixture: ModalityMix) -> DrawnBatch:
        return make_batch(model.modalities, mixture, model.batch, self.pack.seed, self.device)

    def _need_time(self) -> None:
        if self.seconds_left() <= 0:
            raise LeftOut("no time was left for the rest")


def forget() -> None:
    """Give back what a job had on the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def _check_entry(model: PackedModel, strategy: str, dtype: str, compiled: bool, mixture: ModalityMix) -> dict[str, Any]:
    """What is checked. It is not `judged` where rounding may send a token to another expert than the reference's."""
    judged = not (model.routed and dtype == "bfloat16")
    tokens = list(mixture.counts)
    return {"strategy": strategy, "dtype": dtype, "compiled": compiled, "tokens": tokens, "judged": judged}


def _twins(job: Job) -> set[tuple[str, str, Phase]]:
    """The compiled dense twins that a job is timed beside: of which model, in which dtype and phase."""
    return {(job.model, job.dtype, phase_of(mode)) for mode in job.modes}


def _modes(job: Job, phase: Phase) -> tuple[Any, ...]:
    return tuple(mode for mode in job.modes if phase_of(mode) == phase)
