"""Queries, keys and values of low rank, and values of another size than keys: laws, costs, and what is refused.

That they are as DeepSeek-V2's and V3's is held by `tests/test_gallery.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import motc
from codegen_templates.attention import attend, plain_attention, weighed
from codegen_templates.sizes import mark_sizes
from motc.cost import cost, kv_cache_bytes_per_token
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.source import SourceFile, SpecError
from tests.fuzz.properties import agrees_with_sorted, freezes_as_by_hand, generates_what_it_predicts
from tests.planted import broken, report
from tests.tracing import one_graph_serves

SPEC = """
model low {
  width = 16, layers = 2
  modality text { vocab = 16 }, image { vocab = 8 }
  attention { heads = 2, head_dim = 16, value_dim = 8, low_rank { kv = 16, q = 8, rope_dim = 8 }, %s }
  ffn { hidden = 16 }
  %s
}
"""
SPECS = {
    "shared": SPEC % ("sinks = true", ""),
    "apart": SPEC % ("bias = true, rope { pairing = interleaved }", "untie *"),
    "some groups": SPEC % ("gate = true, window = 3", "untie attention.kv_down_norm, attention.q_down, attention.k"),
    "by layer": SPEC
    % ("rope { theta = 50, scaling { kind = linear, factor = 2 } }",
       "layer 1 { attention { rope = none, value_dim = 16, low_rank { kv = 8, rope_dim = 3, eps = 0.1 } } }"),
    "an absent tower": SPEC
    % ("mask { kind = causal, bidirectional = text }", "untie *\n  layer 0 { tower image { attention = none } }"),
    "keys alone": SPEC
    % ("mask = full, bias = true", "untie *\n  layer 1 { tower image { attention = keys, ffn = none } }"),
    "values alone": SPEC.replace("low_rank { kv = 16, q = 8, rope_dim = 8 }", "kv_heads = 1")
    % ("softcap = 5, sinks = true, mask = full", "untie attention"),
    "read values": SPEC.replace("low_rank { kv = 16, q = 8, rope_dim = 8 }", "kv_heads = 1")
    % ("clip = 1", "tower gen = image { attention { reads = text } }\n  untie attention"),
}  # fmt: skip


@pytest.mark.laws
@pytest.mark.parametrize("name, strategy", [*((name, "sorted") for name in SPECS), ("apart", "blend")])
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    found = report(SPECS[name], strategy=strategy)
    assert found.ok, found
    assert {"reference outputs", "reference gradients"} <= {law.name for law in found.laws}


@pytest.mark.parametrize("strategy", ["reference", "grouped"])
def test_strategies_agree(strategy: Strategy) -> None:
    agrees_with_sorted(SPECS["apart"], strategy, 1e-3 if strategy == "grouped" else 1e-9)


@pytest.mark.laws
@pytest.mark.parametrize(
    "right, wrong",
    [
        ("self.kv_down_norm(kv_down,", "(lambda x, places: x)(kv_down,"),
        ("x[..., -size:], cos", "x[..., :size], cos"),
        ("torch.cat((own, shared", "torch.cat((own, -shared"),
    ],
)
def test_a_mistake_is_found(right: str, wrong: str) -> None:
    assert {"reference outputs", "reference gradients"} <= broken(SPECS["apart"], right, wrong)


def model(text: str) -> Any:
    return compile_ir(SourceFile("low.mot", text))


def test_costs() -> None:
    low = model(SPECS["shared"])
    maps = 16 * 8 + 16 * 16 + 16 * 8 + 8 * 32 + 16 * 2 * (8 + 8) + 16 * 16
    plain = model(SPECS["shared"].replace("value_dim = 8, low_rank { kv = 16, q = 8, rope_dim = 8 },", ""))
    difference = maps + 8 + 16 - 4 * 16 * 32
    assert cost(low).parameters - cost(plain).parameters == 2 * difference
    assert cost(low).flops_per_token["text"] - cost(plain).flops_per_token["text"] == 4 * (difference - 8 - 16)
    assert kv_cache_bytes_per_token(low, "float32") == 2 * 4 * 2 * (16 + 8)


def test_a_diff_tells_ranks() -> None:
    other = SPECS["shared"].replace("q = 8", "q = 4").replace("value_dim = 8", "value_dim = 6")
    told = {edit.describe().partition(", -")[0] for edit in diff(model(SPECS["shared"]), model(other))}
    assert "attention.low_rank: kv 16, q 8, rope_dim 8, eps 1e-05 → kv 16, q 4, rope_dim 8, eps 1e-05" in told
    assert "attention.value_dim: 8 → 6" in told


@pytest.mark.parametrize("name", ["shared", "apart", "by layer", "values alone"])
def test_greedy_decoding(name: str) -> None:
    text = SPECS[name].replace(", mask = full", "").replace("image { vocab = 8 }", "image { vocab = 16 }")
    module = motc.load(text, dtype=torch.float64)
    generates_what_it_predicts(module, torch.randint(0, 16, (2, 5)), torch.zeros(2, 5, dtype=torch.int64), 6)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["apart", "in views"])
def test_one_graph_serves_every_mixture(name: str) -> None:
    views = SPEC % ("mask { kind = prefix, prefix = image }", "untie attention")
    loaded: Any = motc.load(SPECS.get(name, views))
    one_graph_serves(loaded, [[0, 1, 0, 1, 0]], [[1, 1, 1]] * 3, [[0, 0]], [[1, 1, 0, 0]] * 2)


@pytest.mark.compiled
def test_values_of_their_own_size_are_compiled_for_all_sizes() -> None:
    """With kernels, for Inductor asks of products what tracing does not."""
    torch._dynamo.reset()
    compiled = torch.compile(attend, fullgraph=True)
    counters.clear()
    for rows, length in ((2, 5), (1, 1), (3, 2)):
        torch.manual_seed(rows)
        qkv = [torch.randn(rows, length, 2, size).requires_grad_() for size in (8, 8, 4)]
        expected = torch.autograd.grad(attend(*qkv, None).square().sum(), qkv)
        given = [mark_sizes(x, "rows", "length") for x in qkv]
        gradients = torch.autograd.grad(compiled(*given, None).square().sum(), qkv)
        torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("head_dim, value_dim", [(8, 4), (4, 8)])
def test_sizes_that_differ_are_attention_written_out(head_dim: int, value_dim: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, size, dtype=torch.float64) for size in (head_dim, head_dim, value_dim))
    expected = plain_attention(q, k, v, None, True, head_dim**-0.5, None, None)
    torch.testing.assert_close(weighed(q, k, v, None, True), expected, rtol=1e-12, atol=1e-12)


def test_a_frozen_part_has_no_backward() -> None:
    for seed in range(2):
        freezes_as_by_hand(SPECS["apart"], "sorted", seed)


@pytest.mark.parametrize(
    "low, beside, message",
    [
        ("rope_dim = 16", "", "a key of 16 components has none of its own beside a rope_dim of 16"),
        ("rope_dim = 8", "rope { fraction = 0.5 }", "a fraction of what rotates is said by rope_dim"),
        ("rope_dim = 8", "kv_heads = 1", "all 2 heads have their own, and kv_heads is 1"),
        ("rope_dim = 8", "clip = 2", "keys and values of low rank have no `clip`"),
        ("rope_dim = 8", "qk_norm = rms", "queries and keys of low rank have no norm"),
    ],
)
def test_what_does_not_go_with_it(low: str, beside: str, message: str) -> None:
    text = (SPEC % (beside, "")).replace("rope_dim = 8", low)
    with pytest.raises(SpecError) as refused:
        model(text)
    (told,) = refused.value.diagnostics
    assert told.code == "MOT095" and message in told.message


@pytest.mark.parametrize("said", ["reads = text", "cross = text", "qk_norm = rms"])
def test_what_towers_cannot_have_with_it(said: str) -> None:
    with pytest.raises(SpecError) as refused:
        model(SPEC % ("", f"tower gen = image {{ attention {{ {said} }} }}\n  untie *"))
    assert "MOT095" in {each.code for each in refused.value.diagnostics}


def test_what_is_shared_rotates_in_pairs() -> None:
    with pytest.raises(SpecError, match="rope rotates pairs, so rope_dim must be even, not 7"):
        model((SPEC % ("", "")).replace("rope_dim = 8", "rope_dim = 7"))


def test_a_tower_has_the_models_values() -> None:
    with pytest.raises(SpecError, match="tower gen has value_dim 4, the model 8"):
        model(SPEC % ("", "tower gen = image { attention { value_dim = 4 } }\n  untie *"))
