"""Dense specs against models nobody here wrote: Llama, Qwen3, and Chameleon's text decoder (both norm placements).

These compute norm statistics and softmax in float32 also in float64 models; to compare in float64 at tight tolerances,
they are kept from it. Rotary angles are float32 in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import motc
from tests.originals import agree, as_parameters, renamed, widened

transformers = pytest.importorskip("transformers")

COMMON = """
model small {
  width = 48
  layers = 3
  vocab = 61
  modality text
  attention { heads = 4, kv_heads = 2, %s }
  ffn { hidden = 80 }
  norm { eps = 1e-6, placement = %s }
}
"""


def llama() -> nn.Module:
    config = transformers.LlamaConfig(**sizes())
    return transformers.LlamaForCausalLM(config)


def qwen3() -> nn.Module:
    config = transformers.Qwen3Config(**sizes(), head_dim=16)
    return transformers.Qwen3ForCausalLM(config)


def sizes() -> dict[str, Any]:
    return {
        "vocab_size": 61,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "attn_implementation": "eager",
    }


def chameleon(swin: bool) -> nn.Module:
    from transformers.models.chameleon import modeling_chameleon as source

    config = transformers.ChameleonConfig(
        **sizes(), swin_norm=swin, vocabulary_map={"<image>": 4}, attention_bias=False, mlp_bias=False
    )
    layer = source.ChameleonSwinDecoderLayer if swin else source.ChameleonDecoderLayer

    class Decoder(nn.Module):
        """Chameleon without its image tokenizer: embedding, its own layers, norm and head."""

        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Module()
            self.model.embed_tokens = nn.Embedding(61, 48)
            self.model.layers = nn.ModuleList(layer(config, i) for i in range(3))
            self.model.norm = source.ChameleonRMSNorm(48, eps=1e-6)
            self.lm_head = nn.Linear(48, 61, bias=False)
            self.rotary = source.ChameleonRotaryEmbedding(config)

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            x = self.model.embed_tokens(input_ids)
            sequence = input_ids.shape[1]
            position_ids = torch.arange(sequence)[None]
            mask = torch.full((sequence, sequence), -torch.inf, dtype=x.dtype).triu(1)[None, None]
            angles = self.rotary(x, position_ids)
            for decoder_layer in self.model.layers:
                x = decoder_layer(
                    x, attention_mask=mask, position_ids=position_ids, position_embeddings=angles, use_cache=False
                )
                x = x[0] if isinstance(x, tuple) else x
            return type("Output", (), {"logits": self.lm_head(self.model.norm(x))})

    return Decoder()


CASES = {
    "llama": (llama, "rope { theta = 10000 }", "pre"),
    "qwen3": (qwen3, "head_dim = 16, qk_norm = rms", "pre"),
    "chameleon": (lambda: chameleon(False), "qk_norm = layer, qk_norm_eps = 1e-5", "pre"),
    "chameleon_swin": (lambda: chameleon(True), "qk_norm = layer, qk_norm_eps = 1e-5", "sublayer_output"),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
    build, attention, placement = CASES[name]
    torch.manual_seed(0)
    theirs = build().eval()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    spec = tmp_path / "small.mot"
    spec.write_text(COMMON % (attention, placement))
    ours: Any = motc.load(spec, dtype=torch.float64)

    weights = renamed(dict(theirs.named_parameters()))
    parameters = dict(ours.named_parameters())
    assert {key: value.shape for key, value in weights.items()} == {k: v.shape for k, v in parameters.items()}
    ours.load_state_dict(weights)

    input_ids = torch.randint(0, 61, (2, 11))
    with widened(torch.float64):
        expected = theirs(input_ids, use_cache=False).logits
    got = ours(input_ids, torch.zeros_like(input_ids)).logits
    agree(theirs, ours, expected, got)
