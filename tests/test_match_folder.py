"""The folder of a `motc match` run: one process at a time, nothing in a file's place, damaged checkpoints."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from motc.cli import main
from motc.ir.model import Model
from motc.match import Data, MatchError, Report, Settings, match_systems, read_data
from motc.match.batches import PreparedBatch
from motc.match.checkpoint import digest, read_checkpoint, write_checkpoint
from motc.match.lock import locked
from motc.match.race import System
from tests.small_run import SETTINGS, do_not_compile, models_in, write_data, write_specs

ROOT = Path(__file__).resolve().parent.parent
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    write_data(tmp_path / "data")
    return read_data(tmp_path / "data")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Model]:
    """Two systems, neither of them compiled."""
    do_not_compile(monkeypatch)
    return {name: model for name, model in models_in(tmp_path).items() if name != "ffn_untied"}


def run(models: dict[str, Model], data: Data, out: Path, settings: Settings = SETTINGS) -> Report:
    return match_systems(models, data, settings, out, lambda *_: None)


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a checkpoint after four of eight steps."""

    def stop(done: float, _: str) -> None:
        if done > 0.6:
            raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("stopped")
    write_data(folder / "data")
    models = {name: model for name, model in models_in(folder).items() if name != "ffn_untied"}
    with pytest.MonkeyPatch.context() as patch:
        do_not_compile(patch)
        with pytest.raises(KeyboardInterrupt):
            match_systems(models, read_data(folder / "data"), SETTINGS, folder / "out", stop)
    return folder / "out"


@pytest.fixture(scope="module")
def finished_run(stopped_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run once it has gone on to its end."""
    folder = tmp_path_factory.mktemp("finished")
    write_data(folder / "data")
    models = {name: model for name, model in models_in(folder).items() if name != "ffn_untied"}
    with pytest.MonkeyPatch.context() as patch:
        do_not_compile(patch)
        run(models, read_data(folder / "data"), shutil.copytree(stopped_run, folder / "out"))
    return folder / "out"


@pytest.fixture
def stopped(stopped_run: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return shutil.copytree(stopped_run, tmp_path / "out")


@pytest.mark.compiled
def test_a_second_process_refuses_and_a_killed_one_leaves_no_lock(
    models: dict[str, Model], data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    program = (
        "import sys, time; from pathlib import Path; from motc.match.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, out], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        specs = write_specs(tmp_path)
        words = ["match", str(specs["dense"]), str(specs["mot"]), "--data", str(tmp_path / "data"), "--out", str(out)]
        assert main(words) == 1
        assert f"process {other.pid} is at work in {out}" in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["run.lock"]
        other.send_signal(signal.SIGKILL)
    run(models, data, out)


@pytest.mark.compiled
def test_a_fork_that_outlives_a_run_does_not_hold_its_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from motc.match.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    forked = os.fork()\n"
        "    if forked: print(forked, flush=True)\n"
        "    time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    forked = int(holder.stdout.readline())
    try:
        with pytest.raises(MatchError, match="is at work"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        os.kill(forked, 0)  # it lives
        with locked(tmp_path):
            pass
    finally:
        os.kill(forked, signal.SIGKILL)
        holder.kill()
        holder.stdout.close()


def test_the_lock_is_held_until_the_report_is_written(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    def finish(_: Report) -> None:
        with pytest.raises(MatchError, match="is at work"), locked(tmp_path / "out"):
            pass

    match_systems(models, data, SETTINGS, tmp_path / "out", lambda *_: None, finish)
    with locked(tmp_path / "out"):
        pass


def test_a_planted_lock_is_not_followed_and_a_disk_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.lock").symlink_to("elsewhere")
    with (
        pytest.raises(MatchError, match=r"run\.lock cannot be opened \(a link, which is not followed\): remove it"),
        locked(tmp_path),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "run.lock").unlink()

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(MatchError, match="cannot be locked"), locked(tmp_path):
        pass


@pytest.mark.parametrize("name", ["seed1.safetensors", "run.json", "report.md", "report.png"])
def test_what_is_in_the_place_of_a_file_is_found_before_training(
    name: str, models: dict[str, Model], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motc.match.run.race", lambda *_: pytest.fail("it trains"))
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(MatchError, match=rf"{name} is a directory, in the place of a file: remove it"):
        run(models, data, tmp_path / "out", replace(SETTINGS, seeds=2))


def test_a_file_for_a_folder_is_told(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    with pytest.raises(MatchError, match=r"data\.json is no folder"):
        run(models, data, tmp_path / "data" / "data.json")


def test_leftovers_of_a_killed_process_are_removed(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".motc-killed.tmp"
    left.mkdir(parents=True)
    (left / "seed0.safetensors").write_text("half")
    run(models, data, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.json", "run.lock", "seed0.safetensors"]


def rewrite(path: Path, change: Callable[[Tensors], object], step: str = "4", *, signed: bool = True) -> None:
    """Change a checkpoint's tensors; as motc would sign them, or with the digest they had."""
    with safe_open(path, framework="pt") as file:
        before = file.metadata()["sha256"]
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"step": step, "sha256": digest(tensors) if signed else before})


