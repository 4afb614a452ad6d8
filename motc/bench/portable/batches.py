"""The data all models see: rows in which the modalities take turns, with exactly the asked number of tokens of each.

A continuous modality comes in whole spans, each of which is one latent, so there it is the nearest number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from math import isqrt
from typing import Any

import torch
from torch import Tensor

SPAN = 256
"""About so many tokens pass until every modality has had its turn."""

SIDE = 16
"""Patches along a side of a latent in long rows, as in Transfusion (arXiv 2408.11039)."""

SPANS = 16
"""About so many spans fit in a row: in a shorter one, latents have fewer patches."""

TIMESTEP = 500
"""The noise level of all latents, half of the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataModality:
    """A modality of a model: tokens with one of `vocab` ids, latents of so many channels in such patches, or features
    of this shape for each token.

    `condition` has what is given for each latent beside its timestep, by name: of a `label` how many there are, of a
    `vector` its numbers, and for a `number` 1.
    """

    name: str
    vocab: int | None = None
    channels: int | None = None
    patch: Sequence[int] | None = None
    features: Sequence[int] | None = None
    condition: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityMix:
    """Tokens of each of the model's modalities in a row. `share` is that of the last, where two were mixed by it.

    The modalities at the indices `continuous` come in whole spans, with other tokens between.
    """

    counts: tuple[int, ...]
    share: float | None = None
    continuous: tuple[int, ...] = ()

    @property
    def side(self) -> int:
        """Patches along a side of a latent, which is square; a sequence has as many, and a volume one frame of them.

        Where there is nothing else a row is one latent.
        """
        sequence = sum(self.counts)
        alone = self.present == 1 and any(self.counts[index] for index in self.continuous)
        return isqrt(sequence) if alone else latent_side(sequence)

    @property
    def spans(self) -> dict[int, int]:
        """How many spans a row has of each continuous modality, by its index."""
        return {index: self.counts[index] // self.side**2 for index in self.continuous}

    @property
    def present(self) -> int:
        """How many modalities have tokens."""
        return sum(count > 0 for count in self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnBatch:
    """What forward takes, both int64 [B, S]; and by continuous modality that has spans, what its n spans are.

    `latents` are float32 [n, channels, ...], in the order of the batch, `timesteps` int64 [n]; `features` are float32
    [tokens, size], or [tokens, 1 + layers, size]; `conditions` have by name what is given of each latent.
    """

    input_ids: Tensor
    modality_ids: Tensor
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    timesteps: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    conditions: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Mapping[str, Any]]:
        """What forward takes beside ids."""
        latents = {"latents": self.latents, "timesteps": self.timesteps} if self.latents else {}
        others = {"features": self.features, "conditions": self.conditions}
        return latents | {name: given for name, given in others.items() if given}


def mixtures(
    modalities: Sequence[str],
    sequence: int,
    ratios: Sequence[float] | None,
    names: Sequence[str] | None,
    continuous: Sequence[str] = (),
) -> tuple[ModalityMix, ...]:
    """One mixture a ratio where the data holds two modalities, else one of even shares.

    `names` are the modalities in the data (None: all), `ratios` the last one's shares (None: the defaults). Of those
    that are `continuous` there is the nearest number of whole spans, and shares are what they come to, each once.
    Raises ValueError for a name that is no modality, for ratios of more or fewer than two, and where spans have no
    room or no other tokens between them.
    """
    for name in names or ():
        if name not in modalities:
            raise ValueError(f"{name!r} is none of the spec's modalities: {', '.join(modalities)}")
    used = [index for index, name in enumerate(modalities) if names is None or name in names]
    spanning = [index for index in used if modalities[index] in continuous]
    _check_room([modalities[index] for index in spanning], len(used) - len(spanning), sequence)
    if len(used) != 2:
        if ratios is not None:
            raise ValueError(f"ratios mix two modalities, and the data has {len(used)}; they share it evenly")
        even = dict(zip(used, split(sequence, len(used)), strict=True))
        return (_counted(len(modalities), even, spanning),)
    shares = (0.0, 0.37, 0.5, 1.0) if ratios is None else ratios
    by_share = (_shared(len(modalities), used, sequence, share, spanning) for share in shares)
    return tuple(dict.fromkeys(by_share))


def rehearsals(known: Sequence[ModalityMix]) -> tuple[ModalityMix, ...]:
    """Two uneven mixtures to warm up on, that no size is taken for a constant; none where the data never mixes."""
    widest = max(known, key=lambda mixture: mixture.present)
    if widest.present < 2:
        return ()
    used = [index for index, count in enumerate(widest.counts) if count]
    spanning = [index for index in widest.continuous if index in used]
    sequence = sum(widest.counts)
    weights = [3 + 2 * index for index in range(len(used))]
    cut = [max(1, sequence * weight // sum(weights)) for weight in weights[1:]]
    uneven = [sequence - sum(cut), *cut]
    if uneven[0] < 1:
        return ()
    return tuple(
        _counted(len(widest.counts), dict(zip(used, sizes, strict=True)), spanning) for sizes in (uneven, uneven[::-1])
    )


def most_even(among: Sequence[ModalityMix]) -> ModalityMix:
    """The mixture whose rarest modality has most tokens."""
    return max(among, key=lambda mixture: min(count for count in mixture.counts if count) * mixture.present**2)


def make_batch(
    modalities: Sequence[DataModality], mixture: ModalityMix, batch: int, seed: int, device: str
) -> DrawnBatch:
    """Rows of one mixture, each turned by a random amount, with random ids from each token's vocabulary.

    No row begins within a span. Latents and what is given with them are random numbers, each of a span of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    row = torch.tensor([index for index, length in runs(mixture) for _ in range(length)])
    turns = sorted(-place % len(row) for place in _beginnings(mixture))
    drawn = torch.randint(0, len(turns), (batch,), generator=generator).tolist()
    modality_ids = torch.stack([row.roll(turns[number]) for number in drawn])
    vocabularies = torch.tensor([modality.vocab or 1 for modality in modalities])  # the ids of latents are not read
    fractions = torch.rand(modality_ids.shape, generator=generator, dtype=torch.float64)
    input_ids = (fractions * vocabularies[modality_ids]).long()
    latents = _latents(modalities, mixture, batch, generator)
    return DrawnBatch(
        input_ids=input_ids.to(device),
        modality_ids=modality_ids.to(device),
        latents={name: x.to(device) for name, x in latents.items()},
        timesteps={name: torch.full((len(x),), TIMESTEP, device=device) for name, x in latents.items()},
        conditions={
            modality.name: {
                part: _given(part, size, len(latents[modality.name]), generator).to(device)
                for part, size in modality.condition.items()
            }
            for modality in modalities
            if modality.condition and modality.name in latents
        },
        features={
            modality.name: torch.randn(batch * count, *modality.features, generator=generator).to(device)
            for modality, count in zip(modalities, mixture.counts, strict=True)
            if modality.features is not None and count
        },
    )


def runs(mixture: ModalityMix) -> Iterator[tuple[int, int]]:
    """Modality index and length of each span of a row."""
    counts = {index: count for index, count in enumerate(mixture.counts) if count}
    most = max(mixture.spans.values(), default=0)
    rounds = most or max(1, min(*counts.values(), sum(counts.values()) // SPAN))
    pieces = {index: split(count, rounds) for index, count in counts.items()}
    for index, spans in mixture.spans.items():
        pieces[index] = [mixture.side**2 * number for number in split(spans, rounds)]
    for number in range(rounds):
        for index in counts:
            yield index, pieces[index][number]


def split(total: int, parts: int) -> list[int]:
    """`total` cut into whole numbers that differ by one at most."""
    return divide(total, [1] * parts)


def divide(total: int, weights: Sequence[int]) -> list[int]:
    """`total` cut into whole numbers in proportion to the weights."""
    ends = [total * sum_ // sum(weights) for sum_ in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(ends)]


def latent_side(sequence: int) -> int:
    """Patches along a side of the latents in rows of so many tokens: a power of two, 2 at least."""
    side = SIDE
    while side > 2 and SPANS * side**2 > sequence:
        side //= 2
    return side


def _most_spans(spanning: int, others: int, sequence: int) -> int:
    """How many spans each of some modalities can have, each followed by a token of all others."""
    return sequence // (spanning * latent_side(sequence) ** 2 + others)


def _check_room(spanning: list[str], others: int, sequence: int) -> None:
    if len(spanning) == 1 and not others:
        side = isqrt(sequence)
        if side**2 < sequence:
            raise ValueError(
                f"a row of {spanning[0]} alone is one square of patches: {side**2} or {(side + 1) ** 2}, not {sequence}"
            )
    elif spanning and not others:
        raise ValueError(f"between spans of {' and '.join(spanning)} there must be tokens of another modality")
    elif spanning and _most_spans(len(spanning), others, sequence) == 0:
        length = latent_side(sequence) ** 2
        raise ValueError(
            f"a row of {sequence} is too short for a span of {length} tokens of {' and '.join(spanning)} beside others"
        )


def _shared(modalities: int, used: list[int], sequence: int, share: float, spanning: Sequence[int]) -> ModalityMix:
    first, last = used
    rounded = spanning[0] if spanning else last  # the one that comes in units
    unit = latent_side(sequence) ** 2 if spanning else 1
    part = share if rounded == last else 1 - share
    count = min(sequence, unit * round(part * sequence / unit))
    wanted = {first: sequence - count, last: count} if rounded == last else {first: count, last: sequence - count}
    mixture = _counted(modalities, wanted, spanning)
    return replace(mixture, share=mixture.counts[last] / sequence if spanning else share)


def _counted(modalities: int, wanted: Mapping[int, int], spanning: Sequence[int]) -> ModalityMix:
    """The tokens that are wanted by index; where there are spans, the nearest number, and the others share the rest."""
    counts, sequence = dict(wanted), sum(wanted.values())
    others = [index for index in wanted if index not in spanning]
    if others and spanning:
        length, most = latent_side(sequence) ** 2, _most_spans(len(spanning), len(others), sequence)
        counts |= {index: length * min(round(wanted[index] / length), most) for index in spanning}
        rest = sequence - sum(counts[index] for index in spanning)
        counts |= zip(others, divide(rest, [wanted[index] + 1 for index in others]), strict=True)
    return ModalityMix(counts=tuple(counts.get(index, 0) for index in range(modalities)), continuous=tuple(spanning))


def _beginnings(mixture: ModalityMix) -> Iterator[int]:
    """The places of a row at which no span is cut."""
    place = 0
    for index, length in runs(mixture):
        yield from range(place, place + (min(1, length) if index in mixture.continuous else length))
        place += length


def _latents(
    modalities: Sequence[DataModality], mixture: ModalityMix, batch: int, generator: torch.Generator
) -> dict[str, Tensor]:
    latents = {}
    for index, modality in enumerate(modalities):
        if modality.channels is not None and modality.patch is not None and mixture.counts[index]:
            side = mixture.side
            grid = {1: (side**2,), 2: (side, side), 3: (1, side, side)}[len(modality.patch)]
            sides = (number * size for number, size in zip(grid, modality.patch, strict=True))
            shape = (batch * mixture.spans[index], modality.channels, *sides)
            latents[modality.name] = torch.randn(shape, generator=generator)
    return latents


def _given(part: str, size: int, count: int, generator: torch.Generator) -> Tensor:
    """What is given for each of `count` latents of a part of their condition."""
    if part == "label":
        return torch.randint(0, size, (count,), generator=generator)
    return torch.randn(*((count,) if part == "number" else (count, size)), generator=generator)
