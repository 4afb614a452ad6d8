"""Map files: what each parameter of a new model begins as, in statements of which later ones win.

copy   GROUPS [in layers RANGE] [from SOURCE[.TOWER]]      # the numbers there
slice  GROUPS …                                            # the first of them, where a tower is narrower
noise 0.1 GROUPS …                                         # a copy and normal noise, of so much of its deviation
fresh  GROUPS [in layers RANGE]                            # as motc.load draws them
zero   GROUPS [in layers RANGE]
unused GROUPS [in layers RANGE] [from SOURCE]              # tensors of a source that nothing takes
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NoReturn, get_args

from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.source.nearest import suggestion

Verb = Literal["copy", "slice", "noise", "fresh", "zero", "unused"]

TAKING: tuple[Verb, ...] = ("copy", "slice", "noise")
"""Those that take what a source has."""

FORM = "copy GROUPS [in layers 0..3] [from SOURCE[.TOWER]]"
_STATEMENT = re.compile(
    r"\s*(?P<verb>\w+)"
    r"(?:\s+(?P<deviation>\d+(?:\.\d+)?(?:e-?\d+)?)(?=\s))?"
    r"\s+(?P<groups>[\w.*]+(?:\s*,\s*[\w.*]+)*)"
    r"(?:\s+in\s+layers?\s+(?P<layers>\d+(?:\s*\.\.\s*\d+)?(?:\s+step\s+\d+)?))?"
    r"(?:\s+from\s+(?P<source>\w+)(?:\.(?P<tower>\w+))?)?\s*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What some parameters begin as. `groups` is a selector; `source` and `tower` are empty where none is said."""

    verb: Verb
    groups: str
    deviation: float
    source: str
    tower: str
    span: Span = field(compare=False, repr=False)
    groups_span: Span = field(compare=False, repr=False)
    source_span: Span = field(compare=False, repr=False)


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
        for name in ("groups", "source", "tower")
    }

    if (match["deviation"] is None) != (verb != "noise"):
        _refuse(f"`{verb}` {'needs a number' if verb == 'noise' else 'has no number'}", whole, "noise 0.1 GROUPS")
    if match["source"] and verb in ("fresh", "zero"):
        _refuse(f"`{verb}` takes nothing from {match['source']}", of["source"], "leave `from` out, or use copy")
    if match["tower"] and verb == "unused":
        _refuse("a tower stands before the group here", of["tower"], f"unused {match['tower']}.{match['groups']}")
    layers = re.sub(r"\s*\.\.\s*", "..", match["layers"] or "")
    return Statement(
        verb=verb,
        groups=match["groups"] + (f" in layers {layers}" if layers else ""),
        deviation=float(match["deviation"] or 0),
        source=match["source"] or "",
        tower=match["tower"] or "",
        span=whole,
        groups_span=of["groups"],
        source_span=of["source"],
    )


def _refuse(message: str, span: Span | None, help_: str) -> NoReturn:
    raise SpecError(Diagnostic(code="MOT110", message=message, span=span, help=help_))
