"""The building blocks: what each file of `codegen_templates/` defines and needs, found by reading them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from motc.plan.constants import NAMES
from motc.resources import templates

OUTSIDE = {
    "torch": "import torch",
    "Tensor": "from torch import Tensor",
    "nn": "from torch import nn",
    "F": "from torch.nn import functional as F",
    "Any": "from typing import Any",
    "ClassVar": "from typing import ClassVar",
    "Mapping": "from collections.abc import Mapping",
    "Collection": "from collections.abc import Collection",
    "DeviceMesh": "from torch.distributed.device_mesh import DeviceMesh",
}
"""What an architecture may use of torch and the standard library, and how it is imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingBlock:
    """A file: its text, the first line of its docstring, and its code below the imports.

    `names` are those it defines, `outside` the statements for those that it imports from elsewhere, `imports` the files
    it imports from. `needed_first` are the files without which its top level cannot be run.
    """

    text: str
    title: str
    code: str
    names: frozenset[str]
    outside: Mapping[str, str]
    imports: frozenset[str]
    needed_first: frozenset[str]


@cache
def library() -> Mapping[str, BuildingBlock]:
    """Every building block by its file's name without `.py`."""
    files = {file.removesuffix(".py"): text for file, text in templates().items()}
    return {name: read_block(text) for name, text in files.items() if name != "__init__"}


@cache
def where_defined() -> Mapping[str, str]:
    """The file of each name that building blocks define; a test holds that no two define the same."""
    return {name: file for file, block in library().items() for name in block.names}


@cache
def taken() -> frozenset[str]:
    """Names that no class of a model can have: what files import or define before it."""
    return frozenset(
        {*OUTSIDE, *NAMES, *where_defined(), *(name for block in library().values() for name in block.outside)}
    )


def read_block(text: str) -> BuildingBlock:
    """What a file defines and needs. Its imports stand first, after its docstring."""
    tree = ast.parse(text)
    docstring, *body = tree.body
    statements = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    last = statements[-1] if statements else docstring
    files = {
        alias.name: node.module
        for node in statements
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
    }
    return BuildingBlock(
        text=text,
        title=(ast.get_docstring(tree) or "").splitlines()[0],
        code="\n".join(text.splitlines()[last.end_lineno :]).strip(),
        names=defined(tree),
        outside=dict(pair for node in statements for pair in _outside(node)),
        imports=frozenset(files.values()),
        needed_first=frozenset(files[name] for name in names_needed_first(tree) & files.keys()),
    )


def _outside(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """The names that an import takes from outside the library, each with a statement of its own."""
    if isinstance(node, ast.ImportFrom) and (node.level or node.module == "__future__"):
        return
    start = f"from {node.module} import " if isinstance(node, ast.ImportFrom) else "import "
    for alias in node.names:
        called = f" as {alias.asname}" if alias.asname else ""
        yield alias.asname or alias.name.partition(".")[0], f"{start}{alias.name}{called}"


def defined(tree: ast.Module) -> frozenset[str]:
    """The names that a module's top level defines, without those it imports."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case _:
                pass
    return frozenset(names)


def names_needed_first(tree: ast.Module) -> set[str]:
    """The names that running a module's top level asks for: bases, decorators, values; no annotations, no bodies."""
    asked: list[ast.expr] = []
    for node in [each for top in tree.body for each in (top, *(top.body if isinstance(top, ast.ClassDef) else ()))]:
        match node:
            case ast.ClassDef(bases=bases, decorator_list=decorators):
                asked += [*bases, *decorators]
            case ast.FunctionDef(args=arguments, decorator_list=decorators):
                asked += [*decorators, *arguments.defaults, *filter(None, arguments.kw_defaults)]
            case ast.Assign(value=value) | ast.Expr(value=value):
                asked.append(value)
            case ast.AnnAssign(value=ast.expr() as value):
                asked.append(value)
            case _:
                pass
    return names_in(asked)


def names_in(nodes: Iterable[ast.AST]) -> set[str]:
    """Every name that stands in these."""
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}


def closure(files: Iterable[str]) -> list[str]:
    """These files and all that they import, in the order of their names."""
    reached: set[str] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += library()[file].imports
    return sorted(reached)
