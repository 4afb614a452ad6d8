"""Learned positions: against OPT and GPT-2, and untied between modalities of one width or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.source import SpecError
from tests.fuzz.properties import checked, differ_alike_both_ways, obeys_every_law
from tests.originals import agree, as_parameters, widened

transformers = pytest.importorskip("transformers")

SPEC = """
model learned {
  width = 32, layers = 2, vocab = 61
  modality text
  attention { heads = 4, bias = true, rope = none }
  ffn { kind = %s, hidden = 48, bias = true }
  norm { kind = layer, eps = 1e-5 }
  embedding { tied = true }
  positions { %s }
}
"""
OPT = {
    "model.decoder.embed_tokens": "embedding",
    "model.decoder.embed_positions": "position_embedding",
    "model.decoder.final_layer_norm": "final_norm",
    "model.decoder.layers": "layers",
    "self_attn_layer_norm": "attention.norm",
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.out_proj": "attention.out",
    "final_layer_norm": "ffn.norm",
    "fc1": "ffn.up",
    "fc2": "ffn.down",
}
GPT2 = {
    "wte": "embedding",
    "wpe": "position_embedding",
    "ln_f": "final_norm",
    "h.": "layers.",
    "ln_1": "attention.norm",
}
GPT2 |= {"attn.c_proj": "attention.out", "ln_2": "ffn.norm", "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}


def opt() -> nn.Module:
    sizes = {"vocab_size": 61, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 2}
    config = transformers.OPTConfig(
        **sizes, num_attention_heads=4, max_position_embeddings=64, dropout=0.0, attn_implementation="eager"
    )
    return transformers.OPTForCausalLM(config)


def opt_as_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of OPT's parameters by our names."""
    return {replaced(name, OPT): tensor for name, tensor in tensors.items()}


