"""How even ranks' work is: by motc.balance, and of the same documents as they come, filled into as many tokens.

    python bench/balance.py

On the emoji data, and on a skewed mixture: of 20,000 documents all have text, of lognormal length, three in ten images
of 256 tokens, and one in ten speech. For each step, what the rank with the most has beside the mean; of all, the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import motc
from motc.cost import attention_flops, flops_per_token
from motc.driver import compile_ir
from motc.ir.model import Model
from motc.match.data import read_data

ROOT = Path(__file__).resolve().parent.parent
STEPS = 32


def emoji() -> Tensor:
    """Tokens of text, image and speech [n, 3] of each sample."""
    return read_data(ROOT / "examples" / "emoji" / "match_data").training.counts(3)


def skewed() -> Tensor:
    """Tokens of text, image and speech [n, 3] of documents that differ much."""
    count, generator = 20_000, torch.Generator().manual_seed(0)
    lengths = torch.exp(torch.randn(2, count, generator=generator) * torch.tensor([[1.0], [0.7]]) + 5.5).long()
    images = 256 * torch.randint(1, 5, (count,), generator=generator)
    drawn = torch.rand(2, count, generator=generator)
    counts = (lengths[0].clamp(8, 3000), images * (drawn[0] < 0.3), lengths[1].clamp(max=3000) * (drawn[1] < 0.1))
    return torch.stack(counts, 1)


def as_they_come(lengths: list[int], tokens: int, ranks: int, rank: int) -> Iterator[list[int]]:
    """A rank's documents in a random order, as many in each step as its tokens hold."""
    generator = torch.Generator().manual_seed(0)
    while True:
        bins: list[list[int]] = [[]]
        held = 0
        for index in torch.randperm(len(lengths), generator=generator).tolist():
            if held + lengths[index] > tokens:
                bins.append([])
                held = 0
            bins[-1].append(index)
            held += lengths[index]
        yield from bins[rank : len(bins) // ranks * ranks : ranks]


def measure(model: Model, counts: Tensor, steps: list[tuple[list[int], ...]], tokens: int) -> list[float]:
    """Of tokens of each modality, squares of lengths and FLOPs: the most of a rank by the mean. Then how full it is."""
    lengths, of_token = counts.sum(1), torch.tensor(list(flops_per_token(model).values()))
    attended = torch.tensor([attention_flops(model, n) for n in lengths.tolist()])
    each = torch.cat((counts, lengths.square()[:, None], ((counts * of_token).sum(1) + attended)[:, None]), 1).double()
    loads = torch.stack([torch.stack([each[rank].sum(0) for rank in step]) for step in steps])  # [steps, ranks, what]
    full = loads[..., : counts.shape[1]].sum(-1).mean() / tokens
    return [*(loads.amax(1) / loads.mean(1)).mean(0).tolist(), float(full)]


def main() -> None:
    console = Console()
    columns = ("text", "image", "speech", "squares", "FLOPs", "filled")
    table = Table("data", "ranks × tokens", "", *columns, box=SIMPLE)
    settings = (
        ("emoji", emoji(), "examples/emoji/specs/mot.mot", 4, 2048),
        ("skewed", skewed(), "specs/paper/chameleon_speech_443m_mot.mot", 8, 8192),
        ("skewed", skewed(), "specs/paper/chameleon_speech_443m_mot.mot", 8, 32768),
    )
    for name, counts, spec, ranks, tokens in track(settings, description="packing"):
        model = compile_ir(ROOT / spec)
        lengths = counts.sum(1).tolist()
        how = {
            "by chance": [as_they_come(lengths, tokens, ranks, rank) for rank in range(ranks)],
            "motc.balance": [motc.balance(counts, tokens=tokens, ranks=ranks, rank=rank) for rank in range(ranks)],
        }
        for said, streams in how.items():
            steps = list(islice(zip(*streams, strict=True), STEPS))
            *shares, full = measure(model, counts, steps, tokens)
            row = (name, f"{ranks} × {tokens}") if said == "by chance" else ("", "")
            table.add_row(*row, said, *(f"{share:.2f}" for share in shares), f"{full:.0%}")
    console.print(table)


if __name__ == "__main__":
    main()
