"""A converted model beside the class of transformers that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from motc.importing.architecture import TOKENS, Architecture
from motc.importing.configuration import read_configuration
from motc.importing.ernie_flat import in_parts, is_flat
from motc.loading import load


def largest_difference(folder: Path, architecture: Architecture, weights: Path, count: int) -> tuple[float, float]:
    """The largest difference of logits, of so many random tokens of text in float32, and the largest logit.

    Raises ImportError without transformers, and what that raises for a folder which it cannot read.
    """
    import transformers

    theirs: Any = getattr(transformers, architecture.name)
    modality = architecture.modality
    assert modality is not None, architecture.name
    said = read_configuration(folder)
    parts = {"config": theirs.config_class(**in_parts(said).values)} if is_flat(said) else {}
    theirs = theirs.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **parts).eval()
    if getattr(theirs.config.get_text_config(), "attn_logit_softcapping", None):  # which torch's kernel does not have
        theirs.set_attn_implementation("eager")
    ours: Any = load(weights=weights).eval()
    special = _tokens(theirs.config.to_dict())
    vocabulary = theirs.config.get_text_config().vocab_size
    usual = torch.tensor([token for token in range(vocabulary) if token not in special])
    ids = usual[torch.randint(len(usual), (1, count), generator=torch.Generator().manual_seed(0))]
    modality_ids = torch.full_like(ids, ours.modalities.index(modality))
    with torch.no_grad():
        types = (
            {} if architecture.token_type is None else {"token_type_ids": torch.full_like(ids, architecture.token_type)}
        )
        expected = theirs(ids, use_cache=False, **types).logits
        logits = ours(ids, modality_ids).logits
    got = logits[modality] if isinstance(logits, dict) else logits
    said = expected > torch.finfo(expected.dtype).min  # Chameleon never says tokens of images
    return (got - expected)[said].abs().max().item(), expected[said].abs().max().item()


def _tokens(configuration: dict[str, Any]) -> set[int]:
    """The tokens that a configuration names, in its parts too: they may stand for images."""
    tokens: set[int] = set()
    for key, value in configuration.items():
        if isinstance(value, dict):
            tokens |= set(value.values()) if key == "vocabulary_map" else _tokens(value)
        elif str(key).endswith(TOKENS):
            tokens |= set(value) if isinstance(value, list) else {value}
    return tokens
