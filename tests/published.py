"""The published configurations of the gallery's originals, as far as parameters or results follow from them."""

from __future__ import annotations

from dataclasses import replace

from tests.originals import Original, sizes
from tests.published_low_rank import OF_LOW_RANK
from tests.sights import ernie_vl, gemma3_vl, paligemma, qwen_vl

QWEN_TOKENS = {"image_token_id": 60, "video_token_id": 59, "vision_start_token_id": 58, "vision_end_token_id": 57}

GEMMA = {"width": 64, "attention.head_dim": 16}
"""Small sizes of which the root of the width is a float32 number, as embeddings are scaled with one."""

ENCODER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}

ORIGINALS = (
    Original(
        spec="llama_3_2_1b",
        architecture="LlamaForCausalLM",
        mapping="llama",
        config=sizes(
            (128256, 2048, 8192, 16, 32, 8),
            head_dim=64,
            rope_theta=500000.0,
            rope_scaling={
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            rms_norm_eps=1e-05,
            tie_word_embeddings=True,
        ),
        small={"attention.head_dim": 16},
    ),
    Original(
        spec="smollm2_135m",
        architecture="LlamaForCausalLM",
        mapping="llama",
        config=sizes((49152, 576, 1536, 30, 9, 3), rope_theta=100000.0, rms_norm_eps=1e-05, tie_word_embeddings=True),
        small={"attention.heads": 6, "attention.kv_heads": 3, "width": 48},
    ),
    Original(
        spec="smollm3_3b",
        architecture="SmolLM3ForCausalLM",
        mapping="llama",
        config=sizes(
            (128256, 2048, 11008, 36, 16, 4),
            rope_theta=5000000.0,
            no_rope_layer_interval=4,
            rms_norm_eps=1e-06,
            tie_word_embeddings=True,
        ),
        small={"layers": 4},
        small_config={"pad_token_id": 0},
    ),
    Original(
        spec="qwen2_5_0_5b",
        architecture="Qwen2ForCausalLM",
        mapping="llama",
        config=sizes(
            (151936, 896, 4864, 24, 14, 2), rope_theta=1000000.0, rms_norm_eps=1e-06, tie_word_embeddings=True
        ),
    ),
    Original(
        spec="qwen2_5_7b",
        architecture="Qwen2ForCausalLM",
        mapping="llama",
        config=sizes(
            (152064, 3584, 18944, 28, 28, 4), rope_theta=1000000.0, rms_norm_eps=1e-06, tie_word_embeddings=False
        ),
    ),
    Original(
        spec="qwen3_0_6b",
        architecture="Qwen3ForCausalLM",
        mapping="llama",
        config=sizes(
            (151936, 1024, 3072, 28, 16, 8),
            head_dim=128,
            rope_theta=1000000.0,
            rms_norm_eps=1e-06,
            tie_word_embeddings=True,
        ),
        small={"attention.head_dim": 16},
    ),
    Original(
        spec="qwen3_8b",
        architecture="Qwen3ForCausalLM",
        mapping="llama",
        config=sizes(
            (151936, 4096, 12288, 36, 32, 8),
            head_dim=128,
            rope_theta=1000000.0,
            rms_norm_eps=1e-06,
            tie_word_embeddings=False,
        ),
        small={"attention.head_dim": 16},
    ),
    Original(
        spec="qwen3_30b_a3b",
        architecture="Qwen3MoeForCausalLM",
        mapping="qwen3_moe",
        config=sizes(
            (151936, 2048, 6144, 48, 32, 4),
            moe_intermediate_size=768,
            head_dim=128,
            num_experts=128,
            num_experts_per_tok=8,
            norm_topk_prob=True,
            rope_theta=1000000.0,
            rms_norm_eps=1e-06,
            tie_word_embeddings=False,
        ),
        small={"attention.head_dim": 16, "ffn.experts": 5, "ffn.top_k": 2, "ffn.hidden": 24},
        keys={"ffn.hidden": "moe_intermediate_size", "ffn.experts": "num_experts"},
    ),
    Original(
        spec="gpt_oss_20b",
        architecture="GptOssForCausalLM",
        mapping="gpt_oss",
        config=sizes(
            (201088, 2880, 2880, 24, 64, 8),
            head_dim=64,
            num_local_experts=32,
            num_experts_per_tok=4,
            router_aux_loss_coef=0.9,
            sliding_window=128,
            rms_norm_eps=1e-05,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 32.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 4096,
            },
        ),
        small={"attention.head_dim": 16, "attention.window": 4, "ffn.experts": 5, "ffn.top_k": 2},
        keys={"attention.window": "sliding_window"},
    ),
    Original(
        spec="pythia_1_4b",
        architecture="GPTNeoXForCausalLM",
        mapping="gpt_neox",
        config=sizes((50304, 2048, 8192, 24, 16, 16), rotary_pct=0.25, rotary_emb_base=10000, layer_norm_eps=1e-5),
        small={"width": 64, "attention.kv_heads": None},
        small_config={"num_key_value_heads": 4},
    ),
    Original(
        spec="command_r_35b",
        architecture="CohereForCausalLM",
        mapping="cohere",
        config=sizes((256000, 8192, 22528, 40, 64, 64), rope_theta=8000000.0, logit_scale=0.0625, layer_norm_eps=1e-5),
        small={"attention.kv_heads": 4},
    ),
    Original(
        spec="command_r_plus_104b",
        architecture="CohereForCausalLM",
        mapping="cohere",
        config=sizes((256000, 12288, 33792, 64, 96, 8), rope_theta=75000000.0, logit_scale=0.8333333333333334)
        | {"layer_norm_eps": 1e-5, "use_qk_norm": True},
    ),
    Original(
        spec="mistral_7b",
        architecture="MistralForCausalLM",
        mapping="llama",
        config=sizes((32000, 4096, 14336, 32, 32, 8), rope_theta=10000.0, rms_norm_eps=1e-5, sliding_window=4096),
        small={"attention.window": 4},
        keys={"attention.window": "sliding_window"},
    ),
    Original(
        spec="phi3_mini",
        architecture="Phi3ForCausalLM",
        mapping="phi3",
        config=sizes((32064, 3072, 8192, 32, 32, 32), rope_theta=10000.0, rms_norm_eps=1e-5, sliding_window=2047),
        small={"attention.window": 4, "attention.kv_heads": 4},
        small_config={"pad_token_id": 0},
        keys={"attention.window": "sliding_window"},
    ),
    Original(
        spec="mixtral_8x7b",
        architecture="MixtralForCausalLM",
        mapping="mixtral",
        config=sizes(
            (32000, 4096, 14336, 32, 32, 8),
            num_local_experts=8,
            num_experts_per_tok=2,
            router_aux_loss_coef=0.02,
            rope_theta=1000000.0,
            rms_norm_eps=1e-05,
            sliding_window=None,
            tie_word_embeddings=False,
        ),
        small={"ffn.experts": 4},
    ),
    Original(
        spec="chameleon_7b",
        architecture="ChameleonForConditionalGeneration",
        mapping="chameleon",
        config=sizes(
            (65536, 4096, 11008, 32, 32, 32),
            rope_theta=10000.0,
            rms_norm_eps=1e-05,
            swin_norm=False,
            tie_word_embeddings=False,
            vocabulary_map={"<image>": 8711},
        ),
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
            "text_config": sizes((184622, 4096, 14336, 32, 32, 8), rope_theta=1000000.0, rms_norm_eps=1e-05),
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
    Original(
        spec="qwen2_5_vl_7b",
        architecture="Qwen2_5_VLForConditionalGeneration",
        mapping="qwen2_vl",
        config={
            "text_config": sizes(
                (152064, 3584, 18944, 28, 28, 4),
                rope_theta=1000000.0,
                rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]},
                rms_norm_eps=1e-6,
            ),
            "vision_config": {"hidden_size": 1280, "out_hidden_size": 3584},
            "tie_word_embeddings": False,
        },
        small={"width": 256, "attention.heads": 2, "attention.kv_heads": 1, "modalities.image.features.size": 256},
        small_config={
            **QWEN_TOKENS,
            "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
            | {"out_hidden_size": 256, "fullatt_block_indexes": [0]},
        },
        inside="text_config",
        batch=qwen_vl,
    ),
    Original(
        spec="qwen3_vl_8b",
        architecture="Qwen3VLForConditionalGeneration",
        mapping="qwen3_vl",
        config={
            "text_config": sizes(
                (151936, 4096, 12288, 36, 32, 8),
                head_dim=128,
                rope_theta=5000000.0,
                rope_scaling={"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True},
                rms_norm_eps=1e-6,
            ),
            "vision_config": {"hidden_size": 1152, "out_hidden_size": 4096},
            "tie_word_embeddings": False,
        },
        small={
            "attention.heads": 2,
            "attention.kv_heads": 1,
            "attention.head_dim": 128,
            "modalities.image.features.size": 32,
            "layers": 4,
        },
        small_config={
            **QWEN_TOKENS,
            "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
            | {"out_hidden_size": 32, "deepstack_visual_indexes": [], "num_position_embeddings": 16},
        },
        inside="text_config",
        batch=qwen_vl,
    ),
    Original(
        spec="ernie_4_5_vl_28b_a3b",
        architecture="Ernie4_5_VLMoeForConditionalGeneration",
        mapping="ernie4_5_vl",
        config={
            "text_config": sizes(
                (103424, 2560, 12288, 28, 20, 4),
                rope_theta=500000.0,
                rope_scaling={"rope_type": "default", "mrope_section": [22, 22, 20]},
                rms_norm_eps=1e-5,
                moe_intermediate_size=[1536, 512],
                moe_k=6,
                moe_num_experts=64,
                moe_num_shared_experts=2,
                tie_word_embeddings=True,
            ),
            "tie_word_embeddings": True,
        },
        small={
            "width": 256,
            "layers": 3,
            "attention.heads": 2,
            "attention.kv_heads": 1,
            "modalities.image.features.size": 256,
            "ffn.hidden": 24,
            "ffn.experts": 4,
            "ffn.top_k": 2,
            "ffn.shared_hidden": 24,
            "towers.vision.ffn.hidden": 16,
        },
        small_config={
            "image_token_id": 60,
            "video_token_id": 59,
            "text_config": {"moe_intermediate_size": [24, 16]},
            "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2},
        },
        keys={"ffn.experts": "moe_num_experts", "ffn.top_k": "moe_k", "ffn.hidden": "unused"},
        inside="text_config",
        batch=ernie_vl,
    ),
    Original(
        spec="gemma_2_2b",
        architecture="Gemma2ForCausalLM",
        mapping="gemma",
        config=sizes((256000, 2304, 9216, 26, 8, 4), head_dim=256, query_pre_attn_scalar=256, sliding_window=4096)
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "rope_theta": 10000.0},
        small={**GEMMA, "attention.window": 4},
        keys={"attention.window": "sliding_window"},
    ),
    Original(
        spec="gemma_3_1b",
        architecture="Gemma3ForCausalLM",
        mapping="gemma",
        config=sizes((262144, 1152, 6912, 26, 4, 1), head_dim=256, query_pre_attn_scalar=256, sliding_window=512)
        | {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6},
        small={**GEMMA, "layers": 7, "attention.window": 4},
        keys={"attention.window": "sliding_window"},
    ),
    Original(
        spec="gemma_3_4b",
        architecture="Gemma3ForConditionalGeneration",
        mapping="gemma3_vl",
        config={
            "text_config": sizes((262208, 2560, 10240, 34, 8, 4), head_dim=256, query_pre_attn_scalar=256)
            | {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6}
            | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 1024},
            "vision_config": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "vision_use_head": False,
            }
            | {"num_attention_heads": 16, "image_size": 896, "patch_size": 14},
        },
        small={**GEMMA, "layers": 7, "attention.window": 3, "modalities.image.features.size": 32},
        small_config={
            "image_token_index": 60,
            "boi_token_index": 58,
            "eoi_token_index": 59,
            "mm_tokens_per_image": 4,
            "vision_config": {**ENCODER, "image_size": 4, "patch_size": 2},
        },
        keys={"attention.window": "sliding_window"},
        inside="text_config",
        batch=gemma3_vl,
    ),
    Original(
        spec="paligemma_3b",
        architecture="PaliGemmaForConditionalGeneration",
        mapping="paligemma",
        config={
            "text_config": sizes((257216, 2048, 16384, 18, 8, 1), model_type="gemma", head_dim=256),
            "vision_config": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "vision_use_head": False,
            }
            | {"num_attention_heads": 16, "image_size": 224, "patch_size": 14, "model_type": "siglip_vision_model"}
            | {"projection_dim": 2048},
            "image_token_index": 257152,
        },
        small={**GEMMA, "attention.kv_heads": 1, "modalities.image.features.size": 32},
        small_config={
            "image_token_index": 60,
            "projection_dim": 64,
            "vision_config": {**ENCODER, "image_size": 4, "patch_size": 2, "projection_dim": 64},
        },
        inside="text_config",
        batch=paligemma,
    ),
    *OF_LOW_RANK,
)

