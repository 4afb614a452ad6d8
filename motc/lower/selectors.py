"""Selectors: which parameter groups a statement of `untie` means."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from motc.ir.feed_forward import GATED
from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS, SECTIONS
from motc.lower.attributes import ffn_kind
from motc.schema import Spec
from motc.source import CompilerBug, Diagnostic, Span
from motc.source.nearest import suggestion
from motc.source.way_out import WayOut

WILD = re.compile(r"[*?[]")


def paths_of(selector: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """The paths that a selector names, of `every` path there is; () if there is none."""
    known = SECTIONS.get(selector) or ((selector,) if selector in every else ())
    if not known and WILD.search(selector):
        known = tuple(path for path in every if fnmatchcase(path, selector))
    return known


def select(
    selector: str, present: frozenset[str], span: Span, spec: Spec, brief: bool = False
) -> tuple[str, ...] | Diagnostic:
    """The paths of `present` groups a selector names, or what is wrong with it.

    A bare `attention`, `ffn` or `norm` names what that section of the spec configures; anything else is a path, where
    `*` stands for any characters. `brief`: what is wrong is counted only, and needs no way out.
    """
    known = paths_of(selector, LAYER_PATHS + OUTER_PATHS)
    chosen = tuple(path for path in known if path in present)
    if chosen:
        return chosen
    words = [*SECTIONS, *sorted(present)]
    if known:
        message = f"selector `{selector}` matches nothing: this model has no {known[0]}"
        reason, way_out = _absence(known[0], spec)
        return Diagnostic(code="MOT040", message=f"{message}{reason}", span=span, help=way_out)
    message = f"selector `{selector}` matches no parameter group"
    if selector in ("all", "everything"):
        return Diagnostic(code="MOT040", message=message, span=span, help=WayOut("use `*`", "*"))
    way_out = "" if brief else suggestion(selector, words, f"groups: {', '.join(words)}")
    return Diagnostic(code="MOT040", message=message, span=span, help=way_out)


def _absence(path: str, spec: Spec) -> tuple[str, str]:
    """Why a model lacks a group, and what to do about it."""
    kind, with_gate = ffn_kind(spec.ffn, spec.ffn), "leave it out, or use a kind with a gate, such as swiglu"
    match path:
        case "head":
            return "; it is tied, and the embedding is its table", "untie the embedding, or use embedding.tied = false"
        case "final_norm":
            return "; there is no norm before the head", "leave it out, or use norm.final = true"
        case "embedding_norm":
            return "; tokens have no norm before the first layer", "leave it out, or use norm.embedding = true"
        case "attention.modulation" | "ffn.modulation" | "final_modulation":
            return "; no norm is adaptive", "leave it out, or use norm.adaptive"
        case "attention.q_norm" | "attention.k_norm":
            return "; qk_norm is none", "leave it out, or use attention.qk_norm = rms"
        case "attention.q_down" | "attention.q_down_norm":
            return "; its queries are of the stream", "leave it out, or use attention.low_rank with q"
        case "attention.kv_down" | "attention.kv_down_norm" | "attention.k_rope":
            return "; its keys and values are of the stream", "leave it out, or use attention.low_rank"
        case _ if kind is None and path.startswith("ffn."):
            return "; its feed-forward is of kind none", "leave it out, or use another kind"
        case "ffn.norm" if spec.parallel == "one_norm":
            return "; attention.norm serves the feed-forward too", "leave it out, or use parallel = two_norms"
        case "attention.norm" | "ffn.norm" if spec.norm.placement == "none":
            return "; its sublayers have no norms", "leave it out, or use norm.placement = pre"
        case "attention.out_norm" | "ffn.out_norm":
            return "; sublayers have one norm each", "leave it out, or use norm.placement = both"
        case "ffn.gate" | "ffn.shared.gate" if kind not in GATED:
            return f"; its feed-forward is of kind {kind}", with_gate
        case "ffn.gate":
            return "; no tower's feed-forward has one", with_gate
        case "ffn.router":
            return "; it has no mixture of experts", "leave it out, or use ffn.kind = moe"
        case "ffn.shared.gate" | "ffn.shared.up" | "ffn.shared.down":
            return "; it has no shared experts", "leave it out, or use ffn.shared_experts"
        case "ffn.shared.router":
            return "; shared experts have no gate", "leave it out, or use ffn.shared_gate = true"
        case "attention.gate":
            return "; what attention makes has no gate", "leave it out, or use attention.gate = true"
        case "attention.out_gate" | "ffn.out_gate":
            return "; what it makes has no gate", f"leave it out, or use {path} = tanh"
        case "attention.sinks":
            return "; its heads have no sinks", "leave it out, or use attention.sinks = true"
        case "position_embedding":
            return "; positions are not learned", "leave it out, or use positions.learned"
        case _:
            raise CompilerBug(f"every model has {path}")
