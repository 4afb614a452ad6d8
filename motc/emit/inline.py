"""Statements as a person writes them: what is used once, and at once, stands where it is used.

    before   gate = self.gate(x)            after    x = x + self.down(F.silu(self.gate(x)) * self.up(x))
             up = self.up(x)                         return x
             hidden = F.silu(gate) * up
             out = self.down(hidden)
             x = x + out
             return x

Each statement reads what the ones before it wrote, so what is computed is the same. What a module gives has no type, so
it is returned under a name, which has one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from motc.emit.text import statement
from motc.plan.library import names_in

Statement = tuple[str, str]
"""A name and the expression that it is to stand for."""

WIDEST = 92
"""A statement that got longer than this, without its indentation, would not be read more easily."""

RETURN = "return"


def inlined(statements: Sequence[Statement], result: str) -> list[Statement]:
    """The statements of a function's body that returns `result`; the last one has the name `return`."""
    shorter = [*statements, (RETURN, result)]
    index = 0
    while index < len(shorter) - 1:
        merged = _merged(shorter, index)
        if merged is None:
            index += 1
        else:
            shorter[index : index + 2] = [merged]
            index = max(index - 1, 0)  # what stands before may go in too
    return shorter


def _merged(statements: Sequence[Statement], index: int) -> Statement | None:
    """A statement and the one after it as one, if it is used there alone and may stand there."""
    (name, expression), (target, following) = statements[index : index + 2]
    if target == RETURN or not name.isidentifier() or _is_read(name, target, statements[index + 2 :]):
        return None
    if not _takes(following, name, expression):
        return None
    merged = re.sub(rf"(?<![\w.\"]){name}(?![\w\"=])", lambda _: expression, following)
    return (target, merged) if len(f"{target} = {merged}") <= WIDEST else None


def _is_read(name: str, target: str, later: Sequence[Statement]) -> bool:
    """Whether a name is read after the statement that assigns `target`, before it gets another value."""
    if target == name:
        return False
    for assigned, expression in later:
        if name in _names(expression):
            return True
        if assigned == name:
            return False
    return False


@lru_cache(maxsize=4096)
def _takes(following: str, name: str, expression: str) -> bool:
    """Whether an expression may stand for a name in the one that follows, where it must occur once."""
    tree = _parsed(following)
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    if any(ast.unparse(call.func).startswith("attend") for call in calls):
        return False  # queries, keys and values have names
    if any(isinstance(node, ast.ListComp | ast.DictComp | ast.Lambda | ast.List) for node in ast.walk(tree)):
        return False
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]
    moved = _parsed(expression)
    if len(uses) != 1 or isinstance(moved, ast.ListComp | ast.List | ast.IfExp):
        return False
    return not isinstance(moved, ast.BinOp) or isinstance(parents.get(id(uses[0])), ast.Call | None)


def returning(statements: Sequence[Statement], kind: str, arguments: Iterable[str]) -> list[Statement]:
    """The same, what the last one computes being returned at once. Where a module gives it, it has no type, and is
    returned under a name that has one: an argument's, or one that is said to be of this `kind`.
    """
    *others, (name, expression), (_, result) = statements if len(statements) > 1 else [("", ""), *statements]
    if name != result:
        return list(statements)
    given = {name for name, made in others if name.isidentifier() and _is_untyped(_parsed(made))}
    if not _is_untyped(_parsed(expression), given - set(arguments)):
        return [*others, (RETURN, expression)]
    typed = name if name in arguments else f"{name}: {kind}"
    return [*others, (typed, expression), (RETURN, result)]


def _is_untyped(tree: ast.expr, given: Collection[str] = ()) -> bool:
    """Whether an expression is what a module gives, or one of these names that were `given` by modules, or a sum."""
    match tree:
        case ast.BinOp(left=left, right=right):
            return _is_untyped(left, given) or _is_untyped(right, given)
        case ast.Name(id=name):
            return name in given
        case ast.Call(func=function):
            return ast.unparse(function).startswith("self.")
        case _:
            return False


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> ast.expr:
    """An expression's tree, which nothing changes: each is asked for many times, and layers are much alike."""
    return ast.parse(expression, mode="eval").body


@lru_cache(maxsize=1024)
def _names(expression: str) -> frozenset[str]:
    """The names that stand in an expression."""
    return frozenset(names_in([_parsed(expression)]))


def lines_of(statements: Iterable[Statement]) -> list[str]:
    """Statements as text."""
    starts = ((f"{name} " if name == RETURN else f"{name} = ", expression) for name, expression in statements)
    return [line for start, expression in starts for line in statement(start, expression)]
