"""`python run.py` of a pack: its jobs one after the other, as long as there is time, and what they found as files."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from .compiling import empty_caches
from .jobs import LeftOut, Workshop, first_line, forget
from .markdown import markdown
from .pack import KINDS, Job, Pack, read_pack
from .timing import spread

QUICK_PARAMETERS = 50_000_000
"""--quick leaves out models with more."""

JSON, TABLE = "result.json", "result.md"


def main(folder: Path, processor: str, begun: float, words: Sequence[str] | None = None) -> int:
    """Returns 1 where a strategy is further from the reference than it may be, else 0.

    `begun`: when the program was, by `perf_counter`, for what it imports takes some of its time.
    """
    pack = read_pack(folder)
    options = _options(folder, pack).parse_args(words)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    run = Run(pack, folder, options.out, device, options, lambda: perf_counter() - begun)
    run.result["machine"] = machine(device, processor)
    with contextlib.nullcontext() if options.quick else empty_caches(device, options.threads):
        run.do()
    print(run.table.read_text(encoding="utf-8"))
    return 1 if run.is_wrong() else 0


class Run:
    """The jobs of a pack, what they found, and the time that is left."""

    def __init__(
        self, pack: Pack, folder: Path, out: Path, device: str, options: argparse.Namespace, clock: Callable[[], float]
    ) -> None:
        self.pack = quick(pack) if options.quick else pack
        self.seconds = options.seconds
        self.clock = clock
        self.slower: defaultdict[str, list[float]] = defaultdict(list)  # how many times its estimate each job took
        self.table = out / TABLE
        self.json = out / JSON
        self.too_large = {m.name for m in pack.models if m.parameters > QUICK_PARAMETERS} if options.quick else set()
        self.only = options.only
        self.workshop = Workshop(
            folder=folder,
            pack=self.pack,
            device=device,
            quick=options.quick,
            save=self.save,
            seconds_left=lambda: self.seconds - clock(),
            one_size=options.one_size,
        )
        models = [{key: value for key, value in asdict(m).items() if key != "classes"} for m in self.pack.models]
        said = {"quick": options.quick, "one_size": options.one_size}
        self.result: dict[str, Any] = {"motc": pack.motc, **said, "models": models, "jobs": []}

    def do(self) -> None:
        """Every job for which there is time, those with the most important first."""
        for job in self.pack.jobs:
            if self.only is not None and job.kind not in self.only:
                continue
            entry: dict[str, Any] = {"job": asdict(job), "title": str(job), "state": "cut off"}
            self.result["jobs"].append(entry)
            begun = self.clock()
            self._tell(job)
            try:
                self._need(job)
                self.workshop.do(job, entry)
                entry["state"] = "done"
                self.slower[job.kind].append((self.clock() - begun) / job.seconds)
            except LeftOut as reason:
                entry |= {"state": "left out", "reason": str(reason)}
            except Exception as error:  # whatever it is, the rest goes on
                entry |= {"state": "failed", "reason": first_line(error), "traceback": traceback.format_exc()}
            entry["seconds"] = self.clock() - begun
            if entry["state"] != "done":
                print(f"          {entry['state']}: {entry['reason']}", file=sys.stderr, flush=True)
            self.save()
            forget()

    def save(self) -> None:
        """Both files, whole or as they were."""
        self.result["seconds"] = {"allowed": self.seconds, "spent": self.clock()}
        self.json.parent.mkdir(parents=True, exist_ok=True)
        for path, text in (
            (self.json, json.dumps(self.result, indent=1, allow_nan=False) + "\n"),
            (self.table, markdown(self.result)),
        ):
            new = path.with_name(f"{path.name}.new")
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)

    def is_wrong(self) -> bool:
        """Whether a check was made and failed."""
        checks = (check for entry in self.result["jobs"] for check in entry.get("checks", ()))
        return any(check["judged"] and not check.get("ok", True) for check in checks)

    def _tell(self, job: Job) -> None:
        about = f"about {self._estimate(job):.0f} s"
        print(f"{self.clock():7.0f} s  {job} ({about})", file=sys.stderr, flush=True)

    def _need(self, job: Job) -> None:
        if job.model in self.too_large:
            raise LeftOut(f"more than {QUICK_PARAMETERS:,} parameters are too many for --quick")
        left, needed = self.seconds - self.clock(), self._estimate(job)
        if left < needed:
            raise LeftOut(f"it needs about {needed:.0f} s, and {max(0, left):.0f} s are left")

    def _estimate(self, job: Job) -> float:
        """Seconds, as far as earlier jobs of the kind say how fast this machine is."""
        factors = self.slower[job.kind]
        return job.seconds * (spread(factors).median if factors else 1.0)


def quick(pack: Pack) -> Pack:
    """The same with a little of everything, for a machine that is not fast."""
    return replace(
        pack,
        rounds=2,
        models=tuple(replace(m, batch=min(m.batch, 2), sequence=min(m.sequence, 64)) for m in pack.models),
        jobs=tuple(replace(job, batches=tuple(dict.fromkeys(min(b, 2) for b in job.batches))) for job in pack.jobs),
        decode={"prompt": 8, "steps": 4, "rounds": 1},
        products={"tokens": 64, "width": 32, "hidden": 64, "rounds": 2},
    )


def machine(device: str, processor: str) -> dict[str, Any]:
    """Where it runs."""
    on_cuda = device.startswith("cuda")
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if on_cuda else processor,
        "driver": _driver() if on_cuda else None,
        "cuda": torch.version.cuda,
        "processor": processor,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _driver() -> str | None:
    """The version of NVIDIA's driver, where its own program says so."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _options(folder: Path, pack: Pack) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Check and time the models of this folder.")
    parser.add_argument("--device", help="cpu, cuda or cuda:1; default: cuda where there is one")
    parser.add_argument("--seconds", type=float, default=pack.seconds, help="time for all of it (%(default)s)")
    parser.add_argument("--out", type=Path, default=folder, help=f"where {JSON} and {TABLE} go; default: this folder")
    parser.add_argument("--only", type=_kinds, metavar="KINDS", help=f"of {', '.join(KINDS)}, by commas")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--one-size", action="store_true", help="time one mixture, compiled for its sizes alone")
    parser.add_argument("--quick", action="store_true", help="small batches and no kernels compiled: only to try it")
    return parser


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(KINDS)}")
    return kinds
