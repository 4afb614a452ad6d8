"""What every model is that also denoises latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .cache import Cache
from .condition_checks import Given, given_for
from .continuous import ContinuousModel
from .denoise import Denoises
from .latents import DenoisingOutput, Patches, make_patches, patch_states
from .layout import Layout
from .noised_spans import checked_clean, spans_clean, with_noised
from .objectives import Aim, denoising_losses, noise_latents
from .outputs import LossOutput, divided
from .patched import AnyLatents, OfLatents, as_given, in_patches, of_each, values_of
from .sizes import exporting
from .target_checks import only_with_labels
from .targets import sort_targets


class DenoisingModel(Denoises, ContinuousModel):
    """A model with continuous modalities: their ends are `latents`, what they learn is in `objectives`.

    `norm` is what the final norm makes of the stream;
    `read` and `score` give that too, and `predict` makes predictions of it.
    """

    objectives: ClassVar[Mapping[str, Any]]
    weights: ClassVar[Mapping[str, float]]  # of their losses in the total
    latents: nn.ModuleDict
    norm: Callable[..., Any]

    def encode(
        self, layout: Layout, latents: Mapping[str, AnyLatents] | None, timesteps: Mapping[str, Tensor] | None
    ) -> dict[str, Patches]:
        """Noised latents to patches of the stream. Raises ValueError where they do not fit the batch."""
        return make_patches(self.latents, self.objectives, self.modalities, layout, latents, timesteps)

    def conditioned(
        self,
        layout: Layout,
        latents: Mapping[str, AnyLatents] | None,
        timesteps: Mapping[str, Tensor] | None,
        conditions: Given | None,
    ) -> tuple[Any, ...]:
        """What `transform` is given of conditions. Here a model has none: raises ValueError for any."""
        given_for(conditions, ())
        return ()

    def predictions(self, states: Mapping[str, Tensor], patches: Mapping[str, Patches]) -> dict[str, Tensor]:
        """The states [P, w] of each modality's patches to what its ends predict, in the shape of its latents."""
        ends: Mapping[str, Any] = dict(self.latents.items())
        made = {name: ends[name].prediction(states[name], each.kept) for name, each in patches.items()}
        return {name: x[:-1] for name, x in made.items()} if exporting() else made  # the one more that was encoded

    def predict(self, x: Any, layout: Any, patches: dict[str, Patches]) -> dict[str, Tensor]:
        """The normed stream to predictions, each in the shape of its latents."""
        return self.predictions({name: patch_states(x, placed) for name, placed in patches.items()}, patches)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        latents: Mapping[str, Tensor] | None = None,
        timesteps: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        clean: Mapping[str, Tensor] | None = None,
        conditions: Given | None = None,
        generator: torch.Generator | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Any = None,
        cache: Cache | None = None,
    ) -> DenoisingOutput | LossOutput:
        """Logits [B, S, V], or a dict modality -> [B, S, V_m] of own vocabularies, and predictions for latents.

        `latents` holds for each continuous modality the noised latents [n, channels, ...] of its spans (in images with
        height and width), in the order they come in the batch, rows first, or a list of one for each span, which may
        differ in size; `timesteps` [n], or [n, frames] or [n, tokens], each their own. All others int64 [B, S];
        the input ids of latents may be anything. With `labels`, this is `loss`: latents are clean, and losses are
        returned. Logits are zeros at padding and at latents. `features` are the vectors [..., size] of the tokens of
        modalities that are given such, [..., 1 + layers, size] where further ones are added after layers. `layout` and
        `cache` are as for a model of tokens alone. `clean` bool [n] says which spans are clean: they are at timestep 0,
        and no targets. `conditions` has for a modality, by name, what is given for each of its spans beside the
        timestep: `label` int64 [n], `number` [n] or `vector` [n, size].
        """
        only_with_labels(labels, weights=weights, noise=noise, generator=generator)
        given = in_patches(self, OfLatents(latents, timesteps, noise, clean), draws=labels is not None)
        layout = self.prepared(layout, input_ids, modality_ids, position_ids, document_ids, labels, weights, cache)
        x_t, times, aims = given.latents, given.timesteps, dict[str, Aim]()
        are_clean = checked_clean(self.objectives, given.clean, x_t)
        if labels is not None:
            ends = dict(self.latents.items())
            x_t, times, aims = noise_latents(self.objectives, ends, x_t, times, given.noise, generator, are_clean)
        patches = self.encode(layout, x_t, times)
        if cache is None:  # what is generated sees latents that are clean
            layout = with_noised(self, layout, x_t, are_clean)
        placed = {**patches, **self.place_features(layout, features)}
        roles = spans_clean(are_clean, x_t) if cache is None else None
        positions, ids = self.placed(layout, position_ids, cache, x_t, roles), self.ids_in_stream(input_ids, layout)
        conditioned = self.conditioned(layout, x_t, times, conditions)
        x, balance = self.with_balance(self.transform(ids, layout, positions, placed, *conditioned, cache))
        if labels is not None:
            targets = self.targets(labels, weights, layout)
            sums, states = self.score(x, layout, sort_targets(targets) if self.sorts_targets else targets)
            means = self.means(sums, targets, layout, balance)
            return self.with_denoising(means, self.predict(states, layout, patches), aims)
        logits, states = self.logits(x, layout, cache)
        if cache is not None and cache.step is None:  # states are those of a prompt's last tokens
            return DenoisingOutput(logits, {})
        predictions = self.predict(states, layout, patches)
        return DenoisingOutput(logits, as_given(predictions, x_t or {}, self.latents))

    def logits(self, x: Any, layout: Layout, cache: Cache | None) -> Any:
        """The logits of the stream after the last layer, none where a cache wants none; and the normed stream."""
        if cache is not None and not cache.wanted:
            return {}, self.norm(x, layout)
        return super().logits(x, layout, cache)

    def with_denoising(self, means: LossOutput, predictions: dict[str, Tensor], aims: Mapping[str, Aim]) -> LossOutput:
        """The losses of tokens, and those of predictions of latents."""
        denoising, numbers = denoising_losses(predictions, aims)
        return means._replace(
            total=means.total + sum(self.weights[name] * loss for name, loss in denoising.items()),
            by_modality={**means.by_modality, **denoising},
            weights={**means.weights, **numbers},
        )

    def loss(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        latents: Mapping[str, Tensor] | None = None,
        timesteps: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        clean: Mapping[str, Tensor] | None = None,
        conditions: Given | None = None,
        generator: torch.Generator | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Layout | None = None,
    ) -> LossOutput:
        """Next-token cross-entropy of tokens after tokens, by the modality of the target, and what denoising costs.

        `latents` are clean ones, as for `forward`; timesteps and noise are drawn, from `generator`, unless given, and
        spans that `clean` names are neither noised nor targets. The
        total is the mean cross-entropy over all counted targets and the weighted mean squared errors of predictions.
        `labels` int64 [B, S] are the tokens themselves, not shifted, and `input_ids` unless given; -100 is no target,
        nor is a latent. `weights` [B, S] say how much each counts as a target: 1 unless given.
        """
        losses: LossOutput = self(
            input_ids,
            modality_ids,
            labels=input_ids if labels is None else labels,
            weights=weights,
            features=features,
            latents=latents,
            timesteps=timesteps,
            noise=noise,
            clean=clean,
            conditions=conditions,
            generator=generator,
            position_ids=position_ids,
            document_ids=document_ids,
            layout=layout,
        )
        return losses

    def count(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        latents: Mapping[str, Tensor] | None = None,
        clean: Mapping[str, Tensor] | None = None,
        document_ids: Tensor | None = None,
        layout: Any = None,
    ) -> dict[str, Tensor]:
        latents, _, _, clean = in_patches(self, OfLatents(latents, None, None, clean))
        given = {"labels": labels, "weights": weights, "document_ids": document_ids, "layout": layout}
        counts = super().count(input_ids, modality_ids, **given)
        numbers = {
            name: 0 if latents is None or name not in latents else values_of(latents[name]).numel()
            for name in self.objectives
        }
        for name, clean_ones in checked_clean(self.objectives, clean, latents).items():
            kept = of_each(clean_ones, latents[name]) if latents and name in latents else clean_ones
            numbers[name] -= int(kept.sum()) * (numbers[name] // max(1, kept.numel()))
        return counts | {name: torch.full_like(counts[name], number) for name, number in numbers.items()}

    def share(self, losses: LossOutput, weights: Mapping[str, Tensor]) -> Tensor:
        shares = (
            self.weights[name] * losses.by_modality[name] * divided(losses.weights[name], weights[name])
            for name in self.objectives
        )
        return sum(shares, super().share(losses, weights))
