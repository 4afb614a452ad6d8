"""Classifier-free guidance (Ho and Salimans, 2207.12598): latents are led away from what less of a row predicts."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from .denoised import unnoised
from .generate import Decoding, Prompts, compact, followed
from .generate_checks import TokenSpan
from .latent_checks import patches_in
from .leading import checked_scale, guides_said, led
from .next_latents import Delimiters, NextLatents


class Guidance(TypedDict, total=False):
    """How latents are led away from what is predicted of them without some modalities.

    What is predicted, p, becomes u + scale (p - u), u being predicted of a row that lacks the tokens of the modalities
    in `drop`, and those around a span with it. With `renorm` it is then no longer than p, as in BAGEL.
    """

    scale: float
    drop: str | Sequence[str]
    renorm: bool


class Guide(NamedTuple):
    """A `Guidance` after a look at it: without which modalities, by their ids."""

    scale: float
    dropped: tuple[int, ...]
    renorm: bool


def checked_guides(
    model: Any, guidance: Any, made: Iterable[str], position_ids: Tensor | None
) -> dict[str, list[Guide]]:
    """What leads the latents of each modality, in its order. Raises TypeError or ValueError for what cannot."""
    guides: dict[str, list[Guide]] = {}
    for name, one in guides_said(guidance, made, "scale and drop"):
        guides.setdefault(name, []).append(_checked_guide(model, name, one))
    if guides and position_ids is not None:
        raise ValueError("guidance drops tokens, and those behind them move up: position_ids cannot be given with it")
    return guides


def _checked_guide(model: Any, name: str, said: Any) -> Guide:
    if not isinstance(said, Mapping) or not {"scale", "drop"} <= said.keys() <= {"scale", "drop", "renorm"}:
        raise ValueError(f"guidance of {name} needs scale and drop, and may have renorm, not {reprlib.repr(said)}")
    scale, drop = said["scale"], said["drop"]
    dropped = [drop] if isinstance(drop, str) else [*drop]
    for other in dropped:
        if other not in model.modalities:
            raise ValueError(f"guidance drops modalities of {', '.join(model.modalities)}, not {reprlib.repr(other)}")
    if not dropped:
        raise ValueError(f"guidance of {name} drops nothing")
    return Guide(
        checked_scale(name, scale), tuple(sorted(map(model.modalities.index, dropped))), bool(said.get("renorm", False))
    )


class History:
    """What rows have seen: their prompts, and each row's own latents and features, to which made ones are added."""

    def __init__(
        self, model: Any, prompts: Prompts, latents: Mapping[str, Tensor], features: Mapping[str, Tensor]
    ) -> None:
        self.model, self.prompts = model, prompts
        self.latents = {name: self._by_row(name, x, model.latents[name].patch) for name, x in latents.items()}
        self.features = {name: self._by_row(name, x) for name, x in features.items()}

    def _by_row(self, name: str, x: Tensor, patch: tuple[int, ...] = ()) -> list[Tensor]:
        """Each row's part of a modality's latents, or features, which come in the order of the batch."""
        tokens = (self.prompts.modality_ids == self.model.modalities.index(name)).sum(1)
        each = patches_in(x.shape[2:], patch) if patch else 1
        return list(torch.split(x, (tokens // each).tolist()))

    def add(self, name: str, rows: list[int], x: Tensor) -> None:
        """Latents [n, ...] that n rows got."""
        of = self.latents.setdefault(name, [x[:0]] * len(self.prompts.lengths))
        for row, latent in zip(rows, x, strict=True):
            of[row] = torch.cat((of[row], latent[None].to(of[row])))

    def without(
        self,
        decoding: Decoding,
        rows: list[int],
        dropped: tuple[int, ...],
        spans: Mapping[str, TokenSpan],
        following: str,
        room: int,
        *,
        keeps_last: bool,
    ) -> Decoding:
        """These rows as if the tokens of some modalities had not been there, with room for so many more tokens.

        Latents of the modality `following` come next; the token before them stays if the row `keeps_last`.
        Raises ValueError where nothing is left.
        """
        lengths = [self.prompts.lengths[row] for row in rows]
        made = [decoding.made[row] for row in rows]
        most = max(length + len(more) for length, more in zip(lengths, made, strict=True))
        ids, modality_ids = (
            nn.functional.pad(x[rows], (0, most), value=fill)[:, :most]
            for x, fill in ((self.prompts.input_ids, 0), (self.prompts.modality_ids, -1))
        )
        for row, (length, more) in enumerate(zip(lengths, made, strict=True)):
            if more:
                new = modality_ids.new_tensor(more)
                ids[row, length : length + len(more)], modality_ids[row, length : length + len(more)] = new.T
        kept, of = modality_ids.clone(), with_delimiters(self.model, ids, modality_ids, spans)
        for modality in dropped:
            kept[of == modality] = -1
        if keeps_last:
            ends = torch.tensor([n + len(more) - 1 for n, more in zip(lengths, made, strict=True)], device=ids.device)
            place = torch.arange(len(rows), device=ids.device)
            kept[place, ends] = modality_ids[place, ends]
        if not bool((kept >= 0).any(1).all()):
            names = ", ".join(self.model.modalities[modality] for modality in dropped)
            raise ValueError(
                f"without {names} nothing of a row is left for guidance: give it a token of another modality"
            )
        prompts = compact(ids, kept, None, None)
        remains = [name for name in self.model.modalities if self.model.modalities.index(name) not in dropped]
        latents = {name: torch.cat([x[row] for row in rows]) for name, x in self.latents.items() if name in remains}
        features = {name: torch.cat([x[row] for row in rows]) for name, x in self.features.items() if name in remains}
        states = followed(self.model, spans, prompts, latents)
        for state in states:
            state.next = following
        less = Decoding(self.model, states, prompts.modality_ids, room, {}, temperature=0, top_p=1)
        less.start(prompts, latents=latents, timesteps=unnoised(latents), features=features)
        return less


def with_delimiters(model: Any, ids: Tensor, modality_ids: Tensor, spans: Mapping[str, TokenSpan]) -> Tensor:
    """The modality ids int64 [B, L], but tokens that begin or end a span have its own; padding is at the end alone."""
    of = modality_ids.clone()
    for name, span in spans.items():
        mine = modality_ids == model.modalities.index(name)
        others = modality_ids == model.modalities.index(span["within"])
        before, after = nn.functional.pad(mine[:, 1:], (0, 1)), nn.functional.pad(mine[:, :-1], (1, 0))
        begins = before & others & (ids == span.get("begin", -1))
        of[begins | (after & others & (ids == span.get("end", -1)))] = model.modalities.index(name)
    return of


class GuidedLatents:
    """Latents that rows are to have next, as `NextLatents`, led by what the same rows predict of them with less.

    Each condition has a cache of its own, which serves all steps of denoising.
    """

    def __init__(
        self,
        history: History,
        decoding: Decoding,
        grids: Mapping[str, tuple[int, ...]],
        rows: list[int],
        delimiters: Delimiters | None,
        guides: Mapping[str, list[Guide]],
        spans: Mapping[str, TokenSpan],
        *,
        keeps_last: bool,
    ) -> None:
        self.next, self.guides = NextLatents(decoding, grids, rows, delimiters), guides
        room, following = sum(map(prod, grids.values())) + 1, next(iter(grids))
        self.less: dict[tuple[int, ...], NextLatents] = {}
        for guide in (guide for name in grids for guide in guides.get(name, ())):
            if guide.dropped not in self.less:
                less = history.without(decoding, rows, guide.dropped, spans, following, room, keeps_last=keeps_last)
                self.less[guide.dropped] = NextLatents(less, grids, [*range(len(rows))], delimiters)

    def predicted(self, latents: Mapping[str, Tensor], timesteps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is predicted of latents [n, channels, ...] at timesteps [n], led by each guide of theirs in turn."""
        predictions = self.next.predicted(latents, timesteps)
        without = {dropped: less.predicted(latents, timesteps) for dropped, less in self.less.items()}
        for name, guides in self.guides.items():
            for guide in guides if name in predictions else ():
                predicted, other = predictions[name], without[guide.dropped][name]
                variances = predicted.shape[1] > latents[name].shape[1]
                predictions[name] = led(predicted, other, guide.scale, guide.renorm, variances)
        return predictions

    def keep(self, latents: Mapping[str, Tensor]) -> None:
        """Let the rows have seen these latents, clean ones, and go on after them."""
        self.next.keep(latents)
