"""`motc match --sweep`: which runs of a grid are wanted, files that are wrong, and runs that are shared and go on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from motc.cli import main
from motc.cost import total_parameters
from motc.driver import compile_ir
from motc.match import MatchError, grid, read_data
from motc.match.grid import Cell, Result, best_rate, run_grid, wanted
from motc.match.grid_answers import Difference, Reached, answers, difference, reached
from motc.match.grid_plot import plot_grid
from motc.match.grid_report import GridReport, to_markdown
from motc.match.lock import locked
from motc.match.sweep import Sweep, read_sweep
from tests.small_run import do_not_compile, write_data, write_specs

GRID = """
batch = 4
evaluations = 2
warm_up = 0.05
final_rate = 0.1
weight_decay = 0.1
clip = 1.0
learning_rates = [1.0, 2.0, 4.0, 8.0, 16.0]

[systems]
dense = { spec = "dense.mot" }
mot = { spec = "mot.mot" }

[[stages]]
systems = ["dense", "mot"]
steps = 2
learning_rates = [2.0, 4.0]
seeds = [0]
"""
LONGER = """
[[stages]]
systems = ["dense"]
steps = 6
learning_rates = "best and beside"
seeds = [0, 1]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path / "data")
    write_specs(tmp_path)
    (tmp_path / "sweep.toml").write_text(GRID)
    return tmp_path


def play(sweep: Sweep, loss: Callable[[Cell], float]) -> dict[Cell, Result]:
    """The results when all that is wanted has been run, each in its order; a loss of inf diverges."""
    results: dict[Cell, Result] = {}
    while left := [cell for cell in wanted(sweep, results) if cell not in results]:
        ended = loss(left[0])
        held_out = [] if ended == float("inf") else [[9.0, 9.0], [ended, ended]]
        results[left[0]] = Result(losses=[], held_out=held_out, seconds=[])
    return results


def rates(results: dict[Cell, Result], system: str, steps: int, seed: int = 0) -> list[float]:
    return sorted(
        cell.learning_rate for cell in results if (cell.system, cell.steps, cell.seed) == (system, steps, seed)
    )


def test_rates_are_added_until_the_best_has_a_worse_one_on_either_side(folder: Path) -> None:
    (folder / "sweep.toml").write_text(GRID + LONGER)
    sweep = read_sweep(folder / "sweep.toml")
    best = {("dense", 2): 8.0, ("mot", 2): 1.0, ("dense", 6): 4.0}
    results = play(sweep, lambda cell: abs(cell.learning_rate - best[cell.system, cell.steps]))
    assert rates(results, "dense", 2) == [2.0, 4.0, 8.0, 16.0]
    assert rates(results, "mot", 2) == [1.0, 2.0, 4.0]  # where the ladder ends, so do they
    assert rates(results, "dense", 6) == rates(results, "dense", 6, seed=1) == [2.0, 4.0, 8.0, 16.0]
    assert best_rate(results, "dense", 6) == 4.0


def test_a_run_that_diverged_is_worse_than_any_other(folder: Path) -> None:
    results = play(read_sweep(folder / "sweep.toml"), lambda cell: float("inf") if cell.learning_rate > 2 else 1.0)
    assert rates(results, "dense", 2) == [1.0, 2.0, 4.0]
    assert best_rate(results, "dense", 2) == 1.0  # of equals the lowest


def test_what_earlier_runs_choose_waits_for_all_of_them(folder: Path) -> None:
    (folder / "sweep.toml").write_text(GRID + LONGER)
    sweep = read_sweep(folder / "sweep.toml")
    assert {cell.steps for cell in wanted(sweep, {})} == {2}
    first = wanted(sweep, {})[0]
    assert (first.system, first.learning_rate) == ("dense", 2.0)
    assert {cell.steps for cell in wanted(sweep, {first: Result(losses=[], held_out=[[1.0]], seconds=[])})} == {2}


