"""The table: classes of diffusers of whose blocks some are several layers.

What is drawn in training (`objective`) is of the published models: a configuration says nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motc.importing.architecture import word
from motc.importing.configuration import Configuration
from motc.importing.denoising_rows import (
    CONDITION,
    FOUR_TIMES,
    FULL,
    LATENT,
    Denoiser,
    Heads,
    Same,
    Together,
    Variances,
    blocks_of_three,
    channels,
    eps,
    layers,
    number,
    numbers,
    patch,
    size_of_words,
)
from motc.importing.described import Described
from motc.importing.rows import Key, Noted, Only, Passed, Row
from motc.schema.values import MAX_LAYERS

LAYER_NORMS: Mapping[str, Any] = {"norm.kind": "layer", "norm.weight": False, "norm.eps": 1e-6}
ACTIVATIONS = {"gelu-approximate": "gelu_tanh", "gelu": "gelu"}

OF_SOME = tuple(
    Only(name=name, value=False) for name in ("double_self_attention", "only_cross_attention", "use_linear_projection")
)
"""Keys of the class that was one of these two, by its `norm_type`, before they were classes."""


def of_diffusion(norm_type: str) -> tuple[Row, ...]:
    """The rows of DiT and PixArt, which are of one family."""
    return (
        Heads(heads=16, head_dim=72),
        FOUR_TIMES,
        channels(4),
        Variances(default=8 if norm_type == "ada_norm_single" else None),
        patch(),
        word("activation_fn", "ffn.kind", "gelu-approximate", ACTIVATIONS),
        Only(name="attention_bias", value=True),
        Only(name="norm_type", value=norm_type),
        Only(name="norm_elementwise_affine", value=False),
        Noted(name="dropout"),
        Only(name="num_vector_embeds", value=None),
        *OF_SOME,
        Passed(names=("norm_num_groups", "upcast_attention")),
    )


def spaced(configuration: Configuration, described: Described) -> None:
    """Places of an image that go, along a side, to as many as there are of the size trained with, over a scale."""
    size = number(configuration, "sample_size", 128)
    scale = configuration.take("interpolation_scale")
    scale = max(size // 64, 1) if scale is None else scale
    side = size // described.settings[f"{LATENT}.patch"]
    if type(scale) not in (int, float) or scale <= 0 or side % scale:
        configuration.refuse("interpolation_scale", scale, f"a divisor of {side}, the places along a side")
    described.settings[f"{LATENT}.sine.base"] = int(side // scale)


def counted_places(configuration: Configuration, described: Described) -> None:
    """The same, without a scale."""
    side = number(configuration, "sample_size", 32) // described.settings[f"{LATENT}.patch"]
    described.settings[f"{LATENT}.sine.base"] = side


def two_eps(configuration: Configuration, described: Described) -> None:
    """DiT's blocks as two layers each, where norms of feed-forwards have an eps of their own."""
    blocks = number(configuration, "num_layers", 28)
    eps_of_class = configuration.take("norm_eps", 1e-5)
    if 2 * blocks > MAX_LAYERS:
        configuration.refuse("num_layers", blocks, f"at most {MAX_LAYERS // 2}")
    if type(eps_of_class) is not float:
        configuration.refuse("norm_eps", eps_of_class, "a number")
    last = 2 * blocks - 1
    described.settings |= {
        "layers": 2 * blocks,
        "by_layer": [
            {"layers": f"0..{last} step 2", "ffn": "none"},
            {"layers": f"1..{last} step 2", "attention": "none", "norm": {"eps": eps_of_class}},
        ],
    }


def unconditional(configuration: Configuration, described: Described) -> None:
    """PixArt is told no more than its timestep; where nothing says so, images of 1,024 are told sizes."""
    of_class = configuration.values.get("sample_size", 128) == 128
    told = configuration.take("use_additional_conditions")
    if told or (told is None and of_class):
        configuration.refuse("use_additional_conditions", told, "false")


def pixart(configuration: Configuration, described: Described) -> None:
    """Attention to the caption is without norms."""
    described.settings["by_layer"] = blocks_of_three(configuration, described, 28, "caption")
    described.settings["by_layer"][1]["norm"] = {"placement": "none"}


