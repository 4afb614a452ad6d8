"""What every model is some of whose tokens have no ids: vectors stand for them in the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from .embed import in_stream
from .latent_checks import named
from .latents import Patches, without
from .layout import Layout
from .multimodal import MultimodalModel
from .targets import Targets, find_targets


class ContinuousModel(MultimodalModel):
    """A model with modalities that have no vocabulary: nothing is read of them, and they are no targets.

    `transform` also takes the vectors that go into the stream.
    """

    feature_sizes: ClassVar[Mapping[str, int]] = {}  # of the modalities whose tokens are given vectors

    def place_features(self, layout: Layout, features: Mapping[str, Tensor] | None) -> dict[str, Patches]:
        """Features as vectors of the stream, by modality. Here a model has none: raises ValueError for any."""
        named("features", features, self.feature_sizes, "modality of features")
        return {}

    def words(self, layout: Layout) -> Tensor:
        """The modality ids int64 [B, S] of tokens that have an id, -1 at all others as at padding."""
        without_ids = (index for index, name in enumerate(self.modalities) if name not in self.vocabularies)
        return without(layout.modality_ids, tuple(without_ids))

    def ids_in_stream(self, input_ids: Tensor, layout: Layout) -> Tensor:
        """Ids int64 [B, S] at their places in the stream, 0 for tokens that have none."""
        return in_stream(torch.where(self.words(layout) >= 0, input_ids, 0), layout)

    def targets(self, labels: Tensor, weights: Tensor | None, layout: Layout) -> Targets:
        labels, words = self.counted(labels, layout), self.words(layout)
        return find_targets(labels, weights, words, layout.document_ids, layout.tokens, len(self.modalities))
