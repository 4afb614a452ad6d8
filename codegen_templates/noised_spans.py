"""Which spans of latents are noised, and which are clean: these are given to be seen, and nothing is learnt of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .latent_checks import named, patches_in
from .latents import rank_of
from .tokens import look_up


def checked_clean(
    objectives: Mapping[str, Any], clean: Mapping[str, Tensor] | None, latents: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """Which spans of each modality are clean, bool [n], where latents [n, ...] are. Raises TypeError or ValueError."""
    checked = {}
    latents = named("latents", latents, objectives)
    for name, kept in named("clean", clean, objectives).items():
        spans = latents[name].shape[0] if name in latents else 0
        if kept.dtype != torch.bool or kept.shape != (spans,):
            told = f"{kept.dtype} {[*kept.shape]}"
            raise ValueError(f"clean of {name} must be torch.bool [{spans}], one a span, not {told}")
        checked[name] = kept.to(latents[name].device) if name in latents else kept
    return checked


def with_noised(model: Any, layout: Any, latents: Mapping[str, Tensor] | None, clean: Mapping[str, Tensor]) -> Any:
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
    model: Any, modality_ids: Tensor, latents: Mapping[str, Tensor], clean: Mapping[str, Tensor]
) -> Tensor:
    """Which tokens are of latents that are not clean, bool [B * S]."""
    noised = torch.zeros(modality_ids.numel(), dtype=torch.bool, device=modality_ids.device)
    for name, x in latents.items():
        rank = rank_of(modality_ids, model.modalities.index(name))
        if x.shape[0]:
            is_clean = clean.get(name, torch.zeros(x.shape[:1], dtype=torch.bool)).to(rank.device)
            span = rank.clamp(min=0) // patches_in(x.shape[2:], model.latents[name].patch)
            noised = noised | ((rank >= 0) & ~is_clean[span])
    return noised
