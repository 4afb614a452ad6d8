"""Which spans of latents are noised, and which are clean: these are given to be seen, and nothing is learnt of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .latent_checks import named, patches_in
from .latents import rank_of
from .patched import AnyLatents, Patched, moment_of, named_latents, values_of
from .tokens import look_up


def checked_clean(
    objectives: Mapping[str, Any], clean: Mapping[str, Tensor] | None, latents: Mapping[str, AnyLatents] | None
) -> dict[str, Tensor]:
    """Which spans of each modality are clean, bool [n], or moments of patches, [M], where latents are.

    Raises TypeError or ValueError.
    """
    checked = {}
    latents = named_latents("latents", latents, objectives)
    for name, kept in named("clean", clean, objectives).items():
        x = latents.get(name)
        spans = 0 if x is None else x.spans.shape[0] if isinstance(x, Patched) else x.shape[0]
        if kept.dtype != torch.bool or kept.shape != (spans,):
            told = f"{kept.dtype} {[*kept.shape]}"
            raise ValueError(f"clean of {name} must be torch.bool [{spans}], one a span, not {told}")
        checked[name] = kept.to(values_of(x).device) if x is not None else kept
    return checked


def spans_clean(clean: Mapping[str, Tensor], latents: Mapping[str, AnyLatents] | None) -> dict[str, Tensor]:
    """Which spans are clean, all of each, bool [n]."""
    spans = dict(clean)
    for name, x in (latents or {}).items():
        if name in clean and isinstance(x, Patched):
            noised = torch.zeros(len(x.grids), dtype=torch.int64, device=x.spans.device)
            spans[name] = noised.index_add(0, x.spans, (~clean[name]).long()) == 0
    return spans


def with_noised(model: Any, layout: Any, latents: Mapping[str, AnyLatents] | None, clean: Mapping[str, Tensor]) -> Any:
    """The layout, where masks that hide noised spans are told which these are: those that are not `clean`."""
    if not any(mask.hides_noised for mask in model.masks):
        return layout
    noised, slots = noised_tokens(model, layout.modality_ids, latents or {}, clean), layout.rows.slots
    in_slots = noised[slots.clamp(min=0)] & (slots >= 0)
    documents = None if layout.document_ids is None else look_up(layout.document_ids.flatten(), slots, -1)
    pairs = zip(layout.rows.by_mask, model.masks, strict=True)
    rows, *others = [mask.given_noised(each, documents, in_slots) for each, mask in pairs]
    return layout._replace(rows=rows._replace(others=tuple(others)))


def noised_tokens(
    model: Any, modality_ids: Tensor, latents: Mapping[str, AnyLatents], clean: Mapping[str, Tensor]
) -> Tensor:
    """Which tokens are of latents that are not clean, bool [B * S]."""
    noised = torch.zeros(modality_ids.numel(), dtype=torch.bool, device=modality_ids.device)
    for name, x in latents.items():
        rank = rank_of(modality_ids, model.modalities.index(name))
        if values_of(x).shape[0]:
            length = 1 if isinstance(x, Patched) else patches_in(x.shape[2:], model.latents[name].patch)
            span = moment_of(rank.clamp(min=0), x, length)
            is_clean = clean[name].to(rank.device)[span] if name in clean else torch.zeros_like(rank, dtype=torch.bool)
            noised = noised | ((rank >= 0) & ~is_clean)
    return noised
