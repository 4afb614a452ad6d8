"""What a model refuses of a batch, before it computes anything.

Shapes cost nothing. Values are looked at where the layout is made, and on a CPU always: elsewhere that waits for the
device, so where nothing else waits, CUDA itself asserts them, later and without words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .tokens import token_before


def check_tensor(name: str, x: Any, modality_ids: Tensor | None = None) -> None:
    """Raise TypeError or ValueError unless x is int64 [B, S], of the shape and on the device of `modality_ids`."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, int64 [B, S], not {type(x).__name__}")
    if x.dtype != torch.int64:
        raise ValueError(f"{name} must be int64, not {x.dtype}: give {name}.long()")
    if modality_ids is None:
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"{name} must be [B, S], a row and a token at least, not {[*x.shape]}")
    elif x.shape != modality_ids.shape:
        raise ValueError(f"{name} must be [B, S] as modality_ids, {[*modality_ids.shape]}, not {[*x.shape]}")
    elif x.device != modality_ids.device:
        raise ValueError(f"{name} must be on {modality_ids.device} as modality_ids, not on {x.device}")


def refuse(faults: list[tuple[Tensor, Callable[[int, int], str]]], reads: bool) -> None:
    """Raise ValueError where one of these bool tensors [B, S] is true, with what is said of its first row and column.

    Reads once from the device; on CUDA unless `reads`, never: then the device asserts that none is true.
    """
    if not faults:
        return
    wrong = torch.stack([places.any() for places, _ in faults])
    if wrong.device.type == "cuda" and not reads:
        torch._assert_async(~wrong.any())
    elif not wrong.is_meta and bool(wrong.any()):
        for places, said in faults:
            if bool(places.any()):
                raise ValueError(said(*places.nonzero()[0].tolist()))


def check_modalities(modality_ids: Tensor, document_ids: Tensor | None, count: int, reads: bool) -> None:
    """Raise TypeError or ValueError for ids that are no modality's, and for documents in several parts."""
    if torch.compiler.is_compiling():
        return
    check_tensor("modality_ids", modality_ids)

    def no_modality(row: int, column: int) -> str:
        given = f"{int(modality_ids[row, column])} in row {row}, column {column}"
        return f"modality_ids must be -1 (padding) or 0..{count - 1}, not {given}"

    faults: list[tuple[Tensor, Callable[[int, int], str]]]
    faults = [((modality_ids < -1) | (modality_ids >= count), no_modality)]
    if document_ids is not None:
        check_tensor("document_ids", document_ids, modality_ids)
        faults.append(documents_in_parts(modality_ids, document_ids))
    refuse(faults, reads)


def documents_in_parts(modality_ids: Tensor, document_ids: Tensor) -> tuple[Tensor, Callable[[int, int], str]]:
    """Where, among each row's ids sorted, a document goes on after another one came between; and what to say."""
    real, before = modality_ids >= 0, token_before(modality_ids)
    place = torch.arange(real.shape[1], device=real.device).expand_as(real)
    latest = torch.where(real, place, before)
    first = real.to(torch.uint8).argmax(dim=1, keepdim=True)
    ids = document_ids.gather(1, torch.where(latest >= 0, latest, first))  # padding's: of the token before it
    part = torch.zeros_like(ids)
    part[:, 1:] = (ids[:, 1:] != ids[:, :-1]).cumsum(dim=1)
    ids, order = ids.sort(dim=1, stable=True)
    part = part.gather(1, order)
    again = (ids[:, 1:] == ids[:, :-1]) & (part[:, 1:] != part[:, :-1])

    def said(row: int, column: int) -> str:
        return (
            f"document {int(ids[row, column])} of row {row} comes back after another: "
            "document_ids must give all tokens of a document in a row, one after the other"
        )

    return again, said
