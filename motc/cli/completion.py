"""What a shell completes: specs, keys that `--set` takes, codes, and shipped models."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".mot", ".yaml", ".yml")


def specs(incomplete: str) -> list[str]:
    """Specs and folders whose path begins so."""
    head, _, name = incomplete.rpartition("/")
    folder = f"{head}/" if "/" in incomplete else ""
    try:
        there = sorted(Path(folder or ".").iterdir())
    except OSError:
        return []
    known = [path for path in there if path.name.startswith(name) and (name or not path.name.startswith("."))]
    return [
        f"{folder}{path.name}{'/' if path.is_dir() else ''}"
        for path in known
        if path.is_dir() or path.name.lower().endswith(SUFFIXES)
    ]


def settings(incomplete: str) -> list[str]:
    """The keys of a spec that begin so, each with its `=`."""
    from motc.schema.keys import dotted_keys

    return [f"{key}=" for key in dotted_keys(()) if key.startswith(incomplete)]


def words_to_explain(incomplete: str) -> list[str]:
    """The codes that begin so, and the parameter groups."""
    from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS
    from motc.source.codes import CODES

    return [word for word in (*CODES, *LAYER_PATHS, *OUTER_PATHS) if word.startswith(incomplete)]


def shipped(incomplete: str) -> list[str]:
    """The shipped models that begin so."""
    from motc.cli.new import models

    return [name for name in models() if name.startswith(incomplete)]
