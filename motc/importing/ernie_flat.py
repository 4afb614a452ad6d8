"""ERNIE-4.5-VL's configuration as its makers publish it, all sizes at the top, as the parts that transformers has.

Which key is which follows the script that transformers converted it with (`convert_ernie4_5_vl_moe_to_hf.py`, in its
first releases with the class), and the makers' own class (`Ernie4_5_VLMoeConfig` in PaddlePaddle/ERNIE). Tensors have
the same names in both.
"""

from __future__ import annotations

from typing import Any

from motc.importing.configuration import Configuration
from motc.schema.values import MAX_LAYERS

MODEL_TYPE = "ernie4_5_moe_vl"

SIZES = """
vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads moe_k
moe_intermediate_size rms_norm_eps
""".split()
"""Keys that must be there, for the makers' class has other sizes where they are not."""

OF_TEXT = "head_dim hidden_act max_position_embeddings rope_scaling use_bias moe_norm_min".split()

ONE_WAY = {
    "moe_use_hard_gate": True,
    "moe_use_aux_free": True,
    "moe_norm_gate_logits": True,
    "moe_gate": "topk",
    "moe_gate_act": "softmax",
    "moe_group_experts": False,
    "moe_use_token_type_bias": False,
    "moe_dense_experts_token_type_id": 3,
    "use_rmsnorm": True,
    "rope_3d": True,
    "freq_allocation": 20,
    "compression_ratio": 1.0,
    "cachekv_quant": False,
    "add_tail_layers": False,
    "mm_vocab_size": 0,
    "num_nextn_predict_layers": 0,
}
"""Keys that have one value in what transformers computes."""

NOTHING = """
im_patch_id max_text_id pixel_hidden_size modality_detach spatial_conv_size temporal_conv_size use_temporal_conv
attention_probs_dropout_prob hidden_dropout_prob moe_dropout_prob moe_all_to_all_dropout moe_capacity moe_fuse_experts
moe_aux_loss_lambda moe_z_loss_lambda moe_orthogonal_loss_lambda moe_group_orthogonal_loss global_aux_loss moe_group
moe_reverse_token_drop moe_use_size_all2all moe_layer_feed_fake_token moe_multimodal_dispatch_use_allgather
sinkhorn_2gate sinkhorn_temp enable_delay_scale_loss enable_mtp_magic_send multi_token_pred_lambda use_recompute_mtp
use_recompute_moe use_recompute_resampler use_recompute_lm_head use_recompute_loss_fn recompute recompute_granularity
recompute_use_reentrant refined_recompute skip_recompute_ops resampler_fuse_rms_norm fuse_rms_norm fuse_ln fuse_swiglu
fuse_rope fuse_linear fuse_softmax_mask fuse_gate_detach_matmul fuse_attn_ffn use_flash_attention use_sparse_flash_attn
use_var_len_flash_attn use_flash_attn_with_mask use_sparse_head_and_loss_fn use_fused_head_and_loss_fn
weight_share_add_bias max_sequence_length ignored_index micro_batch_size num_acc_steps token_balance_loss
token_balance_seqlen pp_seg_method offload_pp_data_chunk_size dpo_config disable_ffn_model_parallel sequence_parallel
""".split()
"""Keys of training, of kernels, of the encoder, and of which tokens are images."""

OF_ENCODER = ("depth", "hidden_size", "hidden_act", "num_heads", "in_channels", "patch_size", "spatial_merge_size")


def is_flat(configuration: Configuration) -> bool:
    """Whether a configuration is in the makers' form."""
    return configuration.values.get("model_type") == MODEL_TYPE and "text_config" not in configuration.values


def in_parts(flat: Configuration) -> Configuration:
    """The same as transformers has it. Raises SpecError, which names a key that it cannot say."""
    values = dict(flat.values)
    text = {key: values.pop(key, None) for key in SIZES}
    for key, value in text.items():
        if value is None:
            flat.refuse(key, value, "a value, in a configuration of this form")
    if type(text["num_hidden_layers"]) is not int or not 1 <= text["num_hidden_layers"] <= MAX_LAYERS:
        flat.refuse("num_hidden_layers", text["num_hidden_layers"], f"1 to {MAX_LAYERS}")
    text |= {key: values.pop(key) for key in OF_TEXT if key in values}
    text["rope_theta"] = values.pop("rope_theta", 500000.0)
    text["moe_num_experts"] = _both(flat, values.pop("moe_num_experts", None))
    text["moe_num_shared_experts"] = values.pop("moe_num_shared_experts", None) or 0
    text["mlp_layer_types"] = _kinds(flat, text["num_hidden_layers"])
    for key in ("model_type", "moe_layer_interval", "moe_layer_start_index", "moe_layer_end_index"):
        values.pop(key)
    if "tie_word_embeddings" not in values:
        flat.refuse("tie_word_embeddings", None, "true or false")
    for key, value in ONE_WAY.items():
        said = values.pop(key, None)
        if said not in (None, value):
            flat.refuse(key, said, repr(value))
    encoder = _encoder(flat)
    whole = {key: value for key, value in values.items() if key not in NOTHING}
    return Configuration(flat.file, {**whole, "text_config": text, "vision_config": encoder})


def _both(flat: Configuration, experts: object) -> int:
    """How many experts text has, and images as many."""
    if isinstance(experts, list) and len(experts) == 2 and experts[0] == experts[1] and type(experts[0]) is int:
        return experts[0]
    flat.refuse("moe_num_experts", experts, "two whole numbers that are the same")


def _kinds(flat: Configuration, layers: int) -> list[str]:
    """Which layers have experts: those from a first to a last one, each so manieth, the same for text and images."""
    every = flat.values.get("moe_layer_interval")
    if type(every) is not int or every < 1:
        flat.refuse("moe_layer_interval", every, "a whole number above 0")
    first, last = (_of_both(flat, key, layers) for key in ("moe_layer_start_index", "moe_layer_end_index"))
    return ["sparse" if (layer + 1) % every == 0 and first <= layer <= last else "dense" for layer in range(layers)]


def _of_both(flat: Configuration, key: str, layers: int) -> int:
    """A layer, of a number or of one for text and one for images: beyond the last it is the last, as -1 is."""
    said = flat.values.get(key)
    both: list[Any] = said if isinstance(said, list) and said else [said]
    if not all(type(each) is int and each >= -1 for each in both):
        flat.refuse(key, said, "whole numbers")
    meant = {layers - 1 if each == -1 else min(each, layers - 1) for each in both}
    if len(meant) > 1:
        flat.refuse(key, said, "the same layer for text and images")
    return meant.pop()


def _encoder(flat: Configuration) -> dict[str, Any]:
    """The encoder, of which motc reads nothing, but transformers does where logits are compared."""
    said = flat.values.get("vision_config") or {}
    if not isinstance(said, dict):
        flat.refuse("vision_config", said, "an object")
    encoder = {key: said[key] for key in OF_ENCODER if key in said}
    width, ratio = said.get("hidden_size"), said.get("mlp_ratio")
    if isinstance(width, int) and isinstance(ratio, int):
        encoder["intermediate_size"] = width * ratio
    for ours, theirs in (("spatial_merge_size", "spatial_conv_size"), ("temporal_merge_size", "temporal_conv_size")):
        if theirs in flat.values:
            encoder[ours] = flat.values[theirs]
    return encoder
