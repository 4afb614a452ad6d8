"""What each parameter of a model begins as, decided from names and shapes alone; or all that is wrong is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motc.source import Diagnostic, Span, SpecError
from motc.source.listing import some
from motc.source.nearest import suggestion
from motc.training.copies import Copy
from motc.training.selectors import Selector, read_selectors
from motc.upcycling.groups import Groups, Shape
from motc.upcycling.statements import TAKING, Statement

TOLD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a parameter begins as: what a statement says, of a tensor of a source unless it takes none."""

    parameter: str
    shape: Shape
    statement: Statement
    source: str = ""
    tensor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitPlan:
    """A start for each parameter, in the model's order, and the tensors by source that are said to be unused."""

    starts: tuple[Start, ...]
    unused: dict[str, tuple[str, ...]]


def plan_init(target: Groups, statements: Sequence[Statement], sources: Mapping[str, Groups]) -> InitPlan:
    """A start for each of the target's parameters, by the last statement that means it.

    Raises SpecError for statements that mean nothing, parameters without a start, and tensors that nothing takes.
    """
    mistakes: list[Diagnostic] = []
    chosen: dict[str, Statement] = {}
    unused: dict[str, dict[str, None]] = {name: {} for name in sources}
    for statement in statements:
        try:
            if statement.verb == "unused":
                source = _source_of(statement, sources)
                unused[source] |= dict.fromkeys(_meant(statement, sources[source]))
            else:
                chosen |= dict.fromkeys(_meant(statement, target), statement)
                if statement.verb in TAKING:
                    _source_of(statement, sources)
        except SpecError as error:
            mistakes += error.diagnostics
    if mistakes:
        raise SpecError(*mistakes)
    untold = [name for name in target.shapes if name not in chosen]
    if untold:
        mistakes.append(_mistake(f"no statement means {some(untold, TOLD)}", None, "copy, fresh or zero them"))
    starts, why = [], dict[tuple[Any, ...], list[str]]()
    for name, statement in ((name, chosen[name]) for name in target.shapes if name in chosen):
        start = _start(name, statement, target, sources)
        if isinstance(start, Start):
            starts.append(start)
        else:
            parameter, *reason = start
            why.setdefault((statement, *reason), []).append(parameter)
    for (statement, message, way_out), told in why.items():
        mistakes.append(_mistake(f"{message}: {some(told, TOLD)}", statement.span, way_out))
    if not mistakes:
        mistakes += _left_over(starts, sources, unused)
    if mistakes:
        raise SpecError(*sorted(mistakes, key=lambda each: each.span.start if each.span else -1))
    return InitPlan(starts=tuple(starts), unused={name: tuple(those) for name, those in unused.items() if those})


def _meant(statement: Statement, groups: Groups) -> list[str]:
    """The parameters that a statement's groups are. Raises SpecError where they are none."""
    try:
        selectors = read_selectors(statement.groups, groups)
    except ValueError as error:
        raise SpecError(_meaningless(str(error), statement.groups_span)) from None
    names: dict[str, None] = {}
    for selector in selectors:
        meant = [name for name in groups.shapes if _chooses(selector, name, groups)]
        if not meant:
            known = ", ".join(sorted({copy.path for copy in groups.copies}))
            way_out = f"{groups.model.name} has the groups {known}"
            message = f"`{statement.groups}` means no parameter of {groups.model.name}"
            raise SpecError(_meaningless(message, statement.groups_span, way_out))
        names |= dict.fromkeys(meant)
    return list(names)


def _chooses(selector: Selector, parameter: str, groups: Groups) -> bool:
    ending = parameter.rpartition(".")[2]
    return selector.chooses(groups.copy_of(parameter), groups.towers) and selector.ending in (None, ending)


def _source_of(statement: Statement, sources: Mapping[str, Groups]) -> str:
    """The name of the source that a statement takes from. Raises SpecError where that is not said, or there is none."""
    names = ", ".join(sources)
    if statement.source in sources:
        return statement.source
    if statement.source:
        message = f"there is no source `{statement.source}`"
        raise SpecError(_meaningless(message, statement.source_span, suggestion(statement.source, sources, names)))
    if len(sources) != 1:
        message = f"of {names or 'no source'}, this does not say which"
        raise SpecError(_meaningless(message, statement.span, "end it with `from NAME`; --from NAME=PATH names one"))
    return next(iter(sources))


