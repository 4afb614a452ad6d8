"""What random specs say of heads: norms of queries and keys, and low rank."""

from __future__ import annotations

from collections.abc import Callable

Pick = Callable[..., str]
Chance = Callable[[int], bool]


def head_norm_text(pick: Pick, chance: Chance, kind: str) -> str:
    """A norm of queries and keys: a word, or a section."""
    said = [f"over = {pick('heads', 'head')}"] * chance(3)
    said += [f"by_head = {pick('true', 'false')}"] * (not said and chance(3))
    said += [f"place = {pick('after_rope', 'before_rope')}"] * chance(3)
    said += [pick("offset = 1", "offset = 0", "weight = false")] * chance(3)
    said += ["bias = false"] * (kind == "layer" and chance(3))
    return f"qk_norm {{ kind = {kind}, {', '.join(said)} }}" if said else f"qk_norm = {kind}"


def low_rank_texts(pick: Pick, odd: bool, rotates: bool) -> tuple[int, bool, list[str]]:
    """How many components rotate, whether queries are of low rank too, and heads of sizes that go with that.

    Unless `odd` all sizes are multiples of eight.
    """
    rope_dim = int(pick("8", *(["2", "4", *([] if rotates else ["3"])] if odd else [])))
    own, value_dim = (pick("8", *["3"] * odd) for _ in range(2))
    q, eps = pick("", "8", *["6"] * odd), pick("", "1e-4")
    ranks = [f"kv = {pick('8', *['5'] * odd)}", f"rope_dim = {rope_dim}"]
    ranks += [f"q = {q}"] * bool(q) + [f"eps = {eps}"] * bool(eps)
    said = [f"heads = {pick('4', '2')}", f"head_dim = {int(own) + rope_dim}", f"low_rank {{ {', '.join(ranks)} }}"]
    return rope_dim, bool(q), said + [f"value_dim = {value_dim}"] * (pick("no", "yes") == "yes")


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
