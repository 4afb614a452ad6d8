"""The pipeline, on one screen: text → tree → Spec → IR → passes → plan → Python. Nothing here imports torch.

What plans and writes is imported where a model is written: checking a spec, costing and diffing it take none of it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from motc import __version__
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.ir.verify import verify
from motc.lower import lower
from motc.passes import PASSES
from motc.schema import Checked, check
from motc.schema.resolve import Reader, resolve
from motc.source import SourceFile
from motc.syntax import read_file, write


def check_spec(
    spec: Path | SourceFile, overrides: Mapping[str, Any] | None = None, reader: Reader = read_file
) -> Checked:
    """Read, merge what it extends, override, and type. Raises SpecError."""
    return check(resolve(spec, overrides, reader))


def stages(checked: Checked, *, dense: bool = False, strategy: Strategy | None = None) -> Iterator[tuple[str, Model]]:
    """The IR after lowering and after each pass, verified, with the name of what made it.

    Raises SpecError, and ValueError for a strategy that there is not.
    """
    if strategy is not None and strategy not in get_args(Strategy):
        raise ValueError(f"strategy is {reprlib.repr(strategy)}; it may be {', '.join(get_args(Strategy))}")
    model = lower(checked, dense=dense, strategy=strategy or "sorted")
    verify(model, "lower")
    yield "lower", model
    for rewrite in PASSES:
        before, model = model, rewrite(model)
        verify(model, rewrite.__name__, before)
        yield rewrite.__name__, model


def final_ir(checked: Checked, *, dense: bool = False, strategy: Strategy | None = None) -> Model:
    """The IR after the last pass. Raises as `stages` does."""
    *_, (_, model) = stages(checked, dense=dense, strategy=strategy)
    return model


def compile_ir(
    spec: Path | SourceFile,
    overrides: Mapping[str, Any] | None = None,
    *,
    dense: bool = False,
    strategy: Strategy | None = None,
) -> Model:
    """The final IR of a spec, or of its dense twin. Raises SpecError."""
    return final_ir(check_spec(spec, overrides), dense=dense, strategy=strategy)


def spec_text(checked: Checked, *, dense: bool = False) -> str:
    """A spec as one `.mot` text: with what it extends, and with all overrides."""
    twin = "# Its dense twin: nothing untied but vocabularies.\n" if dense else ""
    return twin + write(checked.tree, "mot")


def generate(model: Model, spec: str = "") -> str:
    """The model of a final IR in a single file, which quotes the text of its spec."""
    from motc.emit import emit
    from motc.plan import plan

    return emit(plan(model), __version__, spec)


def generate_package(model: Model, spec: str = "", *, on_meshes: bool = True) -> dict[str, str]:
    """The text of each file of the model's package, by its name; the architecture quotes the text of its spec.

    With `on_meshes` there is what puts the model on a mesh of devices.
    """
    from motc.emit import emit_package
    from motc.plan import plan

    return emit_package(plan(model), __version__, spec, on_meshes=on_meshes)


def generate_parallel(model: Model) -> str:
    """What puts the model of a final IR on a mesh of devices, in a single file."""
    from motc.emit import emit_parallel

    return emit_parallel(model, __version__)
