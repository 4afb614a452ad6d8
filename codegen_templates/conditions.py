"""What is known of a span beside its latent: a vector made of its timestep, a label, a number or a vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .condition_checks import check_given, given_for
from .latent_checks import patches_in
from .latent_time import waves_of_periods
from .latents import rank_of
from .layout import Layout
from .modulation import SharedModulations
from .patched import AnyLatents, Patched, moment_of
from .tokens import look_up, token_before


class SpanConditions(NamedTuple):
    """The conditions of a batch.

    `spans`, int64, has for each place of the stream which of its condition's vectors its token has; `vectors` are those
    of each modality [n + 1, w], through silu: of each of its n spans, or moments, and at last of none, zeros. Beside
    them are the same without silu, as `NAME.plain`, and what modulations make of these that layers share, by its path.
    """

    spans: Tensor
    vectors: dict[str, Tensor]


class Sinusoids(nn.Module):
    """A vector of a number: its cosines and sines through two linear maps, silu between.

    Half of `count` frequencies fall from 1 towards 1 over `max_period`, which they reach if they are `closed`, of the
    number times `scale`.
    With `periods` there are sines and cosines of these, from the first to the second, 1 being 1000 of the number.
    """

    def __init__(
        self,
        count: int,
        width: int,
        hidden: int,
        max_period: float = 10000.0,
        scale: float = 1.0,
        closed: bool = False,
        periods: tuple[float, float] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.count, self.max_period, self.scale, self.closed = count, max_period, scale, closed
        self.periods = periods
        self.hidden = nn.Linear(count, hidden, bias=bias)
        self.out = nn.Linear(hidden, width, bias=bias)

    def waves(self, numbers: Tensor) -> Tensor:
        """Cosines and sines [n, count] of numbers [n], in float32."""
        if self.periods is not None:
            return waves_of_periods(numbers, self.count, *self.periods)
        half, x = self.count // 2, self.scale * numbers.float()[:, None]
        exponents = -math.log(self.max_period) * torch.arange(half, dtype=torch.float32, device=numbers.device)
        angles = x * torch.exp(exponents / (half - self.closed))
        return torch.cat((angles.cos(), angles.sin()), dim=1)

    def forward(self, numbers: Tensor) -> Tensor:
        weight = self.hidden.weight
        embedded: Tensor = self.out(F.silu(self.hidden(self.waves(numbers.to(weight.device)).to(weight.dtype))))
        return embedded


class GivenVector(nn.Module):
    """A vector that is given, through two linear maps with an activation between."""

    def __init__(
        self, size: int, width: int, hidden: int, activation: Callable[[Tensor], Tensor], bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = activation
        self.hidden = nn.Linear(size, hidden, bias=bias)
        self.out = nn.Linear(hidden, width, bias=bias)

    def forward(self, vectors: Tensor) -> Tensor:
        embedded: Tensor = self.out(self.activation(self.hidden(vectors.to(self.hidden.weight.dtype))))
        return embedded


class Condition(nn.Module):
    """The vectors of a modality's spans: the sum of those of their timesteps, and of what else is given for them.

    `label` is a table, whose last row stands for no label if there is a `null`. `shared` are modulations by these
    vectors that several layers have in common.
    """

    def __init__(
        self,
        timestep: Sinusoids | None = None,
        number: Sinusoids | None = None,
        label: nn.Embedding | None = None,
        vector: GivenVector | None = None,
        null: bool = False,
        shared: SharedModulations | None = None,
    ) -> None:
        super().__init__()
        self.shared = shared
        self.timestep, self.number, self.label, self.vector, self.null = timestep, number, label, vector, null

    def forward(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """The vectors [n, w] of spans with timesteps [n]; `given` has what else they are made of, by name, [n, ...]."""
        parts = []
        if self.timestep is not None:
            parts.append(self.timestep(timesteps))
        if self.number is not None:
            parts.append(self.number(given["number"]))
        if self.label is not None:
            parts.append(self.label(given["label"]))
        if self.vector is not None:
            parts.append(self.vector(given["vector"]))
        first, *others = parts
        total: Tensor = sum(others, first)
        return total


class TakesConditions:
    """A model some of whose norms are adaptive: `conditions` make the vectors by which they are.

    Of a modality with adaptive norms `conditioned_by` has the one whose condition they have. A token of that one itself
    has its own span's; another the condition of the first such span of its document, and where there is none, zeros.
    """

    conditioned_by: ClassVar[Mapping[str, str]]
    modalities: ClassVar[tuple[str, ...]]
    conditions: nn.ModuleDict
    latents: nn.ModuleDict

    def conditioned(
        self,
        layout: Layout,
        latents: Mapping[str, AnyLatents] | None,
        timesteps: Mapping[str, Tensor] | None,
        conditions: Mapping[str, Mapping[str, Tensor]] | None,
    ) -> tuple[SpanConditions]:
        """The conditions of a batch, of what is given for the spans of each modality; latents and timesteps do fit.

        Raises TypeError or ValueError for conditions that do not.
        """
        given = given_for(conditions, self.conditions)
        latents, times = latents or {}, timesteps or {}
        vectors, counts, owners = {}, {}, {}
        for name, module in self.conditions.items():
            make: Any = module
            like: Tensor = next(make.parameters())
            t = times.get(name)
            if t is None:
                t = torch.zeros(0, device=like.device)
            counts[name], x = t.shape[0], latents.get(name)
            rank = rank_of(layout.modality_ids, self.modalities.index(name))
            if isinstance(x, Patched):  # whose moments each have a vector
                of_spans = check_given(name, given.get(name, {}), make, len(x.grids), like)
                beside = {part: value[x.spans.to(value.device)] for part, value in of_spans.items()}
                owners[name] = torch.where(rank >= 0, moment_of(rank.clamp(min=0), x, 1), -1)
            else:
                ends: Any = self.latents[name]
                length = 1 if x is None else max(1, patches_in(x.shape[2:], ends.patch))
                beside = check_given(name, given.get(name, {}), make, counts[name], like)
                owners[name] = torch.where(rank >= 0, torch.div(rank, length, rounding_mode="floor"), -1)
            vectors[f"{name}.plain"] = plain = F.pad(make(t, beside), (0, 0, 0, 1))
            vectors[name] = F.silu(plain)
            if make.shared is not None:
                vectors |= make.shared(vectors)
        spans = torch.zeros_like(layout.modality_ids).flatten()
        each: dict[str, Tensor] = {}
        for name, by in self.conditioned_by.items():
            if by not in each:
                each[by] = spans_in(layout, owners[by], counts[by])
            mine = layout.modality_ids.flatten() == self.modalities.index(name)
            spans = torch.where(mine, each[by], spans)
        if isinstance(layout.places, int):
            return (SpanConditions(spans.view_as(layout.modality_ids), vectors),)
        return (SpanConditions(look_up(spans, layout.tokens, 0), vectors),)


def spans_in(layout: Layout, own: Tensor, count: int) -> Tensor:
    """Of each token of the batch, int64 [B * S], which of a modality's `count` spans is its.

    That is its `own`, or for tokens of other modalities, -1 there, the first of their document; `count` where there is
    none.
    """
    documents = documents_in(layout)
    first = torch.full_like(own, count)
    first = first.scatter_reduce(0, documents, torch.where(own >= 0, own, count), "amin")
    return torch.where(own >= 0, own, first[documents])


def documents_in(layout: Layout) -> Tensor:
    """Of each token of the batch which document it is of, counted through all rows, int64 [B * S]; any at padding."""
    ids = layout.document_ids
    if ids is None:
        rows = torch.arange(layout.modality_ids.shape[0], device=layout.modality_ids.device)
        return rows[:, None].expand_as(layout.modality_ids).flatten()
    before = token_before(layout.modality_ids)
    goes_on = (before >= 0) & (ids.gather(1, before.clamp(min=0)) == ids)
    starts = (layout.modality_ids >= 0) & ~goes_on
    return (starts.flatten().cumsum(0) - 1).clamp(min=0)
