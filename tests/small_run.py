"""A data folder and three systems so small that `motc match` trains them, uncompiled, in a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from motc.driver import compile_ir
from motc.ir.model import Model
from motc.loading import instantiate
from motc.match import Settings
from tests.tracing import KERNELS_OF_LAYERS

SETTINGS = Settings(steps=8, seeds=1, batch=4, eval_every=4, learning_rate=1e-2, device="cpu", threads=1)
SPEC = """model NAME {
  width = 16
  layers = 1
  modality text { vocab = 8 }
  modality image { vocab = 8 }
  attention { heads = 2 }
  ffn { hidden = 16 }
  untie ffn, norm
}
"""


def write_data(folder: Path) -> None:
    """A data folder of two modalities, eight samples in either part."""
    folder.mkdir()
    described = {"format": 1, "modalities": ["text", "image"], "vocab": {"text": 8, "image": 8}}
    (folder / "data.json").write_text(json.dumps(described))
    for name in ("training", "held_out"):
        ids = torch.arange(48) % 7
        tensors = {"input_ids": ids, "modality_ids": ids % 2, "lengths": torch.full((8,), 6)}
        save_file(tensors, folder / f"{name}-00000.safetensors")


def write_specs(folder: Path) -> dict[str, Path]:
    """Of three systems: dense, mot, ffn_untied."""
    paths = {}
    for name, untied in (("dense", ""), ("mot", "untie ffn, norm"), ("ffn_untied", "untie ffn")):
        paths[name] = folder / f"{name}.mot"
        paths[name].write_text(SPEC.replace("NAME", name).replace("untie ffn, norm", untied))
    return paths


def models_in(folder: Path) -> dict[str, Model]:
    """The three systems."""
    return {name: compile_ir(path) for name, path in write_specs(folder).items()}


def do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races train eagerly."""
    _compile_by(monkeypatch, lambda compile_network: None)


def compile_layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races train with kernels of layers; the ends, which would take twice as many, run as they are traced."""
    _compile_by(monkeypatch, lambda compile_network: compile_network(backend=KERNELS_OF_LAYERS))


def _compile_by(monkeypatch: pytest.MonkeyPatch, way: Callable[[Any], None]) -> None:
    """What `compile()` does with networks of a race, which is given the method that it is otherwise."""

    def instantiated(*args: Any, **kwargs: Any) -> torch.nn.Module:
        network = instantiate(*args, **kwargs)
        network.compile = partial(way, network.compile)  # type: ignore[method-assign]
        return network

    monkeypatch.setattr("motc.match.race.instantiate", instantiated)
