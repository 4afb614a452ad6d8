"""Rows as short as those of tests, cut into chunks as long ones are: by what it costs they would not be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from codegen_templates import mask_window
from motc.plan.library import library

COPIES = mask_window.COPIES


def cut_short_rows() -> None:
    """As if copying cost nothing, in what is imported and in models that are generated from here on."""
    mask_window.COPIES = 0
    blocks: Any = library()
    block, said = blocks["mask_window"], f"COPIES = {COPIES}\n"
    assert said in block.text and said in block.code
    nothing = "COPIES = 0\n"
    blocks["mask_window"] = replace(
        block, text=block.text.replace(said, nothing), code=block.code.replace(said, nothing)
    )
