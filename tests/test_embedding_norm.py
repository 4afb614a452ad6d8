"""A norm before the first layer: against nanochat and BERT, and of some towers alone, untied or shared."""

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
from tests.originals import agree, as_parameters, renamed, widened

transformers = pytest.importorskip("transformers", minversion="5.0")

NANOCHAT = """
model nanochat {
  width = 32, layers = 2, vocab = 61
  modality text
  attention { heads = 4, kv_heads = 2, qk_norm { kind = rms, weight = false, place = after_rope } }
  ffn { kind = relu2, hidden = 48 }
  norm { kind = rms, weight = false, eps = 1e-6, embedding = true }
  head { softcap = 15 }
}
"""
BERT = """
model bert {
  width = 32, layers = 2, vocab = 61
  modality text
  attention { heads = 4, mask = full, bias = true, rope = none }
  ffn { kind = gelu, hidden = 48, bias = true }
  norm { kind = layer, eps = 1e-12, placement = post, embedding = true }
  positions { learned = 20 }
}
"""
BERTS = {
    "attention.output.LayerNorm": "attention.norm",
    "attention.output.dense": "attention.out",
    "attention.self.query": "attention.q",
    "attention.self.key": "attention.k",
    "attention.self.value": "attention.v",
    "intermediate.dense": "ffn.up",
    "output.LayerNorm": "ffn.norm",
    "output.dense": "ffn.down",
    "encoder.layer": "layers",
    "embeddings.word_embeddings": "embedding",
    "embeddings.position_embeddings": "position_embedding",
    "embeddings.LayerNorm": "embedding_norm",
}


def drawn(module: nn.Module) -> None:
    as_parameters(module, torch.float64)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def turned(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """nanochat rotates the other way: as if halves of heads were swapped."""
    ours = renamed(values)
    names = {name: name.replace("mlp.fc1", "ffn.up").replace("mlp.fc2", "ffn.down") for name in ours}
    swapped = {name for name in ours if name.endswith(("attention.q.weight", "attention.k.weight"))}
    return {
        names[name]: each.unflatten(0, (-1, 2, 4)).flip(1).flatten(0, 2) if name in swapped else each
        for name, each in ours.items()
    }


def test_nanochat() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1}
    config = transformers.NanoChatConfig(**sizes, **heads, eos_token_id=2, attn_implementation="eager")
    theirs: Any = transformers.NanoChatForCausalLM(config).eval()
    drawn(theirs)
    ours: Any = motc.load(NANOCHAT, dtype=torch.float64)
    ours.load_state_dict(turned(dict(theirs.named_parameters())))
    ids = torch.randint(3, 61, (2, 12))
    with widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
    agree(theirs, ours, expected, ours(ids, torch.zeros_like(ids)).logits, turned)
    made = ours.generate(ids, torch.zeros_like(ids), max_new_tokens=8, temperature=0.0).input_ids
    how = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with widened(torch.float64):
        assert torch.equal(made, theirs.generate(ids, max_new_tokens=8, **how)[:, 12:])


def test_bert_up_to_its_head() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.BertConfig(
        **sizes, num_attention_heads=4, max_position_embeddings=20, attn_implementation="eager"
    )
    theirs: Any = transformers.BertModel(config, add_pooling_layer=False).eval()
    drawn(theirs)
    theirs.embeddings.token_type_embeddings.weight.data.zero_()  # all tokens are of one type

    def as_ours(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ours = {}
        for name, each in values.items():
            for old, new in BERTS.items():
                name = name.replace(old, new)
            ours[name] = each
        del ours["embeddings.token_type_embeddings.weight"]
        return ours

    ours: Any = motc.load(BERT, dtype=torch.float64)
    ours.load_state_dict(as_ours(dict(theirs.named_parameters())) | {"head.weight": torch.zeros(61, 32)})
    ours.head = nn.Identity()
    ids = torch.randint(3, 61, (2, 12))
    with widened(torch.float64):
        expected = theirs(ids).last_hidden_state
    agree(theirs, ours, expected, ours(ids, torch.zeros_like(ids)).logits, as_ours, idle=("attention.k.bias",))


SPEC = """
model normed {
  width = 16, layers = 1, vocab = 16
  modality text, image { %s }, state
  attention { heads = 2, kv_heads = 1, head_dim = 8 }
  ffn { hidden = 16 }
  norm { %s }
  tower gen = image { %s }
  untie %s
}
"""
FEATURES = "features { size = 5 }"
LATENT = "latent { channels = 2, patch = 1 }"
WITH = "embedding = true"


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["sorted", "reference", "blend", "grouped"])
@pytest.mark.parametrize("untied", ["attention.q", "norm", "embedding_norm as {text, state} {image}"])
def test_every_law(strategy: Strategy, untied: str) -> None:
    spec = SPEC % (FEATURES, WITH, "", untied)
    one, dense = final_ir(checked(spec), strategy=strategy), final_ir(checked(spec), dense=True)
    obeys_every_law(one, dense, seed=3)
    differ_alike_both_ways(one, dense)
    differ_alike_both_ways(one, final_ir(checked(SPEC % (FEATURES, "kind = layer", "", "ffn"))))


@pytest.mark.laws
@pytest.mark.parametrize("strategy", ["sorted", "blend"])
@pytest.mark.parametrize(
    ("image", "norm", "tower"),
    [
        ("", WITH, "norm { embedding = false }"),
        (LATENT, "", "norm { embedding = true, kind = layer }"),
        (FEATURES, WITH, "width = 24, norm { embedding = false }"),
        (FEATURES, "final = false", "width = 24, norm { embedding = true }"),
    ],
)
def test_of_some_towers_alone(image: str, norm: str, tower: str, strategy: Strategy) -> None:
    spec = SPEC % (image, norm, tower, "*")
    one, dense = final_ir(checked(spec), strategy=strategy), final_ir(checked(spec), dense=True)
    obeys_every_law(one, dense, seed=3)
    differ_alike_both_ways(one, dense)
    assert ("embedding_norm" in {leaf.path for leaf in dense.outer_leaves()}) == (norm == WITH)


def test_tokens_with_and_without_it_share_no_norm() -> None:
    with pytest.raises(SpecError, match=r"MOT046 embedding_norm is shared by text and image.*one of them has none"):
        final_ir(checked(SPEC % ("", WITH, "norm { embedding = false }", "attention")))
    with pytest.raises(SpecError, match=r"MOT056 the grouped strategy cannot run embedding_norm: image has none"):
        final_ir(checked(SPEC % ("", WITH, "norm { embedding = false }", "*")), strategy="grouped")
