"""What a layer's matrix products alone cost when their rows are cut in two: `python bench/products.py`.

One layer of `fused.mot`, uncompiled: q, k, v, out, gate, up and down, forward and with both gradients, with one weight
for all tokens and with two that take half of them each.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

WIDTH, HIDDEN = 256, 704
SHAPES = [(WIDTH, WIDTH)] * 4 + [(WIDTH, HIDDEN)] * 2 + [(HIDDEN, WIDTH)]


class Products:
    """The products of one layer, on `pieces` pieces of the tokens, each with weights of its own."""

    def __init__(self, tokens: int, pieces: int, dtype: torch.dtype) -> None:
        sizes = [tokens // pieces] * pieces
        self.work = [
            (torch.randn(size, rows, dtype=dtype), torch.randn(columns, rows, dtype=dtype))
            for rows, columns in SHAPES
            for size in sizes
        ]
        self.gradients = [torch.randn(len(x), len(weight), dtype=dtype) for x, weight in self.work]

    def forward(self) -> None:
        for x, weight in self.work:
            torch.mm(x, weight.t())

    def backward(self) -> None:
        self.forward()
        for (x, weight), gradient in zip(self.work, self.gradients, strict=True):
            torch.mm(gradient, weight)
            torch.mm(gradient.t(), x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    for dtype in (torch.float32, torch.bfloat16):
        whole, cut = (Products(arguments.tokens, pieces, dtype) for pieces in (1, 2))
        for mode in ("forward", "backward"):
            seconds: dict[str, list[float]] = {"cut": [], "whole": []}
            for turn in range(arguments.pairs + 10):
                sides = [("cut", cut), ("whole", whole)]
                for name, products in sides if turn % 2 else reversed(sides):
                    start = time.perf_counter()
                    getattr(products, mode)()
                    seconds[name].append(time.perf_counter() - start)
            ratios = [a / b for a, b in zip(seconds["cut"][10:], seconds["whole"][10:], strict=True)]
            name, whole_ms = str(dtype).removeprefix("torch."), statistics.median(seconds["whole"][10:]) * 1e3
            print(f"{name:9} {mode:9} cut / whole {statistics.median(ratios):.3f}   whole {whole_ms:.2f} ms")


if __name__ == "__main__":
    main()
