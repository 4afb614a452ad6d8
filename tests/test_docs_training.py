"""The scripts of docs/training.md run as they stand, and do what the page says."""

from __future__ import annotations

import os
import re
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import motc
from motc.source import SpecError
from tests.processes import start_two

PAGE = Path(__file__).resolve().parent.parent / "docs" / "training.md"
FENCES = dict(re.findall(r"^```(?:python|mot)\n# (\S+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S))
ALONE = [
    "plain.py",
    "parts.py",
    "autocast.py",
    "checkpointing.py",
    "freeze.py",
    "groups.py",
    "lora.py",
    "ema.py",
    "saving.py",
]
TOGETHER = ["ddp.py", "fsdp.py"]

# Exactly what a script does, so that sums in another order do not show.
WIDE = ('motc.load("model.mot")', 'motc.load("model.mot", dtype=torch.float64)')


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the page's files, and is the working directory."""
    for name, text in FENCES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "data", raising=False)
    return tmp_path


def run(path: Path, change: Callable[[str], str] = lambda text: text) -> dict[str, Any]:
    """What a script leaves behind; `change` is made to its text before."""
    text = path.read_text(encoding="utf-8")
    path.write_text(change(text), encoding="utf-8")
    try:
        return runpy.run_path(str(path), run_name="__main__")
    finally:
        path.write_text(text, encoding="utf-8")


def wide(text: str) -> str:
    assert WIDE[0] in text
    return text.replace(*WIDE)


def parameters(variables: dict[str, Any]) -> dict[str, Tensor]:
    return {name: x.detach() for name, x in variables["model"].named_parameters()}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert actual.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(actual[name], x, rtol=tolerance, atol=tolerance, msg=name)


def test_every_script_of_the_page_is_run() -> None:
    assert sorted(FENCES) == sorted([*ALONE, *TOGETHER, "data.py", "model.mot"])


@pytest.mark.parametrize("name", ALONE)
def test_a_script_runs(name: str, page: Path) -> None:
    before = parameters({"model": motc.load("model.mot")})
    after = parameters(run(page / name))
    assert all(x.isfinite().all() for x in after.values())
    if name != "saving.py":
        assert any(not torch.equal(after[name], x) for name, x in before.items())


@pytest.mark.parametrize("name", ["parts.py", "checkpointing.py"])
def test_it_trains_as_the_plain_loop(name: str, page: Path) -> None:
    assert_same(parameters(run(page / name, wide)), parameters(run(page / "plain.py", wide)))


@pytest.mark.compiled
def test_checkpointed_layers_compile_and_generate(page: Path) -> None:
    def compiled(text: str) -> str:
        return wide(text).replace("optimizer =", 'model.compile(backend="aot_eager")\noptimizer =')

    output = run(page / "checkpointing.py", compiled)
    assert_same(parameters(output), parameters(run(page / "plain.py", wide)))
    prompt = torch.zeros(1, 3, dtype=torch.int64)
    assert output["model"].generate(prompt, prompt, max_new_tokens=2).input_ids.shape == (1, 2)


def test_frozen_parameters_stay(page: Path) -> None:
    before = parameters({"model": motc.load("model.mot")})
    output = run(page / "freeze.py")
    for name, x in parameters(output).items():
        assert torch.equal(x, before[name]) == (".text." in name), name


def test_adapters_are_merged_into_the_maps_that_are_selected(page: Path) -> None:
    before = parameters({"model": motc.load("model.mot")})
    for name, x in parameters(run(page / "lora.py")).items():
        is_adapted = ".image." in name and (".attention." in name or ".ffn." in name) and "norm" not in name
        assert torch.equal(x, before[name]) != is_adapted, name


def test_averaged_weights_are_between(page: Path) -> None:
    variables, before = run(page / "ema.py"), motc.load("model.mot")
    for ours, new, old in zip(
        variables["averaged"].module.parameters(), variables["model"].parameters(), before.parameters(), strict=True
    ):
        assert (ours - new).abs().sum() <= (old - new).abs().sum()


def test_weights_of_another_model_are_refused(page: Path) -> None:
    variables = run(page / "saving.py")
    assert_same(parameters(variables), parameters({"model": motc.load("model.mot")}), 0)
    with pytest.raises(SpecError, match=r"weights of another model; .* ~ norm.eps: 1e-05 → 1e-06"):
        motc.load("model.mot", weights="small.safetensors", set={"norm.eps": 1e-6})


def worker(rank: int, script: str, port: int) -> None:
    """One of two processes, as torchrun starts them."""
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message="FSDP2-wrapped module")  # a loss is no view: it may be added to in place
    sys.path.insert(0, str(Path(script).parent))
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"
    )
    variables = runpy.run_path(script, run_name="__main__")
    if "ddp" in variables:
        save_file(parameters(variables), f"ddp{rank}.safetensors")


@pytest.mark.compiled
@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_train_as_one(name: str, page: Path) -> None:
    expected = parameters(run(page / "plain.py", wide))
    (page / name).write_text(wide(FENCES[name]), encoding="utf-8")
    start_two(worker, str(page / name))
    for saved in ("ddp0", "ddp1") if name == "ddp.py" else ("fsdp",):
        assert_same(load_file(f"{saved}.safetensors"), expected)
