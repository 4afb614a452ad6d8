"""The partitions of a universe form a lattice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motc.ir.partition import Partition

NAMES = ("text", "image", "speech", "video", "action")


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    """Any partition of NAMES: each name draws the block it belongs to."""
    owners = [draw(st.integers(0, len(NAMES) - 1)) for _ in NAMES]
    return Partition.of(
        NAMES, [[name for name, own in zip(NAMES, owners, strict=True) if own == block] for block in set(owners)]
    )


@given(partitions(), partitions(), partitions())
def test_meet_and_join_are_commutative_associative_and_absorb(a: Partition, b: Partition, c: Partition) -> None:
    assert a.meet(b) == b.meet(a)
    assert a.join(b) == b.join(a)
    assert a.meet(b).meet(c) == a.meet(b.meet(c))
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.meet(a.join(b)) == a
    assert a.join(a.meet(b)) == a


@given(partitions(), partitions(), partitions())
def test_finer_is_an_order_with_these_bounds(a: Partition, b: Partition, c: Partition) -> None:
    assert a.is_finer(a)
    assert not (a.is_finer(b) and b.is_finer(a)) or a == b
    assert not (a.is_finer(b) and b.is_finer(c)) or a.is_finer(c)
    assert a.is_finer(b) == b.is_coarser(a) == (a.meet(b) == a) == (a.join(b) == b)
    assert a.meet(b).is_finer(a)
    assert a.is_finer(a.join(b))
    assert Partition.each(NAMES).is_finer(a)
    assert a.is_finer(Partition.one(NAMES))


@given(partitions(), partitions())
def test_two_names_meet_as_the_definition_says(a: Partition, b: Partition) -> None:
    for one in NAMES:
        for other in NAMES:
            together = other in a.meet(b).block_of(one)
            assert together == (other in a.block_of(one) and other in b.block_of(one))


@given(partitions())
def test_the_order_of_blocks_and_names_means_nothing(a: Partition) -> None:
    assert Partition.of(NAMES, [tuple(reversed(block)) for block in reversed(a.blocks)]) == a


@pytest.mark.parametrize("blocks", [[["text"]], [list(NAMES), ["text"]], [list(NAMES), []], [[*NAMES, "smell"]]])
def test_what_is_no_partition_is_refused(blocks: list[list[str]]) -> None:
    with pytest.raises(ValueError, match=r"partition|block"):
        Partition.of(NAMES, blocks)
