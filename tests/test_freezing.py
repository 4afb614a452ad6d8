"""What is frozen has no gradients, and the backward leaves out what nothing needs, to the last product."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import motc
from motc.ir.execution import Strategy
from tests.fuzz.properties import freezes_as_by_hand
from tests.test_compile import fresh
from tests.test_features import ROBOT
from tests.test_generate import MIXED
from tests.tracing import TRACED_LAYERS

fresh = fresh  # for every test of this file too

SPEC = """
model two {
  width = 32, layers = 2
  modality text { vocab = 40 }, image { vocab = 30 }
  attention { heads = 4, qk_norm = rms, mask = MASK }
  ffn { hidden = 64 }
  untie attention, ffn, norm
}
"""
CAUSAL = SPEC.replace("= MASK", "= causal")
BLOCKS = SPEC.replace("= MASK", "{ kind = blocks, blocks = [text, image] }")
PARALLEL = SPEC.replace("= MASK", "= causal").replace("ffn {", "parallel = one_norm\n  ffn {")
LAYERS, TOKENS = 2, 64  # of each modality
MAPS = 4 * 32 * 32 + 3 * 32 * 64  # numbers of a layer's maps, each of which is 2 FLOPs a token, and 4 in the backward
HEAD = 32 * 30

IDS = torch.randint(0, 30, (2, 64), generator=torch.Generator().manual_seed(0))
MODALITIES = torch.tensor([[0] * 32 + [1] * 32] * 2)
LABELS = IDS.masked_fill(MODALITIES == 0, -100)


def flops_of_backward(model: Any) -> int:
    total = model.loss(IDS, MODALITIES, labels=LABELS).total
    with FlopCounterMode(display=False) as counter:
        total.backward()
    return int(counter.get_total_flops())


def kept_for_backward(model: Any) -> int:
    """How many numbers are kept, besides parameters."""
    kept: dict[int, int] = {}
    parameters = {each.data_ptr() for each in model.parameters()}

    def keep(x: Tensor) -> Tensor:
        if x.is_floating_point() and x.data_ptr() not in parameters:
            kept[x.data_ptr()] = x.untyped_storage().nbytes() // x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        total = model.loss(IDS, MODALITIES, labels=LABELS).total
    assert total.requires_grad
    return sum(kept.values())


def gradients(model: Any) -> dict[str, Tensor | None]:
    model.zero_grad()
    model.loss(IDS, MODALITIES, labels=LABELS).total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def frozen_by_hand(model: Any) -> Any:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".text." not in name)
    return model


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.compiled)])
def test_a_frozen_tower_before_all_that_is_trained_has_no_backward(is_compiled: bool) -> None:
    """Text sees no image, so that nothing it has needs a gradient: a step goes back through image's tokens alone."""
    model: Any = motc.load(BLOCKS)
    motc.freeze(model, "text.*")
    if is_compiled:
        model.compile(backend=TRACED_LAYERS)
    # In a block what a token sees is no target: of each row the first image alone is.
    assert flops_of_backward(model) == 4 * (TOKENS * LAYERS * MAPS + 2 * HEAD)


def test_where_text_sees_images_its_first_layer_alone_needs_no_gradient() -> None:
    plain, model = frozen_by_hand(motc.load(CAUSAL)), motc.load(CAUSAL)
    motc.freeze(model, "text.*")
    into_heads = 3 * 32 * 32
    assert flops_of_backward(plain) - flops_of_backward(model) == 2 * TOKENS * into_heads


