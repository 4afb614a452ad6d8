"""Selectors: which parameter groups a statement of `untie` means."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase

from motc.source import Diagnostic, Span

ATTENTION = tuple(f"attention.{name}" for name in ("q", "k", "v", "out", "q_norm", "k_norm"))
FFN = tuple(f"ffn.{name}" for name in ("gate", "up", "down", "router", "shared.gate", "shared.up", "shared.down"))
LAYER_NORMS = ("attention.norm", "ffn.norm")
LAYER_PATHS = ("attention.norm", *ATTENTION, "ffn.norm", *FFN)
END_PATHS = ("embedding", "final_norm", "head")
SECTIONS = {"attention": ATTENTION, "ffn": FFN, "norm": (*LAYER_NORMS, "final_norm")}


def select(selector: str, present: frozenset[str], span: Span) -> tuple[str, ...] | Diagnostic:
    """The paths of `present` groups a selector names, or what is wrong with it.

    A bare `attention`, `ffn` or `norm` names what that section of the spec configures; anything else is a path, where
    `*` stands for any characters.
    """
    every = LAYER_PATHS + END_PATHS
    known = SECTIONS.get(selector) or tuple(path for path in every if fnmatchcase(path, selector))
    chosen = tuple(path for path in known if path in present)
    if chosen:
        return chosen
    words = [*SECTIONS, *sorted(present)]
    if known:
        reason = f"selector `{selector}` matches nothing: this model has no {known[0]}"
    else:
        reason = f"selector `{selector}` matches no parameter group"
    close = difflib.get_close_matches(selector, words, n=1)
    way_out = f"did you mean `{close[0]}`?" if close else f"groups: {', '.join(words)}"
    return Diagnostic(code="MOT040", message=reason, span=span, help=way_out)