def test_runs_are_shared_reported_and_done_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do_not_compile(monkeypatch)
    text = GRID.replace("[1.0, 2.0, 4.0, 8.0, 16.0]", "[1e-2]").replace("[2.0, 4.0]", "[1e-2]")
    (folder / "sweep.toml").write_text(text)
    sweep, data, out = read_sweep(folder / "sweep.toml"), read_data(folder / "data"), folder / "out"
    models = {name: compile_ir(system.spec) for name, system in sweep.systems.items()}
    taken: list[str] = []
    held = out / "dense" / "2-0.01-seed0"
    held.mkdir(parents=True)
    lock = locked(held)

    def run() -> dict[Cell, Result]:
        return run_grid(sweep, models, data, out, lambda *_: None, lambda cell, *_: taken.append(cell.system))

    with lock, monkeypatch.context() as patched:
        patched.setattr(time, "sleep", lambda _: lock.__exit__(None, None, None))
        results = run()
    assert taken == ["mot", "dense"]  # the one that another held came last
    again = run()
    assert taken == ["mot", "dense"]  # none again
    assert [again[cell].losses for cell in results] == [result.losses for result in results.values()]

    report = GridReport(sweep=sweep, models=models, data=data, results=results, wanted=list(results))
    assert plot_grid(report).startswith(b"\x89PNG")
    page = to_markdown(report, "motc")
    dense, mot = (sum(results[cell].held_out[-1]) / 2 for cell in sorted(results, key=lambda cell: cell.system))
    assert f"| dense | **{dense:.3f}** | 0.01 | 0.01 |" in page and f"| mot | **{mot:.3f}** | 0.01 | 0.01 |" in page
    described = json.loads((folder / "data" / "data.json").read_text())
    (folder / "data" / "data.json").write_text(json.dumps({**described, "other": 1}))
    with pytest.raises(MatchError, match="holds another run: data was"):
        run_grid(sweep, models, read_data(folder / "data"), out, lambda *_: None, lambda *_: None)


def test_a_difference_within_the_ranges_over_seeds_is_none(folder: Path) -> None:
    stages = LONGER.replace('"dense"', '"dense", "mot"') + LONGER.replace('"dense"', '"mot"').replace("6", "12")
    (folder / "sweep.toml").write_text(GRID + stages)
    sweep = read_sweep(folder / "sweep.toml")
    ends = {("dense", 2): 4.0, ("mot", 2): 3.5, ("dense", 6): 2.0, ("mot", 6): 3.0, ("mot", 12): 1.0}
    noise = {"dense": 0.25, "mot": 0.5}

    def loss(cell: Cell) -> float:
        return ends[cell.system, cell.steps] + cell.seed * noise[cell.system] + abs(cell.learning_rate - 4)

    results = play(sweep, loss)
    models = {name: compile_ir(system.spec, system.overrides) for name, system in sweep.systems.items()}
    data = read_data(folder / "data")
    report = GridReport(sweep=sweep, models=models, data=data, results=results, wanted=list(results))
    of_two, of_six = (difference(report, "mot", steps, "text") for steps in (2, 6))
    assert of_two == Difference(value=-0.5, noise=None) and of_six == Difference(value=1.125, noise=0.5)
    page = "\n".join(answers(report))
    assert "| 2 | mot | -0.500 | -0.500 |" in page
    assert "| 6 | mot | +1.125 ± 0.500: higher | +1.125 ± 0.500: higher |" in page
    # dense ends at 2 + 0.125 after 6 steps; mot at 3.25 after 6, and at 1.25 after 12
    share = 2 ** ((3.25 - 2.125) / (3.25 - 1.25))
    assert f"| 6 | mot | {share:.2f} | {share:.2f} |" in page and "| 2 | mot | < 1.00 | < 1.00 |" in page
    assert Difference(value=-0.5, noise=0.5).told == "-0.500 ± 0.500: none"


