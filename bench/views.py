"""What attention by views is worth: a step with views, and with the boolean mask they stand for, timed in turns.

    python bench/views.py --lengths 512,1024,2048 --pairs 15

One compiled model for each mask, of width 256 and 4 layers, on the same batch; forward and backward, float32. Half of a
row is image, at its beginning (`prefix`, `blocks`) or in random places (`sees`).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import motc
from codegen_templates.masks import visibility

SPEC = """model viewed {{
  width = 256, layers = 4, vocab = 1024
  modality text, image
  attention {{ heads = 4, mask {{ {mask} }} }}
  ffn {{ hidden = 704 }}
  untie attention, ffn, norm
}}
"""
MASKS = {
    "prefix": "kind = prefix, prefix = image",
    "blocks": "kind = blocks, blocks = [[image], text]",
    "sees": "sees { text = text }",
}
WARM_UP = 3


def seconds(model: Any, ids: Tensor, modality_ids: Tensor, layout: Any) -> float:
    """Of a forward and a backward."""
    start = time.perf_counter()
    model(ids, modality_ids, layout=layout).logits.square().mean().backward()
    model.zero_grad()
    return time.perf_counter() - start


def compare(mask: str, length: int, rows: int, pairs: int) -> tuple[float, float, float]:
    """Median seconds with views and with the mask, and the median of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "viewed.mot"
        path.write_text(SPEC.format(mask=MASKS[mask]))
        model: Any = motc.load(path)
    model.compile()
    generator = torch.Generator().manual_seed(0)
    modality_ids = (torch.arange(length) < length // 2).long().repeat(rows, 1)
    if mask == "sees":
        modality_ids = modality_ids[:, torch.randperm(length, generator=generator)]
    ids = torch.randint(0, 1024, modality_ids.shape, generator=generator)
    by_views = model.layout(modality_ids)
    visible = visibility(model.masks[0], by_views.rows.modality_ids, None)[:, None]
    by_mask = by_views._replace(rows=by_views.rows._replace(mask=visible, views=None))
    seconds_of: dict[str, list[float]] = {"views": [], "mask": []}
    for turn in track(range(pairs + WARM_UP), f"{mask}, {length} tokens"):
        sides = [("views", by_views), ("mask", by_mask)]
        for name, layout in sides if turn % 2 else reversed(sides):
            seconds_of[name].append(seconds(model, ids, modality_ids, layout))
    views, masked = (times[WARM_UP:] for times in seconds_of.values())
    ratios = [a / b for a, b in zip(views, masked, strict=True)]
    return statistics.median(views), statistics.median(masked), statistics.median(ratios)


def main() -> None:
    """Read the arguments, time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="512,1024,2048", help="tokens a row, by commas")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    table = Table("mask", "tokens a row", "views, ms", "mask, ms", "views / mask")
    for mask in MASKS:
        for length in map(int, arguments.lengths.split(",")):
            views, masked, ratio = compare(mask, length, arguments.rows, arguments.pairs)
            table.add_row(mask, str(length), f"{views * 1e3:.1f}", f"{masked * 1e3:.1f}", f"{ratio:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
