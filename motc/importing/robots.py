"""The table: π0 of transformers, a language model that sees and an expert, each described in a part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motc.importing.architecture import Architecture, sizes
from motc.importing.configuration import Configuration
from motc.importing.described import Described
from motc.importing.parts import In, Whole
from motc.importing.rows import Key, OneWay, Only, Passed
from motc.importing.shared_rows import GEMMA, GEMMA_1

TIME, TIMES = "modalities.action.latent.time", "modalities.action.latent.times"
WIDTHS = {"width": "towers.expert.width", "ffn.hidden": "towers.expert.ffn.hidden"}
"""What the expert has of its own."""

BOTH = (Only(name="model_type", value="gemma"), Only(name="use_bidirectional_attention", value=True))
TIED = Only(name="tie_word_embeddings", value=True)


@dataclass(frozen=True, kw_only=True)
class Expert(OneWay):
    """`dit_config`: its sizes, and what must be as in the language model."""

    def read(self, configuration: Configuration, described: Described) -> None:
        said = Described(settings={})
        rows = (*sizes(257152, 1024, 4096, 18, 8, 1), *GEMMA_1, *BOTH, TIED, Passed(names=("is_causal", "vocab_size")))
        Whole(part="dit_config", rows=rows).read(configuration, said)
        del said.settings["vocab"]  # which is the other's
        for key, value in said.settings.items():
            if key in WIDTHS:
                described.settings[WIDTHS[key]] = value
            elif value != described.settings.get(key):
                wanted = f"{described.settings.get(key)} there, as in vlm_config"
                configuration.refuse("dit_config", f"{key} = {value}", wanted)


@dataclass(frozen=True, kw_only=True)
class BetaTimes(OneWay):
    """Times of a beta distribution, from a lowest one up to 1."""

    def read(self, configuration: Configuration, described: Described) -> None:
        for name, ours, default in (
            ("time_sampling_beta_alpha", "alpha", 1.5),
            ("time_sampling_beta_beta", "beta", 1.0),
            ("time_sampling_offset", "low", 0.001),
        ):
            Key(name=name, default=default, ours=f"{TIMES}.{ours}", kind=float).read(configuration, described)
        scale, low = configuration.take("time_sampling_scale", 0.999), described.settings[f"{TIMES}.low"]
        if type(scale) not in (int, float) or abs(scale + low - 1) > 1e-12:
            configuration.refuse("time_sampling_scale", scale, f"{1 - low:g}, up to time 1")


SETTINGS: Mapping[str, Any] = {
    "modalities.vit": {},
    "modalities.text.seen_targets": False,
    "modalities.state": {},
    "modalities.action.latent": {"patch": [1], "objective": "flow"},
    f"{TIME}.kind": "concat",
    f"{TIMES}.kind": "beta",
    "attention.mask": {"kind": "blocks", "blocks": [["vit", "text"], "state", "action"]},
    **GEMMA,
    "embedding.tied": True,
    "towers.language.modalities": ["vit", "text"],
    "towers.expert.modalities": ["state", "action"],
    "untie": [{"groups": ["*"]}],
}

SIGLIP = Key(name="hidden_size", default=1152, ours="modalities.vit.features.size")

ROBOTS = (
    Architecture(
        name="PI0ForConditionalGeneration",
        mapping="pi0",
        settings=SETTINGS,
        rows=(
            Whole(
                part="vlm_config",
                encoders=("vision_config",),
                rows=(
                    Only(name="model_type", value="paligemma"),
                    TIED,
                    In(part="vision_config", row=SIGLIP),
                    Whole(
                        part="text_config",
                        rows=(
                            *sizes(257152, 2048, 16384, 18, 8, 1),
                            *GEMMA_1,
                            *BOTH,
                            TIED,
                            Passed(names=("num_image_tokens",)),
                        ),
                    ),
                    Passed(names=("projection_dim", "hidden_size", "vocab_size")),
                ),
            ),
            Expert(),
            Key(name="max_state_dim", default=32, ours="modalities.state.features.size"),
            Key(name="max_action_dim", default=32, ours="modalities.action.latent.channels"),
            BetaTimes(),
            Key(name="min_period", default=0.004, ours=f"{TIME}.min_period", kind=float),
            Key(name="max_period", default=4.0, ours=f"{TIME}.max_period", kind=float),
            Only(name="loss_reduction", value="mean"),
            Passed(names=("chunk_size", "num_inference_steps", "tie_word_embeddings")),
        ),
        modality=None,
    ),
)
