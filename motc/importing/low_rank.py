"""The table: classes of text alone whose attention is of low rank, as DeepSeek-V2 has it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from motc.importing.architecture import Architecture, bias, rms_eps, sizes, tied
from motc.importing.by_layer import whole
from motc.importing.configuration import Configuration
from motc.importing.described import Described, Settings
from motc.importing.further_mixtures import BY_SIGMOID
from motc.importing.mixtures import FirstLayersDense, KindsOfLayers
from motc.importing.rotary import SCALING, Rope, section
from motc.importing.rows import Key, Only, Passed, Row
from motc.importing.said import NONE, Said
from motc.importing.shared_rows import (
    ATTENTION_BIAS,
    DROPOUT,
    EXPERTS,
    INTERLEAVED,
    MIXTURE,
    SILU,
    TEXT,
    experts,
    float_key,
    of_hidden,
    of_token,
)

SCALE, HEAD_DIM = "attention.scale", "attention.head_dim"


@dataclass(frozen=True, kw_only=True)
class HeadSizes:
    """What a key has of its own and what rotates, together the size of a head; and the size of values."""

    own: int = 128
    rope_dim: int = 64
    value_dim: int = 128

    def read(self, configuration: Configuration, described: Described) -> None:
        rope_dim = whole(configuration, "qk_rope_head_dim", self.rope_dim)
        described.settings[HEAD_DIM] = whole(configuration, "qk_nope_head_dim", self.own) + rope_dim
        described.settings["attention.value_dim"] = whole(configuration, "v_head_dim", self.value_dim)
        described.settings["attention.low_rank.rope_dim"] = rope_dim
        configuration.pass_over(("head_dim", "qk_head_dim"))  # which follow

    def write(self, said: Said) -> dict[str, Any]:
        rope_dim = said.settings["attention.low_rank.rope_dim"]
        return {
            "qk_nope_head_dim": said.settings[HEAD_DIM] - rope_dim,
            "qk_rope_head_dim": rope_dim,
            "v_head_dim": said.settings["attention.value_dim"],
        }


@dataclass(frozen=True, kw_only=True)
class Groups:
    """In how many groups experts are, and in how many of these a token's; the numbers are the class's."""

    groups: int
    chosen: int

    def read(self, configuration: Configuration, described: Described) -> None:
        described.settings["ffn.groups"] = whole(configuration, "n_group", self.groups)
        described.settings["ffn.top_groups"] = whole(configuration, "topk_group", self.chosen)

    def write(self, said: Said) -> dict[str, Any]:
        groups = said.settings["ffn.groups"]
        groups = 1 if groups in NONE else groups
        chosen = said.settings["ffn.top_groups"]
        return {"n_group": groups, "topk_group": groups if chosen in NONE else chosen}


@dataclass(frozen=True, kw_only=True)
class BestGroups:
    """DeepSeek-V2's way of choosing: among all experts, or in the groups that have the best one each."""

    def read(self, configuration: Configuration, described: Described) -> None:
        method = configuration.take("topk_method", "greedy")
        groups, chosen = configuration.take("n_group"), configuration.take("topk_group")
        match method:
            case "greedy":
                pass
            case "group_limited_greedy":
                for name, value in (("n_group", groups), ("topk_group", chosen)):
                    if type(value) is not int:
                        configuration.refuse(name, value, "a whole number")
                described.settings |= {"ffn.groups": groups, "ffn.top_groups": chosen, "ffn.group_score": "best"}
            case _:
                configuration.refuse("topk_method", method, "greedy or group_limited_greedy")

    def write(self, said: Said) -> dict[str, Any]:
        groups, chosen = said.settings["ffn.groups"], said.settings["ffn.top_groups"]
        if groups in (*NONE, 1) or chosen in NONE:
            return {"topk_method": "greedy"}
        return {"topk_method": "group_limited_greedy", "n_group": groups, "topk_group": chosen}


@dataclass(frozen=True, kw_only=True)
class ScaledScores(Rope):
    """Rotary positions with which scores are scaled too: by what `mscale_all_dim` makes of the factor, squared.

    With both `mscale` and `mscale_all_dim`, YaRN's factor of cosines is what one makes of it over what the other does.
    """

    def one(
        self, part: Configuration, described: Described, above: Configuration, theta: Any, fraction: Any = 1.0
    ) -> Settings:
        of_cosines, of_scores = (_number(part, key) for key in ("mscale", "mscale_all_dim"))
        settings = super().one(part, described, above, theta, fraction)
        scaling = settings.get(SCALING)
        if scaling and of_scores:
            grown = _grown(scaling["factor"], of_scores)
            settings[SCALE] = described.settings[HEAD_DIM] ** -0.5 * grown**2
            if of_cosines and scaling["kind"] == "yarn":
                scaling.setdefault("attention_factor", _grown(scaling["factor"], of_cosines) / grown)
        return settings

    def keys(self, settings: Settings) -> dict[str, Any]:
        """Raises ValueError."""
        keys, factor = super().keys(settings), section(settings, SCALING).get("factor", 1)
        scaling, times = keys.get("rope_scaling", {}), settings[SCALE] * settings[HEAD_DIM] ** 0.5
        if factor > 1 and times > 1 and not math.isclose(times, 1):
            number = round((times**0.5 - 1) / (0.1 * math.log(factor)), 9)
            scaling |= {"mscale": number, "mscale_all_dim": number}
            if scaling.get("attention_factor") == 1:
                del scaling["attention_factor"]  # which follows
        return keys


