"""What a checkpoint must hold, of a finished run and of a stopped one alike: which tensors, and which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motc.match.checkpoint import REMEDY
from motc.match.report import eval_steps
from motc.match.settings import MatchError, Settings

Shapes = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""By name, the dtypes and shapes of tensors."""


def check_checkpoint(
    path: Path, saved: Mapping[str, Tensor], networks: Mapping[str, Any], done: int, settings: Settings
) -> None:
    """Raises MatchError unless `saved` is what these systems can have after `done` steps.

    A digest says that a file is as it was written, and not who wrote it. Networks may be on any device, "meta" too.
    """
    wanted = {key: x for name, network in networks.items() for key, x in _shapes(name, network, done, settings).items()}
    for key in sorted(saved.keys() | wanted.keys()):
        x = saved.get(key)
        mine = "absent" if x is None else f"{x.dtype} {[*x.shape]}"
        right = f"{wanted[key][0]} {[*wanted[key][1]]}" if key in wanted else "absent"
        if mine != right:
            raise MatchError(f"{path} does not fit: {key} is {mine}, and should be {right}; {REMEDY}")
    untargeted = {
        curve: torch.stack([saved[f"{name}/{curve}"].isnan() for name in networks]).all(0)
        for curve in ("losses", "held_out")
    }
    for name in networks:
        for key, x in below(f"{name}/", saved).items():
            wrong = _wrong_numbers(key, x, untargeted, done)
            if wrong:
                raise MatchError(f"{path} does not fit: {name}/{key} has {wrong}; {REMEDY}")


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}


def _shapes(name: str, network: Any, done: int, settings: Settings) -> Shapes:
    """The tensors that a checkpoint after `done` steps has of a system."""
    modalities = len(network.modalities)
    evaluations = sum(step <= done for step in eval_steps(settings))
    tensors = {f"{name}/model/{key}": (x.dtype, tuple(x.shape)) for key, x in network.state_dict().items()}
    for key, x in network.named_parameters():
        path = f"{name}/optimizer/{key}"
        tensors |= {f"{path}/{moment}": (x.dtype, tuple(x.shape)) for moment in ("exp_avg", "exp_avg_sq")}
        tensors[f"{path}/step"] = (torch.float32, ())
    return {
        **tensors,
        f"{name}/losses": (torch.float64, (done, modalities)),
        f"{name}/seconds": (torch.float64, (done,)),
        f"{name}/held_out": (torch.float64, (evaluations, modalities)),
    }


def _wrong_numbers(key: str, x: Tensor, untargeted: Mapping[str, Tensor], done: int) -> str:
    """What numbers of a system's tensor training never writes; empty if none.

    A loss is NaN where its modality has no target in the batch: for all systems alike, which `untargeted` has by curve.
    Seconds are NaN where torch compiled.
    """
    match key:
        case "losses" | "held_out":
            if bool(x.isinf().any()):
                return "infinite losses"
            if bool(x.isnan().all() or (x.isnan() & ~untargeted[key]).any()):
                return "losses that are NaN where there were targets"
        case "seconds":
            if bool((x.isinf() | (x < 0)).any()):
                return "times that are infinite or negative"
        case _ if not bool(x.isfinite().all()):
            return "numbers that are infinite or NaN"
        case _ if key.startswith("optimizer/") and key.endswith("/step"):
            if not (1 <= float(x) <= done and float(x).is_integer()):
                return f"{float(x):g}, and should be a number of steps within 1..{done}"
        case _ if key.startswith("optimizer/") and key.endswith("/exp_avg_sq"):
            if bool((x < 0).any()):
                return "squares that are negative"
    return ""
