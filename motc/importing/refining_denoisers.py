"""The table: classes of diffusers that refine captions and images by themselves, and then join them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motc.importing.configuration import Configuration
from motc.importing.denoising_rows import (
    CHANNELS,
    CONDITION,
    FULL,
    LATENT,
    Axes,
    Denoiser,
    Same,
    Together,
    channels,
    eps,
    number,
    patch,
    size_of_words,
)
from motc.importing.described import Described
from motc.importing.rows import Key, Only, Passed
from motc.schema.values import MAX_LAYERS


def refined(configuration: Configuration, described: Described, name: str, default: int) -> None:
    """Two layers of captions alone, which nothing is told, two of images alone, and then those of both."""
    both = number(configuration, name, default)
    if both + 4 > MAX_LAYERS:
        configuration.refuse(name, both, f"at most {MAX_LAYERS - 4}")
    nothing = {"attention": "none", "ffn": "none"}
    described.settings |= {
        "layers": both + 4,
        "by_layer": [
            {"layers": "0..1", "towers": {"caption": {"norm": {"adaptive": "none"}}, "image": nothing}},
            {"layers": "2..3", "towers": {"caption": nothing}},
        ],
        "untie": [{"groups": ["*"], "layers": "0..3"}],
    }


def lumina(configuration: Configuration, described: Described) -> None:
    """Its layers, and the size of their feed-forwards, rounded up to a multiple."""
    refined(configuration, described, "num_layers", 26)
    width, times = described.settings["width"], configuration.take("ffn_dim_multiplier")
    multiple = number(configuration, "multiple_of", 256)
    if type(times) not in (int, float, type(None)) or (times is not None and not 0 < times < 1000):
        configuration.refuse("ffn_dim_multiplier", times, "a number above 0")
    hidden = 4 * width if times is None else int(times * 4 * width)
    described.settings["ffn.hidden"] = multiple * -(-hidden // multiple)
    described.settings[f"{CONDITION}.width"] = min(width, 1024)


def z_image(configuration: Configuration, described: Described) -> None:
    """Its layers, and sizes that follow from the width."""
    refined(configuration, described, "n_layers", 30)
    width = described.settings["width"]
    described.settings |= {"ffn.hidden": int(width / 3 * 8), f"{CONDITION}.width": min(width, 256)}
    described.notes.append(
        "captions and images are filled up to multiples of 32 tokens by vectors of the class, which are no part of the "
        "model: it does the same for sequences of such lengths"
    )


REFINED: Mapping[str, Any] = {
    "modalities.caption.features.projector.norm": "rms",
    f"{LATENT}.objective": "flow",
    f"{LATENT}.time": "none",
    **FULL,
    "attention.rope.pairing": "interleaved",
    "ffn.kind": "swiglu",
    "norm.kind": "rms",
    "norm.placement": "both",
}
SCALE_AND_GATE = {"by": "image", "parts": ["scale", "gate"], "gate": "tanh"}

REFINING_DENOISERS = (
    Denoiser(
        name="Lumina2Transformer2DModel",
        mapping="lumina_2",
        settings={
            **REFINED,
            f"{CONDITION}.timestep": {},
            "attention.qk_norm": "rms",
            "attention.qk_norm_eps": 1e-5,
            "norm.adaptive": SCALE_AND_GATE,
            "norm.final": {"kind": "layer", "weight": False, "eps": 1e-6},
        },
        rows=(
            Key(name="hidden_size", default=2304, ours="width"),
            Key(name="num_attention_heads", default=24, ours="attention.heads"),
            Key(name="num_kv_heads", default=8, ours="attention.kv_heads"),
            size_of_words("cap_feat_dim", 1024, "modalities.caption.features"),
            channels(16),
            Same(name="out_channels", of=CHANNELS),
            patch(),
            eps("norm_eps", 1e-5),
            Axes(name="axes_dim_rope", default=(32, 32, 32)),
            Only(name="num_refiner_layers", value=2),
            Together(of=lumina),
            Passed(names=("sample_size", "scaling_factor", "axes_lens")),
        ),
    ),
    Denoiser(
        name="ZImageTransformer2DModel",
        mapping="z_image",
        settings={
            **REFINED,
            f"{LATENT}.patch": 2,
            f"{CONDITION}.timestep.hidden": 1024,
            "attention.qk_norm_eps": 1e-5,
            "norm.adaptive": {**SCALE_AND_GATE, "activation": "none"},
            "norm.final": {
                "kind": "layer",
                "weight": False,
                "eps": 1e-6,
                "adaptive": {"by": "image", "parts": ["scale"]},
            },
        },
        rows=(
            Key(name="dim", default=3840, ours="width"),
            Key(name="n_heads", default=30, ours="attention.heads"),
            Same(name="n_kv_heads", of="attention.heads", default=30),
            size_of_words("cap_feat_dim", 2560, "modalities.caption.features"),
            channels(16),
            Only(name="all_patch_size", value=[2]),
            Only(name="all_f_patch_size", value=[1]),
            eps("norm_eps", 1e-5),
            Key(name="qk_norm", default=True, ours="attention.qk_norm", kind=bool, values={True: "rms", False: "none"}),
            Axes(name="axes_dims", default=(32, 48, 48)),
            Key(name="rope_theta", default=256.0, ours="attention.rope.theta", kind=float),
            Only(name="t_scale", value=1000),
            Only(name="n_refiner_layers", value=2),
            Only(name="siglip_feat_dim", value=None),
            Together(of=z_image),
            Passed(names=("axes_lens",)),
        ),
    ),
)
