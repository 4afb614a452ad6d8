"""Rotary positions of part of a head, and scaled: against transformers' Llama, StableLM, GPT-NeoX and GLM."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import motc
from codegen_templates.rope import rope_angles, rotate_half
from motc.source import SpecError
from tests.originals import agree, as_parameters, renamed, widened

transformers = pytest.importorskip("transformers")

SPEC = """
model turning {
  width = 48
  layers = 2
  vocab = 61
  modality text
  attention { heads = 4, kv_heads = 2, head_dim = 16, rope { %s } }
  ffn { hidden = 40 }
  norm { eps = 1e-6 }
}
"""
LENGTH = 40


def llama(**rope: Any) -> nn.Module:
    """A small Llama whose positions are as said, trained with 16 of them."""
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=16,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        attn_implementation="eager",
        rope_parameters=rope,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    as_parameters(model, torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def stablelm() -> nn.Module:
    """A small StableLM, of whose heads a quarter rotates."""
    config = transformers.StableLmConfig(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        layer_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    model = transformers.StableLmForCausalLM(config).eval()
    as_parameters(model, torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("theta = 500, scaling { kind = linear, factor = 3 }", {"rope_theta": 500.0, "factor": 3.0}),
    "dynamic": ("scaling { kind = dynamic, factor = 2, original_length = 16 }", {"factor": 2.0}),
    "llama3": ("scaling { kind = llama3, factor = 4, original_length = 64 }", LLAMA3),
    "yarn": (
        "scaling { kind = yarn, factor = 4, original_length = 128 }",
        {"factor": 4.0, "original_max_position_embeddings": 128},
    ),
    "yarn not truncated": (
        "scaling { kind = yarn, factor = 8, original_length = 300, beta_fast = 16, beta_slow = 2, truncate = false, "
        "attention_factor = 1.3 }",
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 300,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "truncate": False,
            "attention_factor": 1.3,
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_scaled_as_transformers_scales(name: str) -> None:
    said, parameters = CASES[name]
    same_outputs_and_gradients(
        llama(**{"rope_type": name, "rope_theta": 10000.0, **parameters}), SPEC % said, SPEC % ""
    )


def test_a_quarter_of_a_head_as_stablelm_has_it() -> None:
    plain = (SPEC % "").replace("width = 48", "width = 64").replace("eps = 1e-6", "kind = layer, eps = 1e-6")
    same_outputs_and_gradients(stablelm(), plain.replace("rope { ", "rope { fraction = 0.25 "), plain)


def same_outputs_and_gradients(theirs: nn.Module, spec: str, plain: str) -> None:
    """Theirs and ours are alike to 1e-9 with the same weights, and unlike the model of plain positions."""
    ours: Any = motc.load(spec, dtype=torch.float64)
    weights = renamed(dict(theirs.named_parameters()))
    ours.load_state_dict(weights)  # the names are the same, or this raises
    ids = torch.randint(0, 61, (2, LENGTH))
    with widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
    got = ours(ids, torch.zeros_like(ids)).logits
    other: Any = motc.load(plain, dtype=torch.float64)
    other.load_state_dict(weights)
    assert (other(ids, torch.zeros_like(ids)).logits - got).abs().max() > 1e-3
    agree(theirs, ours, expected, got)


@pytest.mark.parametrize("name", CASES)
def test_decoded_as_transformers_decodes(name: str) -> None:
    said, parameters = CASES[name]
    theirs = llama(**{"rope_type": name, "rope_theta": 10000.0, **parameters})
    ours: Any = motc.load(SPEC % said, dtype=torch.float64)
    ours.load_state_dict(renamed(dict(theirs.named_parameters())))
    ids = torch.randint(0, 61, (2, 10))
    with widened(torch.float64):
        expected = theirs.generate(ids, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0)
    got = ours.generate(ids, torch.zeros_like(ids), max_new_tokens=20, temperature=0.0)
    assert got.input_ids.tolist() == expected[:, 10:].tolist()


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_a_fraction_of_a_head_rotates(pairing: str) -> None:
    """GPT-NeoX's rotation, and Cohere's of pairs, of the first quarter of a head."""
    from transformers.models.glm.modeling_glm import apply_rotary_pos_emb as glm
    from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as neox

    from codegen_templates.rope import rotate_half, rotate_interleaved
    from codegen_templates.rope_partial import rotate_first

    torch.manual_seed(0)
    x, angles = torch.randn(2, 5, 3, 16).double(), torch.randn(2, 5, 2).double()
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    theirs, rotate = (neox, rotate_half) if pairing == "half" else (glm, rotate_interleaved)
    waves = (torch.cat((wave, wave), dim=-1)[:, :, 0] for wave in (cos, sin))
    expected, _ = theirs(x.transpose(1, 2), x.transpose(1, 2), *waves)
    torch.testing.assert_close(rotate_first(rotate, x, cos, sin), expected.transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_far_positions_keep_their_angles_in_bfloat16() -> None:
    """Beyond 65,536 neighbours are one number in bfloat16, and in float16 infinite: angles are made in float32."""
    places, ids = torch.arange(70_000, 70_008)[None], torch.zeros(1, 8, dtype=torch.int64)
    for said in ("", "scaling { kind = linear, factor = 2 }"):
        angles: list[list[torch.Tensor]] = []

        def keep(_: nn.Module, given: tuple[Any, ...], angles: list[list[torch.Tensor]] = angles) -> None:
            angles.append([x for x in given if isinstance(x, torch.Tensor) and x.shape == (1, 8, 1, 8)])

        for dtype in (torch.float32, torch.bfloat16):
            model: Any = motc.load(SPEC % said, dtype=dtype)
            model.layers[0].attention.register_forward_pre_hook(keep)
            model(ids, ids, position_ids=places)
        (cos, sin), (rough_cos, rough_sin) = angles
        assert rough_cos.dtype == torch.bfloat16
        assert torch.equal(cos.bfloat16(), rough_cos)
        assert torch.equal(sin.bfloat16(), rough_sin)
        assert (cos[:, 1:, 0, 0] - cos[:, :-1, 0, 0]).abs().min() > 1e-3  # neighbours are told apart


@pytest.mark.parametrize(
    ("said", "code", "what"),
    [
        ("fraction = 0.2", "MOT052", "3 components"),
        ("fraction = 0.05", "MOT052", "0 components"),
        ("scaling { kind = linear, factor = 2, beta_fast = 3 }", "MOT080", "`beta_fast` says nothing"),
        ("scaling { kind = yarn, factor = 2 }", "MOT080", "needs `original_length`"),
        ("scaling { kind = yarn, factor = 2, original_length = 9, beta_slow = 32 }", "MOT080", "not above"),
        ("theta = 1, scaling { kind = yarn, factor = 2, original_length = 9 }", "MOT080", "a theta above 1"),
        ("scaling { kind = llama3, factor = 2, original_length = 9, low_freq_factor = 4 }", "MOT080", "not above"),
        ("fraction = 0.125, scaling { kind = dynamic, factor = 2, original_length = 9 }", "MOT080", "4 components"),
    ],
)
def test_what_does_not_go_together_is_told(said: str, code: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        motc.load(SPEC % said)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert what in diagnostic.message


@torch.no_grad()
def test_rows_of_a_checkpoint_for_the_other_pairing() -> None:
    """In each head as docs/numerics.md has them; of six components that rotate, and two that do not."""
    text = SPEC.replace("heads = 4, kv_heads = 2, head_dim = 16", "heads = 4, head_dim = 8, bias = true, qk_norm = rms")
    said = "fraction = 0.75, pairing = "
    half, interleaved = (motc.load(text % (said + each), dtype=torch.float64) for each in ("half", "interleaved"))
    torch.manual_seed(0)
    for parameter in half.parameters():
        nn.init.normal_(parameter, std=0.5)
    orders = {half: [0, 2, 4, 1, 3, 5, 6, 7], interleaved: [0, 3, 1, 4, 2, 5, 6, 7]}
    ids = torch.randint(0, 61, (2, 9))
    for one, other in ((half, interleaved), (interleaved, half)):
        with_other_rows = {
            name: value.unflatten(0, (-1, 8))[:, orders[other]].flatten(0, 1) if is_turned(name) else value
            for name, value in one.state_dict().items()
        }
        other.load_state_dict(with_other_rows)
        expected, got = (each(ids, torch.zeros_like(ids)).logits for each in (one, other))
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def is_turned(name: str) -> bool:
    return any(f".{each}." in name for each in ("q", "k", "q_norm", "k_norm"))


def test_a_class_that_turns_the_other_way_round() -> None:
    from transformers.models.nanochat.modeling_nanochat import apply_rotary_pos_emb

    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 7, 3, 8, dtype=torch.float64)
    cos, sin = rope_angles(torch.arange(7)[None], 8, 100.0, torch.float64)
    both = [torch.cat((each, each), -1)[:, :, 0] for each in (cos, sin)]
    theirs = apply_rotary_pos_emb(q, k, *both, unsqueeze_dim=2)
    ours = [rotate_half(each[..., [4, 5, 6, 7, 0, 1, 2, 3]], cos, sin) for each in (q, k)]
    scores, expected = ((a.transpose(1, 2) @ b.permute(0, 2, 3, 1)) for a, b in (ours, theirs))
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)
    assert (scores - q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).abs().max() > 1e-3
