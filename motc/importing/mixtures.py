"""Mixtures of experts: their balance, and layers that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from motc.importing.by_layer import whole
from motc.importing.configuration import Configuration
from motc.importing.described import Described, ranges
from motc.importing.rows import OneWay
from motc.importing.said import Said


@dataclass(frozen=True, kw_only=True)
class Balance:
    """`router_aux_loss_coef`, which transformers multiplies by the number of experts of a token, and a spec has so."""

    default: float

    def read(self, configuration: Configuration, described: Described) -> None:
        coefficient = configuration.take("router_aux_loss_coef", self.default)
        if type(coefficient) not in (int, float):
            configuration.refuse("router_aux_loss_coef", coefficient, "a number")
        described.settings["ffn.balance"] = round(coefficient * described.settings["ffn.top_k"], 12)

    def write(self, said: Said) -> dict[str, Any]:
        return {"router_aux_loss_coef": said.settings["ffn.balance"] / said.settings["ffn.top_k"]}


@dataclass(frozen=True, kw_only=True)
class DenseLayers:
    """Qwen's layers with a plain feed-forward, by `mlp_only_layers` and `decoder_sparse_step`.

    `hidden` is the class's size of these.
    """

    hidden: int = 6144

    def read(self, configuration: Configuration, described: Described) -> None:
        step = whole(configuration, "decoder_sparse_step", 1)
        only = configuration.take("mlp_only_layers") or []
        if not isinstance(only, list) or not all(type(each) is int for each in only):
            configuration.refuse("mlp_only_layers", only, "a list of layers")
        dense = [layer in only or step < 1 or (layer + 1) % step != 0 for layer in range(described.layers)]
        _leave_plain(configuration, described, self.hidden, dense)

    def write(self, said: Said) -> dict[str, Any]:
        only = [layer for layer, has in enumerate(_have_experts(said)) if not has]
        return {"decoder_sparse_step": 1, "mlp_only_layers": only, **_sizes(said)}


@dataclass(frozen=True, kw_only=True)
class FirstLayersDense:
    """The number of layers with a plain feed-forward, which are the first ones."""

    name: str
    default: int
    hidden: int

    def read(self, configuration: Configuration, described: Described) -> None:
        count = whole(configuration, self.name, self.default)
        _leave_plain(configuration, described, self.hidden, [layer < count for layer in range(described.layers)])

    def write(self, said: Said) -> dict[str, Any]:
        has = _have_experts(said)
        return {self.name: has.index(True) if True in has else len(has), **_sizes(said)}


@dataclass(frozen=True, kw_only=True)
class KindsOfLayers:
    """`mlp_layer_types`, which says of each layer whether it has experts; without it all have but the first."""

    hidden: int

    def read(self, configuration: Configuration, described: Described) -> None:
        kinds = kinds_of_layers(configuration, described.layers)
        _leave_plain(configuration, described, self.hidden, [each == "dense" for each in kinds])

    def write(self, said: Said) -> dict[str, Any]:
        return {"mlp_layer_types": ["sparse" if has else "dense" for has in _have_experts(said)], **_sizes(said)}


@dataclass(frozen=True, kw_only=True)
class LayersBetween:
    """ERNIE-4.5's layers with experts: each so manieth from a first to a last one, -1 being the model's last."""

    hidden: int
    last: int

    def read(self, configuration: Configuration, described: Described) -> None:
        first = whole(configuration, "moe_layer_start_index", 1)
        last = whole(configuration, "moe_layer_end_index", self.last)
        last = described.layers - 1 if last == -1 else last
        every = max(1, whole(configuration, "moe_layer_interval", 1))
        dense = [(layer + 1) % every != 0 or not first <= layer <= last for layer in range(described.layers)]
        _leave_plain(configuration, described, self.hidden, dense)

    def write(self, said: Said) -> dict[str, Any]:
        having = [layer for layer, has in enumerate(_have_experts(said)) if has]
        every = having[1] - having[0] if len(having) > 1 else 1
        keys = {"moe_layer_start_index": having[0], "moe_layer_end_index": having[-1], "moe_layer_interval": every}
        return {**keys, **_sizes(said)}


def _have_experts(said: Said) -> list[bool]:
    return [each["ffn.kind"] == "moe" for each in said.by_layer]


def _sizes(said: Said) -> dict[str, Any]:
    """Those of layers with experts, and of layers without."""
    return {
        "moe_intermediate_size" if has else "intermediate_size": each["ffn.hidden"]
        for has, each in zip(_have_experts(said), said.by_layer, strict=True)
    }


def _leave_plain(configuration: Configuration, described: Described, hidden: int, dense: list[bool]) -> None:
    """Layers that are dense have a feed-forward of `intermediate_size`, or the class's `hidden`, and no experts."""
    mixture = described.taken("ffn.")
    plain = {"ffn.kind": mixture["ffn.expert"], "ffn.hidden": whole(configuration, "intermediate_size", hidden)}
    described.differ([plain if each else mixture for each in dense])


def kinds_of_layers(configuration: Configuration, layers: int) -> list[str]:
    """`mlp_layer_types`: of each layer `dense` or `sparse`, which are all but the first where it is missing."""
    kinds = configuration.take("mlp_layer_types") or ["dense"] + ["sparse"] * (layers - 1)
    if not isinstance(kinds, list) or len(kinds) != layers or not all(each in ("dense", "sparse") for each in kinds):
        configuration.refuse("mlp_layer_types", kinds, f"{layers} of dense and sparse")
    return kinds


@dataclass(frozen=True, kw_only=True)
class ErnieLayers(OneWay):
    """ERNIE-4.5-VL's mixtures: experts of text and of images in their sizes, and `mlp_layer_types` that have none."""

    what = "mixtures of towers"

    default: tuple[int, int]

    def read(self, configuration: Configuration, described: Described) -> None:
        layers = described.layers
        sizes = configuration.take("moe_intermediate_size") or list(self.default)
        if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(each) is int for each in sizes):
            configuration.refuse("moe_intermediate_size", sizes, "two whole numbers")
        types = kinds_of_layers(configuration, layers)
        hidden, kind = described.settings.pop("ffn.hidden"), described.settings.pop("ffn.kind")
        plain = {"ffn.kind": described.settings["ffn.expert"], "ffn.hidden": hidden, "towers.vision.ffn.hidden": hidden}
        mixture = {"ffn.kind": kind, "ffn.hidden": sizes[0], "towers.vision.ffn.hidden": sizes[1]}
        shares = described.settings["ffn.shared_experts"] != 0
        if shares:
            described.settings["ffn.shared_hidden"] = sizes[0]
        else:
            del described.settings["ffn.shared_experts"]
        described.differ([plain if each == "dense" else mixture for each in types])
        together = [["text", "image", "boundary"]]
        dense = ranges([layer for layer, each in enumerate(types) if each == "dense"])
        described.statements["untie"] = [
            {"groups": ["ffn"]},
            *([{"groups": ["ffn.shared.*"], "as": together}] if shares else []),
            *({"groups": ["ffn"], "as": together, "layers": each} for each in dense),
        ]
