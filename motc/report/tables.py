"""Tables of a page, which can be sorted by any column: copies, tokens, edits, and every key of a spec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from motc.cost import cost, kv_cache_bytes_per_token, memory
from motc.diff.edit import Edit, layer_range, signed
from motc.lower.resolved import resolved
from motc.report.details import Detail
from motc.report.lists import KINDS
from motc.report.subject import Subject
from motc.report.words import in_bytes


class Value(NamedTuple):
    """A cell of a table: its text, what it is sorted by if that is a number, and HTML in place of the text."""

    text: str
    number: float | None = None
    html: str = ""


def number(value: int, text: str = "") -> Value:
    """A whole number, with commas unless it is written otherwise."""
    return Value(text or f"{value:,}", value)


def table(name: str, caption: str, titles: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """A table; columns of which the first row has numbers stand at the right."""
    held = [list(row) for row in rows]
    right = [value.number is not None for value in held[0]] if held else [False] * len(titles)
    head = "".join(
        f'<th scope="col"{" class=n" if numeric else ""}><button type="button">{escape(title)}</button></th>'
        for title, numeric in zip(titles, right, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in held)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="sortable" id="{name}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: Value) -> str:
    shown = value.html or escape(value.text, quote=False)
    if value.number is None:
        return f"<td>{shown}</td>"
    return (
        f'<td class="n" data-n="{value.number:g}">{shown}</td>'
        if value.number
        else f'<td class="n" data-n="0">{shown}</td>'
    )


def copies(details: Iterable[Detail], total: int) -> str:
    """Every copy of every group; each leads to the drawing."""
    rows = []
    for each in details:
        cell = each.cell
        if cell.status == "removed":
            continue
        parameters, flops = each.parameters * cell.place.count, each.flops * cell.place.count
        path = f'<a href="#drawing" data-show="{escape(cell.key)}">{escape(cell.path)}</a>'
        rows.append(
            [
                Value(cell.path, html=path),
                Value(", ".join(cell.modalities)),
                Value(each.layers, float(cell.place.runs[0][0]) if cell.place.runs else -1.0),
                number(parameters),
                Value(f"{parameters / total:.1%}" if total else "", parameters),
                number(flops),
            ]
        )
    titles = ("group", "used by", "layers", "parameters", "share", "FLOPs a token")
    return table("copies", "Every copy of every parameter group", titles, rows)


def tokens(after: Subject, before: Subject | None) -> str:
    """What a token of each modality passes through and pays; and before, if there is an earlier model."""
    new, old = cost(after.model), None if before is None else cost(before.model)
    titles = ["a token of", "active parameters", "FLOPs"]
    titles += ["active parameters before", "FLOPs before", "FLOPs added"] if old else []
    rows = []
    for name, active in new.active.items():
        flops = new.flops_per_token[name]
        row = [Value(name), number(active), number(flops)]
        if old is not None:
            was = old.flops_per_token.get(name, 0)
            row += [number(old.active.get(name, 0)), number(was), number(flops - was, signed(flops - was))]
        rows.append(row)
    return table("tokens", "What a token passes through", titles, rows)


def sizes(after: Subject, before: Subject | None) -> str:
    """Parameters and bytes, and before, if there is an earlier model."""
    columns = [_sizes(each) for each in (before, after) if each is not None]
    titles = ["of", "before", "after"] if before is not None else ["of", "model"]
    rows = [[Value(name), *(column[name] for column in columns)] for name in columns[0]]
    return table("sizes", "How large it is", titles, rows)


def _sizes(subject: Subject) -> dict[str, Value]:
    model = subject.model
    half, single = memory(model, "bfloat16").weights, memory(model, "float32")
    kept = kv_cache_bytes_per_token(model)
    return {
        "parameters": number(cost(model).parameters),
        "weights in bfloat16": number(half, in_bytes(half)),
        "weights in float32": number(single.weights, in_bytes(single.weights)),
        "training in float32 with AdamW, without activations": number(single.training, in_bytes(single.training)),
        "keys and values of a token in bfloat16": number(kept, in_bytes(kept)),
    }


def edits(changes: Sequence[Edit]) -> str:
    """What turns one model into the other."""
    flops = list(dict.fromkeys(name for edit in changes for name in edit.flops))
    rows = []
    for edit in changes:
        sign = f'<span class="mark {KINDS[edit.kind]}">{KINDS[edit.kind]}</span>'
        where = "" if edit.layers is None else layer_range(*edit.layers, edit.step)
        subject = edit.subject + (f" of {', '.join(edit.modalities)}" if edit.modalities else "")
        amounts = [number(edit.flops.get(name, 0), signed(edit.flops.get(name, 0))) for name in flops]
        values = [
            Value(KINDS[edit.kind], html=sign),
            Value(subject),
            Value(edit.before),
            Value(edit.after),
            Value(where),
        ]
        rows.append([*values, number(edit.parameters, signed(edit.parameters)), *amounts])
    titles = ["kind", "what", "before", "after", "where", "parameters", *(f"FLOPs, {name}" for name in flops)]
    return table("edits", "What turns one model into the other", titles, rows)


def keys(subject: Subject, name: str) -> str:
    """Every key of a spec with its value, and where that came from."""
    rows = []
    for key, value, origin in resolved(subject.checked):
        shown = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
        place = subject.line_id(origin)
        link = f'<a href="#{place}">{escape(origin)}</a>' if place else ""
        rows.append([Value(key), Value(shown), Value(origin, html=link)])
    return table(name, "Every key, its value, and where that came from", ("key", "value", "from"), rows)
