"""A model as a program: of torch.export, compiled for this machine, or as ONNX; for batches of any size and mixture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from motc import __version__
from motc.exporting.batches import Asked, arguments_of
from motc.exporting.deviation import NotTheSame, deviation, tolerance
from motc.exporting.given import need
from motc.exporting.inputs import PLACES, Input, dynamic_shapes, example, flat_name, inputs_of, questions
from motc.files import new_folder
from motc.ir.identity import semantic_hash
from motc.ir.model import Model

Kind = Literal["pt2", "aoti", "onnx"]
FILES: Mapping[Kind, str] = {"pt2": "program.pt2", "aoti": "compiled.pt2", "onnx": "program.onnx"}
Answers = dict[str, Tensor]
"""Logits, as `logits`, or with own vocabularies as `logits_text`; of latents `predictions_image`."""

Run = Callable[[Asked], Answers]
"""What was written, loaded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """On how many batches, and how far logits are off, relative to the largest."""

    batches: int
    logits: float


class Program(nn.Module):
    """What is exported: ids and modality ids int64 [B, S] in, and what else the model takes; tensors by names out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        position_ids: Tensor | None = None,
        features: dict[str, Tensor] | None = None,
        latents: dict[str, Tensor] | None = None,
        timesteps: dict[str, Tensor] | None = None,
        conditions: dict[str, dict[str, Tensor]] | None = None,
    ) -> Answers:
        more: dict[str, Any] = {
            "position_ids": position_ids,
            "features": features,
            "latents": latents,
            "timesteps": timesteps,
        }
        more |= {"conditions": conditions}
        said = {name: value for name, value in more.items() if value is not None}
        out = self.network(input_ids, modality_ids, **said)
        logits = (
            {"": out.logits} if isinstance(out.logits, Tensor) else {f"_{name}": x for name, x in out.logits.items()}
        )
        predictions = {f"predictions_{name}": x for name, x in getattr(out, "predictions", {}).items()}
        return {**{f"logits{name}": x for name, x in logits.items()}, **predictions}


def write_program(model: Model, network: Any, out: Path, kind: Kind) -> Compared:
    """Write a folder with the program and signature.json; nothing is there unless it answers as the model does.

    Raises ValueError for a model that cannot be exported, NotTheSame, OSError, and ImportError without ONNX.
    """
    if kind == "onnx":
        need(("onnx", "onnxscript", "onnxruntime"), "onnx")
    dtype = next(network.parameters()).dtype
    inputs = inputs_of(model, network, dtype)
    batches = questions(model, inputs, dtype)
    network.eval()
    first = example(model, inputs)
    program = exported(network, inputs, first)
    with new_folder(out) as folder:
        path = folder / FILES[kind]
        said = signature(model, network, inputs, first)
        (folder / "signature.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        return compare(network, batches, _written(program, path, kind, said), path.name)


def exported(network: nn.Module, inputs: tuple[Input, ...], batch: Asked) -> ExportedProgram:
    """The program of torch.export, traced with a batch. Raises ValueError where torch cannot trace the model."""
    try:
        with torch.no_grad():
            placed, named = _arguments(batch)
            return torch.export.export(Program(network), placed, named, dynamic_shapes=dynamic_shapes(inputs))
    except Exception as error:  # torch has many
        said = str(error).strip().partition("\n")[0][:250]
        raise ValueError(f"torch.export cannot take this model: {type(error).__name__}: {said}") from None


def _arguments(batch: Asked) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """What stands by its place, ids and modality ids, and what by its name."""
    named = arguments_of(batch)
    return (named.pop("input_ids"), named.pop("modality_ids")), named


def called(program: Callable[..., Answers], batch: Asked) -> Answers:
    """What a program says of a batch."""
    placed, named = _arguments(batch)
    return program(*placed, **named)


def _written(program: ExportedProgram, path: Path, kind: Kind, said: Mapping[str, Any]) -> Run:
    """Write the program, and load what was written as something that can be called."""
    match kind:
        case "pt2":
            torch.export.save(program, path)
            loaded: Any = torch.export.load(path).module()
            return lambda batch: dict(called(loaded, batch))
        case "aoti":
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            compiled: Any = torch._inductor.aoti_load_package(str(path))
            return lambda batch: dict(called(compiled, batch))
        case "onnx":
            from motc.exporting.onnx import session_of, write_onnx

            write_onnx(program, path, [*said["inputs"]], [*said["outputs"]])
            return session_of(path)
        case _:
            assert_never(kind)


@torch.no_grad()
def compare(network: nn.Module, batches: list[Asked], run: Run, what: str) -> Compared:
    """Ask what was written, and the model. Raises NotTheSame."""
    limit, worst = tolerance(next(network.parameters()).dtype), 0.0
    for batch in batches:
        answer = run(batch)
        for name, expected in called(Program(network), batch).items():
            worst = max(worst, deviation(answer[name], expected))
    if not worst <= limit:
        raise NotTheSame(f"{what} is off by {worst:.1e} of the largest number, beyond {limit:.0e}")
    return Compared(batches=len(batches), logits=worst)


@torch.no_grad()
def signature(model: Model, network: nn.Module, inputs: tuple[Input, ...], batch: Asked) -> dict[str, Any]:
    """What goes in, in this order, and comes out, for who calls the program from another language."""
    shapes = {f"predictions_{each.name.partition('/')[2]}": each.shown for each in inputs if each.is_latent}
    outputs = {
        name: {"dtype": _name(x.dtype), "shape": shapes.get(name, [*PLACES, x.shape[-1]])}
        for name, x in called(Program(network), batch).items()
    }
    return {
        "model": model.name,
        "semantic_hash": semantic_hash(model),
        "motc": __version__,
        "torch": torch.__version__,
        "strategy": model.strategy,
        "modality_ids": {**{name: place for place, name in enumerate(model.names)}, "padding": -1},
        "inputs": {flat_name(each.name): {"dtype": _name(each.dtype), "shape": each.shown} for each in inputs},
        "outputs": outputs,
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
