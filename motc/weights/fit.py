"""Whether what files hold are the parameters of a model, from names and shapes alone. Nothing here imports torch."""

from __future__ import annotations

from motc.source import Diagnostic, SpecError
from motc.source.listing import listed
from motc.weights.header import Entry, refuse
from motc.weights.stored import Stored

FLOATS = ("F64", "F32", "F16", "BF16")
"""The dtypes that weights may have, as files call them."""

TOLD = 8


def check_dtype(name: str, entry: Entry) -> None:
    """That a tensor is of floating point. Raises SpecError."""
    if entry.dtype not in FLOATS:
        refuse(f"{entry.path}: {name} is of dtype {entry.dtype}; weights may be {', '.join(FLOATS)}")


def check_fit(stored: Stored, shapes: dict[str, tuple[int, ...]]) -> None:
    """That what is stored are a model's parameters, all and no others. Raises SpecError, which names what is not."""
    tensors = stored.tensors
    mistakes = listed("no tensor for the parameter", [name for name in shapes if name not in tensors])
    mistakes += listed("no place for the tensor", [name for name in tensors if name not in shapes])
    both = {name: entry for name, entry in tensors.items() if name in shapes}
    misshapen = [name for name, entry in both.items() if entry.shape != shapes[name]]
    mistakes += [f"{name} {list(both[name].shape)} should be {list(shapes[name])}" for name in misshapen[:TOLD]]
    mistakes += [f"and {len(misshapen) - TOLD} more"] if len(misshapen) > TOLD else []
    mistakes += listed("not of floating point", [name for name, entry in both.items() if entry.dtype not in FLOATS])
    if mistakes:
        message = f"{stored.path} does not fit the model: {'; '.join(mistakes)}"
        help_ = "docs/parameters.md has the names; motc import brings weights of other programs in"
        raise SpecError(Diagnostic(code="MOT101", message=message, span=None, help=help_))
