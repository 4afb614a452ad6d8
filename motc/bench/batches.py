"""The data all models see: rows in which the modalities take turns, with exactly the asked number of tokens of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from motc.ir.model import Model

SPAN = 256
"""About so many tokens pass until every modality has had its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Tokens of each of the model's modalities in a row. `share` is that of the last, where two were mixed by it."""

    counts: tuple[int, ...]
    share: float | None = None

    @property
    def present(self) -> int:
        """How many modalities have tokens."""
        return sum(count > 0 for count in self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What forward takes, both int64 [B, S]."""

    input_ids: Tensor
    modality_ids: Tensor


def mixtures(
    modalities: Sequence[str], sequence: int, ratios: Sequence[float] | None, names: Sequence[str] | None
) -> tuple[Mixture, ...]:
    """One mixture a ratio where the data holds two modalities, else one of even shares.

    `names` are the modalities in the data (None: all), `ratios` the last one's shares (None: the defaults).
    Raises ValueError for a name that is no modality and for ratios of more or fewer than two.
    """
    for name in names or ():
        if name not in modalities:
            raise ValueError(f"{name!r} is none of the spec's modalities: {', '.join(modalities)}")
    used = [index for index, name in enumerate(modalities) if names is None or name in names]
    if len(used) != 2:
        if ratios is not None:
            raise ValueError(f"ratios mix two modalities, and the data has {len(used)}; they share it evenly")
        return (_counted(modalities, used, split(sequence, len(used))),)
    shares = (0.0, 0.37, 0.5, 1.0) if ratios is None else ratios
    return tuple(_shared(modalities, used, sequence, share) for share in shares)


def rehearsals(found: Sequence[Mixture]) -> tuple[Mixture, ...]:
    """Two uneven mixtures to warm up on, that no size is taken for a constant; none where the data never mixes."""
    widest = max(found, key=lambda mixture: mixture.present)
    if widest.present < 2:
        return ()
    used = [index for index, count in enumerate(widest.counts) if count]
    sequence = sum(widest.counts)
    weights = [3 + 2 * index for index in range(len(used))]
    cut = [max(1, sequence * weight // sum(weights)) for weight in weights[1:]]
    uneven = [sequence - sum(cut), *cut]
    if uneven[0] < 1:
        return ()
    return tuple(
        Mixture(counts=tuple(dict(zip(used, sizes, strict=True)).get(i, 0) for i in range(len(widest.counts))))
        for sizes in (uneven, uneven[::-1])
    )


def most_even(found: Sequence[Mixture]) -> Mixture:
    """The mixture whose rarest modality has most tokens."""
    return max(found, key=lambda mixture: min(count for count in mixture.counts if count) * mixture.present**2)


def make_batch(model: Model, mixture: Mixture, batch: int, seed: int, device: str) -> Batch:
    """Rows of one mixture, each turned by a random amount, with random ids from each token's vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.tensor([index for index, length in runs(mixture) for _ in range(length)])
    turns = torch.randint(0, len(row), (batch,), generator=generator).tolist()
    modality_ids = torch.stack([row.roll(turn) for turn in turns])
    vocabularies = torch.tensor([_vocabulary(model, modality.name) for modality in model.modalities])
    fractions = torch.rand(modality_ids.shape, generator=generator, dtype=torch.float64)
    input_ids = (fractions * vocabularies[modality_ids]).long()
    return Batch(input_ids=input_ids.to(device), modality_ids=modality_ids.to(device))


def runs(mixture: Mixture) -> Iterator[tuple[int, int]]:
    """Modality index and length of each span of a row."""
    counts = {index: count for index, count in enumerate(mixture.counts) if count}
    rounds = max(1, min(*counts.values(), sum(counts.values()) // SPAN))
    pieces = {index: split(count, rounds) for index, count in counts.items()}
    for number in range(rounds):
        for index in counts:
            yield index, pieces[index][number]


def split(total: int, parts: int) -> list[int]:
    """`total` in whole numbers that differ by one at most."""
    return [total * (index + 1) // parts - total * index // parts for index in range(parts)]


def _shared(modalities: Sequence[str], used: list[int], sequence: int, share: float) -> Mixture:
    last = round(share * sequence)
    return _counted(modalities, used, [sequence - last, last], share)


def _counted(modalities: Sequence[str], used: list[int], counts: list[int], share: float | None = None) -> Mixture:
    by_index = dict(zip(used, counts, strict=True))
    return Mixture(counts=tuple(by_index.get(index, 0) for index in range(len(modalities))), share=share)


def _vocabulary(model: Model, modality: str) -> int:
    own = model.modality(modality).vocab
    found = model.vocab if own is None else own
    assert found is not None, f"{modality} has no vocabulary"
    return found