def wan(configuration: Configuration, described: Described) -> None:
    """Attention to words is behind norms of weights; a head's components are of three axes, time's the rest."""
    described.settings["by_layer"] = blocks_of_three(configuration, described, 40, "text")
    described.settings["by_layer"][1]["towers"]["picture"]["norm"] |= {"weight": True, "bias": True}
    head_dim = described.settings["attention.head_dim"]
    side = 2 * (head_dim // 6)
    described.settings["attention.rope.axes"] = [head_dim - 2 * side, side, side]
    patches = numbers(configuration, "patch_size", (1, 2, 2), "three whole numbers")
    described.settings["modalities.video.latent.patch"] = patches


DIFFUSED: Mapping[str, Any] = {
    f"{LATENT}.time": "none",
    f"{LATENT}.objective.schedule": "linear",
    f"{CONDITION}.timestep": {},
    **FULL,
    "attention.rope": "none",
    "attention.bias": True,
    "ffn.bias": True,
    **LAYER_NORMS,
}
IN_PARTS: Mapping[str, Any] = {
    "towers.words.attention": "none",
    "towers.words.ffn": "none",
    "untie": [{"groups": ["*"]}],
}
"""Words that are read, by a picture whose blocks have one modulation, to which each adds a table."""


def picture(modality: str) -> dict[str, Any]:
    final = {"adaptive": {"by": modality, "activation": "none", "map": False, "table": True}}
    return {
        "towers.picture.modalities": [modality],
        "towers.picture.norm": {"adaptive": {"by": modality, "shared": "blocks", "table": True}, "final": final},
    }


DIT_EPS = 1e-6
"""That of attention's norms, and of the last, whatever a configuration says."""

OF_DIT = (
    *of_diffusion("ada_norm_zero"),
    Key(name="num_embeds_ada_norm", default=1000, ours=f"{CONDITION}.label.count"),
    Together(of=counted_places),
)
DIT: Mapping[str, Any] = {**DIFFUSED, f"{CONDITION}.timestep": {"closed": True}, "norm.adaptive": "image"}

DIT_OF_TWO_EPS = Denoiser(
    name="DiTTransformer2DModel",
    mapping="dit_of_two_eps",
    settings=DIT,
    rows=(*OF_DIT, Together(of=two_eps)),
)

BLOCK_DENOISERS = (
    Denoiser(
        name="DiTTransformer2DModel",
        mapping="dit",
        settings=DIT,
        rows=(*OF_DIT, layers("num_layers", 28), Only(name="norm_eps", value=DIT_EPS)),
        otherwise=(lambda values: values.get("norm_eps", 1e-5) != DIT_EPS, DIT_OF_TWO_EPS),
    ),
    Denoiser(
        name="PixArtTransformer2DModel",
        mapping="pixart",
        settings={
            "modalities.caption.features.projector.kind": "gelu_tanh",
            **DIFFUSED,
            "towers.words.modalities": ["caption"],
            **IN_PARTS,
            **picture("image"),
        },
        rows=(
            *of_diffusion("ada_norm_single"),
            size_of_words("caption_channels", 4096, "modalities.caption.features"),
            Same(name="cross_attention_dim", of="width", default=1152),
            Together(of=spaced),
            Together(of=unconditional),
            Together(of=pixart),
            Only(name="norm_eps", value=1e-6),
            Only(name="attention_type", value="default"),
            Passed(names=("num_embeds_ada_norm",)),
        ),
    ),
    Denoiser(
        name="WanTransformer3DModel",
        mapping="wan",
        settings={
            "modalities.text.features.projector.kind": "gelu_tanh",
            "modalities.video.latent.objective": "flow",
            "modalities.video.latent.time": "none",
            "modalities.video.positions": {"kind": "grid", "start": 0},
            **FULL,
            "attention.bias": True,
            "attention.qk_norm": {"kind": "rms", "over": "heads"},
            "attention.rope.pairing": "interleaved",
            "ffn.kind": "gelu_tanh",
            "ffn.bias": True,
            "norm.kind": "layer",
            "norm.weight": False,
            "towers.words.modalities": ["text"],
            **IN_PARTS,
            **picture("video"),
        },
        rows=(
            Heads(heads=40, head_dim=128),
            channels(16, "modalities.video.latent"),
            Same(name="out_channels", of="modalities.video.latent.channels", default=16),
            size_of_words("text_dim", 4096),
            Key(name="freq_dim", default=256, ours="modalities.video.condition.timestep.size"),
            Key(name="ffn_dim", default=13824, ours="ffn.hidden"),
            eps("eps", 1e-6),
            Only(name="cross_attn_norm", value=True),
            Only(name="qk_norm", value="rms_norm_across_heads"),
            Only(name="image_dim", value=None),
            Only(name="added_kv_proj_dim", value=None),
            Together(of=wan),
            Passed(names=("rope_max_seq_len", "pos_embed_seq_len")),
        ),
    ),
)
