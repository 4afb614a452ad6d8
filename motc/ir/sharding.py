"""How each parameter is divided among ranks that have the same tokens: by columns, rows, heads, ids or experts.

"Megatron-LM" (Shoeybi et al., 2019), of linear maps: what is divided by columns makes numbers of each rank's own, what
is divided by rows takes them, and results are added up over ranks. Attention and feed-forwards are such pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.layer import Sublayer
from motc.ir.leaf import Block, Leaf
from motc.ir.model import Model
from motc.ir.names import parameter_prefix
from motc.ir.operators import Embedding, Experts, Linear, Norm, ReadMap

Way = Literal["columns", "rows", "look_up", "logits", "by_head", "each_head", "all_heads"]
"""How a copy is divided.

`columns`: each rank makes numbers of its own. `rows`: each takes numbers of its own, and results are added up.
`look_up`: of a table each has the rows of some ids, and results are added up. `logits`: each makes those of some ids.
`by_head`: each has numbers of its heads. `each_head`: numbers that all heads share, and `all_heads`: a map to what they
share; each rank has all, and its heads' part of the gradient. Where ranks are more than kv_heads, each has all of what
makes keys and values, and computes those of the head that its queries ask.
"""

Unit = Literal["heads", "kv_heads", "hidden", "vocab", "experts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """How a copy is divided: in `count` equal units that stay whole. `by_expert`: each rank has all of some experts."""

    way: Way
    count: int
    unit: Unit
    by_expert: bool = False

    def divides(self, ranks: int) -> bool:
        """Whether so many ranks can share it."""
        if self.way in ("each_head", "all_heads"):
            return True
        return self.count % ranks == 0 or (self.unit == "kv_heads" and ranks % self.count == 0)

    def dimension(self, parameter: str, shape: tuple[int, ...], ranks: int) -> int | None:
        """Along which dimension the copy's `weight` or `bias` is cut; None where each rank has all of it."""
        if ranks == 1 or self.way in ("each_head", "all_heads") or (self.unit == "kv_heads" and self.count % ranks):
            return None
        if self.by_expert or self.way in ("look_up", "by_head"):
            return 0
        if self.way == "rows":
            return len(shape) - 1 if parameter == "weight" else None
        return len(shape) - (2 if parameter == "weight" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """A parameter: its shape, and along which dimension it is cut for so many ranks; None: each has all of it."""

    shape: tuple[int, ...]
    dimension: int | None
    ranks: int

    @property
    def local(self) -> tuple[int, ...]:
        """The shape of a rank's part."""
        return tuple(n // self.ranks if i == self.dimension else n for i, n in enumerate(self.shape))


class Place(NamedTuple):
    """A copy of a group, and where it is: in which layer's sublayer, or outside of the layers."""

    prefix: str  # what the names of its parameters begin with
    leaf: Leaf
    block: Block
    sublayer: Sublayer | None


def divided_parameters(
    model: Model, ranks: int, *, by_expert: bool = False, whole: Collection[str] = ()
) -> dict[str, Divided]:
    """Every parameter by its name, as `divisions` say for so many ranks.

    Raises ValueError as that does, and where ranks do not divide what they are to share.
    """
    table = {} if ranks == 1 else divisions(model, by_expert=by_expert, whole=whole)
    require_divisible(table, ranks)
    parameters = {}
    for place in places(model):
        division = table.get(place.prefix)
        for name, shape in place.block.operator.shapes().items():
            dimension = None if division is None else division.dimension(name, shape, ranks)
            parameters[f"{place.prefix}.{name}"] = Divided(shape=shape, dimension=dimension, ranks=ranks)
    return parameters


def require_divisible(table: Mapping[str, Division], ranks: int) -> None:
    """Raise ValueError, with the numbers, where so many ranks do not divide a copy."""
    faults: dict[tuple[str, int], str] = {}
    for prefix, division in table.items():
        if not division.divides(ranks):
            faults.setdefault((division.unit, division.count), prefix)
    if faults:
        told = "; ".join(f"{prefix} has {count} {unit}" for (unit, count), prefix in faults.items())
        raise ValueError(f"{ranks} tensor-parallel ranks do not divide what they are to share: {told}")


def divisions(model: Model, *, by_expert: bool = False, whole: Collection[str] = ()) -> dict[str, Division]:
    """How each copy is divided, by what the names of its parameters begin with; of all others each rank has all.

    Copies in `whole` are not divided: those of feed-forwards, tables and heads, for towers meet in attention. Raises
    ValueError for others, and for a model that cannot be divided.
    """
    if model.execution.groups_copies:
        raise ValueError("the strategy grouped multiplies all copies at once, which ranks cannot divide: use sorted")
    table = {}
    for place in places(model):
        division = _division(place, model, by_expert)
        if division is not None and place.prefix not in whole:
            table[place.prefix] = division
        elif division is not None and place.sublayer and isinstance(place.sublayer.body, Attention):
            raise ValueError(f"{place.prefix} cannot stay whole: towers meet in attention, which is divided by heads")
    return table


def places(model: Model) -> Iterator[Place]:
    """Every copy of every group: before the layers, in each layer, and after them."""
    yield from (
        Place(parameter_prefix(leaf, block, None), leaf, block, None) for leaf, block in _of(model.leaves_before())
    )
    for segment in model.segments:
        for layer in range(segment.first, segment.last + 1):
            for sublayer in segment.layer.sublayers:
                for leaf, block in _of(sublayer.leaves()):
                    yield Place(parameter_prefix(leaf, block, layer), leaf, block, sublayer)
    yield from (
        Place(parameter_prefix(leaf, block, None), leaf, block, None) for leaf, block in _of(model.leaves_after())
    )


def _of(leaves: tuple[Leaf, ...]) -> Iterator[tuple[Leaf, Block]]:
    return ((leaf, block) for leaf in leaves for block in leaf.blocks)


def _division(place: Place, model: Model, by_expert: bool) -> Division | None:
    """How a copy is divided, if it is. Raises ValueError where it had to be and cannot."""
    if place.sublayer is None:
        return None if model.tied_embedding else _of_ids(place)
    body = place.sublayer.body
    if isinstance(body, Attention):
        return _of_heads(place, body, model.names)
    return _of_hidden(place, body, by_expert)


def _of_ids(place: Place) -> Division | None:
    """Of what is outside the layers tables of ids and heads, where these are two; the others are small."""
    operator = place.block.operator
    if place.leaf.path == "embedding" and isinstance(operator, Embedding):
        return Division(way="look_up", count=operator.vocab, unit="vocab")
    if place.leaf.path == "head" and isinstance(operator, Linear):
        return Division(way="logits", count=operator.out_features, unit="vocab")
    return None


def _of_heads(place: Place, body: Attention, modalities: tuple[str, ...]) -> Division | None:
    leaf, operator = place.leaf, place.block.operator
    q_heads = Division(way="columns", count=body.heads, unit="heads")
    kv_heads = Division(way="columns", count=body.kv_heads, unit="kv_heads")
    way = {body.q: q_heads, body.gate: q_heads, body.k: kv_heads, body.v: kv_heads}.get(leaf)
    if way is not None:
        if isinstance(operator, ReadMap):
            raise ValueError(f"{place.prefix} maps the keys of all heads together, which ranks cannot divide")
        lacking = [name for name in modalities if leaf.block_of(name) is None]
        if lacking:
            raise ValueError(f"{leaf.path} is not there for {', '.join(lacking)}, and ranks cannot divide it")
        return way
    if leaf == body.out:
        return Division(way="rows", count=body.heads, unit="heads")
    if leaf == body.sinks:
        return Division(way="by_head", count=body.heads, unit="heads")
    if leaf in (body.q_norm, body.k_norm) and isinstance(operator, Norm):
        if operator.over_heads:
            raise ValueError(f"{place.prefix} is a norm over all heads together, which ranks cannot divide")
        heads = q_heads if leaf == body.q_norm else kv_heads
        if len(operator.shape) == 1:
            return Division(way="each_head", count=heads.count, unit=heads.unit)
        return Division(way="by_head", count=heads.count, unit=heads.unit)
    if body.low_rank is not None and leaf == body.low_rank.k_rope:
        return Division(way="all_heads", count=body.heads, unit="heads")
    return None  # norms of the stream, and maps to few numbers


def _of_hidden(place: Place, body: FeedForward | Mixture, by_expert: bool) -> Division | None:
    leaf, operator = place.leaf, place.block.operator
    shared = body.shared[1:3] if isinstance(body, Mixture) else ()
    gates = (body.gate, body.shared_gate) if isinstance(body, Mixture) else (body.gate,)
    is_down = leaf in (body.down, *shared[1:])
    if not is_down and leaf not in (*gates, body.up, *shared[:1]):
        return None  # norms and routers
    assert isinstance(operator, Linear | Experts)
    way: Way = "rows" if is_down else "columns"
    if isinstance(operator, Experts) and by_expert:
        return Division(way=way, count=operator.count, unit="experts", by_expert=True)
    return Division(way=way, count=operator.in_features if is_down else operator.out_features, unit="hidden")
