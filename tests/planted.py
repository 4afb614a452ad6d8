"""Generated models, also with a mistake in their text, and what validation says of them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import nn

from motc import __version__
from motc.driver import final_ir
from motc.emit import emit
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.loading import import_source, instantiate
from motc.plan import plan
from motc.schema import check
from motc.source import SourceFile
from motc.syntax import read
from motc.validate import Report, validate
from tests.fuzz.properties import twin_taken_as_right, validated


class Compiled(NamedTuple):
    """A spec's final IR and that of its dense twin, the generated text and its class, and the twin's module."""

    sparse: Model
    dense: Model
    source: str
    class_name: str
    twin: nn.Module


@cache
def compiled(text: str, strategy: Strategy = "sorted") -> Compiled:
    """What becomes of a spec, once for all tests that want it."""
    spec = check(read(SourceFile("planted.mot", text)))
    sparse = final_ir(spec, strategy=strategy)
    dense = final_ir(spec, dense=True)
    planned = plan(sparse)
    source = emit(planned, __version__)
    return Compiled(sparse, dense, source, planned.class_name, instantiate(dense, dtype=torch.float64))


def module_of(pair: Compiled, right: str = "", wrong: str = "") -> nn.Module:
    """The generated module in float64, `wrong` standing in its text where it has `right`."""
    assert right in pair.source, f"the generated text has no {right!r}"
    module = import_source(pair.source.replace(right, wrong) if right else pair.source)
    network: nn.Module = getattr(module, pair.class_name)().double()
    return network


def report(text: str, strategy: Strategy = "sorted") -> Report:
    """What validation says of a spec's module."""
    pair = compiled(text, strategy)
    return validated(pair.sparse, pair.dense, module_of(pair), pair.twin)


def broken(text: str, right: str, wrong: str) -> set[str]:
    """The laws that a mistake breaks. What torch itself refuses, no law has found: that comes out as it is raised.

    The dense twin is right, and is not compared with its own reference for each mistake.
    """
    pair = compiled(text)
    with twin_taken_as_right():
        verdict = validate(pair.sparse, pair.dense, module_of(pair, right, wrong), pair.twin)
    return {law.name for law in verdict.laws if not law.ok}