def test_steps_to_a_loss_are_on_a_line_in_their_logarithm() -> None:
    ends = [(1000, 3.0), (4000, 2.0), (16000, 2.5)]
    assert reached(ends, 2.5) == Reached(pytest.approx(2000.0), "")
    assert reached(ends, 3.5) == Reached(1000, "<") and reached(ends, 3.0) == Reached(1000, "")
    assert reached(ends, 1.5) == Reached(16000, ">")


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("batch = 4", "batch 4", "is no TOML: Expected '=' after a key in a key/value pair (at line 2, column 7)"),
        ("batch = 4", "", "sweep.toml has no batch; its keys are"),
        ("clip = 1.0", "clip = 1.0\nclap = 1", "sweep.toml has clap; its keys are"),
        ("batch = 4", "batch = 0", "batch is 0; it is above 0"),
        ("warm_up = 0.05", "warm_up = 2", "warm_up is 2.0; it is a share, from 0 to 1"),
        ("weight_decay = 0.1", "weight_decay = nan", "weight_decay is nan; it is a number, 0 or more"),
        ("steps = 2", "steps = 2.5", "stage 1: steps is 2.5; it is a whole number, 0 or more"),
        (
            "learning_rates = [2.0, 4.0]",
            "learning_rates = [3.0]",
            "stage 1 has the rate 3, which is not in learning_rates",
        ),
        ("learning_rates = [2.0, 4.0]", "learning_rates = 'most'", "is a list, or one of 'best', 'best and beside'"),
        ("learning_rates = [2.0, 4.0]", "learning_rates = 'best'", "no stage before, as short or shorter, has dense"),
        ("learning_rates = [2.0, 4.0]", "learning_rates = [4.0, 2.0]", "learning_rates rise, and none comes twice"),
        ('systems = ["dense", "mot"]', 'systems = ["moe"]', "stage 1 has moe, which is none of dense, mot"),
        ("mot = {", '"../mot" = {', "../mot names a folder of runs"),
        ('"mot.mot" }', '"mot.mot", set = 3 }', "may have a table as set"),
    ],
)
def test_a_file_that_is_wrong_is_told(
    old: str, new: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in GRID
    (folder / "sweep.toml").write_text(GRID.replace(old, new, 1))
    words = [
        "match",
        "--sweep",
        str(folder / "sweep.toml"),
        "--data",
        str(folder / "data"),
        "--out",
        str(folder / "out"),
    ]
    assert main(words) == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_command_writes_a_report_and_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do_not_compile(monkeypatch)
    sweep = re.sub(r"learning_rates = .*", "learning_rates = [2.0]", GRID)
    (folder / "sweep.toml").write_text(sweep)
    out = folder / "out"
    words = ["match", "--sweep", str(folder / "sweep.toml"), "--data", str(folder / "data"), "--out", str(out)]
    assert main(words) == 0
    page = (out / "report.md").read_text()
    assert "# 2 runs of 2" in page and "## Lower than dense?" in page
    pictures = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert pictures == ["dense/2-2-seed0/gradients.png", "mot/2-2-seed0/towers.png", "report.png"]


def test_what_the_file_says_is_not_said_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "match",
        "--sweep",
        str(folder / "sweep.toml"),
        "--data",
        str(folder / "data"),
        "--out",
        str(folder / "out"),
    ]
    assert main([*words, "--steps", "3"]) == 2
    assert "--steps: it goes not with --sweep" in " ".join(capsys.readouterr().err.split())
    assert main(["match", "--data", str(folder / "data"), "--out", str(folder / "out")]) == 2
    assert "give one, or several, or a grid of runs by --sweep" in " ".join(capsys.readouterr().err.split())


def test_the_grid_of_the_protocol_is_read_and_has_the_parameters_it_says() -> None:
    folder = Path(__file__).resolve().parent.parent / "examples" / "emoji"
    sweep, page = read_sweep(folder / "sweep.toml"), (folder / "PROTOCOL.md").read_text(encoding="utf-8")
    for name, system in sweep.systems.items():
        (row,) = [line for line in page.splitlines() if line[0:1] == "|" and f"`{name}`" in line.split("|")[1]]
        assert f"{total_parameters(compile_ir(system.spec, system.overrides)):,}" in row
    assert len(sweep.stages) == 13
    assert grid.wanted(sweep, {})[0] == Cell(system="dense", steps=1000, learning_rate=3e-4, seed=0)