def _start(
    parameter: str, statement: Statement, target: Groups, sources: Mapping[str, Groups]
) -> Start | tuple[str, str, str]:
    """How a parameter begins, or what is told of it, why it cannot so, and a way out."""
    shape = target.shapes[parameter]
    if statement.verb not in TAKING:
        return Start(parameter=parameter, shape=shape, statement=statement)
    name = _source_of(statement, sources)
    source = sources[name]
    copy = target.copy_of(parameter)
    theirs = _counterpart(copy, statement, name, source)
    if isinstance(theirs, tuple):
        return parameter, *theirs
    tensor = theirs.prefix + parameter.removeprefix(copy.prefix)
    if tensor not in source.shapes:
        return tensor, f"{name} has not", f"say what it begins as: zero {copy.path}.{tensor.rpartition('.')[2]}"
    start = Start(parameter=parameter, shape=shape, statement=statement, source=name, tensor=tensor)
    their_shape = source.shapes[tensor]
    match statement.verb:
        case "slice":
            fits = len(shape) == len(their_shape) and all(
                ours <= size for ours, size in zip(shape, their_shape, strict=True)
            )
            way_out = "make it fresh"
        case "repeat":
            fits = shape[1:] == their_shape
            way_out = "repeat is for experts, of each a copy; copy what is no expert's"
        case _:
            fits = shape == their_shape
            way_out = "slice takes the first numbers of each dimension"
            if shape[1:] == their_shape:
                way_out = f"repeat {copy.path} makes a copy for each expert"
    if fits:
        return start
    return f"{parameter} {list(shape)}, {list(their_shape)} there", f"of another shape in {name}", way_out


def _counterpart(copy: Copy, statement: Statement, name: str, source: Groups) -> Copy | tuple[str, str]:
    """The copy of a source, by its name, that has what one of the target takes; or why there is none, and a way out."""
    path = "embedding" if copy.path == "head" and source.model.tied_embedding else copy.path
    layer = None if copy.layer is None else statement.layer_of_source(copy.layer)
    theirs = source.at(path, layer)
    if statement.tower:
        if statement.tower not in source.towers:
            return f"{name} has no tower `{statement.tower}`", f"its towers: {', '.join(source.towers)}"
        members = set(source.towers[statement.tower])
        theirs = [each for each in theirs if members <= set(each.modalities)]
    elif len(theirs) > 1:
        members = set(copy.modalities)
        theirs = (
            [each for each in theirs if set(each.modalities) == members]
            or [each for each in theirs if members <= set(each.modalities)]
            or [each for each in theirs if each.name == copy.name]
        )
        if not theirs:
            has = ", ".join(each.name for each in source.at(path, layer))
            return f"{name} has {copy.path} of {has}", f"say which: from {name}.TOWER"
    if theirs:
        return theirs[0]
    where = "" if layer is None else f" in layer {layer}"
    return f"{name} has no {copy.path}{where}", f"say what it begins as, such as fresh {copy.path}"


def _left_over(
    starts: Sequence[Start], sources: Mapping[str, Groups], unused: Mapping[str, Mapping[str, None]]
) -> Iterator[Diagnostic]:
    """What is said to be unused and is taken, and what is neither."""
    for name, groups in sources.items():
        taken = {start.tensor for start in starts if start.source == name}
        left = [tensor for tensor in groups.shapes if tensor not in taken and tensor not in unused[name]]
        if left:
            paths = ", ".join(dict.fromkeys(groups.copy_of(tensor).path for tensor in left))
            yield _mistake(f"nothing takes {some(left, TOLD)} of {name}", None, f"if that is meant: unused {paths}")
        wrongly = [tensor for tensor in unused[name] if tensor in taken]
        if wrongly:
            statement = next(each.statement for each in starts if (each.source, each.tensor) == (name, wrongly[0]))
            yield _mistake(f"{some(wrongly, TOLD)} of {name} is said to be unused, and is taken", statement.span, "")


def _meaningless(message: str, span: Span, help_: str = "") -> Diagnostic:
    return Diagnostic(code="MOT111", message=message, span=span, help=help_)


def _mistake(message: str, span: Span | None, help_: str) -> Diagnostic:
    return Diagnostic(code="MOT112", message=message, span=span, help=help_)
