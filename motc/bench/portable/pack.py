"""What a pack holds: models as generated files, what is to be done with them, and how the two are read."""

from __future__ import annotations

import itertools
import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Literal, assert_never, cast, get_args

import torch
from torch import nn

from .batches import DataModality, ModalityMix, mixtures
from .settings import DTYPES, Mode

MANIFEST = "pack.json"
MODELS = "models"
JobKind = Literal["check", "time", "graphs", "decode", "products"]
KINDS: tuple[JobKind, ...] = get_args(JobKind)

_COUNTER = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedModel:
    """A model, its twin and its strategies, and the data it is tried on.

    `classes` has the class in `models/NAME_SIDE.py` for each side: "dense", and each strategy that applies.
    `routed`: it has experts, and rounding may send a token to another one. `modalities_used` and `ratios` are as
    `--modalities` and `--ratios` of `motc bench`; None: its defaults.
    """

    name: str
    semantic_hash: str
    modalities: tuple[DataModality, ...]
    classes: Mapping[str, str]
    routed: bool
    parameters: int
    batch: int
    sequence: int
    modalities_used: tuple[str, ...] | None = None
    ratios: tuple[float, ...] | None = None

    def mixtures(self) -> tuple[ModalityMix, ...]:
        """What the rows hold."""
        names = [modality.name for modality in self.modalities]
        continuous = [modality.name for modality in self.modalities if modality.channels is not None]
        return mixtures(names, self.sequence, self.ratios, self.modalities_used, continuous)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One part of a run, about so many seconds on the device it is meant for.

    `check` compares all strategies with the reference; `time` times one beside dense, `graphs` in CUDA graphs;
    `decode` generates; `products` times the products of one layer alone, on the processor.
    """

    kind: JobKind
    model: str
    seconds: float
    strategy: str = "sorted"
    dtype: str = "bfloat16"
    modes: tuple[Mode, ...] = ()
    batches: tuple[int, ...] = ()

    def __str__(self) -> str:
        match self.kind:
            case "check":
                return f"{self.model}: every strategy against the reference"
            case "time":
                return f"{self.model}: {self.strategy} beside dense, {self.dtype}"
            case "graphs":
                return f"{self.model}: {self.strategy} in CUDA graphs beside dense, {self.dtype}"
            case "decode":
                return f"{self.model}: decoding, {self.dtype}"
            case "products":
                return "products of one layer alone, on the processor"
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Models, and jobs with the most important first. `seconds`: how long all of it may take."""

    motc: str
    seconds: float
    rounds: int
    models: tuple[PackedModel, ...]
    jobs: tuple[Job, ...]
    seed: int = 0
    decode: Mapping[str, int] = field(default_factory=lambda: {"prompt": 32, "steps": 32, "rounds": 4})
    products: Mapping[str, int] = field(
        default_factory=lambda: {"tokens": 2048, "width": 256, "hidden": 704, "rounds": 50}
    )

    def model(self, name: str) -> PackedModel:
        return next(model for model in self.models if model.name == name)

    def to_json(self) -> str:
        """The manifest, `pack.json`."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_pack(folder: Path) -> Pack:
    """The pack whose manifest lies in a folder. Raises OSError, or TypeError or KeyError for one of another version."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    models = [
        PackedModel(
            **{
                **model,
                "modalities": tuple(DataModality(**modality) for modality in model["modalities"]),
                "modalities_used": _tuple(model["modalities_used"]),
                "ratios": _tuple(model["ratios"]),
            }
        )
        for model in manifest["models"]
    ]
    jobs = [Job(**{**job, "modes": tuple(job["modes"]), "batches": tuple(job["batches"])}) for job in manifest["jobs"]]
    return Pack(**{**manifest, "models": tuple(models), "jobs": tuple(jobs)})


def build(folder: Path, model: PackedModel, side: str, dtype: str, device: str, seed: int) -> nn.Module:
    """A new network of a side. Each has classes of its own, so that no two meet in the compiler's limits.

    Sides that have a parameter have the same numbers in it, and no two parameters are alike.
    """
    name = f"{model.name}_{side}"
    spec = spec_from_file_location(f"{name}_{next(_COUNTER)}", folder / MODELS / f"{name}.py")
    assert spec is not None and spec.loader is not None, f"{name}.py is no Python file"
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with torch.device("meta"):
        network = cast(nn.Module, getattr(module, model.classes[side])()).to(DTYPES[dtype])
    network = network.to_empty(device=device)
    fill(network, seed)
    return network


@torch.no_grad()
def fill(network: nn.Module, seed: int) -> None:
    """Draw each parameter on its device, seeded by its name: 1 on the average for norms, else 0, deviation 0.02.

    `init_weights` of a generated model draws on the CPU, which takes long for large ones, and all towers alike, so that
    one taken for another would not be seen.
    """
    for name, parameter in network.named_parameters():
        generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        is_norm = parameter.ndim == 1 and not name.endswith("bias")
        parameter.normal_(1.0 if is_norm else 0.0, 0.02, generator=generator)


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)
