"""Random batches of several mixtures, as an exported model is asked them, and what the model it came from says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from motc.exporting.hugging_face import token_ranges
from motc.ir.model import Model
from motc.reference import Batch
from motc.validate.batches import random_batches

Asked = dict[str, Tensor]
"""Tensors by the names of arguments, a modality's as `latents/image`, and of its condition `conditions/image/label`."""


def asked(model: Model, dtype: torch.dtype, seed: int = 0) -> list[Asked]:
    """Batches with every mixture that `motc validate` tries: padding, packed documents, absent modalities."""
    generator = torch.Generator().manual_seed(seed)
    return [_arguments(batch, dtype) for batch in random_batches(model, generator, even=True)]


def _arguments(batch: Batch, dtype: torch.dtype) -> Asked:
    given: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "modality_ids": batch.modality_ids,
        "position_ids": batch.position_ids,
        "document_ids": batch.document_ids,
        "latents": batch.latents,
        "timesteps": batch.timesteps,
        "noise": batch.noise,
        "clean": batch.clean,
        "features": batch.features,
        **{f"conditions/{name}": each for name, each in batch.conditions.items()},
    }
    flat: Asked = {}
    for name, value in given.items():
        parts = {name: value} if isinstance(value, Tensor) else {f"{name}/{of}": x for of, x in (value or {}).items()}
        for key, x in parts.items():
            flat[key] = x.detach().to(dtype) if x.is_floating_point() and name != "timesteps" else x.detach()
    return flat


def arguments_of(flat: Asked) -> dict[str, Any]:
    """What a model is called with."""
    given: dict[str, Any] = {}
    for key, x in flat.items():
        *around, name = key.split("/")
        inside = given
        for each in around:
            inside = inside.setdefault(each, {})
        inside[name] = x
    return given


@torch.no_grad()
def logits_of(network: Any, flat: Asked) -> Asked:
    """The model's logits, by modality where it has a head for each."""
    given = arguments_of(flat)
    given.pop("noise", None)
    logits = network(**given).logits
    return {"logits": logits} if isinstance(logits, Tensor) else {f"logits/{name}": x for name, x in logits.items()}


@torch.no_grad()
def loss_of(network: Any, flat: Asked) -> Asked:
    return {"loss": network.loss(**arguments_of(flat)).total}


def joint(model: Model, flat: Asked) -> Asked:
    """The batch as the class for transformers takes it: ids of the joint vocabulary, and a mask of padding."""
    ranges = token_ranges(model)
    ids, modality_ids = flat["input_ids"], flat["modality_ids"]
    if model.vocab is None:
        for place, name in enumerate(model.names):
            ids = torch.where(modality_ids == place, ids + ranges.get(name, [0])[0], ids)
    return {
        **flat,
        "input_ids": torch.where(modality_ids >= 0, ids, 0),
        "attention_mask": (modality_ids >= 0).long(),
    }


@torch.no_grad()
def continuation(model: Model, network: Any, seed: int = 0) -> dict[str, Tensor]:
    """A prompt of the first modality that has a range, padded on the left, and what the model says after it.

    Nothing where it does not generate such tokens.
    """
    name = next(iter(token_ranges(model)))
    place, size = model.names.index(name), model.modality(name).vocab or model.vocab or 1
    ids = torch.randint(size, (2, 5), generator=torch.Generator().manual_seed(seed))
    modality_ids = torch.full_like(ids, place)
    modality_ids[1, :2] = -1
    if not hasattr(network, "generate") or hasattr(network, "last_block"):
        return {}
    try:
        said = network.generate(ids, modality_ids, max_new_tokens=4, temperature=0).input_ids
    except ValueError:  # tokens of this modality see later ones
        return {}
    return {"prompt": ids, "modality_ids": modality_ids, "said": said}
