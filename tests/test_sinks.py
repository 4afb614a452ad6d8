"""Attention sinks: laws and strategies, the key that they are, and gpt-oss, whose attention nobody here wrote."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import motc
from codegen_templates.attention import attend, plain_attention, weighed
from codegen_templates.sizes import mark_sizes
from motc.cost import cost
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.source import SourceFile
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import agrees_with_sorted, forget_generated, generates_what_it_predicts
from tests.originals import agree, as_parameters, renamed, widened
from tests.planted import broken, report
from tests.tracing import one_graph_serves

SPEC = """
model sunk {
  width = 16, layers = 1
  modality text { vocab = 16 }, image { vocab = 8 }
  attention { heads = 4, kv_heads = 2, sinks = true%s }
  ffn { hidden = 16 }
  %s
}
"""
PREFIX = ", mask { kind = prefix, prefix = image }"  # in two views
SPECS = {
    "shared": SPEC % ("", ""),
    "apart": SPEC % (", bias = true, scale = 0.3", "untie *"),
    "alone": SPEC % (", mask { bidirectional = image }", "untie attention.sinks"),
    "capped": SPEC % (", softcap = 0.5, window = 3", "untie attention"),
    "views": SPEC % (PREFIX, "untie attention"),
    "detached": SPEC % (", mask { kind = blocks, blocks = [image, text], detach { text = image } }", "untie attention"),
    "read": SPEC % ("", "tower vision = image { attention { reads = text } }\n  untie attention"),
    "read in views": SPEC
    % (
        ", mask { kind = blocks, blocks = [text, image], detach { image = text } }",
        "tower vision = image { attention { reads = text } }\n  untie attention",
    ),
    "one tower alone": SPEC.replace(", sinks = true", "")
    % (PREFIX, "tower vision = image { attention { sinks = true } }\n  untie attention.sinks"),
    "all but one tower": SPEC % (", window = 3", "tower words = text { attention { sinks = false } }\n  untie *"),
    "some layers and towers": SPEC.replace(", sinks = true", "").replace("layers = 1", "layers = 2")
    % ("", "tower vision = image { attention = none }\n  untie *\n  layer 1 { attention { sinks = true } }"),
}


def ir(text: str) -> Any:
    return compile_ir(SourceFile("sunk.mot", text))


@pytest.mark.laws
@pytest.mark.parametrize(
    "name, strategy",
    [*((name, "sorted") for name in SPECS), ("alone", "blend"), ("apart", "reference"), ("one tower alone", "blend")],
)
def test_every_law_holds(name: str, strategy: Strategy) -> None:
    verdict = report(SPECS[name], strategy=strategy)
    assert verdict.ok, verdict


@pytest.mark.laws
def test_mistakes_are_found() -> None:
    laws = {"reference outputs", "reference gradients"}
    assert laws <= broken(SPECS["shared"], ", sinks=sinks", "")
    assert laws <= broken(SPECS["apart"], "self.sinks(q, layout.places)", "self.sinks(q, 1 - layout.places)")


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("grouped", 2e-4)])
def test_strategies_agree(strategy: Any, tolerance: float) -> None:
    agrees_with_sorted(SPECS["apart"], strategy, tolerance)


@pytest.mark.parametrize("name", ["shared", "apart", "capped", "views", "all but one tower"])
def test_generating_is_the_forward_of_all_tokens(name: str) -> None:
    """A step's scores are written out, where a prompt has a key more."""
    loaded: Any = motc.load(SPECS[name], dtype=torch.float64)
    randomise(loaded, torch.Generator().manual_seed(0))
    ids, modality_ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 0]])
    generates_what_it_predicts(loaded, ids, modality_ids, count=6)
    forget_generated()


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["apart", "views"])
def test_one_graph_serves_every_mixture(name: str) -> None:
    loaded: Any = motc.load(SPECS[name])
    one_graph_serves(loaded, [[0, 1, 0, 1, 0]], [[1, 1, 1]] * 3, [[0, 0]], [[1, 1, 0, 0]] * 2)
    forget_generated()


@pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 compiles none: docs/execution.md")
@pytest.mark.compiled
def test_they_are_compiled_for_all_sizes() -> None:
    """With kernels, whose lowering asks for sizes that tracing alone does not."""

    def sunk(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> Tensor:
        return attend(q, k, v, None, sinks=sinks.expand(q.shape[:-1]))

    torch._dynamo.reset()
    compiled = torch.compile(sunk, fullgraph=True)
    counters.clear()
    for rows, length in ((2, 5), (1, 1), (3, 2)):
        torch.manual_seed(rows)
        qkv = [torch.randn(rows, length, heads, 4).requires_grad_() for heads in (4, 2, 2)]
        sinks = torch.randn(4).requires_grad_()
        expected = torch.autograd.grad(sunk(*qkv, sinks).square().sum(), [*qkv, sinks])
        given = [mark_sizes(x, "rows", "length") for x in qkv]
        gradients = torch.autograd.grad(compiled(*given, sinks).square().sum(), [*qkv, sinks])
        for one, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("causal", [True, False])
def test_a_key_more_is_attention_written_out(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 8, dtype=torch.float64) for heads in (4, 2, 2))
    sinks = torch.randn(2, 4, 5, dtype=torch.float64)
    added = None if causal else torch.where(torch.rand(2, 1, 5, 5) < 0.5, -torch.inf, 0.0).double()
    got = weighed(q, k, v, added, causal, 0.3, None, sinks)
    torch.testing.assert_close(got, plain_attention(q, k, v, added, causal, 0.3, None, sinks), rtol=1e-12, atol=1e-12)
    low, plain = torch.full_like(sinks, -1e4), weighed(q, k, v, None, causal, 0.3)
    torch.testing.assert_close(weighed(q, k, v, None, causal, 0.3, None, low), plain, rtol=1e-12, atol=1e-12)


