"""What is wrong with a `.mot` text that does not follow the grammar, and what it was probably meant to be."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.source.nearest import nearest
from motc.source.way_out import WayOut
from motc.syntax.scalar import worked_out

if TYPE_CHECKING:
    from lark import UnexpectedInput

_SHOWN = {
    "WORD": "a name or a number",
    "STRING": "a quoted string",
    "EQUAL": "`=`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "_NL": "a new line",
    "$END": "the end of the file",
    **{word.upper(): f"`{word}`" for word in "model extends modality tower untie as in layers layer step".split()},
}

STATEMENTS = ("modality", "tower", "untie", "extends")
_PLURALS = {"modalities": "modality", "towers": "tower"}
_WORD_BEFORE = re.compile(r'([\w.*+-]+|"(?:[^"\\\n]|\\.)*")[ \t\r]*\Z')
_TOWER_BEFORE = re.compile(r"\btower[ \t]+[\w.*+-]+[ \t]*\Z")
_LAYERS_BEFORE = re.compile(r"(?P<in>\bin[ \t]+)?\blayers?[ \t]+(?P<said>[0-9., \t]*)\Z")
_LISTED = re.compile(r"\[?[ \t]*[0-9][0-9., \t]*\]?")
_STEPPING = re.compile(r"\d+\.\.\d+ step \d+")
_VALUE_BEFORE = re.compile(r"=[ \t]*([0-9.][0-9.e+-]*|sqrt)[ \t]*\Z")


def mistake(source: SourceFile, error: UnexpectedInput, unclosed: list[int]) -> SpecError:
    """The diagnostic for where reading stopped; `unclosed` are offsets of brackets without an end."""
    from lark import UnexpectedCharacters, UnexpectedToken

    at = min(max(0, error.pos_in_stream or 0), len(source.text))
    end, expected, what = at + 1, set[str](), ""
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type == "$END":
            at = len(source.text.rstrip())
            end, what = at + 1, "the text ends too early"
        else:
            end = at + max(1, len(error.token.rstrip()))
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
    shown = source.text[at:end]
    if not what and (meant := _layers(source, at) or _computed(source, at, shown)):
        return SpecError(meant)
    if not what and expected == {"EQUAL", "LBRACE"} and (meant := _statement(source, at, shown)):
        return SpecError(meant)
    if not what:
        what = "unexpected end of the line" if shown.startswith("\n") else f"unexpected `{shown[:40]}`"
        if shown == '"':
            what = "the string is not closed on its line"
    related = tuple(("this is not closed", Span(source, start, start + 1)) for start in unclosed[-1:])
    message = what if what.startswith("the string") else f"{what}: expected {_human(expected)}"
    way_out = _way_out(source, at, end, expected)
    if related:
        bracket = "}" if source.text[unclosed[-1]] == "{" else "]"
        way_out = f"close it with `{bracket}`"
        if what == "the text ends too early":
            way_out = WayOut(way_out, "\n}\n" if bracket == "}" else bracket, Span(source, at, len(source.text)))
    return SpecError(
        Diagnostic(code="MOT006", message=message, span=Span(source, at, end), help=way_out, related=related)
    )


def _layers(source: SourceFile, at: int) -> Diagnostic | None:
    """A list of layers where a statement takes one layer or one range: `layers [0, 2]`, `in layers 0, 2`."""
    before = _LAYERS_BEFORE.search(source.text, _line_start(source, at), at)
    listed = _LISTED.match(source.text, before.start("said")) if before else None
    if before is None or listed is None or not {",", "["} & {*listed[0]}:
        return None
    statement = "`in layers`" if before["in"] else "`layers`"
    numbers = [int(each) for each in re.findall("[0-9]{1,9}", listed[0])] if ".." not in listed[0] else []
    steps = {after - number for number, after in pairwise(numbers)}
    way_out = "write a range such as 0..2 or 0..8 step 4, or a statement for each"
    if len(steps) == 1 and (step := steps.pop()) > 0:
        layers = f"{numbers[0]}..{numbers[-1]}{f' step {step}' if step > 1 else ''}"
        way_out = WayOut(f"write {layers}", layers)
    span = Span(source, listed.start(), listed.start() + len(listed[0].rstrip()))
    message = f"{statement} takes one layer or one range, not a list"
    return Diagnostic(code="MOT006", message=message, span=span, help=way_out)


def _computed(source: SourceFile, at: int, shown: str) -> Diagnostic | None:
    """A value that would have to be computed, such as `1/8` or `256 ** -0.5`."""
    before = _VALUE_BEFORE.search(source.text, _line_start(source, at), at)
    if before is None or shown[:1] not in ("/", "^", "*", "("):
        return None
    rest = re.match(r"[^,;}\]#\n]*", source.text[at : at + 40])
    text = source.text[before.start(1) : at] + (rest[0].rstrip() if rest else "")
    number = worked_out(text)
    span = Span(source, before.start(1), before.start(1) + len(text))
    way_out = WayOut(f"write {number}", number) if number else "write the number that it is, such as 0.125"
    return Diagnostic(code="MOT006", message="numbers are not computed", span=span, help=way_out)


def _statement(source: SourceFile, at: int, following: str) -> Diagnostic | None:
    """What is wrong with the word before `at`, which starts a statement and is followed by neither `=` nor a block."""
    before = _WORD_BEFORE.search(source.text, _line_start(source, at), at)
    if before is None:
        return None
    word, span = before[1], Span(source, before.start(1), before.end(1))
    meant = _PLURALS.get(word) or nearest(word, STATEMENTS)
    if meant is not None:
        message = f"`{word}` starts no statement, nor is it followed by `=` or a block"
        return Diagnostic(code="MOT006", message=message, span=span, help=WayOut(f"did you mean `{meant}`?", meant))
    if following == "in":
        message = f"`{word}` is the same in all layers: only `untie` says in which"
        way_out = WayOut(f"did you mean `untie {word} in …`?", f"untie {word}")
        return Diagnostic(code="MOT006", message=message, span=span, help=way_out)
    return None


def _way_out(source: SourceFile, at: int, end: int, expected: set[str]) -> str:
    """What probably was to be written, where that is plain."""
    shown = source.text[at:end]
    before = _WORD_BEFORE.search(source.text, _line_start(source, at), at)
    word = before[1] if before else ""
    if shown == ":":
        way_out = "in .mot a value follows `=`; with `:` a spec is YAML, and its file is called .yaml"
        return WayOut(way_out, " =")
    if shown == "=" and word in STATEMENTS:
        return WayOut(f"write `{word}` without `=`", "")
    if expected == {"LBRACE"} and re.search(r"\bas[ \t]*\Z", source.text[_line_start(source, at) : at]):
        return "blocks are in braces: `as {text} {image}`"
    if shown == "{" and re.search(r"\}[ \t]*,[ \t]*\Z", source.text[_line_start(source, at) : at]):
        return "no comma stands between blocks: `as {text} {image}`"
    if shown in ("layer", "layers") and "IN" in expected:
        return WayOut(f"write `in {shown}`", f"in {shown}")
    if shown == "step" and (stepping := _STEPPING.search(source.text, _line_start(source, at))):
        return f'a range with a step is text here: `"{stepping[0]}"`'
    is_word = re.fullmatch(r'[\w.*+-]+|".*"', shown) is not None
    if is_word and "EQUAL" in expected and _TOWER_BEFORE.search(source.text, _line_start(source, at), at):
        return WayOut(f"put `=` between: `tower {word} = {shown}`", f"= {shown}")
    if is_word and word and "COMMA" in expected:
        after = Span(source, before.end(1) if before else at, end)
        return WayOut(f"put a comma between: `{word}, {shown}`", f", {shown}", after)
    if expected == {"EQUAL", "LBRACE"} and re.match(r"[ \t]*(?:$|[,;}#\n])", source.text[end:]) and shown.strip():
        return WayOut(f"write `{word} = {shown}`", f"= {shown}")
    return ""


def _line_start(source: SourceFile, at: int) -> int:
    """Where the line begins, or as far back as is worth looking."""
    return max(source.text.rfind("\n", 0, at) + 1, at - 200)


def _human(expected: set[str]) -> str:
    if "WORD" in expected and "UNTIE" in expected:
        rest = ["a statement", *(["`}`"] if "RBRACE" in expected else [])]
    else:
        if "WORD" in expected:
            expected = expected - {"STRING"}
        if expected & {"MODEL", "$END"}:
            expected = expected - {"_NL"}
        rest = [shown for terminal, shown in _SHOWN.items() if terminal in expected]
    if not rest:
        return "something else"
    return rest[0] if len(rest) == 1 else f"{', '.join(rest[:-1])} or {rest[-1]}"