LLAMA_VISION = Original(
    spec="llama_3_2_vision_11b",
    architecture="MllamaForConditionalGeneration",
    mapping="mllama",
    config={
        "text_config": sizes(
            (128256, 4096, 14336, 40, 32, 8),
            cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38],
            rope_theta=500000.0,
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            rms_norm_eps=1e-05,
            tie_word_embeddings=False,
        ),
        "vision_config": {"vision_output_dim": 7680},
    },
    small={"vocab": None, "modalities.text.vocab": 61, "modalities.image.features.size": 48, "layers": 9},
    small_config={
        "text_config": {"cross_attention_layers": [3, 8], "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        "image_token_index": 60,
        "vision_config": {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "intermediate_size": 16,
            "vision_output_dim": 48,
            "image_size": 28,
            "intermediate_layers_indices": [0, 1],
        },
    },
    keys={"modalities.text.vocab": "vocab_size"},
    inside="text_config",
)
"""Held against the original in `test_crossing.py`, for its images are no tokens there."""

ITS_LANGUAGE_MODEL = replace(
    LLAMA_VISION,
    architecture="MllamaForCausalLM",
    mapping="mllama_text",
    config=LLAMA_VISION.config["text_config"],
    small_config=LLAMA_VISION.small_config["text_config"],
    inside="",
)
"""By itself, given vectors of its own width: another spec than the gallery's, in which they are projected."""

FOLDERS = (*ORIGINALS, LLAMA_VISION, ITS_LANGUAGE_MODEL)
"""Those of which folders come in."""
