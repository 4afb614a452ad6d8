"""Decode steps of a spec and of its dense twin, timed in turns in one process.

    python bench/decode.py specs/paper/chameleon_37m_mot.mot --batches 1,8 --steps 64 --rounds 10

A round generates the same number of tokens with either model from prompts of one length, the two swapping places from
round to round, and gives one ratio; the table has their medians. `text`: all rows at the first modality; `mixed`: the
rows at the modalities in turn. The time of a run with one token, which is the prompt's, is taken off. The `limit` of a
mixed batch is the bytes of weights that the twin reads for a step over those that the model reads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import motc

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def tokens_a_second(model: Any, modality_ids: torch.Tensor, steps: int) -> float:
    """Tokens of the whole batch a second, in decode steps alone."""
    ids = torch.ones_like(modality_ids)

    def seconds(count: int) -> float:
        start = time.perf_counter()
        model.generate(ids, modality_ids, max_new_tokens=count, temperature=0)
        return time.perf_counter() - start

    return len(ids) * (steps - 1) / (seconds(steps) - seconds(1))


def weights_read(model: Any, modality_ids: torch.Tensor) -> int:
    """Bytes of the parameters of a batch's towers and heads; of a table only a row is read a token."""
    names = {model.modalities[index] for index in modality_ids[:, -1].tolist()}
    others = set(model.towers.values()) - {model.towers[name] for name in names}
    unread = ["embedding."]
    if model.own_vocabularies:
        unread += [f"head.{name}." for name in model.modalities if name not in names]
    return sum(
        parameter.numel() * parameter.element_size()
        for name, parameter in model.named_parameters()
        if not name.startswith(tuple(unread)) and not others & set(name.split("."))
    )


def compare(
    spec: Path, batch: int, mixed: bool, arguments: argparse.Namespace
) -> tuple[float, float, list[float], float]:
    """Median tokens a second of the model and its twin, the ratio of each round, and the limit of the ratio."""
    dtype = DTYPES[arguments.dtype]
    ours: Any = motc.load(spec, dtype=dtype).eval()
    dense: Any = motc.load(spec, dense=True, dtype=dtype).eval()
    modality_ids = torch.zeros(batch, arguments.prompt, dtype=torch.int64)
    if mixed:
        modality_ids += torch.arange(batch)[:, None] % len(ours.modalities)
    pairs = []
    for turn in range(arguments.rounds + 1):  # the first warms up
        order = (ours, dense) if turn % 2 else (dense, ours)
        found = {id(model): tokens_a_second(model, modality_ids, arguments.steps) for model in order}
        pairs.append((found[id(ours)], found[id(dense)]))
    mine, theirs = zip(*pairs[1:], strict=True)
    ratios = [a / b for a, b in pairs[1:]]
    limit = weights_read(dense, modality_ids) / weights_read(ours, modality_ids)
    return statistics.median(mine), statistics.median(theirs), ratios, limit


def main() -> None:
    """Read the arguments, time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--batches", default="1,8", help="rows, by commas; of 2 and more also mixed")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--steps", type=int, default=64, help="tokens generated a row and run")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(title=f"{arguments.spec.stem}, {arguments.dtype}: tokens a second while decoding")
    for name in ("batch", "mot", "dense", "mot / dense (10 % .. 90 %)", "limit"):
        table.add_column(name, justify="right")
    for batch in map(int, arguments.batches.split(",")):
        for mixed in (False, True) if batch > 1 else (False,):
            mine, theirs, ratios, limit = compare(arguments.spec, batch, mixed, arguments)
            deciles = statistics.quantiles(ratios, n=10, method="inclusive")
            ratio = f"{statistics.median(ratios):.3f} ({deciles[0]:.3f} .. {deciles[-1]:.3f})"
            table.add_row(
                f"{batch} {'mixed' if mixed else 'text'}", f"{mine:.1f}", f"{theirs:.1f}", ratio, f"{limit:.2f}"
            )
    Console().print(table)


if __name__ == "__main__":
    main()
