"""A generated package: the architecture, the building blocks it needs, and the same in a single file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from motc.emit.signature import INIT, listing, sign
from motc.emit.text import LONGEST, filled
from motc.plan.library import OUTSIDE, closure, library, names_in, names_needed_first, where_defined


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What is written for one model: its docstring, its comments above the imports, and its code below them."""

    class_name: str
    docstring: str
    marks: str
    code: str

    def package(self, beside: Mapping[str, Architecture]) -> dict[str, str]:
        """The text of each file of the package by its name; `beside` the model's there are others, by their files."""
        files = self.files("model.py")
        for file, other in beside.items():
            files |= other.files(file)
        name, title = self.class_name, self.docstring.splitlines()[0]
        start = f'"""{title}"""\n\nfrom .model import {name}\n\n__all__ = ["{name}"]\n\n{listing(files)}'
        return {INIT: sign(start), **files}

    def files(self, file: str) -> dict[str, str]:
        """The text of this file, and of those that it needs, each by its name."""
        names = names_in([ast.parse(self.code)])
        blocks = [f"from .{where_defined()[name]} import {name}" for name in names & where_defined().keys()]
        outside = [OUTSIDE[name] for name in names & OUTSIDE.keys()]
        needed = {f"{each}.py": library()[each].text for each in closure(files_of(names))}
        return {**needed, file: self._signed([*outside, *blocks], self.code)}

    def single_file(self) -> str:
        """All of it in one file: after what must be defined before it, the architecture, then the other blocks."""
        tree = ast.parse(self.code)
        names = names_in([tree])
        files = closure(files_of(names))
        first = in_order(files_of(names_needed_first(tree)))
        rest = [file for file in in_order(files) if file not in first]
        statements = [OUTSIDE[name] for name in names & OUTSIDE.keys()]
        statements += [one for file in files for one in library()[file].outside.values()]
        parts = [*map(titled, first), self.code, *map(titled, rest)]
        return self._signed(statements, "\n\n\n".join(parts))

    def _signed(self, statements: Sequence[str], code: str) -> str:
        """A file of this model: its docstring and marks, imports, code, and a signature."""
        head = f'"""{self.docstring}"""\n\n{self.marks}\n\nfrom __future__ import annotations\n'
        space = "\n\n" if code.startswith(("class ", "def ", "@")) else "\n"
        return sign(f"{head}\n{imports(statements)}{space}{code}\n")


def files_of(names: set[str]) -> list[str]:
    """The building blocks that define these names, as far as any does."""
    return sorted({where_defined()[name] for name in names & where_defined().keys()})


def in_order(files: Sequence[str]) -> list[str]:
    """These files, each after those that must be run before it, which are there too."""
    ordered: list[str] = []

    def put(file: str) -> None:
        if file not in ordered:
            for other in sorted(library()[file].needed_first):
                put(other)
            ordered.append(file)

    for file in files:
        put(file)
    return ordered


def titled(file: str) -> str:
    """A building block's code under a line that says what it is."""
    block = library()[file]
    title = "\n".join(f"# {line}" for line in filled(f"{file}.py: {block.title}", LONGEST - 2))
    return f"{title}\n\n\n{block.code}"


def imports(statements: Iterable[str]) -> str:
    """Imports of a name each as ruff sorts them: the standard library, torch, the package; a module's names in one."""
    groups: list[list[str]] = [[], [], []]
    names: dict[str, set[str]] = {}
    for one in sorted(set(statements)):
        module, _, name = one.removeprefix("from ").partition(" import ")
        if name:
            names.setdefault(module, set()).add(name)
        else:
            groups[one.startswith("import torch")].append(one)
    for module in sorted(names):
        group = 2 if module.startswith(".") else 1 if module.startswith("torch") else 0
        groups[group].append(import_from(module, names[module]))
    return "\n\n".join("\n".join(group) for group in groups if group) + "\n"


def import_from(module: str, names: set[str]) -> str:
    """One statement; constants first, then classes, then functions, as ruff has them."""

    def rank(name: str) -> tuple[int, str]:
        return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name.lower())

    listed = sorted(names, key=rank)
    line = f"from {module} import {', '.join(listed)}"
    if len(line) <= LONGEST:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in listed), ")"])
