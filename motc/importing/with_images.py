"""The table: classes with images, whose sizes are mostly in a part of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motc.importing.architecture import Architecture, head_dim, rms_eps, sizes
from motc.importing.by_layer import CrossLayers, WindowByLayer
from motc.importing.mixtures import ErnieLayers
from motc.importing.parts import Copied, In, LastLayers, Tied
from motc.importing.rotary import Rope
from motc.importing.rows import Key, Noted, Only, Passed, Row
from motc.importing.shared_rows import (
    ATTENTION_BIAS,
    BIASES,
    BOTH_NORMS,
    DROPOUT,
    EXPERTS,
    GEMMA,
    GEMMA_1,
    GEMMA_3,
    INTERLEAVED,
    MIXTURE,
    QWEN_BIASES,
    SILU,
    experts,
    last_rows,
    of_token,
)

TEXT_AND_GRIDS = {
    "modalities.text": {},
    "modalities.image.features.projector": "none",
    "modalities.image.positions.kind": "grid",
}

MLLAMA: Mapping[str, Any] = {
    "modalities.image.positions.kind": "same",
    "modalities.image.positions.advance": 0,
    "modalities.text": {},
    "modalities.mark.vocab": 8,
    "modalities.mark.weight": 0,
    "towers.images": {"modalities": ["image"], "attention": "none", "ffn": "none"},
    "towers.language.modalities": ["text", "mark"],
    "untie": [{"groups": ["*"]}],
}
"""Llama 3.2 Vision's: images have keys and values in some layers, and tokens that are never said rows of the table."""

MLLAMA_ROWS = (
    *sizes(128256, 4096, 14336, 40, 32, 8, vocab_is="modalities.text.vocab"),
    rms_eps(1e-5),
    SILU,
    Noted(name="dropout"),
    Rope(theta=500000.0),
    CrossLayers(default=(3, 8, 13, 18, 23, 28, 33, 38)),
)


UNTIED = Only(name="tie_word_embeddings", value=False)
"""Its table has more rows than its head."""


def size_of_vectors(name: str, default: int) -> Row:
    """The key of the encoder that says how large the vectors are which it makes of an image."""
    return In(part="vision_config", row=Key(name=name, default=default, ours="modalities.image.features.size"))


