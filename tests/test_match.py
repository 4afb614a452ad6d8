"""`motc match`: data folders that are wrong, and runs that are stopped and go on."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from motc.cli import main
from motc.driver import compile_ir
from motc.match import MatchError, Settings, match_systems, read_data
from motc.match.batches import indices, make_batch
from motc.match.fit import check_fit
from motc.match.race import System, rate_factor
from tests.full_disk import files_of_at_most
from tests.small_run import compile_layers_alone, do_not_compile

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / "examples" / "emoji" / "specs"
DATA = ROOT / "examples" / "emoji" / "match_data"

SMALL = """model small {
  width = 16
  layers = 1
  modality text { vocab = 8 }
  modality image { vocab = 6 }
  attention { heads = 2 }
  ffn { hidden = 16 }
  untie ffn
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of two modalities and a spec that fits it."""
    (tmp_path / "small.mot").write_text(SMALL)
    data = tmp_path / "data"
    data.mkdir()
    description = {"format": 1, "modalities": ["text", "image"], "vocab": {"text": 8, "image": 6}}
    (data / "data.json").write_text(json.dumps(description))
    generator = torch.Generator().manual_seed(0)
    for name, count in (("training", 20), ("held_out", 5)):
        lengths = torch.randint(3, 9, (count,), generator=generator)
        kinds = torch.randint(0, 2, (int(lengths.sum()),), generator=generator)
        ids = torch.randint(0, 6, kinds.shape, generator=generator)
        save_file({"input_ids": ids, "modality_ids": kinds, "lengths": lengths}, data / f"{name}-00000.safetensors")
    return tmp_path


def command(folder: Path, out: str, **options: int) -> list[str]:
    words = ["match", str(folder / "small.mot"), "--data", str(folder / "data"), "--out", str(folder / out)]
    settings = {"steps": 6, "batch": 4, "eval-every": 2, **{key.replace("_", "-"): x for key, x in options.items()}}
    return [*words, *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]


def test_every_sample_comes_once_before_any_comes_twice_and_a_step_is_its_own() -> None:
    whole = list(indices(10, 4, 3, 0, 5))
    flat = [index for step in whole for index in step]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert list(indices(10, 4, 3, 2, 5)) == whole[2:]
    assert list(indices(10, 4, 4, 0, 5)) != whole


def test_the_rate_rises_then_falls_to_a_tenth() -> None:
    settings = Settings(steps=100, seeds=1, batch=1, eval_every=1, learning_rate=1.0, device="cpu", threads=1)
    factors = [rate_factor(step, settings) for step in range(101)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[100] == pytest.approx(0.1)
    assert factors[5:] == sorted(factors[5:], reverse=True)


def test_rows_are_padded() -> None:
    rows = [(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 1])), (torch.tensor([4, 5]), torch.tensor([1, 0]))]
    batch = make_batch(rows, {}, ())
    assert batch.modality_ids.tolist() == [[0, 1, 1], [1, 0, -1]]


def test_held_out_names_are_never_trained_on() -> None:
    data = read_data(DATA)

    def names(samples: object) -> set[bytes]:
        found = set()
        for ids, kinds in samples:  # type: ignore[attr-defined]
            text = ids[kinds == 0].tolist()
            assert text.count(256) == text.count(257) == 1
            found.add(bytes(token for token in text if token < 256))
        return found

    assert len(names(data.held_out)) > 50
    assert not names(data.held_out) & names(data.training)


@pytest.mark.parametrize(
    "spec", sorted(set(SPECS.glob("*.mot")) - set(SPECS.glob("transfusion_*"))), ids=lambda path: path.stem
)
def test_the_specs_fit_the_data(spec: Path) -> None:
    check_fit(read_data(DATA), compile_ir(spec), spec.stem)


def change(name: str, **changed: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def break_it(data: Path) -> None:
        path = data / f"{name}-00000.safetensors"
        tensors = load_file(path)
        save_file({key: changed.get(key, lambda x: x)(x) for key, x in tensors.items()}, path)

    return break_it


def describe(**changed: object) -> Callable[[Path], None]:
    def break_it(data: Path) -> None:
        path = data / "data.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return break_it


def replace_description(put: Callable[[Path], object]) -> Callable[[Path], None]:
    def break_it(data: Path) -> None:
        (data / "data.json").unlink()
        put(data / "data.json")

    return break_it


def in_place(name: str, put: Callable[[Path], object]) -> Callable[[Path], None]:
    def break_it(data: Path) -> None:
        path = data / f"{name}-00000.safetensors"
        path.unlink()
        put(path)

    return break_it


@pytest.mark.parametrize(
    "break_it, said",
    [
        (shutil.rmtree, "no data.json"),
        (replace_description(Path.mkdir), "data.json is a directory; a description is a file"),
        (replace_description(os.mkfifo), "data.json is a FIFO; a description is a file"),
        (lambda data: (data / "data.json").write_text("{"), "is no JSON"),
        (lambda data: (data / "data.json").write_text("{}"), "lacks format, modalities, vocab"),
        (lambda data: (data / "held_out-00000.safetensors").unlink(), "no held_out-"),
        (lambda data: (data / "training-00000.safetensors").write_bytes(b"not one"), "no whole safetensors"),
        (change("training", input_ids=lambda x: x + 3), "text has ids 3..8, beyond 0..7"),
        (change("training", modality_ids=lambda x: x - 1), "within 0..1"),
        (change("training", modality_ids=lambda x: x * 0), "no image tokens"),
        (change("training", input_ids=lambda x: x.to(torch.uint16)), "input_ids is torch.uint16 ["),
        (change("training", modality_ids=lambda x: x.bool()), "modality_ids is torch.bool"),
        (change("training", lengths=lambda x: x[None]), "lengths is torch.int64 [1, 20]; it may be a vector"),
        (change("training", lengths=lambda x: x[:-1]), "add up to"),
        (change("training", lengths=lambda x: torch.cat([x, x[:1] * 0 + 1, x[:1] * 0 - 1])), "fewer than two tokens"),
        (
            change("training", lengths=lambda x: torch.cat([x, (x[:1] * 0 + 2**62).repeat(4)])),
            "a sample has 46116860184",
        ),
        (lambda data: (data / "data.json").write_text("[" * 100_000), "is no JSON: maximum recursion depth"),
        (lambda data: (data / "data.json").write_text(" " * 1_000_001), "larger than 1,000,000 bytes"),
        (describe(modalities=["text", "text"]), "modalities has a name twice"),
        (describe(vocab=2**31), "vocab is a number"),
        (describe(format="\x1b]0;x\x07"), r"is of format '\x1b]0;x\x07'"),
        (describe(modalities=["\x1b[31m"]), r"for each of \u001b[31m"),
        (in_place("training", Path.mkdir), "training-00000.safetensors is a directory; shards are files"),
        (in_place("held_out", os.mkfifo), "held_out-00000.safetensors is a FIFO; shards are files"),
        (in_place("held_out", lambda path: path.symlink_to("nowhere")), "held_out-00000.safetensors: No such file"),
    ],
)
def test_a_folder_that_is_wrong_is_told_in_a_line(
    folder: Path, break_it: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(folder / "data")
    assert main(command(folder, "out")) == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "old, new, said",
    [
        (
            "modality text { vocab = 8 }\n  modality image",
            "modality image { vocab = 8 }\n  modality text",
            "has the mod",
        ),
        ("image { vocab = 6 }", "image { vocab = 5 }", "has 5 rows for image; the data has 6"),
        ("text { vocab = 8 }\n  modality image { vocab = 6 }", "text, image\n  vocab = 8", "one vocabulary"),
    ],
)
def test_a_spec_that_does_not_fit_is_told(
    folder: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in SMALL
    (folder / "small.mot").write_text(SMALL.replace(old, new))
    assert main(command(folder, "out")) == 1
    assert said in capsys.readouterr().err


def test_a_shard_that_may_not_be_read_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Path.open

    def forbid(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbid)
    assert main(command(folder, "out")) == 1
    assert "training-00000.safetensors: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["nan", "inf", "-1"])
def test_a_learning_rate_is_a_number(rate: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command(folder, "out"), "--learning-rate", rate]) == 2
    assert "--learning-rate" in capsys.readouterr().err


def test_a_lone_spec_with_the_name_of_its_twin_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "small.mot").write_text(SMALL.replace("model small", "model dense"))
    assert main(command(folder, "out")) == 2
    assert "this one has that name" in " ".join(capsys.readouterr().err.split())


def test_a_loss_that_is_no_number_ends_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do_not_compile(monkeypatch)
    settings = Settings(steps=2, seeds=1, batch=2, eval_every=1, learning_rate=1.0, device="cpu", threads=1)
    system = System("small", compile_ir(folder / "small.mot"), settings, 0)
    system.network.final_norm.weight.data.fill_(math.nan)
    data = read_data(folder / "data")
    batch = make_batch([data.training[0], data.training[1]], {"small": system.network.layout}, ())
    with pytest.raises(MatchError, match="small: the loss of step 1 is no finite number"):
        system.step(batch, timed=True)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two, which add up what they share in one order or in another."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


KILLED_IN_ITS_SECOND_CHECKPOINT = """
import os, signal, sys
import safetensors.torch
from motc.cli import main

save_file = safetensors.torch.save_file
written = []

def save_and_die(tensors, path, *more):
    save_file(tensors, path, *more)
    written.append(path)
    if len(written) == 2:  # it is written aside, and the first one is still in its place
        os.kill(os.getpid(), signal.SIGKILL)

safetensors.torch.save_file = save_and_die
main(sys.argv[1:])
"""


def different(whole: Path, parts: Path) -> list[str]:
    """What two checkpoints disagree on, but for the seconds that steps took."""
    first, second = load_file(whole), load_file(parts)
    assert first.keys() == second.keys()
    return [name for name, x in first.items() if not name.endswith("/seconds") and not x.equal(second[name])]


@pytest.mark.compiled
def test_a_killed_run_goes_on_bit_for_bit_and_a_full_disk_keeps_the_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    do_not_compile(monkeypatch)
    assert main([*command(folder, "whole"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["systems"]) == {"dense", "small"}
    assert (folder / "whole" / "report.png").read_bytes().startswith(b"\x89PNG")

    words = [sys.executable, "-c", KILLED_IN_ITS_SECOND_CHECKPOINT, *command(folder, "parts")]
    not_compiled = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    assert subprocess.run(words, cwd=ROOT, env=not_compiled).returncode == -signal.SIGKILL
    path = folder / "parts" / "seed0.safetensors"
    assert len(load_file(path)["small/losses"]) == 2

    before = path.read_bytes()
    with files_of_at_most(len(before) // 2):
        assert main(command(folder, "parts")) == 1
    assert "the checkpoint of step 2 is kept" in capsys.readouterr().err
    assert path.read_bytes() == before

    assert main(command(folder, "parts", batch=5)) == 1
    assert "batch was 4, is 5" in capsys.readouterr().err

    assert main(command(folder, "parts")) == 0
    assert different(folder / "whole" / "seed0.safetensors", path) == []


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.compiled)], ids=["eager", "compiled"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    compiled: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    models = {"small": compile_ir(folder / "small.mot")}
    if compiled:
        request.getfixturevalue("two_threads")
        compile_layers_alone(monkeypatch)
    else:
        do_not_compile(monkeypatch)
        models["dense"] = compile_ir(folder / "small.mot", dense=True)
    threads = torch.get_num_threads()
    settings = Settings(steps=7, seeds=1, batch=4, eval_every=2, learning_rate=1e-2, device="cpu", threads=threads)
    data = read_data(folder / "data")

    def keep(done: float, _: str) -> None:
        """What a kill just before step 5 leaves."""
        if done == 4 / 7:
            shutil.copytree(folder / "whole", folder / "parts")

    match_systems(models, data, settings, folder / "whole", keep)
    whole, parts = (folder / name / "seed0.safetensors" for name in ("whole", "parts"))
    assert len(load_file(parts)["small/losses"]) == 4
    match_systems(models, data, settings, folder / "parts", lambda *_: None)
    assert len(load_file(parts)["small/losses"]) == 7
    assert different(whole, parts) == []
