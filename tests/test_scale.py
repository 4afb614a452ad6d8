"""examples/scale/train.py: four processes of which one is killed, and two that go on with what they left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_match import folder as folder

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "examples" / "scale" / "train.py"


def command(place: Path, out: str, processes: int, *options: str) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = [str(place / "small.mot"), "--data", str(place / "data"), "--out", str(place / out)]
    return [*launch, "--max-restarts=1", str(SCRIPT), *given, "--batch=4", "--save-every=4", *options]


def metrics(out: Path) -> list[dict[str, object]]:
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


@pytest.mark.compiled
def test_a_run_whose_process_is_killed_goes_on_and_so_does_another_mesh(folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        command(folder, "cut", 4, "--steps=16", "--mesh=dp=2,cp=2"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 300
    while len(metrics(folder / "cut")) < 5 and time.monotonic() < until and run.poll() is None:
        time.sleep(0.05)
    os.kill(worker_of(run.pid), signal.SIGKILL)
    told, _ = run.communicate(timeout=300)
    assert run.returncode == 0, told
    assert re.search(r"exitcode: -9", told), "none was killed"
    # Two others, from the first: their curve is the same.
    subprocess.run(command(folder, "whole", 2, "--steps=16"), env=environment, check=True, capture_output=True)
    curves = [[line["loss"] for line in metrics(folder / out)] for out in ("cut", "whole")]
    assert len(curves[0]) == len(curves[1]) == 16
    for cut, whole in zip(*curves, strict=True):
        assert cut == pytest.approx(whole, abs=1e-4)
    # Both go on from the last checkpoint, on other meshes, with batches that are packed.
    more = command(folder, "cut", 2, "--steps=18", "--tokens=16", "--mesh=dp=2")
    subprocess.run(more, env=environment, check=True, capture_output=True)
    assert len(metrics(folder / "cut")) == 18


def worker_of(launcher: int) -> int:
    """The last process that a launcher has started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return int(children[-1])
