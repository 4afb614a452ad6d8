"""What every model is that also denoises latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .latents import Patches, make_patches
from .layout import Layout
from .multimodal import MultimodalModel
from .outputs import LossOutput


class DenoisingModel(MultimodalModel):
    """A model with continuous modalities: their ends are `latents`, what they learn is in `objectives`."""

    objectives: ClassVar[Mapping[str, Any]]
    weights: ClassVar[Mapping[str, float]]  # of their losses in the total
    latents: nn.ModuleDict

    def encode(
        self, layout: Layout, latents: Mapping[str, Tensor] | None, timesteps: Mapping[str, Tensor] | None
    ) -> dict[str, Patches]:
        """Noised latents to patches of the stream. Raises ValueError where they do not fit the batch."""
        return make_patches(self.latents, self.objectives, self.modalities, layout, latents, timesteps)

    def predictions(self, states: Mapping[str, Tensor], patches: Mapping[str, Patches]) -> dict[str, Tensor]:
        """The states [P, w] of each modality's patches to what its ends predict, in the shape of its latents."""
        ends: Mapping[str, Any] = dict(self.latents.items())
        return {name: ends[name].prediction(states[name], each.kept) for name, each in patches.items()}

    def loss(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        latents: Mapping[str, Tensor] | None = None,
        timesteps: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Layout | None = None,
    ) -> LossOutput:
        """Next-token cross-entropy of tokens after tokens, by the modality of the target, and what denoising costs.

        `latents` are clean ones, as for `forward`; timesteps and noise are drawn, from `generator`, unless given. The
        total is the mean cross-entropy over all counted targets and the weighted mean squared errors of predictions.
        `labels` int64 [B, S] are the tokens themselves, not shifted, and `input_ids` unless given; -100 is no target,
        nor is a latent. `weights` [B, S] say how much each counts as a target: 1 unless given.
        """
        losses: LossOutput = self(
            input_ids,
            modality_ids,
            labels=input_ids if labels is None else labels,
            weights=weights,
            latents=latents,
            timesteps=timesteps,
            noise=noise,
            generator=generator,
            position_ids=position_ids,
            document_ids=document_ids,
            layout=layout,
        )
        return losses
