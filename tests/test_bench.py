"""The bench command: every figure in the JSON, tables, errors of one line. No times are tested."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

import motc.bench
import motc.cli.bench
from motc.bench import Report, Settings, Subject, bench, mixtures
from motc.bench.kernels import GraphKernels, LayerKernels
from motc.bench.portable.batches import DrawnBatch
from motc.cli import main
from motc.driver import check_spec
from tests.tracing import make_no_kernels

ROOT = Path(__file__).resolve().parent.parent
TINY = """model tiny {
  width = 16, layers = 2
  modality text { vocab = 11 }
  modality image { vocab = 7 }
  attention { heads = 2 }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
FEW = ["--batch", "2", "--sequence", "16", "--pairs", "2", "--dtype", "float32", "--threads", "1"]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    spec = tmp_path / "tiny.mot"
    spec.write_text(TINY, encoding="utf-8")
    return str(spec)


def found_kernels(build: Callable[[], nn.Module], batch: DrawnBatch, device: str) -> tuple[LayerKernels, ...]:
    """In place of what Inductor makes of layers, which tests/test_compile.py looks at."""
    (parameters,) = {sum(1 for _ in layer.parameters()) for layer in cast(Any, build()).layers}
    graph = GraphKernels(kernels=("cpp_fused_0", "cpp_fused_1"), library_calls=("mm",) * parameters, generated=3)
    return (LayerKernels(kind="Layer", layers=2, forward=(graph,), backward=(graph, graph)),)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What a run found, graphs run as they are traced: with kernels a run is timed in tests/test_bench_pack.py."""
    spec = tmp_path_factory.mktemp("bench") / "tiny.mot"
    spec.write_text(TINY, encoding="utf-8")
    mixes = mixtures(["text", "image"], 16, [0.5, 0.25], None)
    settings = Settings(mixtures=mixes, pairs=2, dtypes=("float32",), modes=("step",), threads=1)
    threads, told = torch.get_num_threads(), []
    with pytest.MonkeyPatch.context() as patch:
        make_no_kernels(patch)
        patch.setattr("motc.bench.run.layer_kernels", found_kernels)
        report = bench(Subject(checked=check_spec(spec)), settings, lambda done, what: told.append((done, what)))
    assert torch.get_num_threads() == threads
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert 0 <= told[0][0] < told[-1][0] < 1
    return report


@pytest.fixture
def measured(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line finds this report at once."""
    monkeypatch.setattr(motc.bench, "bench", lambda *_: report)
    monkeypatch.setattr(motc.bench, "list_kernels", lambda *_: report.kernels)


@pytest.mark.compiled
@pytest.mark.usefixtures("measured")
def test_json_holds_every_figure_and_a_plot_is_written(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    pictures = [tmp_path / "made" / "ratios.svg", tmp_path / "ratios.PNG"]
    for picture in pictures:
        assert main(["bench", tiny, "--json", "--plot", str(picture)]) == 0
        output = json.loads(capsys.readouterr().out)
    assert pictures[0].read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert pictures[1].read_bytes().startswith(b"\x89PNG")
    assert (output["model"], output["batch"], output["sequence"], output["pairs"]) == ("tiny", 2, 16, 2)
    assert [(c["dtype"], c["mode"], c["tokens"], c["share"]) for c in output["cells"]] == [
        ("float32", "step", {"text": 16 - image, "image": image}, image / 16) for image in (8, 4)
    ]
    for cell in output["cells"]:
        assert list(cell["sides"]) == ["mot", "dense", "reference"]
        assert cell["graphs_meanwhile"] == 0
        dense = cell["sides"]["dense"]["seconds"]
        assert [len(side["seconds"]) for side in cell["sides"].values()] == [2, 2, 1]
        for side in cell["sides"].values():
            assert side["ratios"] == [mine / other for mine, other in zip(side["seconds"], dense, strict=False)]
            assert side["ratio"]["low"] <= side["ratio"]["median"] <= side["ratio"]["high"]
            assert side["tokens_per_second"] == pytest.approx(32 / side["median_seconds"])
        ours, theirs = (cell["sides"][side] for side in ("mot", "dense"))
        assert "parts" not in cell["sides"]["reference"]
        for mine, other in zip(ours["parts"], theirs["parts"], strict=True):
            assert min(*mine.values(), *other.values()) > 0
            assert ours["products_ratio"]["median"] == mine["products"] / other["products"]
            rest = (mine["attention"] + mine["other"]) / (other["attention"] + other["other"])
            assert ours["rest_ratio"]["median"] == pytest.approx(rest)
    compiled = {(c["phase"], c["side"]): c for c in output["compilations"]}
    assert list(compiled) == [("training", "mot"), ("training", "dense")]
    assert all(c["graph_breaks"] == 0 and c["seconds"] >= c["first_seconds"] > 0 for c in compiled.values())
    assert all(c["graphs"] >= 1 and c["recompilations"] == 0 for c in compiled.values())
    memory = {m["side"]: m for m in output["memory"]}
    assert memory["mot"]["extra_parameter_bytes"] == memory["reference"]["extra_parameter_bytes"] > 0
    assert memory["dense"]["extra_parameter_bytes"] == 0
    assert all(m["peak_step_bytes"] > 0 for m in memory.values())
    layers = {k["side"]: k["kinds"] for k in output["kernels"]}
    (mot,), (dense,) = layers["mot"], layers["dense"]
    assert mot["layers"] == dense["layers"] == 2
    assert mot["kernels"] == dense["kernels"] == 6
    assert (mot["products"], dense["products"]) == (3 * 18, 3 * 9)  # a product for each parameter, in three graphs


@pytest.mark.usefixtures("measured")
def test_tables_are_printed(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", tiny]) == 0
    told = capsys.readouterr().out
    assert (
        "mot / dense" in told
        and "12 / 4" in told
        and "the rest" in told
        and "peak of a step" in told
        and "clock ran" not in told
    )
    assert main(["bench", tiny, "--kernels"]) == 0
    assert re.search(r"forward: \d+ kernels \(\d+ generated\), \d+ matrix products", capsys.readouterr().out)


@pytest.mark.compiled
def test_deeper_models_compile_no_more_graphs(
    tiny: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motc.bench.depths.TRIES", 1)
    make_no_kernels(monkeypatch)
    assert main(["bench", tiny, *FEW, "--ratios", "0", "--depths", "1,3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(depth["side"], depth["layers"], depth["graph_breaks"]) for depth in document["depths"]] == [
        (side, layers, 0) for side in ("mot", "dense") for layers in (1, 3)
    ]
    for side in ("mot", "dense"):
        shallow, deep = (depth["graphs"] for depth in document["depths"] if depth["side"] == side)
        assert shallow == deep > 0


def test_the_twin_can_stand_for_the_model() -> None:
    checked = check_spec(ROOT / "specs" / "emoji_mot.mot")
    assert Subject(checked=checked).ir() != Subject(checked=checked).ir("dense")
    assert Subject(checked=checked, dense=True).ir() == Subject(checked=checked).ir("dense")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dtype", "float16"], "'float16' is none of float32, bfloat16"),
        (["--mode", "sideways"], "'sideways' is none of forward, backward, step"),
        (["--ratios", "0.5,1.01"], "1.01 is not within 0..1"),
        (["--ratios", "nan"], "nan is not within 0..1"),
        (["--ratios", "half"], "'half' is no number"),
        (["--ratios", ""], "'' is no number"),
        (["--modalities", "text,audio"], "'audio' is none of the spec's modalities: text, image"),
        (["--modalities", "text", "--ratios", "0.5"], "the data has 1"),
        (["--modalities", "text", "--plot", "a.png"], "a plot needs data of two modalities"),
        (["--plot", "a.pdf"], "a.pdf ends in neither .png nor .svg"),
        (["--depths", "4,0"], "'0' is no number of layers"),
        (["--depths", "4", "--kernels"], "exclude each other"),
        (["--device", "tpu"], "'tpu' is neither cpu nor cuda"),
        (["--device", "cuda:99"], "torch finds no cuda:99 here"),
        (["--pairs", "0"], "--pairs"),
        (["--batch", "0"], "--batch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_in_a_line(
    words: list[str], message: str, tiny: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(tiny).parent)
    assert main(["bench", tiny, *words]) == 2
    told = capsys.readouterr()
    assert told.out == "" and message in told.err.replace("\n", " ")
    assert "Traceback" not in told.err
    assert [path.name for path in Path(tiny).parent.iterdir()] == ["tiny.mot"]


def test_a_wrong_spec_is_told_as_by_other_commands(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", tiny, "--set", "layers=none"]) == 1
    told = capsys.readouterr()
    assert told.out == "" and re.search(r"MOT0\d\d ", told.err)


def test_a_directory_in_a_plots_place_is_found_before_anything_runs(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("motc.bench.bench", lambda *_: pytest.fail("it runs"))
    (tmp_path / "plot.png").mkdir()
    assert main(["bench", tiny, "--plot", str(tmp_path / "plot.png")]) == 1
    assert "plot.png is a directory" in capsys.readouterr().err


def test_a_plot_without_matplotlib_is_refused_before_anything_runs(
    tiny: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr("motc.cli.machine.find_spec", lambda name: None)
    monkeypatch.setattr(motc.cli.bench, "_bench", run)
    assert main(["bench", tiny, "--plot", str(Path(tiny).with_name("a.png"))]) == 1
    assert capsys.readouterr().err.startswith("motc: --plot needs matplotlib")


@pytest.mark.parametrize("name", ["fused", "fused3", "fused_dense"])
def test_the_specs_of_the_published_figures_are_right(name: str) -> None:
    assert main(["check", str(ROOT / "bench" / f"{name}.mot")]) == 0
