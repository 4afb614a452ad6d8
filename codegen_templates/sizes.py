"""Sizes that vary from batch to batch, told to the compiler."""

from torch import Tensor

LIKELY = {"batch": 4, "sequence": 1024, "rows": 4, "length": 1024, "stream": 4096, "piece": 2048}
"""What the compiler takes a size for where that helps it choose; any other works as well."""


def mark_sizes(x: Tensor, *names: str) -> Tensor:
    """x, its first sizes told to vary: one graph then serves all, 0 and 1 included.

    Equal names mean equal sizes; pieces have sizes of their own, and the size `one` does not vary.

    A mark is lost by any operation, and by a transfer between processes, so this is done at every call.
    """
    from torch._dynamo.decorators import mark_unbacked

    for dimension, name in enumerate(names):
        if name == "one":
            continue
        shape_id = None if name == "piece" else name
        least = None if name in ("stream", "piece") else 1
        mark_unbacked(x, dimension, shape_id=shape_id, min=least, hint_override=LIKELY[name])
    return x
