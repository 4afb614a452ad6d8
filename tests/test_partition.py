"""Partitions of a universe: what is one, and that it is one whatever the order it is written in."""

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


@given(partitions())
def test_the_order_of_blocks_and_names_means_nothing(a: Partition) -> None:
    assert Partition.of(NAMES, [tuple(reversed(block)) for block in reversed(a.blocks)]) == a


@pytest.mark.parametrize("blocks", [[["text"]], [list(NAMES), ["text"]], [list(NAMES), []], [[*NAMES, "smell"]]])
def test_what_is_no_partition_is_refused(blocks: list[list[str]]) -> None:
    with pytest.raises(ValueError, match=r"partition|block"):
        Partition.of(NAMES, blocks)
