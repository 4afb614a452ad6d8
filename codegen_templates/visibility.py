"""Who sees whom, for masks in which modality plays a part."""

import torch
from torch import Tensor

from codegen_templates.constants import constant


def visibility(
    modality_ids: Tensor,
    document_ids: Tensor | None,
    kind: str,
    prefix: tuple[int, ...] = (),
    bidirectional: tuple[int, ...] = (),
    blocks: tuple[tuple[int, ...], ...] = (),
    sees: tuple[tuple[bool, ...], ...] = (),
) -> Tensor:
    """Whether each token of a row sees each other, bool [R, L, L]; places without a token see only themselves.

    modality_ids int64 [R, L], -1 where there is no token; document_ids int64 [R, L], or None: each row is one document.
    A token sees tokens of its document: by `causal`, none after it; by `full`, all; by `prefix`, none after it, but the
    document's leading tokens of modalities in `prefix` see each other; by `blocks`, those whose modality is in its own
    block or one before. With `causal` and `prefix`, an unbroken run of one modality in `bidirectional` sees all of
    itself. sees[i][j]: whether tokens of modality i may see those of j at all; empty: all may.
    """
    length = modality_ids.shape[1]
    real = modality_ids >= 0
    place = torch.arange(length, device=modality_ids.device)
    visible = real[:, :, None] & real[:, None, :]
    if document_ids is not None:
        visible = visible & (document_ids[:, :, None] == document_ids[:, None, :])
    if kind == "blocks":
        rank_of = {modality: rank for rank, block in enumerate(blocks) for modality in block}
        ranks = tuple(rank_of[modality] for modality in sorted(rank_of))
        rank = constant(ranks, modality_ids.device)[modality_ids]
        visible = visible & (rank[:, None, :] <= rank[:, :, None])
    elif kind != "full":
        allowed = (place <= place[:, None])[None]
        if kind == "prefix":
            others = real & ~torch.isin(modality_ids, constant(prefix, modality_ids.device))
            after_another = (visible & allowed & others[:, None, :]).any(dim=2)
            in_prefix = real & ~after_another
            allowed = allowed | (in_prefix[:, :, None] & in_prefix[:, None, :])
        if bidirectional:
            run = unbroken_runs(modality_ids, document_ids)
            both_ways = torch.isin(modality_ids, constant(bidirectional, modality_ids.device))
            allowed = allowed | (both_ways[:, :, None] & (run[:, :, None] == run[:, None, :]))
        visible = visible & allowed
    if sees:
        may = constant(sees, modality_ids.device)
        visible = visible & may[modality_ids[:, :, None], modality_ids[:, None, :]]
    return visible | (torch.eye(length, dtype=torch.bool, device=modality_ids.device) & ~real[:, :, None])


def unbroken_runs(modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    """A number for each run of tokens of one modality and document that follow one another, int64 [R, L].

    Places without a token (modality -1) break no run, and have a number that means nothing.
    """
    real, before = modality_ids >= 0, token_before(modality_ids)
    place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
    before = torch.where(before >= 0, before, place)  # the first token of a row has none before it
    starts = modality_ids != modality_ids.gather(1, before)
    if document_ids is not None:
        starts = starts | (document_ids != document_ids.gather(1, before))
    return (starts & real).cumsum(dim=1)


def token_before(modality_ids: Tensor) -> Tensor:
    """The place of the last real token before each place of a row, int64 [R, L]; -1 where there is none."""
    place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
    latest = torch.where(modality_ids >= 0, place, -1).cummax(dim=1).values
    return torch.where(place > 0, latest.roll(1, dims=1), -1)
