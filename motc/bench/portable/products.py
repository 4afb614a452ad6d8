"""What a layer's matrix products alone cost on the processor when each tower has its own."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .settings import DTYPES
from .timing import Run, Spread, Timed, interleave, no_collection, pairwise, spread, stopwatch

WAYS = ("cut", "uneven", "padded", "joined", "packed")
"""How the products of several towers are made, beside one weight for all tokens:

cut      even pieces of the tokens, each with weights of its own
uneven   pieces of 3/8 and 5/8 of the tokens, or 3, 5 and 7 fifteenths, …
padded   even pieces, each filled up to a multiple of 64 rows
joined   even pieces; q, k and v are one product, gate and up another
packed   even pieces; bfloat16 weights that oneDNN has put in the order it likes, once (forward only, where
         the processor can)
"""

MULTIPLE = 64
Work = list[tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductTimes:
    """One way to make the products beside one weight for all tokens, timed in turns; seconds are the latter's."""

    dtype: str
    pieces: int
    mode: str
    way: str
    ratio: Spread
    whole_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def time_products(
    *, tokens: int, width: int, hidden: int, pieces: int, dtype: str, mode: str, rounds: int
) -> tuple[ProductTimes, ...]:
    """Each way, for the products of q, k, v, out, gate, up and down; `backward` has both gradients of each too."""
    whole = _run(_work([tokens], _shapes(width, hidden, joined=False), DTYPES[dtype]), mode)
    times = []
    with no_collection():
        for way in WAYS:
            run = _way(way, tokens, width, hidden, pieces, DTYPES[dtype], mode)
            if run is None:
                continue
            sides = {name: Timed(prepare=_nothing, run=each) for name, each in ((way, run), ("whole", whole))}
            interleave(sides, max(1, rounds // 10), stopwatch("cpu"))
            seconds_of = interleave(sides, rounds, stopwatch("cpu"))
            ratio, seconds = spread(pairwise(seconds_of[way], seconds_of["whole"])), spread(seconds_of["whole"]).median
            times.append(
                ProductTimes(dtype=dtype, pieces=pieces, mode=mode, way=way, ratio=ratio, whole_seconds=seconds)
            )
    return tuple(times)


def piece_sizes(tokens: int, pieces: int, way: str) -> list[int]:
    """How many rows each piece has."""
    weights = [3 + 2 * index for index in range(pieces)] if way == "uneven" else [1] * pieces
    ends = [tokens * part // sum(weights) for part in itertools.accumulate(weights, initial=0)]
    sizes = [end - start for start, end in itertools.pairwise(ends)]
    return [-(-size // MULTIPLE) * MULTIPLE for size in sizes] if way == "padded" else sizes


def _way(way: str, tokens: int, width: int, hidden: int, pieces: int, dtype: torch.dtype, mode: str) -> Run | None:
    shapes = _shapes(width, hidden, joined=way == "joined")
    work = _work(piece_sizes(tokens, pieces, way), shapes, dtype)
    if way != "packed":
        return _run(work, mode)
    operators = torch.ops.mkldnn
    if mode != "forward" or dtype != torch.bfloat16 or not hasattr(operators, "_linear_pointwise"):
        return None
    if not operators._is_mkldnn_bf16_supported():  # by this processor
        return None
    ready = [(x, operators._reorder_linear_weight(weight, len(x))) for x, weight, _ in work]

    def run() -> None:
        for x, weight in ready:
            operators._linear_pointwise(x, weight, None, "none", [], "")

    return run


def _shapes(width: int, hidden: int, joined: bool) -> list[tuple[int, int]]:
    """What goes into a layer's weights and what comes out."""
    if joined:
        return [(width, 3 * width), (width, width), (width, 2 * hidden), (hidden, width)]
    return [(width, width)] * 4 + [(width, hidden)] * 2 + [(hidden, width)]


def _work(sizes: list[int], shapes: list[tuple[int, int]], dtype: torch.dtype) -> Work:
    """Tokens [n, in], weight [out, in] and gradient [n, out] of each product."""

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype)

    return [(tensor(n, inner), tensor(outer, inner), tensor(n, outer)) for inner, outer in shapes for n in sizes]


def _run(work: Work, mode: str) -> Run:
    def run() -> None:
        for x, weight, _ in work:
            torch.mm(x, weight.t())
        if mode == "backward":
            for x, weight, gradient in work:
                torch.mm(gradient, weight)
                torch.mm(gradient.t(), x)

    return run


def _nothing() -> None:
    """There is nothing to prepare."""
