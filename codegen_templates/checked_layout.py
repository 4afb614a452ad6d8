"""A batch's layout, made or given, after a look at all that came with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from .checks import check_tensor, refuse
from .layout import AnyLayout, Layout


def check_positions(position_ids: Any, modality_ids: Tensor, axes: int) -> None:
    """Raise TypeError or ValueError unless positions are int64 [B, S], or [S] or [1, S] for all rows.

    Where there are several axes, [B, S, axes] or [1, S, axes] has one for each.
    """
    if isinstance(position_ids, Tensor):
        if position_ids.ndim == 3:
            if axes == 1 or position_ids.shape[-1] != axes:
                said = "there is one axis" if axes == 1 else f"there are {axes} axes: give [B, S] or [B, S, {axes}]"
                raise ValueError(f"position_ids are {[*position_ids.shape]}, and {said}")
            position_ids = position_ids[..., 0]
        if position_ids.shape in (modality_ids.shape[1:], (1, modality_ids.shape[1])):
            position_ids = position_ids.expand_as(modality_ids)
    check_tensor("position_ids", position_ids, modality_ids)


def no_token(
    called: str, ids: Tensor, modality_ids: Tensor, modalities: tuple[str, ...], vocabularies: Mapping[str, int]
) -> tuple[Tensor, Callable[[int, int], str]]:
    """Where an id is none of its modality's, and what to say; of padding and latents they may be anything."""
    of = [(modality_ids == modalities.index(name), size) for name, size in vocabularies.items()]
    if len(of) == len(modalities) and len(set(vocabularies.values())) == 1:
        of = [(modality_ids >= 0, of[0][1])]
    wrong = [mine & ((ids < 0) | (ids >= size)) for mine, size in of]
    places = torch.stack(wrong or [torch.zeros_like(modality_ids, dtype=torch.bool)]).any(dim=0)

    def said(row: int, column: int) -> str:
        name = modalities[int(modality_ids[row, column])]
        size = vocabularies[name]
        given = f"{int(ids[row, column])} in row {row}, column {column}"
        return f"{called} have {given}, and {name} has a vocabulary of {size}: its ids are 0..{size - 1}"

    return places, said


def another_batch(
    layout: Layout, key: str, modality_ids: Tensor, document_ids: Tensor | None
) -> list[tuple[Tensor, Callable[[int, int], str]]]:
    """Where a layout is one of other ids, and what to say.

    Raises TypeError or ValueError for what its shape and its key tell.
    """
    made_by = str(getattr(layout, "key", "")).partition(" ")[0]
    if made_by != key.partition(" ")[0]:
        raise TypeError(f"layout must be what this model's layout() gives, not {type(layout).__name__}")
    if layout.key != key:
        raise ValueError(
            "the layout is of a model with another mask or order of modalities: make it with one of this spec"
        )
    if document_ids is not None and layout.document_ids is None:
        raise ValueError("the layout was made without document_ids: give them to layout() too, or to neither")
    faults: list[tuple[Tensor, Callable[[int, int], str]]] = []
    real = modality_ids >= 0  # documents of padding count for nothing
    given = {"modality_ids": (layout.modality_ids, modality_ids), "document_ids": (layout.document_ids, document_ids)}
    for name, (mine, theirs) in given.items():
        if mine is None or theirs is None:  # documents may be left out: the layout has them
            continue
        if mine.shape != theirs.shape:
            raise ValueError(f"the layout was made of {name} {[*mine.shape]}, and these are {[*theirs.shape]}")
        if mine.device != theirs.device:
            raise ValueError(f"the layout is on {mine.device}, and {name} on {theirs.device}: use layout.to(...)")

        def said(row: int, column: int, name: str = name) -> str:
            return f"the layout was made of other {name}: they differ in row {row}, column {column}"

        faults.append(((mine != theirs) & real if name == "document_ids" else mine != theirs, said))
    return faults


def checked_layout(
    model: Any,
    input_ids: Tensor,
    modality_ids: Tensor,
    position_ids: Tensor | None,
    document_ids: Tensor | None,
    layout: AnyLayout | None,
    reads: bool,
) -> AnyLayout:
    """The layout of a batch, made unless it is given. Raises TypeError or ValueError for what does not fit.

    `reads`: whether a layout is made here, in a way that reads from the device, so that these checks may too. On a CPU
    they always do.
    """
    if torch.compiler.is_compiling():
        return cast(AnyLayout, model.layout(modality_ids, document_ids)) if layout is None else layout
    check_tensor("modality_ids", modality_ids)
    check_tensor("input_ids", input_ids, modality_ids)
    if position_ids is not None:
        check_positions(position_ids, modality_ids, model.position_axes)
    if document_ids is not None:
        check_tensor("document_ids", document_ids, modality_ids)
    faults = [] if layout is None else another_batch(layout, model.layout_key, modality_ids, document_ids)
    if layout is None:
        layout = cast(AnyLayout, model.layout(modality_ids, document_ids))
    faults.append(no_token("input_ids", input_ids, modality_ids, model.modalities, model.vocabularies))
    refuse(faults, reads)
    return layout
