"""The shipped specs; and of those that are the same model once they are made small, one."""

from __future__ import annotations

from pathlib import Path

from motc.driver import check_spec, compile_ir, final_ir
from motc.ir.identity import semantic_hash
from motc.validate.reduce import reduce

SHIPPED = sorted((Path(__file__).resolve().parent.parent / "specs").rglob("*.mot"))

GALLERY = [path for path in SHIPPED if path.parent.name == "gallery"]
"""Published models, each compared with its original."""

_MODELS = {path: compile_ir(path) if path in GALLERY else final_ir(reduce(check_spec(path))) for path in SHIPPED}
"""What all lists here are read off: the gallery's at their sizes, the others small."""

UNTIED_GALLERY = [path for path in GALLERY if any(len(leaf.blocks) > 1 for leaf in _MODELS[path].leaves())]
"""Those of the gallery that have something to tell apart, for what is about that."""

DIFFERENT = list({semantic_hash(_MODELS[path]): path for path in reversed(SHIPPED) if path not in GALLERY}.values())[
    ::-1
]
"""What tests of small models run on: the sizes of the paper's table differ in nothing but what is made small."""

WITH_EXPERTS = [path for path in SHIPPED if _MODELS[path].routings]
"""Those that have mixtures of experts."""
