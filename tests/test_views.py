"""Attention by views: what a mask says, entry by entry; one graph for all batches that have views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import codegen_templates.views
import motc
from codegen_templates.views import Views, attend_by_views
from motc.driver import compile_ir
from motc.ir.mask import Mask
from motc.plan.views import view_gathers
from motc.reference.visibility import visibility
from motc.validate.config import reference_mask
from tests.building import built_mask
from tests.exact import WIDEST
from tests.test_compile import assert_same, fresh, pair
from tests.test_masks import NAMES, every_mask
from tests.tracing import TRACED_LAYERS, leave_ends

SPEC = """
model viewed {{
  width = 32, layers = 2, vocab = 40
  modality text, image, action
  attention {{ heads = 4, kv_heads = 2, mask {{ {mask} }} }}
  ffn {{ hidden = 48 }}
  untie attention, ffn, norm
}}
"""
PREFIX = "kind = prefix, prefix = image"
BLIND = "sees { text = text }"
BLOCKS = "kind = blocks, blocks = [[image, text], action]"
APART = "kind = full, sees { text = text, image = image }"

fresh = fresh  # for every test of this file too


def factored() -> list[Mask]:
    masks = {mask.simplified(NAMES) for mask in every_mask(NAMES)}
    return sorted((mask for mask in masks if mask.kernel(NAMES) == "views"), key=str)


def rows(seed: int, equal: bool) -> Tensor:
    """Modality ids [4, 10], tokens first; `equal`: every row has the same tokens, in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, len(NAMES), (4, 10), generator=generator)
    if equal:
        places = torch.stack([torch.randperm(10, generator=generator) for _ in range(4)])
        return drawn[:1].expand(4, -1).gather(1, places)
    lengths = torch.randint(1, 11, (4, 1), generator=generator)
    return torch.where(torch.arange(10) < lengths, drawn, -1)


def visible(views: Views, modality_ids: Tensor) -> Tensor:
    """Who sees whom by the views, bool [R, L, L]: which values' changes change what is found."""
    count, length = modality_ids.shape
    zeros = torch.zeros(count, length, 1, 1, dtype=torch.float64)
    seen = torch.zeros(count, length, length, dtype=torch.bool)
    for place in range(length):
        values = zeros.clone()
        values[:, place] = 1
        seen[:, :, place] = attend_by_views(zeros, [(zeros, values)] * len(views.calls), views)[:, :, 0, 0] > 0
    return seen


def test_views_say_what_masks_say() -> None:
    masks = factored()
    assert {mask.kind for mask in masks} == {"causal", "prefix", "blocks", "full"} and len(masks) > 50
    count = 0
    for number, mask in enumerate(masks):
        for equal in (True, False):
            modality_ids = rows(number, equal)
            views = built_mask(mask, NAMES, in_views=True).views(modality_ids)
            if views is None:
                assert mask.kind != "causal" and not (equal and mask.kind == "blocks")
                continue
            count += 1
            expected = visibility(reference_mask(mask), NAMES, modality_ids, None)
            assert torch.equal(visible(views, modality_ids), expected), str(mask)
    assert count > len(masks)


def test_gathers_of_a_layer_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[Tensor] = []
    permute = codegen_templates.views.permute
    for block in ("chosen", "views"):
        monkeypatch.setattr(
            f"codegen_templates.{block}.permute", lambda x, *of: (gathered.append(x), permute(x, *of))[1]
        )
    path = tmp_path / "viewed.mot"
    path.write_text(SPEC.format(mask=BLIND))
    model = compile_ir(path)
    for mask in factored():
        views = built_mask(mask, NAMES, in_views=True).views(rows(0, equal=True))
        if views is not None:
            gathered.clear()
            q, k, v = torch.zeros(3, 4, 10, 1, 1)
            attend_by_views(q, [(k, v)] * len(views.calls), views)
            assert view_gathers(mask, model) == len(gathered), str(mask)


