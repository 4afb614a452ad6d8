"""What a model with conditions refuses of what is given for them."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .latent_checks import by_modality, check_floating

Given = Mapping[str, Mapping[str, Tensor]]
"""By modality, and by what it is, such as `label`: of each of its spans."""


def given_for(conditions: Given | None, modalities: Iterable[str]) -> Given:
    """What is given for conditions, None being for nothing. Raises TypeError or ValueError for other modalities."""
    conditions = by_modality("conditions", conditions, modalities, "modality with a condition", "dicts")
    for name, given in conditions.items():
        if not isinstance(given, Mapping):
            raise TypeError(f"conditions of {name} must be a dict of tensors by name, not {type(given).__name__}")
    return conditions


def check_given(name: str, given: Mapping[str, Tensor], condition: Any, count: int, like: Tensor) -> dict[str, Tensor]:
    """What a modality's condition is made of, for `count` spans, on the device of `like`.

    Labels that are not given are none of them, if there is a null. Raises TypeError or ValueError for others.
    """
    takes = [part for part in ("label", "number", "vector") if getattr(condition, part) is not None]
    for part, each in given.items():
        if part not in takes:
            raise ValueError(f"{reprlib.repr(part)} is nothing that a condition of {name} takes: {', '.join(takes)}")
        if not isinstance(each, Tensor):
            raise TypeError(f"the {part} in conditions of {name} must be a tensor, not {type(each).__name__}")
    checked = {}
    for part in takes:
        value: Any = given.get(part)
        shape = (count, condition.vector.hidden.in_features) if part == "vector" else (count,)
        if value is None and part == "label" and condition.null:
            value = torch.full(shape, condition.label.num_embeddings - 1, device=like.device)
        elif value is None and count == 0:
            value = torch.zeros(shape, dtype=torch.int64 if part == "label" else like.dtype, device=like.device)
        elif value is None:
            raise ValueError(f"a condition of {name} needs a {part}: conditions={{{name!r}: {{{part!r}: ...}}}}")
        if value.shape != shape:
            raise ValueError(f"the {part} in conditions of {name} must be {[*shape]}, not {[*value.shape]}")
        if part == "label":
            _check_labels(name, value, condition.label.num_embeddings)
        elif part == "vector":
            check_floating(f"the {part} in conditions", name, value)
        elif value.is_complex() or value.dtype == torch.bool:
            raise ValueError(f"the {part} in conditions of {name} must be numbers, not {value.dtype}")
        checked[part] = value.to(like.device)
    return checked


def _check_labels(name: str, labels: Tensor, rows: int) -> None:
    if labels.dtype != torch.int64:
        raise ValueError(f"the label in conditions of {name} must be int64, not {labels.dtype}")
    if not torch.compiler.is_compiling() and bool(((labels < 0) | (labels >= rows)).any()):
        raise ValueError(f"the label in conditions of {name} must be 0..{rows - 1}, not {labels.tolist()}")
