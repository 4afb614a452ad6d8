"""Where tokens lie: rows of attention, sorted order, and the way there and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from codegen_templates.batch_order import to_batch
from codegen_templates.layout_sorted import sorted_layout
from codegen_templates.mask_causal import Causal
from codegen_templates.mask_full import Full
from codegen_templates.permute import permute
from codegen_templates.reorder import to_slots, to_sorted
from codegen_templates.rows_compact import compact_rows
from codegen_templates.rows_documents import document_rows
from codegen_templates.tokens import invert
from motc.reference.operators import default_positions

CAUSAL = Causal()


@st.composite
def drawn_batches(draw: st.DrawFn) -> tuple[Tensor, Tensor | None]:
    """Modality ids, and the ids of documents that follow one another; those of padding are any."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    size = {"min_size": rows * length, "max_size": rows * length}
    modality_ids = torch.tensor(draw(st.lists(st.integers(-1, 2), **size))).view(rows, length)
    if draw(st.booleans()):
        return modality_ids, None
    starts, anything = torch.tensor(draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), **size))).unbind(1)
    numbers = torch.tensor(draw(st.permutations(range(9))))[starts.view(rows, length).cumsum(1)]
    return modality_ids, torch.where(modality_ids >= 0, numbers, anything.view(rows, length))


@settings(max_examples=150, deadline=None)
@given(drawn_batches())
def test_every_real_token_has_one_slot_in_a_row_of_its_document(batch: tuple[Tensor, Tensor | None]) -> None:
    modality_ids, document_ids = batch
    if not (modality_ids >= 0).any():
        return
    slots, apart = document_rows(modality_ids, document_ids)
    real = (modality_ids.flatten() >= 0).nonzero().flatten()
    assert sorted(slots[slots >= 0].tolist()) == real.tolist()
    documents = torch.zeros_like(modality_ids) if document_ids is None else document_ids
    for row in slots:
        tokens = row[row >= 0]
        assert tokens.tolist() == sorted(tokens.tolist())
        assert len(set((tokens // modality_ids.shape[1]).tolist())) <= 1
        if apart:
            assert row[: len(tokens)].tolist() == tokens.tolist(), "what is empty comes last"
            assert len(set(documents.flatten()[tokens].tolist())) <= 1


@settings(max_examples=100, deadline=None)
@given(drawn_batches(), st.permutations(range(3)), st.booleans())
def test_there_and_back(batch: tuple[Tensor, Tensor | None], order: list[int], stream_is_sorted: bool) -> None:
    modality_ids, document_ids = batch
    layout = sorted_layout(modality_ids, document_ids, tuple(order), (CAUSAL,), stream_is_sorted)
    x = torch.randn(layout.order.numel(), 2)
    assert torch.equal(to_sorted(to_slots(x, layout), layout), x)
    places = layout.sorted_places.tolist()
    assert places == sorted(places)
    assert [piece.numel() for piece in layout.pieces] == [places.count(place) for place in range(3)] or not (
        modality_ids >= 0
    ).any()
    values = torch.arange(1, modality_ids.numel() + 1).view_as(modality_ids)
    stream = torch.where(layout.tokens >= 0, values.flatten()[layout.tokens], 0)
    assert torch.equal(to_batch(stream, layout), torch.where(modality_ids >= 0, values, 0))


def test_positions_start_again_in_each_document_and_count_padding() -> None:
    modality_ids = torch.tensor([[0, -1, 1, 0, 1, 0]])
    document_ids = torch.tensor([[4, 7, 4, 7, 7, 5]])  # of which the second is padding's
    layout = sorted_layout(modality_ids, document_ids, (0, 1), (CAUSAL,), True)
    slots, positions = layout.rows.slots, layout.rows.positions
    position_of = {int(t): int(p) for t, p in zip(slots.flatten(), positions.flatten(), strict=True) if t >= 0}
    assert position_of == {0: 0, 2: 2, 3: 0, 4: 1, 5: 0}
    plain = default_positions(modality_ids, document_ids).flatten()
    assert {place: int(plain[place]) for place in position_of} == position_of


def test_documents_of_like_lengths_have_rows_of_their_own_and_no_mask() -> None:
    modality_ids = torch.randint(0, 2, (2, 12))
    layout = sorted_layout(modality_ids, (torch.arange(12) // 3).repeat(2, 1), (0, 1), (CAUSAL,), True)
    assert layout.rows.slots.shape == (8, 3) and layout.rows.mask is None


def test_documents_of_unlike_lengths_share_the_batch_s_rows_and_a_mask() -> None:
    modality_ids = torch.randint(0, 2, (1, 12))
    layout = sorted_layout(modality_ids, torch.tensor([[0] * 10 + [1, 2]]), (0, 1), (CAUSAL,), True)
    assert layout.rows.slots.shape == (1, 12) and layout.rows.mask is not None


def test_padding_is_cut_off() -> None:
    modality_ids = torch.tensor([[-1, -1, 0, 1, -1, -1], [1, 0, 0, -1, -1, -1]])
    layout = sorted_layout(modality_ids, None, (0, 1), (CAUSAL,), True)
    assert layout.rows.slots.tolist() == [[2, 3, -1], [6, 7, 8]] and layout.rows.mask is None
    assert layout.order.numel() == 5


def test_a_full_mask_needs_a_mask_only_where_rows_have_gaps() -> None:
    full = Full()
    whole, gaps = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[0, 0, -1], [0, 0, 0]])
    assert sorted_layout(whole, None, (0,), (full,), True).rows.mask is None
    assert sorted_layout(gaps, None, (0,), (full,), True).rows.mask is not None


def test_compact_rows_keep_order_and_mark_what_is_empty() -> None:
    modality_ids = torch.tensor([[-1, 0, -1, 1], [0, 1, 0, -1]])
    assert compact_rows(modality_ids).tolist() == [[1, 3, -1, -1], [4, 5, 6, -1]]


def test_the_gradient_of_a_permutation_is_the_inverse() -> None:
    order = torch.tensor([2, -1, 0, 3])
    inverse = invert(order, 5)
    assert inverse.tolist() == [2, -1, 0, 3, -1]
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: permute(y, order, inverse), (x,))
    assert torch.autograd.gradgradcheck(lambda y: permute(y, order, inverse).square(), (x,))


def test_a_layout_moves_between_processes_and_devices_as_a_tuple() -> None:
    layout = sorted_layout(torch.tensor([[0, 1, -1]]), None, (0, 1), (CAUSAL,), True)
    moved = layout.to("meta")
    assert moved.order.is_meta and moved.rows.slots.is_meta and moved.pieces[0].is_meta
    assert moved.document_ids is None


@pytest.mark.parametrize("bad", [-2, 2])
def test_ids_that_are_no_modality_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="modality_ids must be -1"):
        sorted_layout(torch.tensor([[0, bad]]), None, (0, 1), (CAUSAL,), True)
