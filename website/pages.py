"""Pages of the site that are no file of docs/: files elsewhere in the repository, and what the code itself says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import motc
from motc.cli import app
from motc.cost import cost
from motc.driver import compile_ir
from motc.report import drawn, standalone
from motc.report.account import subtitle
from motc.schema.keys import keys_of, sections_below, sections_in
from motc.schema.spec import Spec

ROOT = Path(__file__).resolve().parent.parent

ELSEWHERE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changes.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "specs/gallery/README.md": "gallery/index.md",
    "specs/paper/README.md": "results/paper.md",
    "bench/README.md": "results/speed.md",
    "bench/gpu_h200.md": "results/gpu_h200.md",
    "examples/emoji/README.md": "results/emoji.md",
    "examples/upcycle/README.md": "results/upcycle.md",
}
"""Files of the repository that are pages of the site, and where."""


def models() -> dict[str, Path]:
    """The models of the gallery by name."""
    return {path.stem: path for path in sorted((ROOT / "specs" / "gallery").glob("*.mot"))}


def pages() -> Iterator[tuple[str, str | bytes]]:
    """All that is generated, by its place in the site."""
    cards = []
    for name, path in models().items():
        model = compile_ir(path)
        title, text = _titled(path)
        yield f"gallery/{name}.svg", standalone(drawn(model))
        yield f"gallery/{name}.md", _model(name, title, text, subtitle(model))
        cards.append(_card(name, title, cost(model).parameters))
    for source, place in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if place == "gallery/index.md":
            head, _, rest = text.partition("\n")
            grid = f'<div class="gallery">\n{"".join(cards)}</div>'
            text = f"{head}\n\n{grid}\n\n## How each is held against its original\n{rest}"
        yield place, text
        for image in re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", text):
            target = (ROOT / source).parent / image
            if not image.startswith("docs/") and target.is_file():
                yield str(Path(place).parent / image), target.read_bytes()
    yield "reference/keys.md", _keys()
    yield "reference/commands.md", _commands()
    yield "reference/python.md", _python()


def _titled(path: Path) -> tuple[str, str]:
    """The comment that a spec begins with, and the rest of it."""
    text = path.read_text(encoding="utf-8")
    comment, _, rest = text.partition("\n")
    return comment.removeprefix("# ").rstrip("."), rest if comment.startswith("#") else text


def _model(name: str, title: str, text: str, told: str) -> str:
    short = re.split("[:,]", title)[0]
    return (
        f"---\ntitle: {json.dumps(short)}\nhide: [toc]\n---\n\n# {short}\n\n{title}.\n\n{told}\n\n"
        f'<div class="drawing" tabindex="0" markdown>![The drawing of {short}]({name}.svg)</div>\n\n'
        f"    motc show specs/gallery/{name}.mot --html {name}.html\n\n"
        f"## The spec\n\n```mot\n{text}```\n\n[All models](README.md)\n"
    )


def _card(name: str, title: str, parameters: int) -> str:
    from motc.report.words import short

    called, about, *_ = (*re.split("[:,] ", title, maxsplit=1), "")
    return (
        f'<a class="card" href="{name}/"><img src="{name}.svg" alt="" loading="lazy">'
        f"<strong>{called}</strong><span>{short(parameters)} parameters{f' · {about}' if about else ''}</span></a>\n"
    )


def _keys() -> str:
    """Every key of the schema, section by section."""
    lines = [
        "# Every key, from the schema",
        "",
        "Made from the schema. What keys mean together, with examples, is in [the language](../language.md).",
        "",
    ]
    for title, section, prefix in _sections(Spec, ""):
        lines += [f"## `{title}`" if prefix else "## The model", ""]
        lines += ["| key | takes | default | is |", "|---|---|---|---|"]
        for key, field in keys_of(section).items():
            cells = (f"`{prefix}{key}`", _takes(field.annotation), _default(field), field.description or "")
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def _sections(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel], str]]:
    yield prefix.removesuffix("."), section, prefix
    for key, field in keys_of(section).items():
        if key in ("by_layer",) or (prefix.startswith("towers.") and key in ("attention", "ffn", "norm")):
            continue  # the model's, again
        for inner, middle in sections_below(field.annotation):
            yield from _sections(inner, f"{prefix}{key}.{middle}")


def _takes(annotation: Any) -> str:
    return ", ".join(dict.fromkeys(_words(annotation)))


def _words(annotation: Any) -> Iterator[str]:
    plain = {bool: "true, false", int: "a number", float: "a number", str: "a word", NoneType: ""}
    origin = get_origin(annotation)
    if origin is Literal:
        yield from (f"`{word}`" for word in get_args(annotation))
    elif annotation in plain:
        yield from filter(None, [plain[annotation]])
    elif list(sections_in(annotation)):
        yield "a section"
        yield from (word for part in get_args(annotation) for word in _words(part) if word != "a section")
    elif origin in (list, tuple):
        yield "a list"
    elif origin is dict:
        yield "names"
    elif hasattr(annotation, "__metadata__"):
        yield from _words(annotation.__origin__)
    else:
        for part in get_args(annotation):
            yield from _words(part)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if isinstance(value, int | str) else ""


def _commands() -> str:
    """The help of every command."""
    root: Any = typer.main.get_command(app)
    common = "What commands have in common is in [the terminal](../command_line.md)."
    lines = ["# Commands", "", f"As `motc COMMAND --help` says it. {common}", ""]
    for name, command in root.commands.items():
        context = command.make_context(f"motc {name}", [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [f"## motc {name}", "", _plain(command.help or ""), "", f"    motc {name} {usage}", ""]
        rows = []
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record is not None and record[0] != "--help":
                rows.append((record[0], record[1]))
        if rows:
            lines += ["| takes | which is |", "|---|---|"]
            lines += [f"| `{left.replace('|', '&#124;')}` | {_plain(right)} |" for left, right in rows] + [""]
        if command.epilog:
            lines += [f"{_plain(command.epilog).replace('Example: ', 'Example: `')}`", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;")


def _python() -> str:
    """What `import motc` offers, from the docstrings."""
    where: Mapping[str, str] = vars(motc)["_WHERE"]
    named = {name: f"{module}.{name}" for name, module in where.items()}
    named["diff"] = "motc.report.notebook.diff"
    lines = ["# Python", "", "`import motc` imports no torch; each of these does what it needs when it is called.", ""]
    for name in sorted(named):
        lines += [f"::: {named[name]}", ""]
    return "\n".join(lines)