def test_a_token_may_see_nothing_but_its_sink() -> None:
    q, k, v = (torch.randn(1, 2, 3, 8) for _ in range(3))
    nothing = torch.full((1, 1, 3, 3), -torch.inf)
    assert not weighed(q, k, v, nothing, False, None, None, torch.zeros(1, 2, 3)).any()


def test_they_are_logits_of_heads_that_begin_at_0() -> None:
    model: Any = motc.load(SPECS["apart"])
    sinks = {name: p for name, p in model.named_parameters() if "sinks" in name}
    assert list(sinks) == [f"layers.0.attention.sinks.{m}.weight" for m in ("text", "image")]
    assert all(p.shape == (4,) and not p.any() for p in sinks.values())
    sunk, plain = ir(SPECS["apart"]), ir(SPECS["apart"].replace("sinks = true", "sinks = false"))
    assert cost(sunk).parameters - cost(plain).parameters == 2 * 4
    assert cost(sunk).flops_per_token == cost(plain).flops_per_token
    assert semantic_hash(plain) == semantic_hash(ir(SPECS["apart"].replace("sinks = true, ", "")))
    (edit,) = diff(plain, sunk)
    assert (edit.subject, edit.before, edit.after, edit.parameters) == ("attention.sinks", "false", "true", 8)


GPT_OSS = """
model small {
  width = 48, layers = 4, vocab = 61
  modality text
  attention {
    heads = 4, kv_heads = 2, head_dim = 16, bias = true, sinks = true, window = 4
    rope { theta = 150000, scaling { kind = yarn, factor = 4, original_length = 8, truncate = false } }
  }
  layers 1..3 step 2 { attention { window = none } }
  ffn { kind = moe, experts = 5, top_k = 2, expert = clamped_geglu, hidden = 20, bias = true, router_bias = true }
  norm { eps = 1e-5 }
}
"""


def of_gpt_oss(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its parameters, or gradients, by our names: gates and ups lie in turns, and experts' maps from in to out."""
    ours = {}
    for name, value in renamed(values).items():
        stem, _, last = name.rpartition(".")
        match last:
            case "gate_up_proj" | "gate_up_proj_bias":
                halves = value.unflatten(-1, (-1, 2)).unbind(-1)
                kind = "bias" if last.endswith("bias") else "weight"
                for part, half in zip(("gate", "up"), halves, strict=True):
                    part_name = f"{stem.removesuffix('mlp.experts')}ffn.{part}.{kind}"
                    ours[part_name] = half if kind == "bias" else half.transpose(1, 2)
            case "down_proj" | "down_proj_bias":
                kind = "bias" if last.endswith("bias") else "weight"
                ours[f"{stem.removesuffix('mlp.experts')}ffn.down.{kind}"] = (
                    value if kind == "bias" else value.transpose(1, 2)
                )
            case "sinks":
                ours[f"{stem.removesuffix('self_attn')}attention.sinks.weight"] = value
            case _:
                ours[name.replace("mlp.router", "ffn.router")] = value
    return ours


def test_gpt_oss() -> None:
    """Logits and all gradients in float64, and greedy decoding, past its windows and what it was trained on."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GptOssConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=20,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=4,
        num_local_experts=5,
        num_experts_per_tok=2,
        max_position_embeddings=32,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 8,
        },
        attn_implementation="eager",
        experts_implementation="eager",
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    theirs = transformers.GptOssForCausalLM(config).eval()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=1.0)  # so that many gates are clamped
    ours: Any = motc.load(GPT_OSS, dtype=torch.float64)
    ours.load_state_dict(of_gpt_oss(dict(theirs.named_parameters())))
    ids = torch.randint(1, 61, (2, 13))
    with widened(torch.float64), torch.no_grad():
        said = theirs.generate(ids, do_sample=False, max_new_tokens=6, attention_mask=torch.ones_like(ids))
    made = ours.generate(ids, torch.zeros_like(ids), max_new_tokens=6, temperature=0).input_ids
    assert made.tolist() == said[:, 13:].tolist()
    with widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
    got = ours(ids, torch.zeros_like(ids)).logits
    agree(theirs, ours, expected, got, of_gpt_oss)
