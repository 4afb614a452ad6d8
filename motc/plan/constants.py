"""The sizes of a model as named constants."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod

from motc.ir.model import Model
from motc.ir.operators import Embedding, Experts, Linear, Norm, Operator, ReadMap

MODEL_SIZES = {
    "attention.q_down": ("WIDTH", "Q_RANK"),
    "attention.q_down_norm": ("Q_RANK",),
    "attention.kv_down": ("WIDTH", "KV_RANK"),
    "attention.kv_down_norm": ("KV_RANK",),
    "attention.k_rope": ("WIDTH", "ROPE_DIM"),
    "attention.q": ("Q_RANK | WIDTH", "HEADS * HEAD_DIM"),
    "attention.k": ("KV_RANK | WIDTH", "KV_HEADS * HEAD_DIM | KV_HEADS * OWN_DIM"),
    "attention.v": ("KV_RANK | WIDTH", "KV_HEADS * HEAD_DIM | KV_HEADS * VALUE_DIM"),
    "attention.gate": ("WIDTH", "HEADS * HEAD_DIM | HEADS * VALUE_DIM"),
    "attention.out": ("HEADS * HEAD_DIM | HEADS * VALUE_DIM", "WIDTH"),
    "ffn.gate": ("WIDTH", "HIDDEN"),
    "ffn.up": ("WIDTH", "HIDDEN"),
    "ffn.down": ("HIDDEN", "WIDTH"),
    "ffn.router": ("WIDTH", "EXPERTS"),
    "embedding": ("VOCAB", "WIDTH"),
    "position_embedding": ("POSITIONS", "WIDTH"),
    "head": ("WIDTH", "VOCAB"),
    "embedding_norm": ("WIDTH",),
    "attention.norm": ("WIDTH",),
    "ffn.norm": ("WIDTH",),
    "final_norm": ("WIDTH",),
    "attention.q_norm": ("HEADS", "HEAD_DIM"),
    "attention.k_norm": ("KV_HEADS", "HEAD_DIM"),
    "attention.out_norm": ("WIDTH",),
    "ffn.out_norm": ("WIDTH",),
}
"""What the sizes of a group are called, in the order of its operator's arguments; the last ones where it has fewer.

Between bars are several names, of which the first holds that is equal.
"""


NAMES = frozenset(
    """EXPERTS HEAD_DIM HEADS HIDDEN KV_HEADS KV_RANK LAYERS NORM_EPS OWN_DIM POSITIONS Q_RANK ROPE_DIM ROPE_THETA SCALE
    SOFTCAP VALUE_DIM VOCAB WIDTH""".split()
)
"""Every constant that there may be."""


class Constants:
    """The constants of a model. A size that differs between layers or towers has no name, and is written as it is."""

    def __init__(self, model: Model) -> None:
        layers = [layer for layer, _ in model.kinds]
        attention = [body for layer in layers for body in layer.attentions]
        ranks = [a.low_rank.ranks for a in attention if a.low_rank is not None]
        up = [block.operator for layer in layers for body in layer.feed_forwards for block in body.up.blocks]
        norms = [block.operator for leaf in model.leaves() for block in leaf.blocks if isinstance(block.operator, Norm)]
        each: dict[str, Iterable[object]] = {
            "LAYERS": [model.layers],
            "WIDTH": [modality.width for modality in model.modalities],
            "HEADS": [a.heads for a in attention],
            "KV_HEADS": [a.kv_heads for a in attention],
            "HEAD_DIM": [a.head_dim for a in attention],
            "OWN_DIM": [a.head_dim - a.low_rank.ranks.rope_dim for a in attention if a.low_rank is not None],
            "ROPE_DIM": [each.rope_dim for each in ranks],
            "VALUE_DIM": [a.value_dim for a in attention if a.value_dim is not None],
            "KV_RANK": [each.kv for each in ranks],
            "Q_RANK": [each.q for each in ranks if each.q is not None],
            "HIDDEN": [operator.out_features for operator in up if isinstance(operator, Linear | Experts)],
            "EXPERTS": [operator.count for operator in up if isinstance(operator, Experts)],
            "POSITIONS": [size for size in [model.learned_positions] if size is not None],
            "VOCAB": [modality.vocab or model.vocab for modality in model.token_modalities()],
            "NORM_EPS": [norm.eps for norm in norms],
            "ROPE_THETA": [a.rope.theta for a in attention if a.rope],
            "SCALE": [a.scale for a in attention if a.scale is not None],
            "SOFTCAP": [a.softcap for a in attention if a.softcap is not None],
        }
        values = {name: set(sizes) for name, sizes in each.items()}
        self.values = {name: sizes.pop() for name, sizes in values.items() if len(sizes) == 1}

    def named(self, name: str, value: object) -> str:
        """A value by its name (or a product of names), if that is what the model has everywhere; else as it is."""
        each = name.split(" | ")
        return next((one for one in each if self._value(one) == value), repr(value))

    def _value(self, name: str) -> object:
        """What a name, or a product of names, stands for; None where one of them is not the model's."""
        sizes = [self.values.get(factor) for factor in name.split(" * ")]
        numbers = [size for size in sizes if isinstance(size, int | float)]
        return prod(numbers) if len(numbers) == len(sizes) else None

    def sizes(self, path: str, operator: Operator) -> list[str]:
        """The sizes of a group's operator, as its constructor takes them."""
        match operator:
            case ReadMap(out_features=size):
                return [self.named("KV_HEADS * HEAD_DIM", size)] * 2
            case Linear(in_features=rows, out_features=columns) | Experts(in_features=rows, out_features=columns):
                numbers: tuple[int, ...] = (rows, columns)
            case Embedding(vocab=vocab, width=width):
                numbers = (vocab, width)
            case Norm(over_heads=True, shape=(size,)):
                return [self.named(" * ".join(MODEL_SIZES[path]), size)]
            case Norm(shape=shape):
                numbers = shape
            case _:
                numbers = ()
        names = MODEL_SIZES.get(path, ())[-len(numbers) :] if numbers else ()
        names = names if len(names) == len(numbers) else ("",) * len(numbers)
        return [self.named(name, number) for name, number in zip(names, numbers, strict=True)]

    def lines(self, code: str) -> list[str]:
        """The definitions of those that occur in the code."""
        return [f"{name} = {value!r}" for name, value in self.values.items() if re.search(rf"\b{name}\b", code)]
