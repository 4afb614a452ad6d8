"""A model as a program: of torch.export, compiled for this machine, or as ONNX; for batches of any size and mixture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from motc import __version__
from motc.exporting.batches import asked
from motc.exporting.deviation import NotTheSame, deviation, tolerance
from motc.exporting.given import need
from motc.files import new_folder
from motc.ir.identity import semantic_hash
from motc.ir.model import Model

Kind = Literal["pt2", "aoti", "onnx"]
FILES: Mapping[Kind, str] = {"pt2": "program.pt2", "aoti": "compiled.pt2", "onnx": "program.onnx"}
Answers = dict[str, Tensor]
"""Logits, as `logits`, or with own vocabularies as `logits_text`."""

Run = Callable[[Tensor, Tensor], Answers]
"""What was written, loaded again: ids and modality ids in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """On how many batches, and how far logits are off, relative to the largest."""

    batches: int
    logits: float


class Program(nn.Module):
    """What is exported: ids and modality ids int64 [B, S] in, tensors by names out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, modality_ids: Tensor) -> Answers:
        logits = self.network(input_ids, modality_ids).logits
        return {"logits": logits} if isinstance(logits, Tensor) else {f"logits_{name}": x for name, x in logits.items()}


def write_program(model: Model, network: Any, out: Path, kind: Kind) -> Compared:
    """Write a folder with the program and signature.json; nothing is there unless it answers as the model does.

    Raises ValueError for a model that cannot be exported, NotTheSame, OSError, and ImportError without ONNX.
    """
    given = [modality.name for modality in model.continuous_modalities()]
    if given:
        raise ValueError(
            f"a program takes ids alone, and {', '.join(given)} has none: build the package, or export to hf"
        )
    if kind == "onnx":
        need(("onnx", "onnxscript", "onnxruntime"), "onnx")
    # Documents are not asked of a program, nor positions; what was drawn for them is a batch all the same.
    batches = [(batch["input_ids"], batch["modality_ids"]) for batch in asked(model, torch.float32)]
    network.eval()
    program = exported(network, *batches[0])
    with new_folder(out) as folder:
        path = folder / FILES[kind]
        said = signature(model, network, batches[0])
        (folder / "signature.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        return compare(network, batches, _written(program, path, kind, [*said["outputs"]]), path.name)


def exported(network: nn.Module, input_ids: Tensor, modality_ids: Tensor) -> ExportedProgram:
    """The program of torch.export, traced with a batch. Raises ValueError where torch cannot trace the model."""
    sizes = {0: Dim("rows"), 1: Dim("columns")}
    try:
        with torch.no_grad():
            return torch.export.export(Program(network), (input_ids, modality_ids), dynamic_shapes=(sizes, sizes))
    except Exception as error:  # torch has many
        said = str(error).strip().partition("\n")[0][:250]
        raise ValueError(f"torch.export cannot take this model: {type(error).__name__}: {said}") from None


def _written(
    program: ExportedProgram, path: Path, kind: Kind, outputs: list[str]
) -> Callable[[Tensor, Tensor], Answers]:
    """Write the program, and load what was written as something that can be called."""
    match kind:
        case "pt2":
            torch.export.save(program, path)
            loaded: Any = torch.export.load(path).module()
            return lambda ids, modality_ids: dict(loaded(ids, modality_ids))
        case "aoti":
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            compiled: Any = torch._inductor.aoti_load_package(str(path))
            return lambda ids, modality_ids: dict(compiled(ids, modality_ids))
        case "onnx":
            from motc.exporting.onnx import session_of, write_onnx

            write_onnx(program, path, outputs)
            return session_of(path)
        case _:
            assert_never(kind)


@torch.no_grad()
def compare(network: nn.Module, batches: list[tuple[Tensor, Tensor]], run: Run, what: str) -> Compared:
    """Ask what was written, and the model. Raises NotTheSame."""
    limit, worst = tolerance(next(network.parameters()).dtype), 0.0
    for ids, modality_ids in batches:
        ids = ids.where(modality_ids >= 0, 0)
        answer = run(ids, modality_ids)
        for name, expected in Program(network)(ids, modality_ids).items():
            worst = max(worst, deviation(answer[name], expected))
    if not worst <= limit:
        raise NotTheSame(f"{what} is off by {worst:.1e} of the largest number, beyond {limit:.0e}")
    return Compared(batches=len(batches), logits=worst)


@torch.no_grad()
def signature(model: Model, network: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """What goes in and comes out, for who calls the program from another language."""
    inputs = {name: {"dtype": "int64", "shape": ["rows", "columns"]} for name in ("input_ids", "modality_ids")}
    outputs = {
        name: {"dtype": str(x.dtype).removeprefix("torch."), "shape": ["rows", "columns", x.shape[-1]]}
        for name, x in Program(network)(batch[0].where(batch[1] >= 0, 0), batch[1]).items()
    }
    return {
        "model": model.name,
        "semantic_hash": semantic_hash(model),
        "motc": __version__,
        "torch": torch.__version__,
        "strategy": model.strategy,
        "modality_ids": {**{name: place for place, name in enumerate(model.names)}, "padding": -1},
        "inputs": inputs,
        "outputs": outputs,
    }
