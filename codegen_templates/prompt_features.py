"""The features of a prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .generate_checks import check_mapping
from .latent_checks import check_features, named
from .tokens import in_last_document


def prompt_features(
    model: Any,
    features: Any,
    spans: Any,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    may_end: bool = False,
) -> dict[str, Tensor]:
    """The features of each row's last document, which is what is continued.

    Raises TypeError or ValueError for features that do not fit the prompt, for a span of features, and for a prompt
    that ends with them unless it `may_end` so.
    """
    given = named("features", features, model.feature_sizes, "modality of features")
    check_mapping("spans", spans)
    last = in_last_document(modality_ids, document_ids)
    kept = {}
    for name in model.feature_sizes:
        if name in spans:
            raise ValueError(f"features of {name} are given in a prompt and not generated: there is no span of them")
        mine, shape = modality_ids == model.modalities.index(name), model.feature_shape(name)
        x = given.get(name)
        if x is None:
            x = torch.zeros(0, *shape, device=mine.device)
        check_features(name, x, shape, mine)
        kept[name] = x.reshape(-1, *shape)[last[mine]]
    if not may_end:
        check_ends(model, modality_ids)
    return kept


def check_ends(model: Any, modality_ids: Tensor) -> None:
    """Raise ValueError for a prompt that ends with features."""
    place = torch.arange(modality_ids.shape[1], device=modality_ids.device)
    end = torch.where(modality_ids >= 0, place, 0).amax(dim=1, keepdim=True)
    ends = {model.modalities[index] for index in modality_ids.gather(1, end).flatten().tolist() if index >= 0}
    for name in model.feature_sizes:
        if name in ends:
            raise ValueError(f"a prompt ends with features of {name}, and no token is predicted of them: add one")
