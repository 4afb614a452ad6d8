"""Layers that differ in their masks and their rotary positions, which the language cannot say yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from motc.driver import generate
from motc.ir.attention import Attention
from motc.ir.execution import Strategy
from motc.ir.layer import Layer, Sublayer
from motc.ir.mask import Mask
from motc.ir.model import Model, Segment, TokenLoss
from motc.ir.rope import Rope
from motc.loading import instantiate
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import differ_alike_both_ways, forget_generated, generates_what_it_predicts, obeys_every_law
from tests.test_open_layers import Change, opened, without_attention

FULL = Mask(kind="full")
PREFIX = Mask(kind="prefix", prefix=("image",))
RUNS = Mask(kind="causal", bidirectional=("image",))
BLIND = Mask(kind="causal", sees=(("image", ("image",)),))
BLOCKS = Mask(kind="blocks", blocks=(("image",), ("text",)))
SLOW = Rope(theta=100.0, pairing="half")


def attending(mask: Mask, **changed: Any) -> Change:
    """What makes a layer one whose attention has this mask, and what else is said."""

    def change(layer: Layer) -> Layer:
        def of(sublayer: Sublayer) -> Sublayer:
            body = sublayer.body
            if not isinstance(body, Attention):
                return sublayer
            return replace(sublayer, body=replace(body, mask=mask, **changed))

        return Layer(sublayers=tuple(map(of, layer.sublayers)))

    return change


ALL = (
    attending(FULL, rope=SLOW),
    without_attention,
    attending(PREFIX, rope=None),
    attending(BLOCKS),
    attending(RUNS, rope=SLOW),
    attending(BLIND),
)
TEXT_ALONE = Mask(kind="causal", sees=(("text", ("text",)),))
DECODABLE = (attending(PREFIX, rope=SLOW), attending(RUNS, rope=None), attending(TEXT_ALONE), without_attention)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget_generated()


@pytest.mark.laws
@pytest.mark.parametrize("image", ["", "narrow"])
def test_each_layer_has_its_own_mask_and_angles(image: str) -> None:
    obeys_every_law(opened(*ALL, image=image), opened(*ALL, image=image, dense=True), seed=5)


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["reference", "blend", "grouped"])
def test_in_other_strategies_too(strategy: Strategy) -> None:
    obeys_every_law(opened(*ALL, image="alike", strategy=strategy), opened(*ALL, image="alike", dense=True), seed=6)


def test_what_layers_share_is_made_once() -> None:
    text = generate(opened(attending(FULL, rope=SLOW), without_attention, attending(FULL), attending(PREFIX)))
    assert "    masks = (Causal(), Full(), PrefixInViews((1,)))\n" in text
    assert "masks = layout.rows.matrices(x.dtype, (0, 1, 0, 1, 2))\n" in text
    assert "angles = [angles[number] for number in (0, 1, 0, 0, 0)]\n" in text


@pytest.mark.parametrize("change", [ALL[0], ALL[2], DECODABLE[1]])
def test_what_differs_is_told(change: Change) -> None:
    differ_alike_both_ways(opened(), opened(change))


def batch(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids, and these modalities."""
    modality_ids = torch.tensor(rows)
    return torch.randint(0, 11, modality_ids.shape, generator=torch.Generator().manual_seed(1)), modality_ids


def test_rows_have_a_matrix_for_the_masks_that_need_one() -> None:
    model: Any = instantiate(opened(attending(FULL), attending(PREFIX), attending(RUNS)))
    rows = model.layout(torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])).rows
    assert [each.mask is not None for each in rows.by_mask] == [False, False, True, True]
    rows = model.layout(torch.tensor([[1, 1, 0, 0], [1, 1, 0, 1]])).rows
    assert [each.mask is not None for each in rows.by_mask] == [False, False, False, True]
    assert [each.views is not None for each in rows.by_mask] == [False, False, True, False]
    rows = model.layout(torch.tensor([[1, 1, 0, 0], [1, 1, 0, -1]])).rows
    assert [each.mask is not None for each in rows.by_mask] == [False, True, False, True]