def drop(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: change(tensors[name]).contiguous()})


WEIGHT = "mot/optimizer/layers.0.attention.q.weight"


@pytest.mark.parametrize(
    "change, said",
    [
        (drop("mot/model/head.text.weight"), "mot/model/head.text.weight is absent"),
        (put("mot/losses", lambda x: x[:2]), "mot/losses is torch.float64 [2, 2], and should be torch.float64 [4, 2]"),
        (put("dense/seconds", lambda x: x[:0]), "dense/seconds is torch.float64 [0]"),
        (put("dense/held_out", lambda x: x.repeat(2, 1)), "dense/held_out is torch.float64 [2, 2]"),
        (lambda tensors: tensors.update({"mot/losse": torch.ones(1)}), "mot/losse is torch.float32 [1], and should be"),
    ],
)
def test_a_checkpoint_of_the_wrong_shape_is_told(
    change: Callable[[Tensors], object], said: str, stopped: Path, models: dict[str, Model], data: Data
) -> None:
    path = stopped / "seed0.safetensors"
    rewrite(path, change)
    with pytest.raises(MatchError) as caught:
        run(models, data, stopped)
    assert str(caught.value).startswith(f"{path} does not fit: ")
    assert said in str(caught.value)
    assert str(caught.value).endswith("; remove it to begin this seed anew")


