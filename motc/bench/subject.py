"""What a benchmark is of: a spec, and the models that are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from motc.bench.portable.batches import DataModality
from motc.bench.portable.settings import DTYPES
from motc.driver import final_ir
from motc.ir.condition import Condition
from motc.ir.execution import Strategy
from motc.ir.model import FeatureModality, LatentModality, Modality, Model
from motc.loading import instantiate
from motc.schema import Checked

SIDES = ("mot", "dense", "reference")
COMPILED = ("mot", "dense")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is timed. `dense`: the dense twin stands for the model too, so that every ratio but 1 is noise."""

    checked: Checked
    dense: bool = False

    def ir(self, side: str = "mot") -> Model:
        """The IR a side is made from."""
        strategy: Strategy = "reference" if side == "reference" else "sorted"
        return final_ir(self.checked, dense=self.dense or side == "dense", strategy=strategy)

    def build(self, side: str, dtype: str, device: str, *, compiled: bool = True) -> nn.Module:
        """A new network of a side, with classes of its own; compiled, unless it is the reference."""
        network = instantiate(self.ir(side), dtype=DTYPES[dtype], device=device)
        if compiled and side != "reference":
            cast(Any, network).compile()
        return network


def data_modalities(model: Model) -> tuple[DataModality, ...]:
    """What of a model's modalities its data must fit."""
    return tuple(_data_modality(model, each) for each in model.modalities)


def _data_modality(model: Model, modality: Modality) -> DataModality:
    match modality:
        case LatentModality(name=name, ends=ends, condition=condition):
            given = {} if condition is None else _given(condition)
            return DataModality(name=name, channels=ends.channels, patch=ends.patch_shape, condition=given)
        case FeatureModality(name=name, projector=projector):
            return DataModality(name=name, features=projector.given)
        case _:
            return DataModality(name=modality.name, vocab=model.vocab if modality.vocab is None else modality.vocab)


def _given(condition: Condition) -> dict[str, int]:
    """What is given of a condition, as `DataModality` has it."""
    sizes = {} if condition.label is None else {"label": condition.label.rows}
    sizes |= {} if condition.number is None else {"number": 1}
    return sizes if condition.vector is None else {**sizes, "vector": condition.vector.size}
