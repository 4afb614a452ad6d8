"""The shipped specs; and of those that are the same model once they are made small, one."""

from __future__ import annotations

from pathlib import Path

from motc.driver import check_spec, final_ir
from motc.ir.identity import semantic_hash
from motc.validate.reduce import reduce

SHIPPED = sorted((Path(__file__).resolve().parent.parent / "specs").rglob("*.mot"))


def _small(path: Path) -> str:
    model = final_ir(reduce(check_spec(path)))
    return semantic_hash(model)


def _is_dense(path: Path) -> bool:
    return all(len(leaf.blocks) == 1 for leaf in final_ir(check_spec(path)).leaves())


_TRIED = [path for path in SHIPPED if path.parent.name != "gallery" or not _is_dense(path)]
DIFFERENT = list({_small(path): path for path in reversed(_TRIED)}.values())[::-1]
"""What tests of small models run on: the sizes of the paper's table differ in nothing but what is made small.

Those of the gallery that are dense are compared with their originals instead: no tower is told from another.
"""
