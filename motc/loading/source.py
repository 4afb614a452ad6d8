"""Generated text as a module of the running program, whose models and layouts can be pickled and copied."""

from __future__ import annotations

import hashlib
import itertools
import linecache
import re
import sys
import weakref
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any

from torch import nn

_COUNTER = itertools.count()
_BLOCK = re.compile(r"\n\n\n(?=# \w+\.py: )")
"""What stands before a building block in generated text."""


def import_source(source: str) -> ModuleType:
    """A module made of generated text, with new classes at each call: compiled models share no recompile limit.

    It can be imported by its name as long as a model of it, or a part of one, lives, and until the first is made.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    names = (f"motc_generated_{digest}_{number}" for number in _COUNTER)
    return _execute(next(name for name in names if name not in sys.modules), source)


def _execute(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = f"<{name}>"
    entries = _Entries(module, source)
    entries.make()
    for code in _codes(source, module.__file__):
        exec(code, module.__dict__)
    for cls in list(vars(module).values()):
        if isinstance(cls, type) and cls.__module__ == name:
            cls.__reduce_ex__ = _reduction(name, source)  # type: ignore[method-assign]
            if issubclass(cls, nn.Module):
                cls.__new__ = _counted(entries)  # type: ignore[method-assign]
    return module


def _codes(source: str, filename: str) -> Iterator[CodeType]:
    """The code of generated text, to be run in turn: building blocks, alike in many models, are compiled once."""
    line = 0
    for part in _BLOCK.split(source):
        yield _placed(_compiled(part), filename, line)
        line += part.count("\n") + 3


@lru_cache(maxsize=256)
def _compiled(part: str) -> CodeType:
    code: CodeType = compile(part, "<generated>", "exec", flags=annotations.compiler_flag, dont_inherit=True)
    return code


def _placed(code: CodeType, filename: str, line: int) -> CodeType:
    """Code as it is so many lines further down in this file, in objects of its own."""
    constants = (_placed(each, filename, line) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=filename, co_firstlineno=code.co_firstlineno + line, co_consts=tuple(constants))


class _Entries:
    """What the program knows a module by: its name, and its text for tracebacks. They are gone with its last model."""

    def __init__(self, module: ModuleType, source: str) -> None:
        self.module, self.lines = module, source.splitlines(keepends=True)
        self.living: set[int] = set()

    def make(self) -> None:
        sys.modules[self.module.__name__] = self.module
        filename = str(self.module.__file__)
        linecache.cache[filename] = (sum(map(len, self.lines)), None, self.lines, filename)

    def add(self, part: nn.Module) -> None:
        """Keep the entries as long as this model, or part of one, lives."""
        if not self.living:
            self.make()
        self.living.add(id(part))
        weakref.finalize(part, self.remove, id(part)).atexit = False

    def remove(self, part: int) -> None:
        self.living.discard(part)
        if not self.living:
            sys.modules.pop(self.module.__name__, None)
            linecache.cache.pop(str(self.module.__file__), None)


def _counted(entries: _Entries) -> Any:
    """The `__new__` of a module's classes of nn.Module."""

    def new(cls: type[nn.Module], *_: Any, **__: Any) -> nn.Module:
        instance = object.__new__(cls)
        entries.add(instance)
        return instance

    return new


def _reduction(name: str, source: str) -> Any:
    """How an object of a generated class is pickled: with the text that the class is made of.

    No other program has its module, and none can import it by name.
    """

    def reduced(instance: Any, protocol: Any) -> Any:
        cls = type(instance)
        if cls.__module__ != name:  # a class that was made from a generated one
            return object.__reduce_ex__(instance, protocol)
        plain: Any = object.__reduce_ex__(instance, 2)
        _, (_, *arguments), *rest = plain
        return (rebuilt, (name, source, cls.__qualname__, *arguments), *rest)

    return reduced


def rebuilt(name: str, source: str, cls: str, *arguments: Any) -> Any:
    """What unpickling calls: an object of a class of a generated module, which is made anew where it is missing."""
    module = sys.modules.get(name) or _execute(name, source)
    generated = getattr(module, cls)
    return generated.__new__(generated, *arguments)
