"""A folder that benchmarks specs where there is torch and nothing else: models, what measures them, and a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from motc import __version__, processor
from motc.bench import portable
from motc.bench.pack_readme import readme
from motc.bench.portable.pack import MANIFEST, MODELS, Job, Pack, PackedModel
from motc.bench.portable.settings import Mode, Settings
from motc.bench.subject import data_modalities
from motc.cost import cost
from motc.driver import final_ir
from motc.emit import emit
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.plan import plan
from motc.schema import Checked
from motc.source import SpecError

STRATEGIES: tuple[Strategy, ...] = ("sorted", "grouped", "blend", "reference")
STATIC: tuple[Strategy, ...] = ("grouped", "blend")
"""Whose layers read nothing back from the device, so that CUDA graphs can have them."""

SECONDS = 480.0
"""How long a run may take, unless it is told otherwise."""

COMPILE_SECONDS = {"inference": 6.0, "training": 12.0}
"""What compiling a model takes on a machine with a GPU, about."""

RUN = '''"""Check and time the models of this folder: python run.py --help."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import perf_counter

BEGUN = perf_counter()
os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler tells stderr of its start and stop

from portable.main import main
from processor import processor_name

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent, processor_name(), BEGUN))
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """A spec as it goes into a pack, under a name of its own; the last three as in `PackedModel`."""

    name: str
    checked: Checked
    batch: int
    sequence: int
    modalities: tuple[str, ...] | None = None
    ratios: tuple[float, ...] | None = None


def packed_models(packings: Sequence[Packing]) -> tuple[tuple[PackedModel, ...], dict[str, str]]:
    """Each spec's models for the manifest, and the text of their files by name. Raises SpecError, ValueError."""
    models: list[PackedModel] = []
    files: dict[str, str] = {}
    for packing in packings:
        sides = dict(_sides(packing.checked))
        plans = {side: plan(model) for side, model in sides.items()}
        files |= {f"{packing.name}_{side}.py": emit(planned, __version__) for side, planned in plans.items()}
        packed = PackedModel(
            name=packing.name,
            semantic_hash=semantic_hash(sides["sorted"]),
            modalities=data_modalities(sides["sorted"]),
            classes={side: planned.class_name for side, planned in plans.items()},
            routed=bool(sides["sorted"].routings),
            parameters=cost(sides["sorted"]).parameters,
            batch=packing.batch,
            sequence=packing.sequence,
            modalities_used=packing.modalities,
            ratios=packing.ratios,
        )
        packed.mixtures()  # says what is wrong with the data while there is somebody to hear it
        models.append(packed)
    return tuple(models), files


def pack_of(packing: Packing, settings: Settings) -> dict[str, str]:
    """The text of every file, by its path, of a pack of one spec. Raises SpecError, ValueError."""
    models, files = packed_models([packing])
    pack = Pack(
        motc=__version__,
        seconds=SECONDS,
        rounds=settings.pairs,
        models=models,
        jobs=jobs_for(models[0], settings.dtypes, settings.modes),
        seed=settings.seed,
    )
    return pack_files(pack, files)


def jobs_for(model: PackedModel, dtypes: Sequence[str], modes: Sequence[Mode]) -> tuple[Job, ...]:
    """Everything there is to do with one model, the most important first."""
    both = sum(COMPILE_SECONDS.values())
    jobs = [Job(kind="check", model=model.name, seconds=6)]
    for strategy in ("sorted", "reference", "grouped", "blend"):
        for dtype in dtypes:
            if strategy not in model.classes or (strategy, dtype) == ("grouped", "float32"):
                continue  # torch compiles its grouped product in bfloat16 only
            seconds = {"sorted": 2 * both, "reference": 0.0}.get(strategy, both) + 10
            timed = Job(kind="time", model=model.name, strategy=strategy, dtype=dtype, seconds=seconds)
            jobs.append(replace(timed, modes=tuple(modes)))
    graphs = tuple(mode for mode in modes if mode != "step")
    for strategy in STATIC:
        if strategy in model.classes and "bfloat16" in dtypes and graphs:
            jobs.append(Job(kind="graphs", model=model.name, strategy=strategy, modes=graphs, seconds=both + 5))
    if all(modality.channels is None for modality in model.modalities):
        jobs.append(Job(kind="decode", model=model.name, batches=(1, 64), dtype=dtypes[-1], seconds=15))
    jobs.append(Job(kind="products", model=model.name, seconds=12))
    return tuple(jobs)


def _sides(checked: Checked) -> Iterator[tuple[str, Model]]:
    """The dense twin, and the model in each strategy that can run it."""
    twin = final_ir(checked, dense=True)
    yield "dense", twin
    for strategy in STRATEGIES:
        try:
            model = final_ir(checked, strategy=strategy)
        except SpecError:
            if strategy in STATIC:  # it does not run every model
                continue
            raise
        yield strategy, model


def pack_files(pack: Pack, models: Mapping[str, str]) -> dict[str, str]:
    """The text of every file of a pack by its path in it."""
    measuring = sorted(Path(portable.__file__).parent.glob("*.py"))
    return {
        "README.md": readme(pack),
        "run.py": RUN,
        MANIFEST: pack.to_json(),
        "processor.py": Path(processor.__file__).read_text(encoding="utf-8"),
        **{f"portable/{path.name}": path.read_text(encoding="utf-8") for path in measuring},
        **{f"{MODELS}/{name}": text for name, text in models.items()},
    }
