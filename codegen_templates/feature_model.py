"""What every model is that is given features, and denoises nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .cache import Cache
from .continuous import ContinuousModel
from .features import TakesFeatures
from .layout import Layout
from .outputs import LossOutput, ModelOutput


class FeatureModel(TakesFeatures, ContinuousModel):
    """A model with modalities whose tokens are given vectors."""

    def forward(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Any = None,
        cache: Cache | None = None,
    ) -> ModelOutput | LossOutput:
        """Logits [B, S, V], or a dict modality -> [B, S, V_m] of own vocabularies; with `labels` what `loss` returns.

        `features` holds for each modality of such the vectors [..., size] of its tokens, in the order they come in the
        batch, rows first; [..., 1 + layers, size] where further ones are added after layers. All others int64 [B, S];
        the input ids of features may be anything. Logits are zeros at padding and at features. `layout` and `cache` are
        as for a model of tokens alone.
        """
        layout = self.prepared(layout, input_ids, modality_ids, position_ids, document_ids, labels, weights, cache)
        placed = self.place_features(layout, features)
        positions, ids = self.placed(layout, position_ids, cache), self.ids_in_stream(input_ids, layout)
        x, balance = self.with_balance(self.transform(ids, layout, positions, placed, cache))
        if labels is not None:
            return self.losses(x, layout, labels, weights, balance)
        return ModelOutput(self.logits(x, layout, cache))

    def loss(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Layout | None = None,
    ) -> LossOutput:
        """Next-token cross-entropy of tokens after tokens, by the modality of the target; features as for `forward`.

        `labels` int64 [B, S] are the tokens themselves, not shifted, and `input_ids` unless given; -100 is no target,
        nor is a feature. `weights` [B, S] say how much each counts as a target: 1 unless given.
        """
        losses: LossOutput = self(
            input_ids,
            modality_ids,
            labels=input_ids if labels is None else labels,
            weights=weights,
            features=features,
            position_ids=position_ids,
            document_ids=document_ids,
            layout=layout,
        )
        return losses