def test_sets_that_would_cost_more_than_a_mask_have_none() -> None:
    two, three = (("text", ("text",)),), (("text", ("text",)), ("image", ("text", "image")))
    assert Mask(kind="causal", sees=two).kernel(NAMES) == Mask(kind="full", sees=three).kernel(NAMES) == "views"
    assert Mask(kind="causal", sees=three).kernel(NAMES) == "matrix"
    assert Mask(kind="causal").kernel(NAMES) == "causal" and Mask(kind="full").kernel(NAMES) == "full"
    assert Mask(kind="causal", bidirectional=("image",)).kernel(NAMES) == "matrix"
    assert Mask(kind="prefix", prefix=("image",), sees=two).kernel(NAMES) == "matrix"


def batch_of(modality_ids: Tensor) -> tuple[Tensor, Tensor, None]:
    return torch.randint(0, 40, modality_ids.shape, generator=torch.Generator().manual_seed(2)), modality_ids, None


def leading(row: list[int], count: int) -> Tensor:
    return torch.tensor([row] * count)


@pytest.mark.compiled
@pytest.mark.parametrize("mask", [PREFIX, BLIND, BLOCKS, APART])
def test_one_graph_for_all_batches_with_views_and_one_more_for_masks(mask: str, tmp_path: Path) -> None:
    text = SPEC.format(mask=mask).replace("untie attention, ffn, norm", "untie attention as {text, action} {image}")
    # What AOT traces, backward too, is the same of all views; tests/test_kernels.py has kernels of some.
    compiled, eager = pair(text, tmp_path, TRACED_LAYERS if mask == PREFIX else "eager", dtype=WIDEST)
    graphs = 4  # a layer, and three ends
    if mask != PREFIX:  # ends are the same
        leave_ends(compiled)
        graphs = 1
    shapes = [
        leading([1, 1, 1, 0, 2, 0, 1, 2], 2),
        leading([1, 0, 2, 2, 0, 0], 3),
        leading([0, 0, 0, 1, 2], 1),
        *(torch.full((2, 6), modality) for modality in range(3)),
        leading([1], 2),
        torch.full((2, 4), -1),
    ]
    for modality_ids in shapes:
        assert compiled.layout(modality_ids).rows.views is not None
        assert_same(compiled, eager, batch_of(modality_ids))
        assert counters["stats"]["unique_graphs"] == graphs
    masked = torch.tensor([[1, 1, 0, 2, 2, 0], [1, 0, 1, 1, 0, 0]])
    if mask == PREFIX:  # of the matrix nothing in a layer depends on the mask it is of
        assert compiled.layout(masked).rows.views is None
        assert_same(compiled, eager, batch_of(masked))
        assert counters["stats"]["unique_graphs"] == graphs + 1
    assert not counters["graph_break"]


def load(mask: str, folder: Path, **kwargs: Any) -> Any:
    path = folder / "viewed.mot"
    path.write_text(SPEC.format(mask=mask))
    return motc.load(path, dtype=torch.float64, **kwargs)


@pytest.mark.parametrize("mask", [PREFIX, BLIND, BLOCKS, APART])
def test_padded_and_packed_batches_are_the_reference_s(mask: str, tmp_path: Path) -> None:
    model, plain = load(mask, tmp_path), load(mask, tmp_path, strategy="reference")
    row = [1, 1, 0, 2, 0, 1]
    modality_ids = torch.tensor([[*row, -1, -1], [-1, *row, -1], [-1, -1, *row]])
    documents = torch.tensor([[0] * 8, [1] * 8, [2] * 8])
    packed, two = torch.tensor([row + row]), torch.tensor([[0] * 6 + [1] * 6])
    for kinds, document_ids in ((modality_ids, None), (modality_ids, documents), (packed, two)):
        assert model.layout(kinds, document_ids).rows.views is not None
        ids, _, _ = batch_of(kinds)
        actual, expected = [], []
        for network, into in ((model, actual), (plain, expected)):
            network.zero_grad()
            logits = network(ids, kinds, document_ids=document_ids).logits
            logits.square().sum().backward()
            into += [logits.detach(), *(parameter.grad.clone() for parameter in network.parameters())]
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)
