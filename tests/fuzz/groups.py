"""Parameter groups that random specs speak of, and selectors of them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from motc.ir.inventory import LAYER_PATHS, SECTIONS

QKV = ("attention.q", "attention.k", "attention.v")
DOWN_Q = ("attention.q_down", "attention.q_down_norm")
DOWN = (*DOWN_Q, "attention.kv_down", "attention.kv_down_norm", "attention.k_rope")
HEAD_NORMS = ("attention.q_norm", "attention.k_norm")
OUT_NORMS = ("attention.out_norm", "ffn.out_norm")
NORMS = ("attention.norm", "ffn.norm", *OUT_NORMS, "embedding_norm", "final_norm")
MODULATIONS = ("attention.modulation", "ffn.modulation", "final_modulation")
OUTER = ("embedding", "head", "embedding_norm", "final_norm", "final_modulation", "position_embedding")
SELECTORS = (
    *("attention", "ffn", "norm", "*", "*.norm", "attention.*", "ffn.*", "*.q", "final_norm", "embedding", "head"),
    "position_embedding",
    *("attention.q", "attention.k", "attention.v", "attention.out", "attention.q_norm", "attention.norm"),
    *("attention.sinks", "attention.kv_down", "attention.q_down_norm", "*.k_rope"),
    "*.modulation",
    *("ffn.gate", "ffn.up", "ffn.down", "ffn.norm", "*.out_norm", "ffn.router"),
)
BARE = {
    "attention": (*DOWN, *QKV, "attention.out", *HEAD_NORMS),
    "ffn": SECTIONS["ffn"],
    "norm": (*NORMS, *MODULATIONS),
}


def meant(selector: str) -> tuple[str, ...]:
    """The groups that a selector names, if there are any."""
    return BARE.get(selector) or tuple(p for p in (*LAYER_PATHS, *OUTER) if fnmatchcase(p, selector))
