"""Write the pack that is run on a GPU, `bench/gpu/`: `python bench/gpu_pack.py`, or `make gpu-pack`.

Three sizes, with two modalities and with three, in bfloat16; two modalities at shares 0, 0.37, 0.5 and 1 of the second,
three in equal shares; decoding at batch 1 and 64. The folder needs torch alone: copy it to a machine with a GPU and run
`python bench/gpu/run.py` there. On one H100 it keeps to 8 minutes, the most important things first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motc import __version__
from motc.bench.packing import SECONDS, Packing, pack_files, packed_models
from motc.bench.portable.pack import Job, Pack
from motc.bench.portable.settings import Mode
from motc.driver import check_spec
from motc.files import write_whole

HERE = Path(__file__).resolve().parent
ALL: tuple[Mode, ...] = ("forward", "backward", "step")

SIZES: dict[str, tuple[dict[str, Any], int, int]] = {
    "w256": ({}, 2, 1024),  # fused.mot as it is
    "w1024": ({"width": 1024, "layers": 8, "attention.heads": 16, "ffn.hidden": 2816}, 4, 4096),
    "w4096": ({"width": 4096, "layers": 4, "attention.heads": 32, "ffn.hidden": 11008}, 1, 4096),
}
"""What is overridden in the spec, rows and tokens a row."""

SPECS = {2: "fused.mot", 3: "fused3.mot"}


def packings() -> Iterator[Packing]:
    """Every size with two modalities and with three."""
    for modalities, spec in SPECS.items():
        for size, (overrides, batch, sequence) in SIZES.items():
            checked = check_spec(HERE / spec, overrides)
            yield Packing(name=f"{size}m{modalities}", checked=checked, batch=batch, sequence=sequence)


def jobs() -> tuple[Job, ...]:
    """All there is to do, the most important first, with seconds on an H100 as estimated from a compile's 18."""
    two, three = ([f"{size}m{modalities}" for size in ("w1024", "w4096", "w256")] for modalities in SPECS)
    return (
        *(Job(kind="check", model=name, seconds=10 if "4096" in name else 5) for name in (*two, *three)),
        *(Job(kind="time", model=name, modes=ALL, seconds=45) for name in two),
        Job(kind="decode", model=two[0], batches=(1, 64), seconds=12),
        Job(kind="time", model=two[0], strategy="reference", modes=("backward",), seconds=4),
        Job(kind="time", model=two[0], strategy="grouped", modes=("backward",), seconds=16),
        *(Job(kind="time", model=name, modes=("backward", "step"), seconds=30) for name in three),
        Job(kind="graphs", model=two[2], strategy="grouped", modes=("backward",), seconds=16),
        Job(kind="time", model=two[2], strategy="grouped", modes=("backward",), seconds=16),
        Job(kind="graphs", model=two[2], strategy="blend", modes=("backward",), seconds=16),
        Job(kind="time", model=two[2], strategy="blend", modes=("backward",), seconds=16),
        *(Job(kind="time", model=name, strategy="reference", modes=("backward",), seconds=4) for name in two[1:]),
        *(Job(kind="decode", model=name, batches=(1, 64), seconds=12) for name in two[1:]),
        Job(kind="time", model=three[0], strategy="grouped", modes=("backward",), seconds=16),
        Job(kind="time", model=two[1], strategy="grouped", modes=("backward",), seconds=20),
        Job(kind="time", model=two[0], strategy="blend", modes=("backward",), seconds=16),
        Job(kind="products", model=two[2], seconds=25),  # on the processor, while the device waits
    )


def gpu_pack() -> dict[str, str]:
    """The text of every file of the pack by its path in it."""
    models, files = packed_models(list(packings()))
    return pack_files(Pack(motc=__version__, seconds=SECONDS, rounds=9, models=models, jobs=jobs()), files)


def main() -> None:
    """Write it, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "gpu", help="the pack's folder (%(default)s)")
    folder = parser.parse_args().out
    for name, text in gpu_pack().items():
        write_whole(folder / name, text)
    print(f"{folder}: python {folder / 'run.py'}")


if __name__ == "__main__":
    main()
