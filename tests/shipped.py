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


def _is_untied(path: Path) -> bool:
    return any(len(leaf.blocks) > 1 for leaf in final_ir(check_spec(path)).leaves())


GALLERY = [path for path in SHIPPED if path.parent.name == "gallery"]
"""Published models, each compared with its original."""

UNTIED_GALLERY = [path for path in GALLERY if _is_untied(path)]
"""Those of them that have something to tell apart, for what is about that."""

DIFFERENT = list({_small(path): path for path in reversed(SHIPPED) if path not in GALLERY}.values())[::-1]
"""What tests of small models run on: the sizes of the paper's table differ in nothing but what is made small."""
