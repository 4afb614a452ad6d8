"""A program of torch.export as ONNX, and that in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from motc.exporting.batches import Asked
from motc.exporting.inputs import flat_name


def write_onnx(program: ExportedProgram, path: Path, inputs: list[str], outputs: list[str]) -> None:
    """One file of ONNX, whose inputs and outputs have these names; weights that it cannot hold are in one beside it.

    Raises ValueError where torch has no ONNX for an operation.
    """
    table: dict[Any, Any] = {
        torch.ops.aten.sort.stable: _stable_sort,
        torch.ops.aten.remainder.Scalar: _remainder,
        torch.ops.aten.cummax.default: _largest_so_far,
        torch.ops.aten.searchsorted.Tensor: _count_below,
    }
    try:
        written: Any = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
            custom_translation_table=table,
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


def _largest_so_far(x: Any, dim: int) -> Any:
    """Of rows [B, S] the largest number up to each place; torch's second result, where it stood, is not asked for."""
    assert dim == 1
    op = _operations()
    length = op.Gather(op.Shape(x), op.Constant(value_ints=[1]))
    before = op.Cast(op.Trilu(op.Expand(op.Constant(value_int=1), op.Concat(length, length, axis=0)), upper=0), to=9)
    none = op.CastLike(op.Constant(value_int=-(2**62)), x)  # 9: bool
    largest = op.ReduceMax(
        op.Where(before, op.Unsqueeze(x, op.Constant(value_ints=[1])), none), op.Constant(value_ints=[2]), keepdims=0
    )
    return largest, largest


def _count_below(x: Any, values: Any, right: bool = False) -> Any:
    """Of values [..., T] how many of the sorted x [..., S] are below each, or not above it."""
    op = _operations()
    x, values = op.Unsqueeze(x, op.Constant(value_ints=[-2])), op.Unsqueeze(values, op.Constant(value_ints=[-1]))
    below = op.LessOrEqual(x, values) if right else op.Less(x, values)
    return op.ReduceSum(op.Cast(below, to=7), op.Constant(value_ints=[-1]), keepdims=0)  # 7: int64


def _operations() -> Any:
    from onnxscript import opset18

    return opset18


def session_of(path: Path) -> Callable[[Asked], dict[str, Tensor]]:
    """A file of ONNX as onnxruntime runs it on the CPU; what it has no use for is not among its inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = ([each.name for each in some] for some in (session.get_inputs(), session.get_outputs()))

    def run(batch: Asked) -> dict[str, Tensor]:
        flat = {flat_name(name): x.numpy() for name, x in batch.items()}
        given = {name: flat[name] for name in inputs}
        return dict(zip(outputs, map(torch.from_numpy, session.run(None, given)), strict=True))

    return run
