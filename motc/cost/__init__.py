"""What a model costs: parameters, floating-point operations, bytes. Pure functions of the IR, cheap at any depth."""

from __future__ import annotations

from motc.cost.bytes import Memory, kv_cache_bytes_per_token, memory
from motc.cost.flops import attention_flops, flops_per_token, latent_span_flops
from motc.cost.parameters import Cost, cost, leaf_parameters, total_parameters

__all__ = [
    "Cost",
    "Memory",
    "attention_flops",
    "cost",
    "flops_per_token",
    "kv_cache_bytes_per_token",
    "latent_span_flops",
    "leaf_parameters",
    "memory",
    "total_parameters",
]