WITH_IMAGES = (
    Architecture(
        name="ChameleonForConditionalGeneration",
        mapping="chameleon",
        settings={
            "modalities.text": {},
            "modalities.image": {},
            "attention.qk_norm": "layer",
            "attention.qk_norm_eps": 1e-5,
        },
        rows=(
            *sizes(65536, 4096, 11008, 32, 32, 32),
            rms_eps(1e-5),
            SILU,
            Only(name="swin_norm", value=False),
            Only(name="model_parallel_size", value=1),
            *BIASES,
            *last_rows(),
        ),
        said_of_encoders=("vq_config", "vocabulary_map"),
    ),
    Architecture(
        name="Emu3ForConditionalGeneration",
        mapping="emu3",
        settings={"modalities.text": {}, "modalities.image": {}, "modalities.video": {}},
        inside="text_config",
        rows=(
            *sizes(184622, 4096, 14336, 32, 32, 8),
            rms_eps(1e-5),
            SILU,
            *BIASES,
            Noted(name="attention_dropout", default=0.1),
            Rope(theta=1000000.0),
        ),
        outer=(Tied(default=False),),
        said_of_encoders=("vq_config", "vocabulary_map"),
    ),
    Architecture(
        name="Qwen2_5_VLForConditionalGeneration",
        mapping="qwen2_vl",
        settings={**TEXT_AND_GRIDS, **QWEN_BIASES},
        inside="text_config",
        rows=(
            *sizes(152064, 8192, 29568, 80, 64, 8),
            rms_eps(1e-5),
            SILU,
            DROPOUT,
            Rope(theta=1000000.0, needs_sections=True),
            WindowByLayer(default=4096, switch="use_sliding_window", first=("max_window_layers", 80)),
        ),
        outer=(
            size_of_vectors("out_hidden_size", 3584),
            Tied(default=False),
        ),
        said_of_encoders=("vision_config",),
    ),
    Architecture(
        name="Qwen3VLForConditionalGeneration",
        mapping="qwen3_vl",
        settings={**TEXT_AND_GRIDS, "attention.qk_norm": "rms"},
        inside="text_config",
        rows=(
            *sizes(151936, 4096, 22016, 32, 32, 32),
            head_dim(128),
            rms_eps(1e-6),
            SILU,
            ATTENTION_BIAS,
            DROPOUT,
            Rope(theta=500000.0, sections=(24, 20, 20), arrangement="interleaved"),
        ),
        outer=(
            size_of_vectors("out_hidden_size", 3584),
            In(part="vision_config", row=LastLayers(name="deepstack_visual_indexes", default=(8, 16, 24))),
            Tied(default=False),
        ),
        said_of_encoders=("vision_config",),
    ),
    Architecture(
        name="Ernie4_5_VLMoeForConditionalGeneration",
        mapping="ernie4_5_vl",
        settings={
            **TEXT_AND_GRIDS,
            "modalities.boundary": {},
            **INTERLEAVED,
            **MIXTURE,
            "ffn.correction": True,
            "towers.vision.modalities": ["image", "boundary"],
        },
        inside="text_config",
        rows=(
            *sizes(103424, 2560, 12288, 28, 20, 4),
            rms_eps(1e-5),
            EXPERTS,
            Only(name="use_bias", value=False),
            of_token(6, "moe_k"),
            experts("moe_num_experts", 64),
            Key(name="moe_num_shared_experts", default=2, ours="ffn.shared_experts"),
            ErnieLayers(default=(1536, 512)),
            Only(name="moe_norm_min", value=1e-12),
            Noted(
                name="router_aux_loss_coef", default=0.001, told="motc has no balance loss where routers are corrected"
            ),
            Copied(of="width", ours="modalities.image.features.size"),
            Rope(theta=500000.0, sections=(22, 22, 20), arrangement="spatial_first"),
        ),
        outer=(Tied(default=True),),
        said_of_encoders=("vision_config",),
    ),
    Architecture(
        name="PaliGemmaForConditionalGeneration",
        mapping="paligemma",
        settings={
            "modalities.answer": {},
            "modalities.image": {},
            "modalities.question.seen_targets": False,
            "positions.first": 1,
            "attention.mask": {"kind": "prefix", "prefix": ["image", "question"]},
            **GEMMA,
        },
        inside="text_config",
        rows=(
            *sizes(257152, 2048, 16384, 18, 8, 1),
            *GEMMA_1,
            Only(name="model_type", value="gemma"),
            Only(name="use_bidirectional_attention", value=True),
            Passed(names=("num_image_tokens",)),
        ),
        outer=(
            size_of_vectors("hidden_size", 1152),
            Passed(names=("projection_dim", "hidden_size", "vocab_size")),
            Tied(default=True),
        ),
        said_of_encoders=("vision_config",),
        modality="answer",
        token_type=1,
    ),
    Architecture(
        name="Gemma3ForConditionalGeneration",
        mapping="gemma3_vl",
        settings={
            "modalities.text": {},
            "modalities.image": {},
            "modalities.image.features.projector.bias": False,
            "modalities.image.features.projector.norm.kind": "rms",
            "modalities.image.features.projector.norm.offset": 1,
            "attention.mask": {"kind": "causal", "bidirectional": "image"},
            "attention.qk_norm": "rms",
            **GEMMA,
            **BOTH_NORMS,
        },
        inside="text_config",
        rows=(*sizes(262208, 2304, 9216, 26, 8, 4), *GEMMA_3),
        outer=(
            size_of_vectors("hidden_size", 768),
            In(
                part="vision_config",
                row=Key(
                    name="layer_norm_eps", default=1e-6, ours="modalities.image.features.projector.norm.eps", kind=float
                ),
            ),
            Passed(names=("mm_tokens_per_image",)),
            Tied(default=True),
        ),
        said_of_encoders=("vision_config",),
    ),
    Architecture(
        name="MllamaForConditionalGeneration",
        mapping="mllama",
        settings=MLLAMA,
        inside="text_config",
        rows=MLLAMA_ROWS,
        outer=(size_of_vectors("vision_output_dim", 7680), UNTIED),
        said_of_encoders=("vision_config",),
    ),
    Architecture(
        name="MllamaForCausalLM",
        mapping="mllama_text",
        settings={**MLLAMA, "modalities.image.features.projector": "none"},
        rows=(*MLLAMA_ROWS, Copied(of="width", ours="modalities.image.features.size"), UNTIED),
    ),
)
