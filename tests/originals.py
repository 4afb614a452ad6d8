"""The originals of the gallery's specs: classes of transformers, published configurations, and small sizes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from motc.driver import check_spec
from motc.schema import Checked
from motc.weights import WeightMapping, read_mapping

GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"

CONFIG_KEYS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "vocab": "vocab_size",
    "attention.heads": "num_attention_heads",
    "attention.kv_heads": "num_key_value_heads",
    "attention.head_dim": "head_dim",
    "ffn.hidden": "intermediate_size",
    "ffn.experts": "num_local_experts",
    "ffn.top_k": "num_experts_per_tok",
}
"""What a configuration calls a key of the language, where an original does not say otherwise."""

SMALL: dict[str, Any] = {
    "width": 32,
    "layers": 2,
    "vocab": 61,
    "attention.heads": 4,
    "attention.kv_heads": 2,
    "ffn.hidden": 48,
}
"""The sizes that a spec is set to, where an original does not say otherwise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """A spec of the gallery beside the class of transformers that it is.

    `config` is the published configuration, as far as parameters or results follow from it. `small` sets further keys
    of the spec and `small_config` of the configuration, which takes those of the spec by `CONFIG_KEYS` and `keys`.
    `inside` is the part of the configuration that has the sizes, where it is not all of it.
    """

    spec: str
    architecture: str
    mapping: str
    config: Mapping[str, Any]
    small: Mapping[str, Any] = field(default_factory=dict)
    small_config: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""

    @property
    def path(self) -> Path:
        return GALLERY / f"{self.spec}.mot"

    @cached_property
    def weights(self) -> WeightMapping:
        return read_mapping(GALLERY / "mappings" / f"{self.mapping}.yaml")

    @property
    def overrides(self) -> dict[str, Any]:
        """What makes the spec small."""
        return {key: value for key, value in {**SMALL, **self.small}.items() if value is not None}

    @cached_property
    def checked(self) -> Checked:
        """The spec made small; of statements about layers what is about those that there are."""
        checked = check_spec(self.path, self.overrides)
        last = checked.spec.layers - 1
        statements = [
            each.model_copy(update={"layers": each.layers._replace(last=min(each.layers.last, last))})
            for each in checked.spec.by_layer
            if each.layers.first <= last
        ]
        return Checked(checked.spec.model_copy(update={"by_layer": statements}), checked.tree)

    def made(self, *, small: bool, attention: str = "eager", experts: str | None = "eager") -> Any:
        """The original, at its published size or small, with these implementations of transformers."""
        import transformers

        config = merged(self.config, {"attn_implementation": attention, "experts_implementation": experts})
        if small:
            keys = {**CONFIG_KEYS, **self.keys}
            sizes = {keys[key]: value for key, value in self.overrides.items() if key in keys}
            sizes["max_position_embeddings"] = 1024
            config = merged(merged(config, {self.inside: sizes} if self.inside else sizes), self.small_config)
        kind: Any = getattr(transformers, self.architecture)
        return kind(kind.config_class(**config)).eval()

    def tensors(self, theirs: Any, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the class's parameters, or gradients, under the names and in the form that checkpoints have."""
        from transformers.core_model_loading import revert_weight_conversion

        reverted: dict[str, Tensor] = revert_weight_conversion(theirs, dict(values))
        return reverted


def merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the values of another in place of its own, within its parts too."""
    both = {**base, **other}
    return {key: merged(base[key], of) if isinstance(of, dict) and key in base else of for key, of in both.items()}


class NothingNarrowed(TorchFunctionMode):
    """What is float64 stays so where code asks for float32, such as norms, softmax and routers of transformers.

    Rotary angles begin as integers and are float32 as before.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if function is Tensor.float:
                return args[0]
            if kwargs.get("dtype") == torch.float32:
                kwargs["dtype"] = torch.float64
            args = tuple(torch.float64 if each is torch.float32 else each for each in args)
        return function(*args, **kwargs)


def widened(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """How an original is run in `dtype`."""
    from contextlib import nullcontext

    return NothingNarrowed() if dtype == torch.float64 else nullcontext()


def as_parameters(module: nn.Module, dtype: torch.dtype) -> None:
    """Parameters in `dtype`; buffers, such as rotary frequencies, stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)


ORIGINALS = (
    Original(
        spec="llama_3_2_1b",
        architecture="LlamaForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
        small={"attention.head_dim": 16},
    ),
    Original(
        spec="smollm2_135m",
        architecture="LlamaForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "rope_theta": 100000.0,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
        small={"attention.heads": 6, "attention.kv_heads": 3, "width": 48},
    ),
    Original(
        spec="smollm3_3b",
        architecture="SmolLM3ForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "rope_theta": 5000000.0,
            "no_rope_layer_interval": 4,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
        small={"layers": 4},
        small_config={"pad_token_id": 0},
    ),
    Original(
        spec="qwen2_5_0_5b",
        architecture="Qwen2ForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
    ),
    Original(
        spec="qwen2_5_7b",
        architecture="Qwen2ForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        },
    ),
    Original(
        spec="qwen3_0_6b",
        architecture="Qwen3ForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 151936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
        small={"attention.head_dim": 16},
    ),
    Original(
        spec="qwen3_8b",
        architecture="Qwen3ForCausalLM",
        mapping="llama",
        config={
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        },
        small={"attention.head_dim": 16},
    ),
    Original(
        spec="qwen3_30b_a3b",
        architecture="Qwen3MoeForCausalLM",
        mapping="qwen3_moe",
        config={
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        },
        small={"attention.head_dim": 16, "ffn.experts": 5, "ffn.top_k": 2, "ffn.hidden": 24},
        keys={"ffn.hidden": "moe_intermediate_size", "ffn.experts": "num_experts"},
    ),
    Original(
        spec="mixtral_8x7b",
        architecture="MixtralForCausalLM",
        mapping="mixtral",
        config={
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "tie_word_embeddings": False,
        },
        small={"ffn.experts": 4},
    ),
    Original(
        spec="chameleon_7b",
        architecture="ChameleonForConditionalGeneration",
        mapping="chameleon",
        config={
            "vocab_size": 65536,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-5,
            "swin_norm": False,
            "tie_word_embeddings": False,
            "vocabulary_map": {"<image>": 8711},
        },
        small={"attention.kv_heads": 4},
        small_config={
            "vocabulary_map": {"<image>": 60, "IMGIMGAZ": 58},
            "vq_config": {
                "base_channels": 32,
                "channel_multiplier": [1],
                "num_res_blocks": 1,
                "latent_channels": 32,
                "embed_dim": 8,
                "num_embeddings": 4,
                "resolution": 8,
            },
        },
    ),
    Original(
        spec="emu3_8b",
        architecture="Emu3ForConditionalGeneration",
        mapping="emu3",
        config={
            "text_config": {
                "vocab_size": 184622,
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "rope_theta": 1000000.0,
                "rms_norm_eps": 1e-5,
            },
            "vocabulary_map": {"<image>": 151859},
        },
        inside="text_config",
        small_config={
            "text_config": {"pad_token_id": 0},
            "vocabulary_map": {"<image>": 60},
            "vq_config": {
                "base_channels": 32,
                "channel_multiplier": [1],
                "num_res_blocks": 1,
                "hidden_size": 32,
                "codebook_size": 4,
                "temporal_downsample_factor": 2,
                "attn_resolutions": [],
            },
        },
    ),
)
