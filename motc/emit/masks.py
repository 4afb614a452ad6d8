"""Masks as text."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.plan import kernel


def model_masks(model: Model) -> list[str]:
    """The masks of the layers; cut into views where attention goes so."""
    return [mask_expression(mask, model.names, in_views=kernel(mask, model) == "views") for mask in model.masks]


def mask_expression(mask: Mask, names: tuple[str, ...], *, in_views: bool) -> str:
    """A mask of these modalities as the building blocks say it: one that can be cut into views, or not."""
    views = "InViews" if in_views else ""

    def ids(group: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(names.index(name) for name in group)

    if mask.hide_noised:
        whole = mask_expression(replace(mask, hide_noised=()), names, in_views=False)
        return f"HidesNoised({whole}, {ids(mask.hide_noised)!r})"
    if mask.reads:
        said = dict(mask.reads)
        whole = mask_expression(replace(mask, reads=(), crosses=False), names, in_views=False)
        behind = "" if mask.looks_ahead_as_far else ", behind=True"
        reads = f"{tuple(ids(said.get(name, ())) for name in names)!r}"
        if mask.crosses:
            return f"Crossing{views}({whole}, {reads}{behind if in_views else ''})"
        others = mask_expression(mask.of_others(names), names, in_views=in_views)
        return f"Reading{views}({whole}, {others}, {reads}{behind if in_views else ''})"
    match mask.kind:
        case "causal":
            expression = "Causal()"
        case "full":
            expression = "Full()"
        case "prefix":
            expression = f"Prefix{views}({ids(mask.prefix)!r})"
        case "blocks":
            blocks = (*mask.blocks[:-1], (*mask.blocks[-1], *mask.absent))  # each has a rank, of absent ones any
            expression = f"Blocks{views}({tuple(ids(block) for block in blocks)!r})"
        case _:
            assert_never(mask.kind)
    if (mask.bidirectional or mask.runs) and mask.kind in ("causal", "prefix"):
        runs = f", {tuple(map(ids, mask.runs))!r}" if mask.runs else ""
        delimited = ", delimited=True" if mask.delimiters else ""
        expression = f"Bidirectional({expression}, {ids(mask.bidirectional)!r}{runs}{delimited})"
    if mask.sees:
        expression = f"Directed{views}({expression}, {sight(mask, names)!r})"
    if mask.window is not None:
        both_ways = ", both_ways=True" if mask.looks_ahead_as_far else ""
        expression = f"Window({expression}, {mask.window}{both_ways})"
    return f"Absent{views}({expression}, {ids(mask.absent)!r})" if mask.absent else expression


def sight(mask: Mask, names: tuple[str, ...]) -> tuple[tuple[bool, ...], ...]:
    """For each modality, which ones it may see."""
    said = dict(mask.sees)
    return tuple(tuple(seen in said.get(name, names) for seen in names) for name in names)
