"""What a layer's matrix products alone cost when each tower has its own: `python bench/products.py`.

One layer of `fused.mot`, uncompiled: q, k, v, out, gate, up and down, forward and with both gradients. `whole` has one
weight for all tokens. The others have one for each of as many pieces of them:

    cut      even pieces
    uneven   pieces of 3/8 and 5/8 of the tokens, or 3, 5 and 7 fifteenths
    padded   even pieces, each filled up with zeros to a multiple of 64 rows
    joined   even pieces; q, k and v are one product, gate and up another
    packed   even pieces; bfloat16 weights that oneDNN has put in the order it likes, once (forward only, CPU only)

Each is timed in turns with `whole`, and has the median ratio.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from motc.bench.portable.timing import Timed, interleave, stopwatch
from motc.processor import processor_name

MULTIPLE = 64
Shapes = list[tuple[int, int]]
Work = list[tuple[Tensor, Tensor, Tensor]]


def shapes(width: int, hidden: int, joined: bool) -> Shapes:
    """Rows and columns of a layer's weights."""
    if joined:
        return [(width, 3 * width), (width, width), (width, 2 * hidden), (hidden, width)]
    return [(width, width)] * 4 + [(width, hidden)] * 2 + [(hidden, width)]


def pieces_of(tokens: int, pieces: int, uneven: bool) -> list[int]:
    """How many tokens each piece has."""
    weights = [3 + 2 * index for index in range(pieces)] if uneven else [1] * pieces
    ends = [tokens * part // sum(weights) for part in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(ends)]


def work_of(sizes: list[int], of: Shapes, dtype: torch.dtype) -> Work:
    """Tokens [n, in], weight [out, in] and gradient [n, out] of each product."""

    def tensor(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype)

    return [
        (tensor(size, rows), tensor(columns, rows), tensor(size, columns)) for rows, columns in of for size in sizes
    ]


def forward(work: Work) -> None:
    for x, weight, _ in work:
        torch.mm(x, weight.t())


def backward(work: Work) -> None:
    """Forward, and the gradients of tokens and weights."""
    forward(work)
    for x, weight, gradient in work:
        torch.mm(gradient, weight)
        torch.mm(gradient.t(), x)


def packed(work: Work) -> Callable[[], None] | None:
    """The forward with weights packed once, where this torch has oneDNN's operators for it."""
    operators = torch.ops.mkldnn
    if work[0][0].dtype != torch.bfloat16 or not hasattr(operators, "_linear_pointwise"):
        return None
    ready = [(x, operators._reorder_linear_weight(weight, len(x))) for x, weight, _ in work]

    def run() -> None:
        for x, weight in ready:
            operators._linear_pointwise(x, weight, None, "none", [], "")

    return run


def padded(sizes: list[int]) -> list[int]:
    return [-(-size // MULTIPLE) * MULTIPLE for size in sizes]


def variants(
    tokens: int, pieces: int, width: int, hidden: int, dtype: torch.dtype, mode: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed beside `whole`, by name."""
    run = forward if mode == "forward" else backward
    even, uneven = (pieces_of(tokens, pieces, each) for each in (False, True))
    apart, joined = (shapes(width, hidden, each) for each in (False, True))
    cases = {"cut": (even, apart), "uneven": (uneven, apart), "padded": (padded(even), apart), "joined": (even, joined)}
    for name, (sizes, of) in cases.items():
        work = work_of(sizes, of, dtype)
        yield name, lambda work=work: run(work)  # type: ignore[misc]
    if mode == "forward" and (once := packed(work_of(even, apart, dtype))):
        yield "packed", once


def main() -> None:
    """Read the arguments, time, and print a line for each dtype, number of pieces, mode and variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=704)
    parser.add_argument("--pieces", default="2,3", help="numbers of towers, by commas")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    sizes = (arguments.width, arguments.hidden)
    seconds_of = stopwatch("cpu")
    for dtype in (torch.float32, torch.bfloat16):
        for pieces in map(int, arguments.pieces.split(",")):
            for mode in ("forward", "backward"):
                whole = work_of([arguments.tokens], shapes(*sizes, joined=False), dtype)
                base = Timed(prepare=lambda: None, run=lambda: (forward if mode == "forward" else backward)(whole))  # noqa: B023
                for name, run in variants(arguments.tokens, pieces, *sizes, dtype, mode):
                    sides = {name: Timed(prepare=lambda: None, run=run), "whole": base}
                    interleave(sides, 10, seconds_of)
                    found = interleave(sides, arguments.pairs, seconds_of)
                    ratio = statistics.median(a / b for a, b in zip(found[name], found["whole"], strict=True))
                    print(
                        f"{str(dtype).removeprefix('torch.'):9} {pieces} pieces  {mode:9} {name:7} / whole {ratio:.3f}"
                        f"   whole {statistics.median(found['whole']) * 1e3:.2f} ms"
                    )


if __name__ == "__main__":
    main()
