"""Parameters, FLOPs and bytes, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from motc.cost import attention_flops, cost, flops_per_token, kv_cache_bytes_per_token, memory, total_parameters
from motc.cost.flops import head_flops, latent_span_flops
from motc.driver import check_spec, final_ir
from motc.loading import instantiate
from motc.validate.batches import with_ids
from motc.validate.reduce import reduce
from tests.calls import calls
from tests.handmade import LAYER, Recipe, Tower, untied
from tests.shipped import DIFFERENT

WIDTH, HIDDEN, VOCAB, LAYERS = 64, 96, 512, 4
QUERY, KEY = 4 * 16, 2 * 16
ATTENTION = 2 * WIDTH * QUERY + 2 * WIDTH * KEY
FFN = 3 * WIDTH * HIDDEN
A_LAYER = ATTENTION + FFN + 2 * WIDTH
OUTER = 2 * VOCAB * WIDTH + WIDTH
EACH = (("text",), ("image",))


DENSE = Recipe()
MOT = replace(DENSE, runs=((LAYERS, untied(LAYER, *EACH)),), outer={"final_norm": EACH})


def test_a_dense_model_counts_as_written_on_paper() -> None:
    costs = cost(DENSE.model())
    assert costs.parameters == LAYERS * A_LAYER + OUTER == total_parameters(DENSE.model())
    assert costs.active == {"text": costs.parameters, "image": costs.parameters}
    assert costs.groups["attention.q"] == LAYERS * WIDTH * QUERY
    assert costs.groups["ffn.gate"] == LAYERS * WIDTH * HIDDEN
    assert costs.groups["head"] == costs.groups["embedding"] == VOCAB * WIDTH
    assert costs.blocks == {"": costs.parameters}


def test_untying_doubles_what_it_unties_and_leaves_a_token_s_share_alone() -> None:
    dense, mot = cost(DENSE.model()), cost(MOT.model())
    assert mot.parameters == dense.parameters + LAYERS * A_LAYER + WIDTH
    assert mot.active == dense.active
    assert mot.flops_per_token == dense.flops_per_token
    assert mot.blocks == {"": 2 * VOCAB * WIDTH, "text": LAYERS * A_LAYER + WIDTH, "image": LAYERS * A_LAYER + WIDTH}
    assert sum(mot.groups.values()) == mot.parameters


def test_a_tied_embedding_counts_once_and_still_makes_logits() -> None:
    tied = replace(DENSE, tied=True).model()
    assert cost(tied).parameters == LAYERS * A_LAYER + VOCAB * WIDTH + WIDTH
    assert cost(tied).active["text"] == cost(tied).parameters
    assert flops_per_token(tied)["text"] == flops_per_token(DENSE.model())["text"]


def test_own_vocabularies_and_towers_count_by_modality() -> None:
    recipe = replace(
        MOT,
        towers={"text": Tower(), "image": Tower(hidden=128, kind="relu2")},
        vocab=None,
        vocabs={"text": 256, "image": 1024},
        outer={"embedding": EACH, "head": EACH, "final_norm": EACH},
    )
    costs = cost(recipe.model())
    assert costs.active["text"] == LAYERS * A_LAYER + 2 * 256 * WIDTH + WIDTH
    assert costs.active["image"] == LAYERS * (ATTENTION + 2 * WIDTH * 128 + 2 * WIDTH) + 2 * 1024 * WIDTH + WIDTH
    assert costs.parameters == sum(costs.active.values())
    assert costs.flops_per_token["image"] == 2 * (LAYERS * (ATTENTION + 2 * WIDTH * 128) + 1024 * WIDTH)


def test_biases_and_layer_norms_add_parameters_but_no_flops() -> None:
    plain = DENSE.model()
    rich = replace(DENSE, towers=dict.fromkeys(DENSE.towers, Tower(bias=True, norm="layer", qk_norm="layer"))).model()
    biases = QUERY + 2 * KEY + WIDTH + 2 * HIDDEN + WIDTH
    assert total_parameters(rich) - total_parameters(plain) == LAYERS * (biases + 2 * WIDTH + 2 * (QUERY + KEY)) + WIDTH
    assert flops_per_token(rich)["text"] == flops_per_token(plain)["text"]


def test_flops_are_two_for_each_weight_of_a_product() -> None:
    assert flops_per_token(DENSE.model())["text"] == 2 * (LAYERS * (ATTENTION + FFN) + VOCAB * WIDTH)
    assert attention_flops(DENSE.model(), 100) == LAYERS * 4 * QUERY * 100 * 100


def test_flops_are_what_torch_counts() -> None:
    length = 32
    tokens = torch.empty(length, WIDTH, device="meta")
    weight = partial(torch.empty, device="meta")
    with FlopCounterMode(display=False) as counter:
        for _ in range(LAYERS):
            q = F.linear(tokens, weight(QUERY, WIDTH), weight(QUERY)).view(1, length, 4, 16).transpose(1, 2)
            k = F.linear(tokens, weight(KEY, WIDTH)).view(1, length, 2, 16).transpose(1, 2)
            v = F.linear(tokens, weight(KEY, WIDTH)).view(1, length, 2, 16).transpose(1, 2)
            seen = F.scaled_dot_product_attention(
                q, k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1), is_causal=True
            )
            tokens = tokens + F.linear(seen.transpose(1, 2).reshape(length, QUERY), weight(WIDTH, QUERY))
            hidden = F.silu(F.linear(tokens, weight(HIDDEN, WIDTH))) * F.linear(tokens, weight(HIDDEN, WIDTH))
            tokens = F.rms_norm(tokens + F.linear(hidden, weight(WIDTH, HIDDEN)), (WIDTH,))
        F.linear(tokens, weight(VOCAB, WIDTH))
    model = DENSE.model()
    assert counter.get_total_flops() == length * flops_per_token(model)["text"] + attention_flops(model, length)


@pytest.mark.parametrize("path", DIFFERENT, ids=lambda path: path.stem)
def test_flops_are_what_torch_counts_in_the_generated_model(path: Path) -> None:
    model = final_ir(reduce(check_spec(path)))
    rows, length, last = 2, 48, len(model.modalities) - 1
    # More of the last than of others, and of each so many that experts share them out without a rest.
    modality_ids = (torch.arange(rows * length) % 8).clamp(max=last).view(rows, length)
    batch = with_ids(model, modality_ids, torch.Generator().manual_seed(0))
    network = instantiate(model, dtype=torch.float64)  # there are no grouped products, which the counter does not know
    names = [modality.name for modality in model.modalities]
    flops = flops_per_token(model)
    expected = sum(flops[names[token]] for token in batch.modality_ids.flatten().tolist())
    expected += rows * attention_flops(model, length)
    expected += sum(len(times) * latent_span_flops(model, name) for name, times in batch.timesteps.items())
    noised = {"latents": batch.latents, "timesteps": batch.timesteps} if batch.latents else {}
    # Own vocabularies: forward gives every head's logits for every token, loss only those of the targets' heads, and
    # a row's first token is no target.
    own = model.vocab is None
    if own:
        expected -= sum(head_flops(model, names[token]) for token in modality_ids[:, 0].tolist())
    # The plain kernel is two products, which the counter knows; it does not know the CPU's fused one.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (network.loss if own else network)(batch.input_ids, batch.modality_ids, **noised)
    assert counter.get_total_flops() == expected


def test_bytes_of_training_and_of_the_cache() -> None:
    model = DENSE.model()
    parameters = total_parameters(model)
    assert memory(model).training == 16 * parameters
    assert memory(model, "bfloat16").weights == memory(model, "bfloat16").gradients == 2 * parameters
    assert memory(model, "bfloat16").optimizer == 8 * parameters
    assert kv_cache_bytes_per_token(model) == 2 * KEY * LAYERS * 2
    with pytest.raises(ValueError, match="unknown dtype 'int3'"):
        memory(model, "int3")


def test_the_json_holds_what_the_command_promises() -> None:
    costs = cost(MOT.model())
    shown = costs.to_json()
    assert shown["flops_per_token"] == costs.flops_per_token
    assert isinstance(shown["parameters"], dict)
    assert shown["parameters"]["total"] == costs.parameters
    assert shown["parameters"]["active"] == costs.active


def test_depth_costs_no_time() -> None:
    flat, deep = (replace(DENSE, runs=((layers, {}),)).model() for layers in (2, 1_000_000_000))
    assert cost(deep).parameters == 1_000_000_000 * A_LAYER + OUTER  # both asked once, as a model keeps answers
    assert cost(flat).parameters == 2 * A_LAYER + OUTER
    assert calls(lambda: cost(deep)) == calls(lambda: cost(flat))
