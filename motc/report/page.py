"""A page about one model, or about what became of one: a single HTML file that asks for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from motc.cost import cost
from motc.diff import diff
from motc.diff.modalities import renames
from motc.report import tables
from motc.report.account import account, sharing, subtitle, subtitle_of_diff
from motc.report.bars import Piece, bars, pieces
from motc.report.build import scene
from motc.report.code import coloured
from motc.report.details import Detail, details
from motc.report.document import asset, document, section
from motc.report.grid import Grid
from motc.report.layout import drawing
from motc.report.lists import changes, shares
from motc.report.shapes import Drawing
from motc.report.subject import Subject
from motc.report.svg import inline


def page(subject: Subject) -> str:
    """The page of a model."""
    drawn_scene = scene(subject.model)
    every = tuple(details(drawn_scene, subject))
    grid, picture = Grid.of(drawn_scene, 0), drawing(drawn_scene, account(subject.model))
    sections = [
        _drawing(picture, "What is shared", shares(sharing(subject.model), grid), READING),
        section("where", "Where parameters and FLOPs go", _bars(grid, [Shown("", every, subject)])),
        section("tables", "Tables", _tables(subject, every, None)),
        section("spec", "Spec", _specs([("", subject)])),
        _model(subject),
    ]
    return _page(_name(subject), subtitle(subject.model), sections, _data(every, [subject]))


def page_of_diff(before: Subject, after: Subject) -> str:
    """The page of what turns one model into another."""
    edits = diff(before.model, after.model)
    drawn_scene, names = scene(after.model, before.model), renames(before.model, after.model)
    every = tuple(details(drawn_scene, after, before))
    grid = Grid.of(drawn_scene, 0)
    told = " ".join(f"{edit.kind} {edit.describe()}." for edit in edits) or "The same model."
    old = Shown("before", tuple(details(scene(before.model), before)), before, names)
    subjects = [("before", before)] if before.checked is after.checked else [("before", before), ("after", after)]
    sections = [
        _drawing(drawing(drawn_scene, told), "What changed", changes(edits), READING_OF_DIFF),
        *([section("changes", "What changed, with what it adds", tables.edits(edits))] if edits else []),
        section("where", "Where parameters and FLOPs go", _bars(grid, [old, Shown("after", every, after)])),
        section("sharing", f"What is shared in {_name(after)}", shares(sharing(after.model), grid)),
        section("tables", "Tables", _tables(after, every, before)),
        section("spec", "Specs", _specs(subjects)),
        _model(after),
    ]
    title = f"{_name(before)} → {_name(after)}"
    return _page(title, subtitle_of_diff(before.model, after.model), sections, _data(every, [before, after]))


def _name(subject: Subject) -> str:
    return f"{subject.model.name} (dense twin)" if subject.dense else subject.model.name


WIDEST_BESIDE = 1080
"""A drawing that is wider than this has its account above, not beside it."""

READING = (
    "Tokens come in below and go up, a column for each modality. A coloured box is a tower's own copy of a parameter "
    "group; a grey one over several columns is shared. In the dark bar all tokens meet. The ribbon at the left is all "
    "layers; those that are alike are drawn once."
)
READING_OF_DIFF = (
    "Green is new, red and dashed is gone, amber has changed; brackets say who shared a group before. "
    "What has not changed is pale."
)


def _page(title: str, told: str, sections: Iterable[str], data: str) -> str:
    foot = "Made by motc of the spec alone: no weights, no network."
    script = f'<script type="application/json" id="data">{data}</script>\n<script>{asset("page.js")}</script>'
    return document(title, told, sections, foot, "To the drawing", script)


def _drawing(picture: Drawing, title: str, about: str, reading: str) -> str:
    """The drawing, beside it an account, which makes room for what is known of a copy that is pointed at."""
    stage = "stage wide" if picture.width > WIDEST_BESIDE else "stage"
    return (
        f'<section id="drawing"><h2>The model</h2><div class="{stage}" style="--natural:{picture.width:.0f}px">'
        f'<div class="canvas scroll">{inline(picture)}</div><div class="side">'
        f'<div id="about"><h3>{escape(title)}</h3>{about}<h3>How to read it</h3><p>{reading}</p>'
        "<p>Point at a box for all that is known of it, or move from box to box by the arrow keys; "
        "a click, or Enter, keeps it.</p></div>"
        '<aside id="detail" aria-live="polite" hidden><button type="button" id="close" aria-label="Close">×</button>'
        "<h3></h3><dl></dl></aside></div></div></section>"
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """One of the models that bars compare, and what its modalities are called in the drawing."""

    word: str
    details: Sequence[Detail]
    subject: Subject
    names: Mapping[str, str] = field(default_factory=dict)


def _bars(grid: Grid, models: Sequence[Shown]) -> str:
    """Bars of parameters, and of a token's FLOPs; before and after under each other."""
    parameters = [(each.word or "all", pieces(each.details, grid, None, each.names)) for each in models]
    flops: dict[str, list[tuple[str, Sequence[Piece]]]] = {}
    for each in models:
        for name in each.subject.model.names:
            called = each.names.get(name, name)
            row = (f"{called} {each.word}".strip(), pieces(each.details, grid, name, each.names))
            flops.setdefault(called, []).append(row)
    rows = [row for each in flops.values() for row in each]
    return bars(parameters, "Parameters") + bars(rows, "FLOPs of a token's matrix products, without attention's own")


def _tables(after: Subject, every: Sequence[Detail], before: Subject | None) -> str:
    total = cost(after.model).parameters
    return tables.sizes(after, before) + tables.tokens(after, before) + tables.copies(every, total)


def _specs(subjects: Sequence[tuple[str, Subject]]) -> str:
    """The files of specs, then each as one text, and every key with where its value came from."""
    parts = []
    for word, subject in subjects:
        start = f"{word}: " if word and len(subjects) > 1 else ""
        for place, source in enumerate(subject.sources):
            language = "mot" if source.name.endswith(".mot") else "yaml"
            prefix = f"{subject.prefix}{place}-"
            parts.append(_folded(f"{start}{source.name}", coloured(source.text, prefix, language), is_open=True))
        whole = coloured(subject.resolved, f"{subject.prefix}r-", "mot")
        parts.append(_folded(f"{start}the whole spec as one text", whole))
        parts.append(_folded(f"{start}every key and its value", tables.keys(subject, f"keys-{subject.prefix}")))
    return "".join(parts)


def _model(subject: Subject) -> str:
    lines = subject.text.count("\n")
    code = _folded(f"model.py of {_name(subject)}, {lines} lines", coloured(subject.text, "m", "python"))
    return section("model", "The generated model", code)


def _folded(title: str, body: str, *, is_open: bool = False) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{body}</details>"


def _data(every: Iterable[Detail], subjects: Sequence[Subject]) -> str:
    """What is told of each copy, for the page's program."""
    told = {}
    for each in every:
        spec = []
        for said in each.said:
            name, place = Path(said.source.name).name, f"{said.source.name}:{said.line}"
            line = next((found for subject in reversed(subjects) if (found := subject.line_id(place))), "")
            spec.append([line, f"{name}:{said.line}", said.text])
        made = each.made
        attribute = (
            [] if made is None else [[f"m{made.line}", f"model.py:{made.line}", f"{made.owner}.{made.attribute}"]]
        )
        entry: dict[str, object] = {"title": each.cell.path, "rows": each.rows(), "status": each.cell.status}
        told[each.cell.key] = {**entry, "spec": spec, "made": attribute}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
