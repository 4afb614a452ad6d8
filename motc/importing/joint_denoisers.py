"""The table: classes of diffusers in whose layers words and an image meet, each with parameters of its own or not.

What is drawn in training (`objective`, `times`) is of the published models: a configuration says nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motc.importing.configuration import Configuration
from motc.importing.denoising_rows import (
    CHANNELS,
    CONDITION,
    FOUR_TIMES,
    FULL,
    LATENT,
    Axes,
    Denoiser,
    Heads,
    Packed,
    Same,
    Times,
    Together,
    channels,
    eps,
    layers,
    number,
    numbers,
    patch,
    size_of_words,
    two_kinds,
)
from motc.importing.described import Described
from motc.importing.rows import Key, Only, Passed

PREDICTED: Mapping[str, Any] = {
    "modalities.text": {},
    f"{LATENT}.time": "none",
    f"{CONDITION}.timestep": {},
    **FULL,
    "norm.kind": "layer",
    "norm.weight": False,
}
"""An image behind words, and its timestep."""

FLOW = {**PREDICTED, f"{LATENT}.objective": "flow"}
BY_IMAGE = {"norm.eps": 1e-6, "norm.adaptive": "image"}
WITH_BIASES = {"attention.bias": True, "ffn.kind": "gelu_tanh", "ffn.bias": True}
NORMAL = {f"{LATENT}.times": "logit_normal"}
SHIFTED = {f"{LATENT}.times": {"kind": "logit_normal", "shift_by_tokens": {"kind": "exponential"}}}
TURNED = {"attention.rope.pairing": "interleaved"}
NOT_TURNED = {"attention.rope": "none"}
PLACED = {
    "modalities.text.positions": {"kind": "same", "start": 0},
    "modalities.image.positions": {"kind": "grid", "start": 0},
}
RMS_OF_HEADS = {"attention.qk_norm": "rms"}
NORMED_HEADS = {"attention.qk_norm": {"kind": "layer", "weight": False}}
EACH_ITS_OWN = {"untie": [{"groups": ["*"]}]}
LAYERS_GROUPS = ["attention", "ffn", "norm"]


def sd3(configuration: Configuration, described: Described) -> None:
    """A table of places, of whose middle an image has as much as it needs; the last layer, behind which nothing reads
    words.
    """
    side = number(configuration, "sample_size", 128) // described.settings[f"{LATENT}.patch"]
    crop = number(configuration, "pos_embed_max_size", 96)
    last = {"layers": described.layers - 1, "towers": {"text": {"attention": "keys", "ffn": "none"}}}
    described.settings |= {f"{LATENT}.sine": {"base": side, "crop": crop}, "by_layer": [last]}


def flux(configuration: Configuration, described: Described) -> None:
    """Double blocks and single ones, and whether it is told how strong guidance is."""
    double, single = two_kinds(configuration, described, {"num_layers": 19, "num_single_layers": 38})
    described.settings |= {
        "by_layer": [{"layers": single, "parallel": "one_norm", "attention": {"out_bias": False}}],
        "untie": [{"groups": LAYERS_GROUPS, "layers": double}],
        **(SHIFTED if guided(configuration, described, default=False, told={"scale": 1000}) else NORMAL),
    }


def flux_2(configuration: Configuration, described: Described) -> None:
    """The same, where all layers of a kind have one modulation, and nothing a bias."""
    double, single = two_kinds(configuration, described, {"num_layers": 8, "num_single_layers": 48})
    waves = {"size": number(configuration, "timestep_guidance_channels", 256), "bias": False}
    ratio = configuration.take("mlp_ratio", 3.0)
    if type(ratio) not in (int, float) or not 0 < ratio < 1000:
        configuration.refuse("mlp_ratio", ratio, "a number above 0")
    of_single = {"by": "image", "shared": "one_stream", "bias": False}
    described.settings |= {
        f"{CONDITION}.timestep": waves,
        "ffn.hidden": int(described.settings["width"] * ratio),
        "by_layer": [{"layers": single, "parallel": "one_norm", "norm": {"adaptive": of_single}}],
        "untie": [{"groups": LAYERS_GROUPS, "layers": double}],
    }
    guided(configuration, described, default=True, told={"scale": 1000, **waves})


def guided(configuration: Configuration, described: Described, default: bool, told: dict[str, Any]) -> bool:
    """`guidance_embeds`: whether how strong guidance is is a condition, and which."""
    is_told = configuration.take("guidance_embeds", default)
    if type(is_told) is not bool:
        configuration.refuse("guidance_embeds", is_told, "true or false")
    if is_told:
        described.settings[f"{CONDITION}.number"] = told
    return is_told


def auraflow(configuration: Configuration, described: Described) -> None:
    """Joint blocks and single ones, the size of their feed-forwards, and a table of learnt places."""
    joint, _ = two_kinds(configuration, described, {"num_mmdit_layers": 4, "num_single_dit_layers": 32})
    places = number(configuration, "pos_embed_max_size", 1024)
    rows = round(places**0.5)
    if rows * rows != places:
        configuration.refuse("pos_embed_max_size", places, "a square number")
    described.settings |= {
        "ffn.hidden": -(-(8 * described.settings["width"] // 3) // 256) * 256,
        f"{LATENT}.learned.rows": rows,
        "untie": [{"groups": LAYERS_GROUPS, "as": [["register", "text"], ["image"]], "layers": joint}],
    }
    configuration.pass_over(("sample_size",))


def spread(configuration: Configuration, described: Described) -> None:
    """CogView4's places of an image, which who calls the model gives."""
    half = described.settings["attention.head_dim"] // 2
    described.settings["attention.rope.axes"] = [half, half]
    sides = numbers(configuration, "rope_axes_dim", (256, 256), "two whole numbers")
    told = "positions of an image's patches are row * {} // rows and column * {} // columns, and are to be given so"
    described.notes.append(f"`rope_axes_dim` = {sides}: {told.format(*sides)}")


