"""Map files: what each parameter of a new model begins as, in statements of which later ones win.

copy   GROUPS [in layers RANGE] [from SOURCE[.TOWER] [layers RANGE]]      # the numbers there
slice  GROUPS …                                            # the first of them, where a tower is narrower
noise 0.1 GROUPS …                                         # a copy and normal noise, of so much of its deviation
repeat [0.1] GROUPS …                                      # for each expert a copy, with noise if wanted
fresh  GROUPS [in layers RANGE]                            # as motc.load draws them
zero   GROUPS [in layers RANGE]
unused GROUPS [in layers RANGE] [from SOURCE]              # tensors of a source that nothing takes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, NoReturn, get_args

from motc.schema.mistake import Mistake
from motc.schema.values import LayerNumbers, layer_range
from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.source.nearest import suggestion

Verb = Literal["copy", "slice", "noise", "repeat", "fresh", "zero", "unused"]

TAKING: tuple[Verb, ...] = ("copy", "slice", "noise", "repeat")
"""Those that take what a source has."""

FORM = "copy GROUPS [in layers 0..3] [from SOURCE[.TOWER] [layers 4..7]]"
_RANGE = r"\d+(?:\s*\.\.\s*\d+)?(?:\s+step\s+\d+)?"
_STATEMENT = re.compile(
    r"\s*(?P<verb>\w+)"
    r"(?:\s+(?P<deviation>\d+(?:\.\d+)?(?:e-?\d+)?)(?=\s))?"
    r"\s+(?P<groups>[\w.*]+(?:\s*,\s*[\w.*]+)*)"
    rf"(?:\s+in\s+layers?\s+(?P<layers>{_RANGE}))?"
    rf"(?:\s+from(?=\s+\w)(?:\s+(?P<source>\w+)(?:\.(?P<tower>\w+))?)?(?:\s+layers?\s+(?P<there>{_RANGE}))?)?\s*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What some parameters begin as. `groups` is a selector; `source` and `tower` are empty where none is said.

    `layers` are those of the model and those of the source that they take, in order, where that is said.
    """

    verb: Verb
    groups: str
    deviation: float
    source: str
    tower: str
    layers: tuple[LayerNumbers, LayerNumbers] | None = None
    span: Span = field(compare=False, repr=False)
    groups_span: Span = field(compare=False, repr=False)
    source_span: Span = field(compare=False, repr=False)

    def layer_of_source(self, layer: int) -> int:
        """From which layer of a source one of the model takes."""
        if self.layers is None:
            return layer
        ours, theirs = (each.numbers for each in self.layers)
        return theirs[0] if len(theirs) == 1 else theirs[ours.index(layer)]


def read_statements(source: SourceFile) -> tuple[Statement, ...]:
    """The statements of a map file, one to a line. Raises SpecError with all that follow no syntax."""
    statements, start = list[Statement](), 0
    mistakes: list[Diagnostic] = []
    for line in source.text.splitlines(keepends=True):
        text = line.partition("#")[0].rstrip()
        if text.strip():
            try:
                statements.append(_statement(source, text, start))
            except SpecError as error:
                mistakes += error.diagnostics
        start += len(line)
    if not statements and not mistakes:
        _refuse(f"{source.name} says nothing", None, "`copy *` begins as the dense model does")
    if mistakes:
        raise SpecError(*mistakes)
    return tuple(statements)


def _statement(source: SourceFile, text: str, start: int) -> Statement:
    whole = Span(source, start + len(text) - len(text.lstrip()), start + len(text))
    match = _STATEMENT.fullmatch(text)
    word = text.split()[0]
    if word not in get_args(Verb):
        verbs = ", ".join(get_args(Verb))
        span = Span(source, whole.start, whole.start + len(word))
        _refuse(
            f"`{word}` is nothing that parameters can be", span, suggestion(word, get_args(Verb), f"one of {verbs}")
        )
    if match is None:
        _refuse("this is no statement", whole, f"such as {FORM}; one to a line")
    verb = get_args(Verb)[get_args(Verb).index(word)]
    of = {
        name: Span(source, start + match.start(name), start + match.end(name)) if match[name] else whole
        for name in ("groups", "layers", "source", "tower", "there")
    }

    if verb != "repeat" and (match["deviation"] is None) != (verb != "noise"):
        _refuse(f"`{verb}` {'needs a number' if verb == 'noise' else 'has no number'}", whole, "noise 0.1 GROUPS")
    if verb in ("fresh", "zero") and (match["source"] or match["there"]):
        what, span = (match["source"], of["source"]) if match["source"] else ("other layers", of["there"])
        _refuse(f"`{verb}` takes nothing from {what}", span, "leave `from` out, or use copy")
    if match["there"] and verb == "unused":
        _refuse(
            "layers stand behind the group here", of["there"], f"unused {match['groups']} in layers {match['there']}"
        )
    if match["tower"] and verb == "unused":
        _refuse("a tower stands before the group here", of["tower"], f"unused {match['tower']}.{match['groups']}")
    deviation = float(match["deviation"] or 0)
    if not isfinite(deviation):
        _refuse("so much noise is no number", whole, "noise 0.1 GROUPS")
    layers = _closed(match["layers"])
    return Statement(
        verb=verb,
        groups=match["groups"] + (f" in layers {layers}" if layers else ""),
        deviation=deviation,
        source=match["source"] or "",
        tower=match["tower"] or "",
        layers=_layers(match["layers"], match["there"], of) if match["there"] else None,
        span=whole,
        groups_span=of["groups"],
        source_span=of["source"],
    )


def _layers(here: str | None, there: str, of: Mapping[str, Span]) -> tuple[LayerNumbers, LayerNumbers]:
    """The layers that take, and those from which. Raises SpecError where there are not as many, or one for all."""
    if here is None:
        _refuse("this does not say for which layers", of["there"], f"copy GROUPS in layers 0..3 from layers {there}")
    ours, theirs = _range(here, of["layers"]), _range(there, of["there"])
    if len(theirs.numbers) not in (1, len(ours.numbers)):
        counts = f"{len(ours.numbers)} layers would be made of {len(theirs.numbers)}"
        _refuse(counts, of["there"], "as many layers there as here, or one for all")
    return ours, theirs


def _range(said: str, span: Span) -> LayerNumbers:
    try:
        numbers: LayerNumbers = layer_range(f"{said}..{said}" if said.isdecimal() else _closed(said))
    except Mistake as mistake:
        _refuse(str(mistake), span, mistake.way_out)
    return numbers


def _closed(layers: str | None) -> str:
    """A range without blanks around its dots."""
    return re.sub(r"\s*\.\.\s*", "..", layers or "")


def _refuse(message: str, span: Span | None, help_: str) -> NoReturn:
    raise SpecError(Diagnostic(code="MOT110", message=message, span=span, help=help_))
