"""Bytes of memory: what weights, training state and the KV cache take."""

from __future__ import annotations

from dataclasses import dataclass

from motc.cost.parameters import total_parameters
from motc.ir.model import Model

DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one number, by the name torch gives the dtype."""

ADAMW_MOMENTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a model in training, without activations; gradients have the weights' dtype, AdamW's moments float32."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def training(self) -> int:
        """What training holds besides activations."""
        return self.weights + self.gradients + self.optimizer


def memory(model: Model, dtype: str = "float32") -> Memory:
    """The bytes of weights, gradients and AdamW's two float32 moments. Raises ValueError for an unknown dtype."""
    parameters = total_parameters(model)
    weights = parameters * dtype_bytes(dtype)
    return Memory(weights=weights, gradients=weights, optimizer=ADAMW_MOMENTS * DTYPE_BYTES["float32"] * parameters)


def kv_cache_bytes_per_token(model: Model, dtype: str = "bfloat16") -> int:
    """Keys and values of one token in every attention: 2 * kv_heads * head_dim numbers, whatever its modality.

    Raises ValueError for an unknown dtype.
    """
    numbers = sum(sublayer.body.cached_numbers * count for layer, count in model.kinds for sublayer in layer.sublayers)
    return numbers * dtype_bytes(dtype)


def dtype_bytes(dtype: str) -> int:
    """Bytes of one number of `dtype`. Raises ValueError for an unknown one."""
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"unknown dtype {dtype!r}: one of {', '.join(DTYPE_BYTES)}")
    return DTYPE_BYTES[dtype]
