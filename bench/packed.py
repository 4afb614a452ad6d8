"""What padding and packing cost: `python bench/packed.py`.

The same 4 documents of 512 tokens as rows of their own, padded to 1024, and packed two in a row of 1024, timed in
turns: the loss of `fused.mot` and its backward, compiled, in float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import motc

SPEC = Path(__file__).with_name("fused.mot")
Batch = tuple[Tensor, Tensor, Tensor | None]


def batches(count: int, length: int) -> dict[str, Batch]:
    """Ids, modalities and documents of the same tokens, laid out in three ways."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 1024, (count, length), generator=generator)
    modality_ids = torch.randint(0, 2, (count, length), generator=generator)
    nothing = torch.full_like(modality_ids, -1)
    documents = (torch.arange(2 * length) // length).repeat(count // 2, 1)
    return {
        "rows of their own": (ids, modality_ids, None),
        "padded": (torch.cat([ids, 0 * ids], 1), torch.cat([modality_ids, nothing], 1), None),
        "packed": (ids.view(-1, 2 * length), modality_ids.view(-1, 2 * length), documents),
    }


def seconds(model: Any, batch: Batch) -> float:
    ids, modality_ids, documents = batch
    model.zero_grad()
    start = time.perf_counter()
    model.loss(ids, modality_ids, document_ids=documents).total.backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    model: Any = motc.load(SPEC)
    model.compile()
    sides = batches(4, 512)
    for batch in [*sides.values()] * 2:
        seconds(model, batch)
    seconds_of: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(arguments.pairs):
        for name in sides if turn % 2 else reversed(sides):
            seconds_of[name].append(seconds(model, sides[name]))
    base = seconds_of["rows of their own"]
    for name, times in seconds_of.items():
        ratio = statistics.median(mine / own for mine, own in zip(times, base, strict=True))
        print(f"{name:18} {statistics.median(times) * 1e3:7.1f} ms   {ratio:.3f}")


if __name__ == "__main__":
    main()
