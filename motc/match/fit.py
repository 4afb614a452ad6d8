"""Whether data and systems fit."""

from __future__ import annotations

from collections.abc import Mapping

from motc.ir.model import FeatureModality, LatentModality, Model
from motc.match.data import Data, LatentSize
from motc.match.settings import MatchError
from motc.plan.seen import seen_targets


def check_fit(data: Data, model: Model, name: str) -> None:
    """Raises MatchError unless the model has the data's modalities, in its order, and ends for all of their tokens."""
    names = tuple(modality.name for modality in model.modalities)
    if names != data.modalities:
        raise MatchError(f"{name} has the modalities {', '.join(names)}; the data has {', '.join(data.modalities)}")
    described = data.described
    for modality in model.modalities:
        if isinstance(modality, FeatureModality):
            raise MatchError(f"{name} has features for {modality.name}, which no data folder holds")
        size = described.latents.get(modality.name)
        if isinstance(modality, LatentModality) != (size is not None):
            kinds = ("latents", "token ids")
            mine, theirs = kinds if size is None else kinds[::-1]
            raise MatchError(f"{name} has {mine} for {modality.name}; the data has {theirs}")
        if isinstance(modality, LatentModality) and size is not None:
            _check_latents(modality, size, name)
            continue
        if isinstance(described.vocab, int) != (modality.vocab is None):
            kinds = ("one vocabulary", "vocabularies of each modality")
            mine, theirs = kinds if modality.vocab is None else kinds[::-1]
            raise MatchError(f"{name} has {mine}; the data has {theirs}")
        needed = described.rows(modality.name)
        rows = model.vocab if modality.vocab is None else modality.vocab
        if rows is None or rows < needed:
            raise MatchError(f"{name} has {rows} rows for {modality.name}; the data has {needed} ids")


def _check_latents(modality: LatentModality, size: LatentSize, name: str) -> None:
    channels, sides = modality.ends.channels, modality.ends.patch_shape
    if len(sides) != 2:
        raise MatchError(f"{name} has latents that are no images for {modality.name}; the data has images")
    if channels != size.channels:
        raise MatchError(f"{name} has {channels} channels for {modality.name}; the data has {size.channels}")
    cut = f"{size.height} x {size.width} latents of {modality.name}"
    (rows, columns), patch = sides, modality.ends.words
    if size.height % rows or size.width % columns:
        raise MatchError(f"{name} has patches of {rows} x {columns}; the data has {cut}, which are no multiple")
    tokens = size.height // rows * (size.width // columns)
    if tokens != size.tokens:
        raise MatchError(f"{name} makes {tokens} tokens of {cut}, its patch being {patch}; the data has {size.tokens}")


def check_objectives(models: Mapping[str, Model]) -> None:
    """Raises MatchError where two models are to predict different things of a continuous modality, or other targets."""
    (base, first), *others = models.items()
    for name, model in others:
        if seen_targets(first) != seen_targets(model):
            raise MatchError(f"{base} and {name} leave out other targets that can be seen: their losses do not compare")
        for mine, theirs in zip(first.latent_modalities(), model.latent_modalities(), strict=True):
            if mine.denoised != theirs.denoised:
                objectives = f"{mine.denoised} ({base}) and {theirs.denoised} ({name})"
                raise MatchError(f"the objectives of {mine.name} are {objectives}: their losses do not compare")
