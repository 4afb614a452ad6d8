"""What parallelize refuses, before anything is changed: on a mesh of ranks that are only pretended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import motc
from tests.test_parallelize import CHOICE, MOT, TOP_K


@pytest.fixture
def ranks() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield
    dist.destroy_process_group()


OVER = MOT.replace("qk_norm = rms", "qk_norm { kind = rms, over = heads }")


@pytest.mark.parametrize(
    ("spec", "mesh", "told", "said"),
    [
        (MOT, {"tp": 8}, {}, r"8 tensor-parallel ranks .*: layers\.0\.attention\.q\.text has 4 heads"),
        (MOT.replace("vocab = 24", "vocab = 25"), {"dp": 4, "tp": 2}, {}, r"embedding\.image has 25 vocab"),
        (TOP_K.replace("experts = 4", "experts = 3"), {"dp": 4, "tp": 2}, {"by_expert": True}, "has 3 experts"),
        (OVER, {"dp": 4, "tp": 2}, {}, "no tensor parallelism: .* norm over all heads together"),
        (MOT, {"dp": 4, "tp": 2}, {"undivided": ("attention.q",)}, "cannot stay whole: towers meet"),
        (MOT, {"cp": 8}, {}, "8 ranks of `cp` do not divide 4 heads and 2 kv_heads of attention$"),
        (
            MOT,
            {"cp": 4, "tp": 2},
            {},
            "4 ranks of `cp` do not divide 2 heads and 1 kv_heads .* on each of 2 tensor-parallel",
        ),
        (MOT, {"ep": 8}, {}, "has `ep`, and this model has no experts"),
        (TOP_K, {"ep": 8}, {}, "8 ranks of `ep` do not divide .* has 4 experts"),
        (TOP_K, {"ep": 4, "tp": 2}, {}, "`ep` goes with `dp` alone"),
        (CHOICE, {"dp": 4, "cp": 2}, {}, "no context parallelism: experts choose among all tokens of a batch"),
        (
            MOT,
            {"tp": 2, "dp": 4},
            {},
            r"dimensions are \('tp', 'dp'\); they may be replicate, dp, ep, cp, tp, in this order",
        ),
    ],
)
def test_what_a_mesh_does_not_fit_is_an_error_and_changes_nothing(
    ranks: None, spec: str, mesh: dict[str, int], told: dict[str, Any], said: str
) -> None:
    model = motc.load(spec)
    with pytest.raises(ValueError, match=said):
        motc.parallelize(model, init_device_mesh("cpu", tuple(mesh.values()), mesh_dim_names=tuple(mesh)), **told)
    assert all(type(parameter) is torch.nn.Parameter for parameter in model.parameters())


def test_another_module_is_refused(ranks: None) -> None:
    with pytest.raises(TypeError, match="no model that motc generated"):
        motc.parallelize(torch.nn.Linear(2, 2), init_device_mesh("cpu", (8,)))


def test_rows_on_several_ranks_are_not_generated_nor_compiled(ranks: None) -> None:
    model: Any = motc.load(MOT)
    motc.parallelize(model, init_device_mesh("cpu", (4, 2), mesh_dim_names=("dp", "cp")))
    ids = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="rows lie on several ranks"):
        model.generate(ids, ids, max_new_tokens=1)
    with pytest.raises(ValueError, match="rows lie on several ranks"):
        model.compile()


def test_experts_on_several_ranks_are_not_compiled(ranks: None) -> None:
    model: Any = motc.load(TOP_K)
    motc.parallelize(model, init_device_mesh("cpu", (4, 2), mesh_dim_names=("dp", "ep")))
    with pytest.raises(ValueError, match="experts are on several ranks"):
        model.compile()


def test_a_mesh_without_names_is_dp(ranks: None) -> None:
    model = motc.load(MOT)
    motc.parallelize(model, init_device_mesh("cpu", (8,)))
    assert all(parameter.placements == (Shard(0),) for parameter in cast(Any, model).parameters())
