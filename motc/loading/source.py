"""Generated text as a module of the running program, whose models and layouts can be pickled and copied."""

from __future__ import annotations

import copyreg
import hashlib
import itertools
import linecache
import sys
from types import ModuleType
from typing import Any

_COUNTER = itertools.count()
_SOURCES: dict[str, str] = {}


def import_source(source: str) -> ModuleType:
    """A module made of generated text, with new classes at each call: compiled models share no recompile limit."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    names = (f"motc_generated_{digest}_{number}" for number in _COUNTER)
    return _execute(next(name for name in names if name not in sys.modules), source)


def _execute(name: str, source: str) -> ModuleType:
    filename = f"<{name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = ModuleType(name)
    module.__file__ = filename
    sys.modules[name] = module
    exec(compile(source, filename, "exec"), module.__dict__)
    _SOURCES[name] = source
    for made in list(vars(module).values()):
        if isinstance(made, type) and made.__module__ == name:
            copyreg.pickle(made, _reduced)
    return module


def _reduced(made: Any) -> tuple[Any, ...]:
    """How an object of a generated class is pickled: with the text that the class is made of.

    No other program has its module, and none can import it by name.
    """
    cls = type(made)
    _, (_, *arguments), *rest = made.__reduce_ex__(2)
    return (rebuilt, (cls.__module__, _SOURCES[cls.__module__], cls.__qualname__, *arguments), *rest)


def rebuilt(name: str, source: str, cls: str, *arguments: Any) -> Any:
    """What unpickling calls: an object of a class of a generated module, which is made anew where it is missing."""
    module = sys.modules.get(name) or _execute(name, source)
    made = getattr(module, cls)
    return made.__new__(made, *arguments)
