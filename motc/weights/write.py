"""Tensors to a safetensors file, one at a time, and a model's with the spec that they are of."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from math import prod
from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from motc.files import other_kind, replacing
from motc.ir.names import saved_shapes
from motc.weights.header import BYTES, header_bytes
from motc.weights.kept import kept_by, metadata_of
from motc.weights.read import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
Planned = Mapping[str, tuple[str, tuple[int, ...]]]
"""The dtype, as files call it, and the shape of each tensor that a file is to have."""


def write_weights(
    path: Path,
    planned: Planned,
    tensors: Iterable[tuple[str, Tensor | bytearray]],
    metadata: Mapping[str, str],
    check: Callable[[Path], None] = lambda aside: None,
) -> None:
    """A safetensors file, which appears whole or not at all; each tensor is written as it comes, in any order.

    `check` is given the file before it takes its place. Raises OSError, which names `path`, and whatever making a
    tensor or the check raises; nothing is left behind then.
    """
    in_order = sorted(planned.items(), key=lambda item: (-BYTES[item[1][0]], item[0]))  # wide numbers stand aligned
    header = header_bytes([(name, dtype, shape) for name, (dtype, shape) in in_order], metadata)
    starts, end = {}, len(header)
    for name, (dtype, shape) in in_order:
        starts[name], end = end, end + BYTES[dtype] * prod(shape)
    kind = other_kind(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"this is {kind}, and weights are a file", str(path))
    folder = Path(os.path.realpath(path)).parent
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < end:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {end:,} bytes", str(path))
    with replacing(path) as aside:
        with aside.open("rb+") as file:
            file.write(header)
            for name, tensor in tensors:
                assert isinstance(tensor, bytearray) or (NAMES[tensor.dtype], tuple(tensor.shape)) == planned[name], (
                    name
                )
                file.seek(starts.pop(name))
                _write(file, tensor)
                del tensor  # before the next one is made
        assert not starts, f"no tensor was made for {next(iter(starts))}"
        check(aside)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """The same of tensors that are there already."""
    planned = {name: (NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_weights(path, planned, tensors.items(), metadata)


def save(model: nn.Module, path: str | PathLike[str], *, tensors: Mapping[str, Tensor] | None = None) -> None:
    """The weights of a model as one safetensors file, with the spec that they are of.

    The model is one of `motc.load` or of a package of `motc build`. `tensors` are saved in place of its own, under
    the same names, such as averages of weights or what FSDP gathers. The file appears whole or not at all.
    Raises ValueError for what is no such model or has other tensors, and OSError, which names the path.
    """
    kept = kept_by(model)
    compiled = kept.model()
    given = dict(model.state_dict() if tensors is None else tensors)
    shapes = saved_shapes(compiled)
    for name in [*shapes, *given]:
        if name not in given or name not in shapes:
            raise ValueError(f"{name} is {'missing' if name in shapes else 'no parameter of the model'}")
        tensor = given[name]
        if hasattr(tensor, "full_tensor"):
            raise ValueError(f"{name} is in parts: gather them, and pass tensors=get_model_state_dict(...)")
        if tensor.is_meta or tensor.dtype not in NAMES or tuple(tensor.shape) != shapes[name]:
            what = "has no numbers" if tensor.is_meta else f"is {tensor.dtype} {list(tensor.shape)}"
            raise ValueError(f"{name} {what}; it should be {list(shapes[name])} of floating point")
    write_tensors(Path(path), given, metadata_of(kept))


def _write(file: io.BufferedRandom, tensor: Tensor | bytearray) -> None:
    if isinstance(tensor, bytearray):
        file.write(tensor)
        return
    tensor = tensor.detach().to("cpu").contiguous()
    size = tensor.numel() * tensor.element_size()
    if size:
        file.write(memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr())).cast("B"))
