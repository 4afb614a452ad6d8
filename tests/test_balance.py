"""Documents spread over ranks and steps: all once, within what a rank holds, and evenly in every modality."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.training.balance import balance

RANKS, TOKENS = 4, 2048
STEPS = 18  # in which all 600 documents come, or nearly


@pytest.fixture(scope="module")
def counts() -> Tensor:
    """Of text in all, of images in a third, and of speech in a tenth."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(3, 600, generator=generator)
    text = torch.exp(4.5 + torch.randn(600, generator=generator)).long().clamp(4, 1000)
    return torch.stack((text, 256 * (drawn[0] < 1 / 3), (500 * drawn[1] * (drawn[2] < 0.1)).long()), 1)


@pytest.fixture(scope="module")
def many(counts: Tensor) -> list[tuple[list[int], ...]]:
    """Each rank's documents in steps of more than two epochs."""
    return steps(counts, 3 * STEPS)


def steps(counts: Tensor, count: int, **how: Any) -> list[tuple[list[int], ...]]:
    """Each rank's documents in each step."""
    streams = [balance(counts, tokens=TOKENS, ranks=RANKS, rank=rank, **how) for rank in range(RANKS)]
    return list(islice(zip(*streams, strict=True), count))


def test_every_document_comes_once_before_any_comes_again(counts: Tensor, many: list[tuple[list[int], ...]]) -> None:
    seen = list(chain.from_iterable(chain.from_iterable(many)))
    assert len(seen) > 2 * len(counts)
    again = next(place for place, index in enumerate(seen) if index in seen[:place])
    assert len(counts) - RANKS < again <= len(counts)
    assert seen[:again] != seen[again : 2 * again]  # in another order


def test_no_rank_holds_more_than_it_can_or_nothing(counts: Tensor, many: list[tuple[list[int], ...]]) -> None:
    lengths = counts.sum(1)
    held = [int(lengths[rank].sum()) for step in many for rank in step]
    assert min(held) > 0
    assert max(held) <= TOKENS
    assert sum(held[: 16 * RANKS]) > 0.97 * 16 * RANKS * TOKENS


def test_ranks_have_as_much_of_everything_as_the_others(counts: Tensor, many: list[tuple[list[int], ...]]) -> None:
    """The rank with the most has little more than the mean, of each modality and of squares."""
    loads = torch.cat((counts, counts.sum(1, keepdim=True).square()), 1).double()
    each = torch.stack([torch.stack([loads[rank].sum(0) for rank in step]) for step in many[:16]])
    most = (each.amax(1) / each.mean(1)).mean(0)
    assert (most < torch.tensor([1.2, 1.15, 1.75, 1.2])).all(), most


def test_what_a_step_has_follows_from_its_number(counts: Tensor, many: list[tuple[list[int], ...]]) -> None:
    assert steps(counts, 7, first=2 * STEPS) == many[2 * STEPS :][:7]
    assert steps(counts, 1) == many[:1]
    assert steps(counts, 1, seed=1) != many[:1]


def test_a_modality_that_no_document_has_changes_nothing(counts: Tensor) -> None:
    without = counts * torch.tensor([1, 1, 0])
    assert steps(without, 2) == steps(counts[:, :2], 2)


def test_few_documents_are_one_for_each_rank() -> None:
    assert steps(torch.tensor([[5], [3], [4], [9]]), 1) == [([3], [0], [2], [1])]


@pytest.mark.parametrize(
    ("given", "how", "told"),
    [
        (torch.ones(4, 2), {"tokens": 9}, r"counts are torch\.float32 \[4, 2\]; they are numbers \[documents, modal"),
        (torch.tensor([[1], [-1]]), {"tokens": 9}, "from 0"),
        (torch.tensor([[1, 1], [7, 3]]), {"tokens": 9}, "document 1 has more than the 9 of a step: 10"),
        (torch.tensor([[1, 1], [0, 0]]), {"tokens": 9}, "document 1 has no token: 0"),
        (torch.tensor([[1], [2]]), {"tokens": 9, "ranks": 3}, "2 documents are not one for each of 3 ranks"),
        (torch.tensor([[1], [2]]), {"tokens": 9, "ranks": 2, "rank": 2}, "rank is 2, of 2 ranks: it is from 0 to 1"),
    ],
)
def test_what_cannot_be_spread_is_refused_at_once(given: Tensor, how: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        motc.balance(given, **how)