def seen_by_some(changes: tuple[Change, ...]) -> Model:
    """A model whose targets do not count where the token before them sees them."""
    model = opened(*changes)
    names = tuple(replace(modality, loss=TokenLoss(seen_targets=False)) for modality in model.modalities)
    return replace(model, modalities=names)


@pytest.mark.laws
@pytest.mark.parametrize(
    "masks",
    [
        (PREFIX, Mask(kind="prefix", prefix=("text",))),
        (Mask(kind="prefix", prefix=("text",)), RUNS),
        (BLIND, PREFIX),
    ],
)
def test_a_target_is_seen_if_any_mask_shows_it(masks: tuple[Mask, ...]) -> None:
    changes = tuple(map(attending, masks))
    sparse = seen_by_some(changes)
    dense = replace(opened(*changes, dense=True), modalities=sparse.modalities)
    obeys_every_law(sparse, dense, seed=7)


@pytest.mark.compiled
@pytest.mark.parametrize("strategy", ["sorted", "blend"])
def test_one_graph_for_each_kind_of_layer(strategy: Strategy) -> None:
    torch.compiler.reset()
    counters.clear()
    changes = (attending(FULL, rope=SLOW), attending(PREFIX, rope=None), without_attention)
    model = opened(*changes, strategy=strategy)
    last = model.segments[-1].last
    more = tuple(Segment(first=last + 1 + i, last=last + 1 + i, layer=model.segments[i].layer) for i in range(2))
    model = replace(model, segments=(*model.segments, *more))
    compiled, eager = instantiate(model, dtype=torch.float64), instantiate(model, dtype=torch.float64)
    for module in (compiled, eager):
        randomise(module, torch.Generator().manual_seed(0))
    compiled.compile(backend="eager", fullgraph=True)
    for rows in ([[1, 1, 0, 0, 1]] * 2, [[1, 0, 0]] * 3, [[0, 1]], [[1, 1, 1, 1]] * 4):
        ids, modality_ids = batch(rows)
        assert (compiled(ids, modality_ids).logits - eager(ids, modality_ids).logits).abs().max() < 1e-12
        assert counters["stats"]["unique_graphs"] == 4 + 2  # the kinds of layers, and the ends
    torch.compiler.reset()


@pytest.mark.parametrize("strategy", ["sorted", "blend"])
@pytest.mark.parametrize("image", ["", "narrow"])
def test_generating_is_the_forward_of_all_tokens(strategy: Strategy, image: str) -> None:
    model: Any = instantiate(opened(*DECODABLE, image=image, strategy=strategy), dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(0))
    ids, modality_ids = batch([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]])
    modality_ids[1, 0] = -1
    generates_what_it_predicts(model, ids, modality_ids, count=6)


def test_what_any_mask_forbids_is_not_generated() -> None:
    ids, modality_ids = batch([[0, 1]])
    runs: Any = instantiate(opened(attending(RUNS)))
    with pytest.raises(ValueError, match="see later ones of their run"):
        runs.generate(ids, modality_ids, max_new_tokens=2)
    prefix: Any = instantiate(opened(attending(Mask(kind="prefix", prefix=("text",))), attending(PREFIX)))
    prefix.generate(ids, modality_ids, max_new_tokens=2)
    for leading in (0, 1):
        with pytest.raises(ValueError, match="belongs to the prefix"):
            prefix.generate(ids[:, :1], modality_ids[:, leading : leading + 1], max_new_tokens=2)
    assert not hasattr(instantiate(opened(attending(FULL))), "generate")


def test_compiling_is_refused_for_any_mask_that_torch_cannot_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = instantiate(opened(attending(RUNS)))
    model.compile(backend="eager")
    monkeypatch.setattr(torch, "__version__", "2.12.0")
    with pytest.raises(RuntimeError, match="needs a matrix of who sees whom"):
        model(*batch([[1, 1, 0]]))


def test_a_layout_of_other_masks_has_another_key() -> None:
    keys = {instantiate(opened(*map(attending, masks))).layout_key for masks in ((), (FULL,), (FULL, RUNS))}
    assert len(keys) == 3