def gpt2() -> nn.Module:
    sizes = {"vocab_size": 61, "n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, attn_implementation="eager"))


def gpt2_as_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of GPT-2's parameters by our names: its linear maps are transposed, and three of them lie in one."""
    ours = {}
    for name, tensor in tensors.items():
        renamed = replaced(name.removeprefix("transformer."), GPT2)
        if "c_attn" in name:
            for part, piece in zip("qkv", tensor.chunk(3, dim=-1), strict=True):
                ours[renamed.replace("attn.c_attn", f"attention.{part}")] = piece.T if piece.ndim == 2 else piece
        else:
            ours[renamed] = tensor.T if ".c_" in name and tensor.ndim == 2 else tensor
    return ours


def replaced(name: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        name = name.replace(old, new)
    return name


CASES: dict[str, tuple[Any, Any, str, str]] = {
    "opt": (opt, opt_as_ours, "relu", "first = 2, learned = 66"),
    "gpt2": (gpt2, gpt2_as_ours, "gelu_tanh", "learned = 64"),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_gradients_and_tokens(name: str) -> None:
    build, as_ours, kind, positions = CASES[name]
    torch.manual_seed(0)
    theirs = build().eval()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours: Any = motc.load(SPEC % (kind, positions), dtype=torch.float64)
    ours.load_state_dict(as_ours(dict(theirs.named_parameters())))  # the names are the same, or this raises
    ids = torch.randint(3, 61, (2, 12))
    with widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
    got = ours(ids, torch.zeros_like(ids)).logits
    agree(theirs, ours, expected, got, as_ours, idle=("attention.k.bias",))  # which changes nothing
    made = ours.generate(ids, torch.zeros_like(ids), max_new_tokens=8, temperature=0.0).input_ids
    how = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with widened(torch.float64):
        assert torch.equal(made, theirs.generate(ids, max_new_tokens=8, **how)[:, 12:])


UNTIED = """
model located {
  width = 16, layers = 1, vocab = 9
  modality text, image { %s }, state
  attention { heads = 2, head_dim = 8, rope = none }
  ffn { hidden = 12 }
  positions { learned = 50 }
  tower image = image { %s }
  untie %s
}
"""
LATENT = "latent { channels = 2, patch = 1 }"
EVERYTHING = "attention, ffn, norm, embedding, head, position_embedding"


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["sorted", "reference", "blend", "grouped"])
@pytest.mark.parametrize("untied", ["attention.q", "position_embedding", "position_embedding as {text, state} {image}"])
def test_every_law_holds(strategy: Strategy, untied: str) -> None:
    spec = checked(UNTIED % ("", "", untied))
    sparse, dense = final_ir(spec, strategy=strategy), final_ir(spec, dense=True)
    obeys_every_law(sparse, dense, seed=2)
    differ_alike_both_ways(sparse, dense)
    differ_alike_both_ways(
        sparse, final_ir(checked((UNTIED % ("", "", untied)).replace("learned = 50", "learned = 60")))
    )


@pytest.mark.laws
@pytest.mark.parametrize("image", [f"{LATENT}, positions {{ kind = same }}", "positions { start = 0 }"])
@pytest.mark.parametrize("width", ["", "width = 24"])
def test_beside_latents_and_widths(image: str, width: str) -> None:
    spec = checked(UNTIED % (image, width, EVERYTHING))
    obeys_every_law(final_ir(spec), final_ir(spec, dense=True), seed=2)


@pytest.mark.compiled
def test_one_graph_serves_every_batch_and_far_positions_are_refused() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    model: Any = motc.load(UNTIED % ("", "", "ffn, position_embedding"))
    eager: Any = motc.load(UNTIED % ("", "", "ffn, position_embedding"))
    model.compile(backend="eager")
    for rows in ([[0, 1, 2, 0]] * 2, [[0, 0, 0]] * 3, [[1, 1]], [[2] * 6] * 4):
        modality_ids = torch.tensor(rows)
        ids = torch.zeros_like(modality_ids)
        torch.testing.assert_close(model(ids, modality_ids).logits, eager(ids, modality_ids).logits)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3
    torch.compiler.reset()
    with pytest.raises(ValueError, match=r"a position is 50, and learned are 0..49"):
        eager(ids, modality_ids, position_ids=modality_ids + 48)


@pytest.mark.parametrize(
    ("said", "instead", "what"),
    [
        ("rope = none", "rope { sections = [2, 2] }", "a table has rows for positions of one number"),
        ("learned = 50", "learned = 50, first = 50", "the first cannot be 50"),
    ],
)
def test_what_does_not_go_together_is_told(said: str, instead: str, what: str) -> None:
    text = (UNTIED % ("", "", "ffn")).replace(said, instead)
    with pytest.raises(SpecError) as caught:
        motc.load(text)
    assert what in caught.value.diagnostics[0].message
    assert caught.value.diagnostics[0].code == "MOT082"


LOOKED_AT = {
    "learned": "attention { heads = 4, rope = none }; positions { learned = 12 }",
    "after RoPE": "attention { heads = 4, qk_norm { kind = rms, place = after_rope } }",
    "dynamic": "attention { heads = 4, rope { scaling { kind = dynamic, factor = 4, original_length = 5 } } }",
}


@pytest.mark.parametrize("said", LOOKED_AT)
@torch.no_grad()
def test_positions_of_tokens_alone_as_the_docs_count_them(said: str) -> None:
    """Padding before and between tokens then changes nothing, and `generate`, which drops it, goes on the same way."""
    torch.manual_seed(0)
    text = f"model padded {{ width = 16, layers = 2, vocab = 11; modality text; {LOOKED_AT[said]} }}"
    model: Any = motc.load(text, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    ids, real = torch.randint(0, 11, (1, 9)), torch.tensor([[False, False, False, True, True, False, True, True, True]])
    modality_ids = torch.zeros_like(ids).where(real, -1)
    expected = model(ids[real][None], modality_ids[real][None]).logits[0]
    position_ids = ((modality_ids >= 0).cumsum(1) - 1).clamp(min=0)
    got = model(ids, modality_ids, position_ids=position_ids).logits[real]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert (model(ids, modality_ids).logits[real] - expected).abs().max() > 1e-3  # padding counts
    generated = model.generate(ids, modality_ids, max_new_tokens=1, temperature=0.0)
    assert int(generated.input_ids) == int(expected[-1].argmax())
