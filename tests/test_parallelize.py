"""A model on a mesh of gloo processes has the loss and the gradients of one process.

Each number of processes is started once and runs all its cases; what comes of each is a test of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import motc
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.sharding import divided_parameters
from motc.source import SourceFile
from tests.processes import start

MOT = """
model small {
  width = 32, layers = 2
  modality text { vocab = 40 }, image { vocab = 24 }
  attention { heads = 4, kv_heads = 2, qk_norm = rms, bias = true }
  ffn { hidden = 64, bias = true }
  untie attention, ffn, norm
}
"""
DENSE = MOT.replace("untie attention, ffn, norm", "")
THREE = MOT.replace("image { vocab = 24 }", "image { vocab = 24 }, speech { vocab = 28 }").replace(
    "untie attention, ffn, norm", "untie ffn, norm\n  untie attention as {text} {image, speech}"
)
WIDTHS = """
model widths {
  width = 32, layers = 2
  vocab = 40
  modality text, image
  tower image = image { width = 24, ffn { hidden = 40, kind = gelu } }
  attention { heads = 4, head_dim = 8, kv_heads = 2 }
  ffn { hidden = 64, bias = true }
  untie attention, ffn, norm, embedding, head
}
"""
LATENTS = MOT.replace("vocab = 24", "latent { channels = 2, patch = 2, weight = 5 }")
LEARNT = MOT.replace(
    "image { vocab = 24 }",
    """image {
    latent { channels = 2, patch = 2, time = none, learned { rows = 4 }, objective { variance = learned } }
    condition { timestep { size = 4 } }
  }""",
).replace("untie", "norm { adaptive = image, final { kind = none } }\n  residual { around = layer }\n  untie")
FEATURES = MOT.replace("image { vocab = 24 }", "image { features { size = 12, projector { kind = gelu } } }")
TOP_K = MOT.replace("hidden = 64, bias = true", "hidden = 64, kind = moe, experts = 4, top_k = 2, balance = 0.1")
CHOICE = MOT.replace(
    "hidden = 64, bias = true",
    "hidden = 64, kind = moe, experts = 4, bias = true, shared_experts = 1, routing = expert_choice",
)
ODD = """
model odd {
  width = 32, layers = 2
  vocab = 40
  modality text, image
  attention { heads = 4, qk_norm { kind = layer, over = head }, gate = true, sinks = true, softcap = 5 }
  ffn { kind = geglu, hidden = 64 }
  norm { placement = both }
  embedding { tied = true }
  untie attention, ffn
}
"""
LOW_RANK = """
model low {
  width = 32, layers = 2
  modality text { vocab = 40 }, image { vocab = 24 }
  attention { heads = 4, head_dim = 12, value_dim = 8, low_rank { kv = 16, q = 24, rope_dim = 4 } }
  ffn { hidden = 64 }
  untie attention, ffn, norm
}
"""
MASKS = MOT.replace("qk_norm = rms", "mask { bidirectional = image }, window = 4").replace(
    "untie attention",
    "layers 1 { attention { mask { kind = blocks, blocks = [text, image] }, window = none } }\n  untie attention",
)
CONDITIONED = """
model conditioned {
  width = 32, layers = 2
  modality text { vocab = 40 }
  modality image { latent { channels = 2, patch = 2, time = none }, condition { timestep {} } }
  attention { heads = 4, mask = full }
  ffn { hidden = 64 }
  norm { adaptive = image }
  untie attention, ffn
}
"""


class Case(NamedTuple):
    """A model on a mesh, its dimensions by name, and what it is told besides."""

    mesh: dict[str, int]
    spec: str
    strategy: Strategy = "sorted"
    told: Mapping[str, Any] = MappingProxyType({})

    @property
    def dtype(self) -> torch.dtype:
        """float64 where there is a product of it."""
        return torch.float32 if self.strategy == "grouped" else torch.float64

    @property
    def processes(self) -> int:
        processes = 1
        for size in self.mesh.values():
            processes *= size
        return processes


CASES = {
    "dp-dense": Case({"dp": 2}, DENSE),
    "dp-mot": Case({"dp": 2}, MOT),
    "dp-blend": Case({"dp": 2}, MOT, "blend"),
    "dp-grouped": Case({"dp": 2}, MOT, "grouped"),
    "dp-reference": Case({"dp": 2}, MOT, "reference"),
    "dp-three": Case({"dp": 2}, THREE),
    "dp-widths": Case({"dp": 2}, WIDTHS),
    "dp-latents": Case({"dp": 2}, LATENTS),
    "dp-learnt": Case({"dp": 2}, LEARNT),
    "dp-features": Case({"dp": 2}, FEATURES),
    "dp-top_k": Case({"dp": 2}, TOP_K),
    "dp-choice": Case({"dp": 2}, CHOICE),
    "dp-odd": Case({"dp": 2}, ODD),
    "dp-checkpointed": Case({"dp": 2}, MOT, "sorted", {"checkpoint_every": 1, "gathered": True}),
    "tp-dense": Case({"tp": 2}, DENSE),
    "tp-blend": Case({"tp": 2}, MOT, "blend"),
    "tp-reference": Case({"tp": 2}, MOT, "reference"),
    "tp-three": Case({"tp": 2}, THREE),
    "tp-widths": Case({"tp": 2}, WIDTHS),
    "tp-latents": Case({"tp": 2}, LATENTS),
    "tp-learnt": Case({"tp": 2}, LEARNT),
    "tp-features": Case({"tp": 2}, FEATURES),
    "tp-top_k": Case({"tp": 2}, TOP_K),
    "tp-some_experts": Case({"tp": 2}, TOP_K, "sorted", {"by_expert": True}),
    "tp-choice": Case({"tp": 2}, CHOICE),
    "tp-some_choosing": Case({"tp": 2}, CHOICE, "sorted", {"by_expert": True}),
    "tp-odd": Case({"tp": 2}, ODD),
    "tp-low_rank": Case({"tp": 2}, LOW_RANK),
    "tp-whole": Case({"tp": 2}, MOT, "sorted", {"undivided": ("image.ffn", "head")}),
    "cp-dense": Case({"cp": 2}, DENSE),
    "cp-mot": Case({"cp": 2}, MOT, "sorted", {"checkpoint_every": 1}),
    "cp-three": Case({"cp": 2}, THREE),
    "cp-widths": Case({"cp": 2}, WIDTHS),
    "cp-latents": Case({"cp": 2}, LATENTS),
    "cp-features": Case({"cp": 2}, FEATURES),
    "cp-top_k": Case({"cp": 2}, TOP_K),
    "cp-odd": Case({"cp": 2}, ODD),
    "cp-masks": Case({"cp": 2}, MASKS),
    "cp-conditioned": Case({"cp": 2}, CONDITIONED),
    "cp-low_rank": Case({"cp": 2}, LOW_RANK),
    "ep-top_k": Case({"ep": 2}, TOP_K, "sorted", {"checkpoint_every": 1}),
    "ep-choice": Case({"ep": 2}, CHOICE),
    "4-mot": Case({"tp": 4}, MOT),
    "4-some_experts": Case({"tp": 4}, TOP_K, "sorted", {"by_expert": True}),
    "2x2-mot": Case({"dp": 2, "tp": 2}, MOT, "sorted", {"checkpoint_every": 1}),
    "2x2-widths": Case({"dp": 2, "tp": 2}, WIDTHS),
    "2x2-latents": Case({"dp": 2, "tp": 2}, LATENTS),
    "2x2-experts": Case({"dp": 2, "tp": 2}, CHOICE, "sorted", {"by_expert": True}),
    "2x2-exchanged": Case({"dp": 2, "ep": 2}, TOP_K),
    "2x2-exchanged_choice": Case({"dp": 2, "ep": 2}, CHOICE),
    "4-exchanged": Case({"ep": 4}, TOP_K),
    "2x2-rows": Case({"dp": 2, "cp": 2}, THREE),
    "2x2-rows_and_maps": Case({"cp": 2, "tp": 2}, MOT),
    "4-rows": Case({"cp": 4}, ODD),
    "copies-mot": Case({"replicate": 2, "dp": 2}, MOT),
}


def batch(model: Any, part: int) -> dict[str, Any]:
    """What data-parallel rank `part` trains on: of unlike lengths, and only the first has more than text."""
    generator = torch.Generator().manual_seed(part)
    continuous = [name for name in model.modalities if name not in model.vocabularies]
    modality_ids = torch.zeros(2, 12, dtype=torch.int64)
    if part == 0:
        modality_ids[0, 2:6] = 1
        modality_ids[1, 7:9] = len(model.modalities) - 1 if not continuous else 0
    modality_ids[0, 9 - part :] = -1
    given: dict[str, Any] = {
        "input_ids": torch.randint(0, 24, (2, 12), generator=generator),
        "modality_ids": modality_ids,
        "document_ids": (torch.arange(12) > 5 + part).long().expand(2, 12),
    }
    if continuous and part == 0 and hasattr(model, "latents"):
        latent = torch.randn(1, 2, 4, 4, generator=generator, dtype=torch.float64)
        given |= {
            "latents": {"image": latent},
            "noise": {"image": latent.flip(0, 2)},
            "timesteps": {"image": torch.tensor([300])},
        }
        given["document_ids"] = torch.zeros(2, 12, dtype=torch.int64)
    elif continuous and part == 0:
        given["features"] = {"image": torch.randn(4, 12, generator=generator, dtype=torch.float64)}
    return given


def difference(case: Case, rank: int) -> dict[str, float]:
    """How far loss and gradients are from one process's, by what; gradients relative to their largest number."""
    mesh = init_device_mesh("cpu", tuple(case.mesh.values()), mesh_dim_names=tuple(case.mesh))
    model: Any = motc.load(case.spec, dtype=case.dtype, strategy=case.strategy)
    motc.parallelize(model, mesh, **case.told)
    parts = case.processes // case.mesh.get("tp", 1) // case.mesh.get("cp", 1)
    losses = model.loss(**batch(model, rank * parts // case.processes))
    share: Any = motc.share_of_all(model, losses, mesh)
    share.backward()
    total = share.detach().clone()
    dist.all_reduce(total)

    whole: Any = motc.load(case.spec, dtype=case.dtype, strategy=case.strategy)
    each = [whole.loss(**batch(whole, part)) for part in range(parts)]
    weights = {name: sum(losses.weights[name] for losses in each).double() for name in whole.modalities}
    expected: Any = torch.stack([whole.share(losses, weights) for losses in each]).sum()
    expected.backward()
    result = {"loss": abs(total.item() / case.processes - expected.item())}
    found = dict(model.named_parameters())
    for name, parameter in whole.named_parameters():
        gradient = found[name].grad.full_tensor()
        largest = parameter.grad.abs().max().clamp(min=1e-6)
        result[name] = ((gradient - parameter.grad).abs().max() / largest).item()
    if set(case.mesh) == {"tp"}:
        check_parts(case, dict(model.named_parameters()))
    return result


def check_parts(case: Case, parameters: dict[str, Any]) -> None:
    """The IR says the same of which part each rank has."""
    if "undivided" not in case.told:
        ir = compile_ir(SourceFile("small.mot", case.spec), strategy=case.strategy)
        parts = divided_parameters(ir, case.mesh["tp"], by_expert=case.told.get("by_expert", False))
        assert {name: tuple(each.to_local().shape) for name, each in parameters.items()} == {
            name: part.local for name, part in parts.items()
        }


def worker(rank: int, folder: str, port: int) -> None:
    processes = int(Path(folder).name)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    for name, case in CASES.items():
        if case.processes == processes:
            found = difference(case, rank)
            if rank == 0:
                Path(folder, f"{name}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("parallel")
    for processes in sorted({case.processes for case in CASES.values()}):
        (folder / str(processes)).mkdir()
        start(processes, worker, str(folder / str(processes)))
    return {path.stem: json.loads(path.read_text()) for path in folder.rglob("*.json")}


@pytest.mark.compiled
@pytest.mark.parametrize("name", CASES)
def test_a_mesh_has_the_loss_and_the_gradients_of_one_process(name: str, results: dict[str, dict[str, float]]) -> None:
    most = 1e-9 if CASES[name].dtype == torch.float64 else 1e-5
    assert {what: value for what, value in results[name].items() if not value < most} == {}
