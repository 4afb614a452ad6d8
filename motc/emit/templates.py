"""Building blocks: read from `codegen_templates/`, their imports taken out, their definitions copied as they stand."""

from __future__ import annotations

import ast
from functools import cache

from motc.resources import templates_folder


@cache
def definitions(name: str) -> tuple[str, ...]:
    """The source of a template's top-level definitions: of `file`, or of `file.name` the one called `name`."""
    file, _, wanted = name.partition(".")
    text = (templates_folder() / f"{file}.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and wanted in ("", node.name):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        elif isinstance(node, ast.Assign) and not wanted:
            first = node.lineno
        else:
            continue
        end = node.end_lineno or first
        if isinstance(node, ast.Assign):  # with the text that says what it is
            end += 1
        block = lines[first - 1 : end]
        found.append("\n".join(block))
    return tuple(found)
