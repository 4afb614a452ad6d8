"""A pack runs where there is torch and nothing of motc, says what failed, and keeps to its time."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.gpu_pack import jobs as gpu_jobs
from bench.gpu_pack import packings as gpu_packings
from motc.bench import portable
from motc.bench.packing import SECONDS, Packing, jobs_for, pack_files, packed_models
from motc.bench.portable import jobs as doing
from motc.bench.portable import main as running
from motc.bench.portable.batches import make_batch
from motc.bench.portable.jobs import LeftOut, Workshop
from motc.bench.portable.pack import Job, Pack, build, read_pack
from motc.bench.portable.products import WAYS, piece_sizes, time_products
from motc.bench.portable.sides import Side
from motc.cli import main
from motc.driver import check_spec

TINY = """model tiny {
  width = 16, layers = 1
  modality text { vocab = 11 }
  modality image { vocab = 7 }
  attention { heads = 2 }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
LATENTS = TINY.replace("image { vocab = 7 }", "image { latent { channels = 3, patch = 2, objective = flow } }")
ROUTED = TINY.replace("hidden = 24", "kind = moe, experts = 2, hidden = 24")
NEEDS_TORCH_ALONE = """
import runpy, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"motc", "codegen_templates", "lark", "pydantic", "yaml", "rich", "typer"}:
            raise ModuleNotFoundError(f"{name} is not to be had")

sys.meta_path.insert(0, Nothing())
folder, *words = sys.argv[1:]
sys.path.insert(0, folder)  # as for `python FOLDER/run.py`
sys.argv = ["run.py", *words]
runpy.run_path(f"{folder}/run.py", run_name="__main__")
"""


def packed(tmp_path: Path, text: str = TINY, **more: Any) -> Packing:
    spec = tmp_path / "tiny.mot"
    spec.write_text(text, encoding="utf-8")
    return Packing(name="tiny", checked=check_spec(spec), **{"batch": 2, "sequence": 64, "ratios": (0.5,), **more})


def write(folder: Path, packing: Packing, *jobs: Job) -> Pack:
    models, files = packed_models([packing])
    pack = Pack(motc="0", seconds=60, rounds=3, models=models, jobs=jobs)
    for name, text in pack_files(pack, files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return pack


@pytest.mark.compiled
def test_a_pack_runs_with_torch_alone(tmp_path: Path) -> None:
    folder, out = tmp_path / "pack", tmp_path / "out"
    write(
        folder,
        packed(tmp_path),
        Job(kind="check", model="tiny", seconds=1),
        Job(kind="time", model="tiny", modes=("backward",), seconds=1),
        Job(kind="graphs", model="tiny", strategy="blend", modes=("backward",), seconds=1),
        Job(kind="decode", model="tiny", batches=(1, 64), seconds=1),
        Job(kind="products", model="tiny", seconds=1),
    )
    words = [str(folder), "--quick", "--device", "cpu", "--seconds", "100000", "--out", str(out)]
    command = [sys.executable, "-I", "-c", NEEDS_TORCH_ALONE, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tiny: sorted beside dense, bfloat16" in done.stderr
    assert done.stdout.strip() == (out / "result.md").read_text(encoding="utf-8").strip()
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    check, timed, graphs, decoded, products = result["jobs"]
    assert [job["state"] for job in result["jobs"]] == ["done", "done", "left out", "done", "done"]
    assert graphs["reason"] == "CUDA graphs need CUDA"
    assert [(record["strategy"], record["dtype"]) for record in check["checks"]] == [
        *((strategy, "float32") for strategy in ("sorted", "grouped", "blend")),
        *((strategy, "bfloat16") for strategy in ("sorted", "grouped", "blend", "reference")),
    ]
    assert [(record["strategy"], record["compiled"]) for record in timed["checks"]] == [("sorted", True)]
    assert all(record["ok"] and record["judged"] for job in (check, timed) for record in job["checks"])
    compiled = {record["side"]: record for record in timed["compilations"]}
    assert list(compiled) == ["dense", "sorted"]
    for record in compiled.values():
        assert record["graphs"] > 0 and (record["recompilations"], record["graph_breaks"]) == (0, 0)
    (cell,) = timed["cells"]
    assert cell["tokens"] == {"text": 32, "image": 32} and cell["graphs_meanwhile"] == 0
    assert cell["synchronisations"] == {"sorted": None, "dense": None}
    assert [len(side["seconds"]) for side in cell["sides"].values()] == [2, 2]
    assert [record["side"] for record in timed["memory"]] == ["sorted", "dense"]
    assert [(record["batch"], record["mixed"]) for record in decoded["decoding"]] == [(1, False), (2, False), (2, True)]
    ways = {(record["dtype"], record["pieces"], record["mode"], record["way"]) for record in products["products"]}
    assert {("float32", 2, "forward", "cut"), ("bfloat16", 3, "backward", "joined")} < ways
    assert result["machine"]["torch"] == torch.__version__ and result["machine"]["driver"] is None


def test_what_travels_imports_torch_and_the_standard_library() -> None:
    from motc import processor

    files = [Path(processor.__file__), *Path(portable.__file__).parent.glob("*.py")]
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [] if node.level == 1 else [str(node.module)]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            outside = [n for n in names if n.partition(".")[0] not in {"torch", *sys.stdlib_module_names}]
            assert outside == [], f"{path.name} imports {outside}"


def test_the_command_writes_a_pack_with_the_files_that_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(tmp_path)
    folder = tmp_path / "a" / "pack"
    words = ["--batch", "3", "--sequence", "32", "--ratios", "0.25", "--pairs", "5", "--mode", "step", "--seed", "7"]
    assert main(["bench", str(tmp_path / "tiny.mot"), "--pack", str(folder), *words]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "run.py")
    for path in Path(portable.__file__).parent.glob("*.py"):
        assert (folder / "portable" / path.name).read_bytes() == path.read_bytes()
    sides = ("dense", "sorted", "grouped", "blend", "reference")
    assert {path.name for path in (folder / "models").iterdir()} == {f"tiny_{side}.py" for side in sides}
    pack = read_pack(folder)
    assert (pack.rounds, pack.seed, pack.seconds) == (5, 7, SECONDS)
    (model,) = pack.models
    assert (model.batch, [mixture.counts for mixture in model.mixtures()]) == (3, [(24, 8)])
    assert pack.jobs == jobs_for(model, ("float32", "bfloat16"), ("step",))

    assert main(["bench", str(tmp_path / "tiny.mot"), "--pack", str(folder), *words]) == 0, "a pack may be made anew"
    capsys.readouterr()
    assert main(["bench", str(tmp_path / "tiny.mot"), "--pack", str(tmp_path), *words]) == 1
    assert f"{tmp_path} holds other files" in capsys.readouterr().err
    assert not (tmp_path / "run.py").exists()
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "| `tiny` | text, image |" in readme and "python run.py" in readme


@pytest.mark.parametrize("words", [["--kernels"], ["--dense"], ["--depths", "2"]], ids=" ".join)
def test_a_pack_excludes_other_ways(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed(tmp_path)
    assert main(["bench", str(tmp_path / "tiny.mot"), "--pack", str(tmp_path / "pack"), *words]) == 2
    assert "exclude each other" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "pack").exists()


def test_only_strategies_that_can_run_a_spec_are_packed(tmp_path: Path) -> None:
    uneven = TINY.replace("untie attention, ffn, norm", "untie ffn, norm\n  tower b = image { ffn { hidden = 40 } }")
    (model,), _ = packed_models([packed(tmp_path, uneven)])
    assert list(model.classes) == ["dense", "sorted", "blend", "reference"]
    (model,), _ = packed_models([packed(tmp_path, LATENTS, sequence=128)])
    assert model.modalities[1].channels == 3
    assert {job.kind for job in jobs_for(model, ("bfloat16",), ("forward",))} == {"check", "time", "graphs", "products"}
    (model,), _ = packed_models([packed(tmp_path, ROUTED)])
    assert model.routed and list(model.classes) == ["dense", "sorted", "reference"]
    with pytest.raises(ValueError, match="too short"):
        packed_models([packed(tmp_path, LATENTS, sequence=4)])


def test_two_networks_of_a_pack_have_classes_of_their_own_and_the_same_numbers(tmp_path: Path) -> None:
    pack = write(tmp_path, packed(tmp_path))
    first, second, blend = (
        build(tmp_path, pack.models[0], side, "float32", "cpu", 0) for side in ("sorted", "sorted", "blend")
    )
    assert type(first) is not type(second) and type(first).__module__ != type(second).__module__
    ours, others = dict(first.named_parameters()), dict(blend.named_parameters())
    assert ours.keys() == others.keys()
    assert all(torch.equal(parameter, others[name]) for name, parameter in ours.items())
    weights = [ours[f"layers.0.ffn.up.{tower}.weight"] for tower in ("text", "image")]
    assert not torch.equal(*weights)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run_of(tmp_path: Path, clock: Clock, *jobs: Job, seconds: float = 100.0, text: str = TINY) -> running.Run:
    """A run of some jobs, in a time that the clock tells."""
    models, _ = packed_models([packed(tmp_path, text)])
    pack = Pack(motc="0", seconds=seconds, rounds=3, models=models, jobs=jobs)
    options = running._options(tmp_path, pack).parse_args([])
    run = running.Run(pack, tmp_path, tmp_path, "cpu", options, clock)
    run.result["machine"] = running.machine("cpu", "a processor")
    return run


def test_what_fails_is_recorded_and_what_does_not_fit_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    taken = iter([10.0, 40.0, 5.0])

    def do(self: Workshop, job: Job, records: dict[str, Any]) -> None:
        clock.now += next(taken)
        records["cells"] = []
        written = json.loads((tmp_path / "result.json").read_text()) if (tmp_path / "result.json").exists() else None
        if job.kind == "check":
            raise torch.OutOfMemoryError("too | little\nand more")
        if job.kind == "time":
            assert written["jobs"][0]["state"] == "failed"

    monkeypatch.setattr(Workshop, "do", do)
    timed = Job(kind="time", model="tiny", seconds=20)
    run = run_of(
        tmp_path,
        clock,
        Job(kind="check", model="tiny", seconds=1),
        timed,
        replace(timed, strategy="blend", seconds=30),  # takes 60, as jobs of its kind take twice their estimates
        Job(kind="decode", model="tiny", seconds=30),
    )
    run.do()
    result = json.loads((tmp_path / "result.json").read_text())
    assert [job["state"] for job in result["jobs"]] == ["failed", "done", "left out", "done"]
    assert result["jobs"][0]["reason"] == "OutOfMemoryError: too | little"
    assert result["jobs"][2]["reason"] == "it needs about 60 s, and 50 s are left"
    assert [job["seconds"] for job in result["jobs"]] == [10.0, 40.0, 0.0, 5.0]
    assert "| failed | OutOfMemoryError: too \\| little |" in (tmp_path / "result.md").read_text()
    assert not run.is_wrong()
    assert "left out: it needs about 60 s" in capsys.readouterr().err


def test_a_run_that_is_cut_off_leaves_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def do(self: Workshop, job: Job, records: dict[str, Any]) -> None:
        records["checks"] = [
            {"strategy": "sorted", "dtype": "float32", "compiled": False, "tokens": [1, 2], "judged": True,
             "error": "RuntimeError"},
            {"strategy": "blend", "dtype": "float32", "compiled": False, "tokens": [1, 2], "judged": True, "ok": False,
             "output_error": None, "gradient_error": 0.5, "output": "logits", "parameter": "head.weight"},
        ]  # fmt: skip
        self.save()
        raise KeyboardInterrupt

    monkeypatch.setattr(Workshop, "do", do)
    run = run_of(tmp_path, Clock(), Job(kind="check", model="tiny", seconds=1))
    with pytest.raises(KeyboardInterrupt):
        run.do()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["jobs"][0]["state"] == "cut off" and len(result["jobs"][0]["checks"]) == 2
    table = (tmp_path / "result.md").read_text()
    assert "| no number | 5.0e-01 |" in table and "**wrong**: logits, head.weight" in table and "| cut off |" in table
    assert run.is_wrong()


def test_cells_are_left_out_when_the_time_is_over(tmp_path: Path) -> None:
    pack = write(tmp_path, packed(tmp_path), Job(kind="decode", model="tiny", batches=(1,), seconds=1))
    saved: list[str] = []
    shop = Workshop(
        folder=tmp_path,
        pack=pack,
        device="cpu",
        quick=True,
        save=lambda: saved.append(""),
        seconds_left=lambda: 0.0,
    )
    with pytest.raises(LeftOut, match="no time was left"):
        shop.do(pack.jobs[0], {})
    assert saved == []


@pytest.mark.compiled
def test_one_size_is_one_mixture_compiled_for_its_sizes(tmp_path: Path) -> None:
    timed = Job(kind="time", model="tiny", modes=("backward",), seconds=1)
    pack = write(tmp_path, packed(tmp_path, ratios=None), timed)
    asked: list[dict[str, Any]] = []

    class Shop(Workshop):
        def _compile(self, side: Side, how: Mapping[str, Any]) -> None:
            super()._compile(side, how)
            asked.append({"sizes vary": side.network.sizes_vary})

    entries: dict[str, Any] = {}
    given = {"folder": tmp_path, "device": "cpu", "quick": True, "save": lambda: None, "seconds_left": lambda: 9.0}
    Shop(**given, pack=replace(pack, rounds=1), one_size=True).do(timed, entries)
    assert asked == [{"sizes vary": False}] * 2
    assert [cell["tokens"] for cell in entries["cells"]] == [{"text": 32, "image": 32}]
    assert [compilation["recompilations"] for compilation in entries["compilations"]] == [0, 0]


def test_a_twin_is_kept_as_long_as_a_later_job_needs_it(tmp_path: Path) -> None:
    timed = Job(kind="time", model="tiny", modes=("backward",), seconds=1)
    jobs = timed, replace(timed, strategy="blend", modes=("forward",)), replace(timed, dtype="float32")
    pack = write(tmp_path, packed(tmp_path), *jobs)
    kept: list[set[Any]] = []

    class Shop(Workshop):
        def _time(self, model: Any, job: Job, records: Any) -> None:
            kept.append(set(self._dense))

    shop = Shop(folder=tmp_path, pack=pack, device="cpu", quick=True, save=lambda: None, seconds_left=lambda: 9.0)
    training, inference, wide = (
        ("tiny", "bfloat16", "training"),
        ("tiny", "bfloat16", "inference"),
        ("tiny", "float32", "training"),
    )
    shop._dense = dict.fromkeys((training, inference, wide), None)  # type: ignore[arg-type]
    for job in pack.jobs:
        shop.do(job, {})
    assert kept == [{training, inference, wide}, {inference, wide}, {wide}]


def test_the_gpu_pack_has_what_its_jobs_need_and_fits_into_its_time() -> None:
    packings = {packing.name: packing for packing in gpu_packings()}
    assert {(p.batch, p.sequence) for p in packings.values()} == {(2, 1024), (4, 4096), (1, 4096)}
    jobs = gpu_jobs()
    assert sum(job.seconds for job in jobs) <= SECONDS
    assert {job.model for job in jobs} == set(packings)
    assert {job.model for job in jobs if job.kind == "time" and job.strategy == "sorted"} == set(packings)
    kinds = [job.kind for job in jobs]
    assert kinds[: len(packings)] == ["check"] * len(packings)  # first, and every model
    (model,), _ = packed_models([packings["w256m3"]])
    assert {job.strategy for job in jobs} | {"dense"} == set(model.classes)
    assert [mixture.counts for mixture in model.mixtures()] == [(341, 341, 342)]


def test_experts_in_bfloat16_are_not_judged(tmp_path: Path) -> None:
    """Rounding may send a token to another expert; what is found is told, and the run is not called wrong."""
    write(tmp_path, packed(tmp_path, ROUTED))
    run = run_of(tmp_path, Clock(), Job(kind="check", model="tiny", seconds=1), text=ROUTED)
    run.do()
    (entry,) = run.result["jobs"]
    assert entry["state"] == "done"
    assert {(check["dtype"], check["judged"]) for check in entry["checks"]} == {("float32", True), ("bfloat16", False)}
    assert all(check["ok"] for check in entry["checks"] if check["judged"])
    assert not run.is_wrong()
    entry["checks"].append({**entry["checks"][-1], "ok": False})
    assert not run.is_wrong()
    run.save()
    assert "rounding moves routers" in run.table.read_text(encoding="utf-8")
    entry["checks"].append({**entry["checks"][0], "ok": False})
    assert run.is_wrong()


@pytest.mark.parametrize("pieces", [2, 3])
def test_ways_of_making_products(pieces: int) -> None:
    assert sum(piece_sizes(1000, pieces, "cut")) == sum(piece_sizes(1000, pieces, "uneven")) == 1000
    assert piece_sizes(960, 2, "uneven") == [360, 600]
    assert all(size % 64 == 0 for size in piece_sizes(1000, pieces, "padded"))
    sizes = {"tokens": 8, "width": 4, "hidden": 8, "rounds": 1}
    measured = list(time_products(pieces=pieces, dtype="bfloat16", mode="backward", **sizes))
    assert [each.way for each in measured] == [way for way in WAYS if way != "packed"]
    measured = list(time_products(pieces=pieces, dtype="bfloat16", mode="forward", **sizes))
    assert "joined" in {each.way for each in measured} <= set(WAYS)


@pytest.mark.compiled
def test_cuda_graphs_are_asked_for_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job on a stand-in for a GPU: the same calls, and kernels of the CPU."""
    asked: list[dict[str, Any]] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None: ...

        def record(self) -> None: ...

        def synchronize(self) -> None: ...

        def elapsed_time(self, end: Any) -> float:
            return 2.0

    def on_cpu(folder: Path, model: Any, side: str, dtype: str, device: str, seed: int) -> Any:
        assert device == "cuda:0"
        network: Any = build(folder, model, side, dtype, "cpu", seed)
        compiled = network.compile

        def compile_(**how: Any) -> None:
            asked.append({"side": side, **how})
            compiled(backend="eager")

        network.compile = compile_
        return network

    monkeypatch.setattr(doing, "build", on_cpu)
    monkeypatch.setattr(doing, "make_batch", lambda *given: make_batch(*given[:-1], "cpu"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    job = Job(kind="graphs", model="tiny", strategy="blend", modes=("backward",), seconds=1)
    pack = write(tmp_path, packed(tmp_path), job)
    records: dict[str, Any] = {}
    shop = Workshop(
        folder=tmp_path, pack=pack, device="cuda:0", quick=False, save=lambda: None, seconds_left=lambda: 9.0
    )
    shop.do(job, records)
    assert asked == [{"side": "dense"}, {"side": "blend", "mode": "reduce-overhead"}]
    assert [(each["side"], each.get("cuda_graphs_skipped")) for each in records["compilations"]] == [
        ("dense", None),
        ("blend, CUDA graphs", 0),
    ]
    (check,), (cell,) = records["checks"], records["cells"]
    assert check["strategy"] == "blend, CUDA graphs" and check["compiled"] and check["ok"]
    assert cell["sides"]["blend, CUDA graphs"]["seconds"] == [0.002] * pack.rounds
    assert cell["synchronisations"] == {"blend, CUDA graphs": 0, "dense": 0}
