"""A plan's bytes against those that are measured, and what a plan refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import motc
from motc.cli import main
from motc.cluster.activations import activation_bytes
from motc.cluster.meshes import Mesh, states
from motc.driver import compile_ir

SPECS = Path(__file__).resolve().parent.parent / "specs"
MOT, DENSE = SPECS / "emoji_mot.mot", SPECS / "emoji_dense.mot"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("spec", "settings"),
    [(DENSE, {}), (MOT, {}), (DENSE, {"attention.kv_heads": 2}), (MOT, {"ffn.kind": "gelu"})],
)
def test_activations_are_those_that_autograd_keeps(spec: Path, settings: dict[str, int | str], dtype: str) -> None:
    settings = {"layers": 2, **settings}
    model = motc.load(spec, set=settings, seed=0).to(getattr(torch, dtype))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids, modalities = torch.randint(0, 258, (2, 64)), torch.tensor([[0] * 32 + [1] * 32] * 2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(ids, modalities)
    measured = sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in parameters)
    ir = compile_ir(spec, settings)
    predicted = 128 * activation_bytes(ir, {"text": 0.5, "image": 0.5}, dtype=dtype)
    assert predicted == pytest.approx(measured, rel=0.15)


def test_states_are_of_all_parameters_and_divided_by_ranks() -> None:
    model = motc.load(MOT, seed=0)
    ir, numbers = compile_ir(MOT), sum(parameter.numel() for parameter in model.parameters())
    assert (states(ir, Mesh()).shared, states(ir, Mesh()).own) == (numbers, numbers)
    sharded = states(ir, Mesh(dp=2, cp=2))
    assert (sharded.shared, sharded.own) == (numbers, pytest.approx(numbers / 4, rel=0.05))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--gpus", "0"], 2, "greater than or equal to 1"),
        (["--gpus", "8", "--gpu", "h10"], 2, "did you mean `h100`?"),
        (["--gpus", "8", "--batch-tokens", "many"], 2, "is not a number of tokens"),
        (["--gpus", "8", "--share", "sound=1"], 2, "is no modality of emoji_mot"),
        (["--gpus", "8", "--share", "text=0.4"], 2, "add up to 1, not 0.4"),
        (
            ["--gpus", "3", "--batch-tokens", "64K"],
            1,
            "65,536 tokens are not sequences of 8,192 for each of 3 dp ranks",
        ),
        (["--gpus", "1", "--set", "ffn.hidden=10000000"], 1, "no mesh of 1 h100 fits"),
    ],
)
def test_what_cannot_be_planned_is_told(
    options: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(MOT), *options]) == code
    printed = capsys.readouterr()
    assert said in " ".join((printed.out + printed.err).split())


def test_a_plan_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(MOT), "--gpus", "2", "--sequence", "128", "--batch-tokens", "1K", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    meshes = {(each["dp"], each["cp"], each["tp"]) for each in told["layouts"]}
    assert meshes == {(2, 1, 1), (1, 2, 1), (1, 1, 2)}
    assert told["not"] == {"dp 1 × ep 2 × tp 1": "there are no experts"}