COGVIEW = (
    Heads(heads=64, head_dim=40),
    layers("num_layers", 30),
    FOUR_TIMES,
    size_of_words("text_embed_dim", 4096),
    channels(16),
    Same(name="out_channels", of=CHANNELS, default=16),
    patch(),
    Key(name="time_embed_dim", default=512, ours=f"{CONDITION}.width"),
    Times(ours=f"{CONDITION}.timestep.size", of="width", by=1),
    Key(name="condition_dim", default=256, ours=f"{CONDITION}.vector.size"),
    Times(ours=f"{CONDITION}.vector.size", of=f"{CONDITION}.vector.size", by=6),
)

JOINT_DENOISERS = (
    Denoiser(
        name="SD3Transformer2DModel",
        mapping="sd3",
        settings={**FLOW, **NORMAL, **BY_IMAGE, **WITH_BIASES, **NOT_TURNED, **EACH_ITS_OWN},
        rows=(
            Heads(heads=18, head_dim=64),
            layers("num_layers", 18),
            FOUR_TIMES,
            size_of_words("joint_attention_dim", 4096),
            Same(name="caption_projection_dim", of="width", default=1152),
            channels(16),
            Same(name="out_channels", of=CHANNELS, default=16),
            patch(),
            Key(name="pooled_projection_dim", default=2048, ours=f"{CONDITION}.vector.size"),
            Key(name="qk_norm", ours="attention.qk_norm", kind=str, may_be_null=True, values={"rms_norm": "rms"}),
            Only(name="dual_attention_layers", value=[]),
            Together(of=sd3),
        ),
    ),
    Denoiser(
        name="FluxTransformer2DModel",
        mapping="flux_1",
        settings={**FLOW, **BY_IMAGE, **WITH_BIASES, **TURNED, **PLACED, **RMS_OF_HEADS, f"{LATENT}.patch": 2},
        rows=(
            Only(name="patch_size", value=1),
            Heads(heads=24, head_dim=128),
            FOUR_TIMES,
            size_of_words("joint_attention_dim", 4096),
            Packed(default=64),
            Same(name="out_channels", of=CHANNELS, by=4),
            Key(name="pooled_projection_dim", default=768, ours=f"{CONDITION}.vector.size"),
            Axes(name="axes_dims_rope", default=(16, 56, 56)),
            Together(of=flux),
        ),
    ),
    Denoiser(
        name="Flux2Transformer2DModel",
        mapping="flux_2",
        settings={
            **FLOW,
            **SHIFTED,
            **TURNED,
            **RMS_OF_HEADS,
            "norm.adaptive": {"by": "image", "shared": "two_streams", "bias": False},
            "modalities.text.features.projector.bias": False,
            f"{LATENT}.patch": 1,
            f"{LATENT}.bias": False,
            "ffn.kind": "swiglu",
        },
        rows=(
            Only(name="patch_size", value=1),
            Heads(heads=48, head_dim=128),
            size_of_words("joint_attention_dim", 15360),
            channels(128),
            Same(name="out_channels", of=CHANNELS),
            Axes(name="axes_dims_rope", default=(32, 32, 32, 32)),
            Key(name="rope_theta", default=2000, ours="attention.rope.theta", kind=float),
            eps("eps", 1e-6),
            Together(of=flux_2),
        ),
    ),
    Denoiser(
        name="QwenImageTransformer2DModel",
        mapping="qwen_image",
        settings={
            **FLOW,
            **NORMAL,
            **BY_IMAGE,
            **WITH_BIASES,
            **TURNED,
            **RMS_OF_HEADS,
            **EACH_ITS_OWN,
            "modalities.text.features.projector.norm": {"kind": "rms", "eps": 1e-6},
            f"{LATENT}.patch": 2,
        },
        rows=(
            Only(name="patch_size", value=2),
            Heads(heads=24, head_dim=128),
            layers("num_layers", 60),
            FOUR_TIMES,
            size_of_words("joint_attention_dim", 3584),
            Packed(default=64),
            Same(name="out_channels", of=CHANNELS, default=16),
            Axes(name="axes_dims_rope", default=(16, 56, 56)),
            Only(name="guidance_embeds", value=False),
            Only(name="zero_cond_t", value=False),
            Only(name="use_additional_t_cond", value=False),
            Only(name="use_layer3d_rope", value=False),
        ),
    ),
    Denoiser(
        name="AuraFlowTransformer2DModel",
        mapping="auraflow",
        settings={
            "modalities.register": {"vocab": 8, "seen_targets": False},
            **FLOW,
            **NOT_TURNED,
            **NORMED_HEADS,
            "modalities.text.features.projector.bias": False,
            f"{LATENT}.out_bias": False,
            "ffn.kind": "swiglu",
            "norm.adaptive": {"by": "image", "bias": False},
            "norm.final.kind": "none",
            "residual.around": "layer",
            "embedding.tied": True,
            "towers.words.modalities": ["register", "text"],
            "towers.picture.modalities": ["image"],
        },
        rows=(
            Heads(heads=12, head_dim=256),
            size_of_words("joint_attention_dim", 2048),
            Same(name="caption_projection_dim", of="width", default=3072),
            channels(4),
            Same(name="out_channels", of=CHANNELS, default=4),
            patch(),
            Together(of=auraflow),
        ),
    ),
    Denoiser(
        name="CogView3PlusTransformer2DModel",
        mapping="cogview3_plus",
        settings={
            **PREDICTED,
            **WITH_BIASES,
            **NOT_TURNED,
            **NORMED_HEADS,
            f"{LATENT}.sine": {},
            f"{LATENT}.objective": {
                "prediction": "velocity",
                "schedule": "scaled_linear",
                "beta_start": 0.00085,
                "beta_end": 0.012,
            },
            "attention.qk_norm_eps": 1e-6,
            "norm.final.eps": 1e-6,
            "norm.adaptive": "image",
            "untie": [{"groups": ["*.modulation"]}],
        },
        rows=(*COGVIEW, Passed(names=("sample_size", "pos_embed_max_size"))),
    ),
    Denoiser(
        name="CogView4Transformer2DModel",
        mapping="cogview4",
        settings={
            **FLOW,
            **WITH_BIASES,
            **NORMED_HEADS,
            **PLACED,
            "norm.adaptive": "image",
            "untie": [{"groups": ["*.modulation"]}],
        },
        rows=(*COGVIEW, Together(of=spread), Passed(names=("sample_size", "pos_embed_max_size"))),
    ),
)
