"""A row of the table: a class of transformers, and what all classes have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motc.importing.rows import Key, Only, Row
from motc.resources import specs_folder
from motc.schema.values import MAX_LAYERS

ACTIVATIONS = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_new": "geglu_tanh",
    "gelu": "geglu",
    "relu": "reglu",
    "relu2": "reglu2",
    "quick_gelu": "quick_geglu",
}
"""Activations by what they make of a feed-forward with a gate."""

PLAIN_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}
"""And of one without."""

GEMMA_ACTIVATIONS = {"gelu_pytorch_tanh": "geglu_tanh", "gelu": "geglu_tanh"}
"""Gemma 1's, whose first configurations say `gelu` and mean the other."""

NOTHING = frozenset(
    """
    architectures _class_name _diffusers_version auto_map model_type transformers_version torch_dtype dtype
    _name_or_path name_or_path _model_name_or_path
    use_cache initializer_range max_position_embeddings model_max_length pretraining_tp cache_implementation
    output_router_logits output_attentions output_hidden_states return_dict return_dict_in_generate output_scores
    attn_implementation _attn_implementation_autoset experts_implementation torchscript use_bfloat16
    chunk_size_feed_forward id2label label2id problem_type finetuning_task task_specific_params prefix pruned_heads
    _sliding_window_pattern tokenizer_class is_llama_config transformers.js_config unsloth_version unsloth_fixed
    max_window_layers
    bad_words_ids begin_suppress_tokens decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty
    max_length min_length max_new_tokens no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    remove_invalid_values repetition_penalty suppress_tokens temperature tf_legacy_loss top_k top_p typical_p
    tie_encoder_decoder
    """.split()
)
"""Keys that change nothing that a model computes: names, dtypes, the first weights, how text is generated."""

TOKENS = ("_token_id", "_token_ids", "_token_index", "_token")
"""How keys end that name tokens."""


ALWAYS = tuple(Only(name=name, value=False) for name in ("is_encoder_decoder", "is_decoder", "add_cross_attention"))
"""What every part of a configuration may say, and must not."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A class, by its name in a configuration's `architectures` or `_class_name`, and the mapping file of its tensors.

    `inside` is the part of the configuration that `rows` are about, if that is not all of it; `outer` are about the
    whole. `said_of_encoders` are parts that describe what is no part of the model. `modality` is that of text, None
    for a class without logits, and `token_type` what the class wants to be told of its tokens. `otherwise` is the row
    of configurations whose values it is true of.
    """

    name: str
    mapping: str
    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    inside: str = ""
    outer: tuple[Row, ...] = ()
    said_of_encoders: tuple[str, ...] = ()
    modality: str | None = "text"
    token_type: int | None = None
    otherwise: tuple[Callable[[Mapping[str, Any]], bool], Architecture] | None = None

    @property
    def mapping_file(self) -> Path:
        """Which of its tensors is which parameter."""
        return specs_folder() / "gallery" / "mappings" / f"{self.mapping}.yaml"


def sizes(
    vocab: int, width: int, hidden: int, layers: int, heads: int, kv_heads: int | None, vocab_is: str = "vocab"
) -> tuple[Row, ...]:
    """The rows that all have, with the class's own sizes."""
    return (
        Key(name="vocab_size", default=vocab, ours=vocab_is),
        Key(name="hidden_size", default=width, ours="width"),
        Key(name="intermediate_size", default=hidden, ours="ffn.hidden"),
        Key(name="num_hidden_layers", default=layers, ours="layers", most=MAX_LAYERS),
        Key(name="num_attention_heads", default=heads, ours="attention.heads"),
        Key(name="num_key_value_heads", default=kv_heads, ours="attention.kv_heads", may_be_null=True),
    )


def head_dim(default: int | None = None) -> Row:
    return Key(name="head_dim", default=default, ours="attention.head_dim", may_be_null=True)


def rms_eps(default: float) -> Row:
    return Key(name="rms_norm_eps", default=default, ours="norm.eps", kind=float)


def layer_eps(default: float) -> Row:
    return Key(name="layer_norm_eps", default=default, ours="norm.eps", kind=float)


def tied(default: bool) -> Row:
    return Key(name="tie_word_embeddings", default=default, ours="embedding.tied", kind=bool)


def bias(name: str, ours: str, default: bool = False) -> Row:
    return Key(name=name, default=default, ours=ours, kind=bool)


def word(name: str, ours: str, default: str, values: Mapping[Any, Any]) -> Row:
    return Key(name=name, default=default, ours=ours, kind=str, values=values)


def number(name: str, ours: str, default: float | None = None) -> Row:
    return Key(name=name, default=default, ours=ours, kind=float, may_be_null=True)
