"""Decode steps of a spec and of its dense twin, timed in turns in one process.

    python bench/decode.py specs/paper/chameleon_37m_mot.mot --batches 1,8 --steps 64 --rounds 10

A round generates the same number of tokens with either model from prompts of one length, the two swapping places from
round to round, and gives one ratio; the table has their medians. `text`: all rows at the first modality; `mixed`: the
rows at the modalities in turn. The time of a run with one token, which is the prompt's, is taken off. The `limit` of a
mixed batch is the bytes of weights that the twin reads for a step over those that the model reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import motc
from motc.bench.portable.decoding import DecodingSpeed, decode
from motc.bench.portable.settings import DTYPES


def compare(spec: Path, batch: int, mixed: bool, arguments: argparse.Namespace) -> DecodingSpeed:
    """The model of a spec beside its twin."""
    dtype, device = DTYPES[arguments.dtype], arguments.device
    ours, dense = (motc.load(spec, dense=dense, dtype=dtype, device=device).eval() for dense in (False, True))
    counts = {"prompt": arguments.prompt, "steps": arguments.steps, "rounds": arguments.rounds}
    return decode(ours, dense, device, batch=batch, mixed=mixed, **counts)


def main() -> None:
    """Read the arguments, time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--batches", default="1,8", help="rows, by commas; of 2 and more also mixed")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--steps", type=int, default=64, help="tokens generated a row and run")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(title=f"{arguments.spec.stem}, {arguments.dtype}: tokens a second while decoding")
    for name in ("batch", "mot", "dense", "mot / dense (10 % .. 90 %)", "limit"):
        table.add_column(name, justify="right")
    for batch in map(int, arguments.batches.split(",")):
        for mixed in (False, True) if batch > 1 else (False,):
            speed = compare(arguments.spec, batch, mixed, arguments)
            spread = speed.ratio()
            table.add_row(
                f"{batch} {'mixed' if mixed else 'text'}",
                *(f"{speed.median(side):.1f}" for side in ("mot", "dense")),
                f"{spread.median:.3f} ({spread.low:.3f} .. {spread.high:.3f})",
                f"{speed.limit:.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