@pytest.mark.parametrize("frozen", ["text", "image"])
def test_grouped_products_make_no_gradients_of_frozen_weights(frozen: str) -> None:
    """A third of the backward's products of such a tower, whose tokens stand before the others' or behind them."""
    counted: list[int] = []

    def count(first: Tensor, second: Tensor, offs: Tensor, *rest: Any, **more: Any) -> int:
        rows = int(offs[-1])
        counted.append(2 * rows * first.shape[0 if second.ndim == 2 else 1] * second.shape[-1])
        return counted[-1]

    count._get_raw = True  # type: ignore[attr-defined]
    mapping = {torch.ops.aten._grouped_mm.default: count, torch.ops.aten._grouped_mm: count}

    def backward(model: Any) -> int:
        total = model.loss(IDS, MODALITIES, labels=LABELS).total
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            total.backward()
        assert counted
        return int(counter.get_total_flops())

    model: Any = motc.load(CAUSAL, strategy="grouped")
    every, expected = backward(model), gradients(model)
    selection = motc.freeze(model, f"{frozen}.attention, {frozen}.ffn")
    after = gradients(model)
    for name, gradient in expected.items():
        assert after[name] is None if name in selection.names else torch.equal(after[name], gradient), name
    assert every - backward(model) == 2 * TOKENS * LAYERS * MAPS


@pytest.mark.compiled
def test_grouped_products_of_some_trained_weights_compile() -> None:
    """In bfloat16, as all grouped products: one graph, of sizes that vary, in the backward too."""
    model: Any = motc.load(CAUSAL, strategy="grouped", dtype="bfloat16")
    motc.freeze(model, "text.attention, text.ffn")
    expected = gradients(model)
    model.compile(backend="aot_eager")
    for name, gradient in gradients(model).items():
        assert gradient is None if expected[name] is None else torch.equal(gradient, expected[name]), name


def test_a_frozen_tower_keeps_less_for_the_backward() -> None:
    plain, by_hand, model = motc.load(BLOCKS), frozen_by_hand(motc.load(BLOCKS)), motc.load(BLOCKS)
    motc.freeze(model, "text.*")
    inputs_of_text = TOKENS * LAYERS * (32 + 32)  # of q, k, v and of gate, up
    assert kept_for_backward(model) < kept_for_backward(by_hand) < kept_for_backward(plain)
    assert kept_for_backward(plain) - kept_for_backward(by_hand) >= inputs_of_text


@pytest.mark.parametrize("strategy", ["sorted", "grouped", "blend", "reference"])
@pytest.mark.parametrize("spec", [CAUSAL, BLOCKS], ids=["causal", "blocks"])
def test_all_other_gradients_are_as_they_were(spec: str, strategy: Strategy) -> None:
    model: Any = motc.load(spec, strategy=strategy)
    before = gradients(model)
    selection = motc.freeze(model, "text.*")
    assert str(selection).startswith("frozen: text.*: 25 of 50 parameters")
    after = gradients(model)
    for name, gradient in before.items():
        assert after[name] is None if ".text." in name else torch.equal(after[name], gradient), name


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.compiled)])
def test_what_is_trained_may_change_at_any_time(is_compiled: bool) -> None:
    model: Any = motc.load(BLOCKS)
    before = gradients(model)
    motc.freeze(model, "text.*")
    if is_compiled:
        for layer in model.layers:
            layer.compile(backend="eager", dynamic=True)
    gradients(model)
    model.embedding["text"].weight.requires_grad_()  # by hand: text's gradients go through all layers again
    torch.testing.assert_close(gradients(model)["embedding.text.weight"], before["embedding.text.weight"])
    motc.unfreeze(model, "text.* in layer 1")
    now = gradients(model)
    for name, gradient in before.items():
        if now[name] is None:
            assert ".text." in name and not name.startswith(("layers.1", "embedding")), name
        else:
            torch.testing.assert_close(now[name], gradient, msg=name)


def test_a_copy_is_as_frozen() -> None:
    model: Any = motc.load(BLOCKS)
    motc.freeze(model, "text.*")
    expected = gradients(model)
    copied = copy.deepcopy(model)
    motc.unfreeze(model, "*")
    assert flops_of_backward(copied) == 4 * (TOKENS * LAYERS * MAPS + 2 * HEAD)
    assert all(g is None if expected[n] is None else torch.equal(g, expected[n]) for n, g in gradients(copied).items())


@pytest.mark.parametrize("spec", [PARALLEL, MIXED, ROBOT], ids=["parallel", "experts", "robot"])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_part_may_be_frozen(spec: str, seed: int) -> None:
    freezes_as_by_hand(spec, "sorted", seed)
