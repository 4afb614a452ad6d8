"""A program of torch.export as ONNX, and that in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram


def write_onnx(program: ExportedProgram, path: Path, outputs: list[str]) -> None:
    """One file of ONNX, whose outputs have these names; weights that it cannot hold torch puts into one beside it.

    Raises ValueError where torch has no ONNX for an operation.
    """
    table: dict[Any, Any] = {
        torch.ops.aten.sort.stable: _stable_sort,
        torch.ops.aten.remainder.Scalar: _remainder,
    }
    try:
        written: Any = torch.onnx.export(
            program, dynamo=True, verbose=False, output_names=outputs, custom_translation_table=table
        )
    except Exception as error:  # torch has many
        cause = str(error.__cause__ or error).strip().partition("\n")[0][:250]
        raise ValueError(f"torch.onnx cannot take this model: {cause}") from None
    written.save(path)


def _stable_sort(x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """What torch has no ONNX for; of equal values TopK takes the one with the lower index first."""
    op = _operations()
    length = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    values, order = op.TopK(op.Cast(x, to=7), length, axis=dim, largest=int(descending), sorted=1)  # 7: int64
    return op.CastLike(values, x), order


def _remainder(x: Any, other: Any) -> Any:
    """The same where the divisor is a size of the batch, which torch's own does not take."""
    op = _operations()
    return op.Mod(x, op.CastLike(other, x))


def _operations() -> Any:
    from onnxscript import opset18

    return opset18


def session_of(path: Path) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """A file of ONNX as onnxruntime runs it on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = ([each.name for each in some] for some in (session.get_inputs(), session.get_outputs()))

    def run(ids: Tensor, modality_ids: Tensor) -> dict[str, Tensor]:
        given = dict(zip(inputs, (ids.numpy(), modality_ids.numpy()), strict=True))
        return dict(zip(outputs, map(torch.from_numpy, session.run(None, given)), strict=True))

    return run
