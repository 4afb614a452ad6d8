"""A generated package: the architecture, the building blocks it needs, and the same in a single file."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from motc.emit.signature import INIT, listing, sign
from motc.emit.text import LONGEST, filled
from motc.plan.library import OUTSIDE, closure, library, names_in, names_needed_first, where_defined

RELATIVE = re.compile(r"^from \.\w+ import (?:\([^)]*\)|[^\n(]*)\n", re.MULTILINE)
ABSOLUTE = re.compile(r"^(?:import [^\n]*|from [^.\s][^\n]* import (?:\([^)]*\)|[^\n(]*))\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What is written for one model: its docstring, its comments above the imports, and its code below them."""

    class_name: str
    docstring: str
    marks: str
    code: str

    def files(self) -> list[str]:
        """The building blocks that it needs."""
        return closure(where_defined()[name] for name in self.names() & where_defined().keys())

    def names(self) -> set[str]:
        """Every name in its code that may be imported."""
        return names_in([ast.parse(self.code)])

    def model_file(self) -> str:
        """`model.py` of the package."""
        names = self.names()
        blocks = [f"from .{where_defined()[name]} import {name}" for name in names & where_defined().keys()]
        outside = [OUTSIDE[name] for name in names & OUTSIDE.keys()]
        head = f'"""{self.docstring}"""\n\n{self.marks}\n\nfrom __future__ import annotations\n'
        return f"{head}\n{under_imports([*outside, *blocks], self.code)}\n"

    def package(self) -> dict[str, str]:
        """The text of each file of the package by its name."""
        files = {f"{name}.py": library()[name].text for name in self.files()}
        files["model.py"] = sign(self.model_file())
        name, title = self.class_name, self.docstring.splitlines()[0]
        start = f'"""{title}"""\n\nfrom .model import {name}\n\n__all__ = ["{name}"]\n\n{listing(files)}'
        return {INIT: sign(start), **files}

    def single_file(self) -> str:
        """All of it in one file: after what must be defined before it, the architecture, then the other blocks."""
        files = self.files()
        first = in_order(sorted({where_defined()[name] for name in needed_first(self.code) & where_defined().keys()}))
        rest = [file for file in in_order(files) if file not in first]
        statements = [OUTSIDE[name] for name in self.names() & OUTSIDE.keys()]
        for file in files:
            statements += [match.group().strip() for match in ABSOLUTE.finditer(library()[file].text)]
        statements = [one for one in statements if "__future__" not in one]
        parts = [*map(body, first), self.code, *map(body, rest)]
        head = f'"""{self.docstring}"""\n\n{self.marks}\n\nfrom __future__ import annotations\n'
        code = "\n\n\n".join(parts)
        return sign(f"{head}\n{under_imports(statements, code)}\n")


def needed_first(code: str) -> set[str]:
    """The names without which code cannot be run from above to below."""
    return names_needed_first(ast.parse(code))


def in_order(files: Sequence[str]) -> list[str]:
    """These files, each after those that must be run before it, which are there too."""
    found: list[str] = []

    def put(file: str) -> None:
        if file not in found:
            for other in sorted(library()[file].needed_first):
                put(other)
            found.append(file)

    for file in files:
        put(file)
    return found


def body(file: str) -> str:
    """A building block without its imports, under a line that says what it is."""
    text = library()[file].text
    docstring = ast.get_docstring(ast.parse(text)) or ""
    without = ABSOLUTE.sub("", RELATIVE.sub("", text[text.index('"""', 3) + 3 :]))
    title = "\n".join(f"# {line}" for line in filled(f"{file}.py: {docstring.splitlines()[0]}", LONGEST - 2))
    return f"{title}\n\n\n{without.strip()}"


def under_imports(statements: Sequence[str], code: str) -> str:
    """Code under its imports, as far from them as it should be."""
    space = "\n\n" if code.startswith(("class ", "def ", "@")) else "\n"
    return f"{imports(statements)}{space}{code}"


def imports(statements: Sequence[str]) -> str:
    """Import statements as ruff sorts them: the standard library, torch, the package; each module's names in one."""
    plain = sorted({one for one in statements if one.startswith("import ")})
    names: dict[str, set[str]] = {}
    for one in statements:
        if not one.startswith("import "):
            module, _, listed = one.removeprefix("from ").partition(" import ")
            names.setdefault(module, set()).update(name for name in re.split(r"[\s,()]+", _joined(listed)) if name)
    groups: list[list[str]] = [[], [], []]
    for one in plain:
        groups[1 if one.startswith("import torch") else 0].append(one)
    for module in sorted(names):
        group = 2 if module.startswith(".") else 1 if module.startswith("torch") else 0
        groups[group].append(import_from(module, names[module]))
    return "\n\n".join("\n".join(group) for group in groups if group) + "\n"


def _joined(listed: str) -> str:
    """Names with `as` kept in one word."""
    return listed.replace(" as ", "~as~")


def import_from(module: str, names: set[str]) -> str:
    """One statement; constants first, then classes, then functions, as ruff has them."""

    def rank(name: str) -> tuple[int, str]:
        return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name.lower())

    listed = [name.replace("~as~", " as ") for name in sorted(names, key=rank)]
    line = f"from {module} import {', '.join(listed)}"
    if len(line) <= 120:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in listed), ")"])