def _grown(factor: float, number: float) -> float:
    """What YaRN multiplies by where positions reach `factor` times as far: 1, or more by a number's share."""
    return 0.1 * number * math.log(factor) + 1.0 if factor > 1 else 1.0


def _number(part: Configuration, key: str) -> float:
    value = part.take(key)
    if type(value) not in (int, float, type(None)):
        part.refuse(key, value, "a number")
    return value or 0.0


def low_rank(q: int = 1536, own: int = 128, value_dim: int = 128) -> tuple[Row, ...]:
    """The rows of attention; the numbers are the class's."""
    return (
        Key(name="kv_lora_rank", default=512, ours="attention.low_rank.kv"),
        Key(name="q_lora_rank", default=q, ours="attention.low_rank.q", may_be_null=True),
        HeadSizes(own=own, value_dim=value_dim),
        ATTENTION_BIAS,
        DROPOUT,
        ScaledScores(),
    )


ALWAYS = {**TEXT, "attention.low_rank.eps": 1e-6}
PAIRING = Key(
    name="rope_interleave",
    default=True,
    ours="attention.rope.pairing",
    kind=bool,
    values={True: "interleaved", False: "half"},
)
NO_MLP_BIAS = Only(name="mlp_bias", value=False)
EVERY_LAYER = Only(name="moe_layer_freq", value=1)
PASSED = Passed(names=("ep_size", "aux_loss_alpha", "seq_aux", "num_nextn_predict_layers", "num_mtp_layers"))
"""Of losses that the classes have not, and of modules that predict further tokens, which are no part of them."""

OF_SIGMOID = (
    EVERY_LAYER,
    Only(name="topk_method", value="noaux_tc"),
    Only(name="scoring_func", value="sigmoid"),
    PAIRING,
    PASSED,
)


def by_sigmoid(hidden: int, count: int, groups: Groups, chosen: int, scale: float) -> tuple[Row, ...]:
    """The rows of mixtures whose experts are chosen by sigmoids; the numbers are the class's."""
    return (
        EXPERTS,
        of_hidden(hidden),
        Key(name="n_shared_experts", default=1, ours="ffn.shared_experts"),
        experts("n_routed_experts", count),
        groups,
        of_token(chosen),
        bias("norm_topk_prob", "ffn.normalise", True),
        float_key("routed_scaling_factor", "ffn.routed_scale", scale),
    )


LOW_RANK_MODELS = (
    Architecture(
        name="DeepseekV3ForCausalLM",
        mapping="deepseek",
        settings={**ALWAYS, **BY_SIGMOID},
        rows=(
            *sizes(129280, 7168, 18432, 61, 128, None),
            rms_eps(1e-6),
            *by_sigmoid(2048, 256, Groups(groups=8, chosen=4), 8, 2.5),
            FirstLayersDense(name="first_k_dense_replace", default=3, hidden=18432),
            *OF_SIGMOID,
            *low_rank(),
            tied(False),
        ),
    ),
    Architecture(
        name="DeepseekV2ForCausalLM",
        mapping="deepseek",
        settings={**ALWAYS, **MIXTURE, **INTERLEAVED, "ffn.normalise": False, "ffn.balance": 0},
        rows=(
            *sizes(102400, 4096, 11008, 32, 32, None),
            rms_eps(1e-6),
            EXPERTS,
            of_hidden(1407),
            Key(name="n_shared_experts", default=2, ours="ffn.shared_experts"),
            experts("n_routed_experts", 64),
            BestGroups(),
            of_token(None),
            Only(name="norm_topk_prob", value=False),
            float_key("routed_scaling_factor", "ffn.routed_scale"),
            FirstLayersDense(name="first_k_dense_replace", default=0, hidden=11008),
            EVERY_LAYER,
            Only(name="scoring_func", value="softmax"),
            NO_MLP_BIAS,
            PASSED,
            *low_rank(),
            tied(False),
        ),
    ),
    Architecture(
        name="Glm4MoeLiteForCausalLM",
        mapping="deepseek",
        settings={**ALWAYS, **BY_SIGMOID},
        rows=(
            *sizes(154880, 2048, 10240, 47, 20, None),
            rms_eps(1e-5),
            *by_sigmoid(1536, 64, Groups(groups=1, chosen=1), 4, 1.8),
            KindsOfLayers(hidden=10240),
            Only(name="first_k_dense_replace", value=1),  # which the class does not look at
            Only(name="partial_rotary_factor", value=1),
            *OF_SIGMOID,
            *low_rank(768, own=192, value_dim=256),
            tied(False),
        ),
    ),
    Architecture(
        name="YoutuForCausalLM",
        mapping="deepseek",
        settings=ALWAYS,
        rows=(
            *sizes(128256, 2048, 6144, 32, 16, None),
            rms_eps(1e-6),
            SILU,
            PAIRING,
            NO_MLP_BIAS,
            Passed(names=("embedding_initializer_range",)),
            *low_rank(),
            tied(True),
        ),
    ),
)
