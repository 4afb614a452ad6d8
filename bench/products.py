"""What a layer's matrix products alone cost when each tower has its own: `python bench/products.py`.

The products of one layer of `fused.mot`, uncompiled, forward and with both gradients: cut into as many pieces as there
are towers, in the ways that `motc/bench/portable/products.py` names, each timed in turns with one weight for all.
"""

from __future__ import annotations

import argparse

import torch

from motc.bench.portable.products import time_products
from motc.bench.portable.settings import DTYPES
from motc.processor import processor_name


def main() -> None:
    """Read the arguments, time, and print a line for each dtype, number of pieces, mode and way."""
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
    for dtype in DTYPES:
        for pieces in map(int, arguments.pieces.split(",")):
            for mode in ("forward", "backward"):
                for times in time_products(
                    tokens=arguments.tokens,
                    width=arguments.width,
                    hidden=arguments.hidden,
                    pieces=pieces,
                    dtype=dtype,
                    mode=mode,
                    rounds=arguments.pairs,
                ):
                    ratio, whole = times.ratio, 1e3 * times.whole_seconds
                    print(
                        f"{dtype:9} {pieces} pieces  {mode:9} {times.way:7} / whole {ratio.median:.3f} "
                        f"({ratio.low:.3f} .. {ratio.high:.3f})   whole {whole:.2f} ms"
                    )


if __name__ == "__main__":
    main()