def at(place: Any, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[place] = value
        return x

    return change


NAN = float("nan")
MISFITS = [
    (drop(f"{WEIGHT}/exp_avg"), f"{WEIGHT}/exp_avg is absent, and should be torch.float32 [16, 16]"),
    (put(f"{WEIGHT}/exp_avg", lambda x: x[:3]), "exp_avg is torch.float32 [3, 16], and should be torch.float32"),
    (put(f"{WEIGHT}/exp_avg_sq", torch.Tensor.double), "exp_avg_sq is torch.float64 [16, 16], and should be"),
    (put(f"{WEIGHT}/step", lambda x: x[None]), "step is torch.float32 [1], and should be torch.float32 []"),
    (lambda tensors: tensors.update({f"{WEIGHT}/more": torch.ones(1)}), "more is torch.float32 [1], and should be"),
    (put("mot/model/head.text.weight", lambda x: x[:1]), "mot/model/head.text.weight is torch.float32 [1, 16]"),
    (put("mot/model/head.text.weight", at((0, 0), NAN)), "head.text.weight has numbers that are infinite or NaN"),
    (put(f"{WEIGHT}/exp_avg", at((0, 0), math.inf)), f"{WEIGHT}/exp_avg has numbers that are infinite or NaN"),
    (put(f"{WEIGHT}/exp_avg_sq", at((0, 0), -1)), f"{WEIGHT}/exp_avg_sq has squares that are negative"),
    (put(f"{WEIGHT}/step", lambda x: x * 0 - 5), "step has -5, and should be a number of steps within 1..{done}"),
    (put(f"{WEIGHT}/step", lambda x: x * 0 + 1.5), "step has 1.5, and should be a number of steps"),
    (put(f"{WEIGHT}/step", lambda x: x * 0 + 9), "step has 9, and should be a number of steps"),
    (put("dense/losses", at((0, 0), NAN)), "dense/losses has losses that are NaN where there were targets"),
    (put("mot/losses", at(0, NAN)), "mot/losses has losses that are NaN where there were targets"),
    (put("mot/held_out", at(0, NAN)), "mot/held_out has losses that are NaN where there were targets"),
    (put("mot/losses", at((0, 1), -math.inf)), "mot/losses has infinite losses"),
    (put("mot/seconds", at(0, -1)), "mot/seconds has times that are infinite or negative"),
]


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("change, said", MISFITS)
def test_a_checkpoint_that_training_does_not_write_is_told(
    change: Callable[[Tensors], object],
    said: str,
    is_finished: bool,
    stopped: Path,
    finished_run: Path,
    models: dict[str, Model],
    data: Data,
) -> None:
    path, done = stopped / "seed0.safetensors", 8 if is_finished else 4
    if is_finished:
        shutil.copytree(finished_run, stopped, dirs_exist_ok=True)
    rewrite(path, change, str(done))
    with pytest.raises(MatchError) as caught:
        run(models, data, stopped)
    assert str(caught.value).startswith(f"{path} does not fit: ")
    assert said.replace("{done}", str(done)) in str(caught.value)
    assert str(caught.value).endswith("; remove it to begin this seed anew")


def test_losses_of_a_single_system_are_numbers(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    only = {"mot": models["mot"]}
    run(only, data, tmp_path / "out")
    rewrite(tmp_path / "out" / "seed0.safetensors", put("mot/losses", lambda x: x * NAN), "8")
    with pytest.raises(MatchError, match="mot/losses has losses that are NaN"):
        run(only, data, tmp_path / "out")


def test_a_held_out_loss_that_is_no_number_ends_the_run(
    models: dict[str, Model], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = System.losses_of

    def broken(system: System, batch: PreparedBatch, noise: str) -> Any:
        given = losses(system, batch, noise)
        if noise.startswith("held-out"):
            return given._replace(by_modality={name: x * NAN for name, x in given.by_modality.items()})
        return given

    monkeypatch.setattr(System, "losses_of", broken)
    with pytest.raises(MatchError, match="dense: a held-out loss after step 4 is no finite number"):
        run(models, data, tmp_path / "out")
    assert not (tmp_path / "out" / "seed0.safetensors").exists()


@pytest.mark.parametrize("step", ["-3", "", "4.0", "[4]", "[" * 100_000, "NaN", "Infinity", "9" * 5000, "³", "٤"])
def test_a_step_that_is_no_number_is_told(step: str, stopped: Path, models: dict[str, Model], data: Data) -> None:
    rewrite(stopped / "seed0.safetensors", lambda _: None, step)
    with pytest.raises(MatchError, match="no checkpoint of this motc match; remove it to begin this seed anew"):
        run(models, data, stopped)


@pytest.mark.parametrize("step", ["0", "3", "9", "1000000000000000000"])
def test_a_step_after_which_none_is_written_is_told(
    step: str, stopped: Path, models: dict[str, Model], data: Data
) -> None:
    rewrite(stopped / "seed0.safetensors", lambda _: None, step)
    with pytest.raises(MatchError, match=f"says it is of step {step}, after which none is written; remove it"):
        run(models, data, stopped)


def test_a_finished_checkpoint_is_held_to_the_same(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    path = tmp_path / "out" / "seed0.safetensors"
    run(models, data, tmp_path / "out")
    rewrite(path, put("mot/losses", lambda x: x[:5]), "8")
    with pytest.raises(MatchError, match=r"mot/losses is torch.float64 \[5, 2\], and should be torch.float64 \[8, 2\]"):
        run(models, data, tmp_path / "out")


def test_a_flipped_byte_anywhere_is_told(stopped: Path, models: dict[str, Model], data: Data) -> None:
    path = stopped / "seed0.safetensors"
    whole = path.read_bytes()
    for place in (0, 3, 8, 200, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(MatchError, match=r"seed0\.safetensors (is|does).*; remove it to begin this seed anew"):
            run(models, data, stopped)
    for length in (0, 7, 300, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(MatchError, match=r"is no whole checkpoint .*; remove it"):
            run(models, data, stopped)
    path.write_bytes(whole)
    run(models, data, stopped)


def test_changed_numbers_are_told(stopped: Path, models: dict[str, Model], data: Data) -> None:
    rewrite(stopped / "seed0.safetensors", put("mot/losses", lambda x: x * 2), signed=False)
    with pytest.raises(MatchError, match="is damaged: it does not hold what was written; remove it"):
        run(models, data, stopped)


def test_a_checkpoint_that_may_not_be_read_is_not_to_be_removed(
    stopped: Path, models: dict[str, Model], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def forbid(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbid)
    with pytest.raises(MatchError, match=r"seed0\.safetensors cannot be read: Permission denied$"):
        run(models, data, stopped)


def test_a_checkpoint_follows_a_link_and_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    path = tmp_path / "seed0.safetensors"
    path.symlink_to("disk")
    before = os.umask(0o022)
    try:
        write_checkpoint(path, {"x": torch.ones(2), "step": torch.tensor(3.0)}, 1)
    finally:
        os.umask(before)
    write_checkpoint(path, {"x": torch.ones(3)}, 2)
    assert path.is_symlink()
    assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == 0o644
    assert read_checkpoint(path)[0] == 2


def test_a_full_disk_is_told_with_the_file(
    stopped: Path, models: dict[str, Model], data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MatchError, match=r"to .*seed0\.safetensors: No space left.*checkpoint of step 4 is kept"):
        run(models, data, stopped)
    (stopped / "run.json").unlink()
    with pytest.raises(OSError, match=r"No space left on device: '.*run\.json'"):
        run(models, data, stopped)
    assert sorted(path.name for path in stopped.iterdir()) == ["run.lock", "seed0.safetensors"]


@pytest.mark.parametrize(
    "record", ["[" * 100_000, '{"systems": {}}', json.dumps({"systems": {"a": "b"}, "added": [{}]})]
)
def test_a_record_of_nothing_is_no_record(record: str, models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(MatchError, match="is no record of a run"):
        run(models, data, tmp_path)
