"""How far a model's towers are apart, of its tensors by hand, and what is drawn of it and of gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import motc
from motc.driver import compile_ir
from motc.match import read_data
from motc.match.pairs import Recorder, group_of, layer_of, mean_by, recorded
from motc.match.pairs_plot import plot_pairs
from motc.match.race import race
from motc.match.towers import copies, tower_distances
from tests.small_run import SETTINGS, do_not_compile, models_in, write_data

THREE = """model three {
  width = 8, layers = 2, vocab = 8
  modality text, image, speech
  attention { heads = 2 }
  ffn { hidden = 12 }
  untie ffn.down, norm
  untie attention as {text, image} {speech} in layer 1
}
"""


def test_copies_are_those_of_layers_that_are_untied(tmp_path: Path) -> None:
    (tmp_path / "three.mot").write_text(THREE)
    found = copies(compile_ir(tmp_path / "three.mot"))
    assert found["layers.0.ffn.down.weight"] == {
        name: f"layers.0.ffn.down.{name}.weight" for name in ("text", "image", "speech")
    }
    assert list(found["layers.1.attention.q.weight"]) == ["text_image", "speech"]
    assert not {"layers.0.attention.q.weight", "layers.1.ffn.up.weight", "embedding.weight"} & found.keys()
    names = {name for name, _ in motc.load(tmp_path / "three.mot").named_parameters()}
    assert {name for blocks in found.values() for name in blocks.values()} <= names


def test_distances_go_from_independent_on_and_are_measured_as_a_run_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_not_compile(monkeypatch)
    write_data(tmp_path / "data")
    data, model = read_data(tmp_path / "data"), models_in(tmp_path)["mot"]
    watch = Recorder(tmp_path / "towers.json", lambda system: tower_distances(system, model))
    (system,) = race({"mot": model}, data, SETTINGS, 0, tmp_path / "run", lambda *_: None, watch)
    by_step = recorded(tmp_path / "towers.json")
    assert list(by_step) == [4, 8]
    text, image = (system.network.get_parameter(f"layers.0.ffn.up.{name}.weight") for name in ("text", "image"))
    expected = (text - image).detach().square().sum() / (text.detach().square().sum() + image.detach().square().sum())
    assert by_step[8]["layers.0.ffn.up.weight"]["text image"] == pytest.approx(float(expected), abs=1e-6)
    assert 0.5 < by_step[8]["layers.0.ffn.up.weight"]["text image"] < 1.5
    with torch.no_grad():
        text.copy_(image)
    assert tower_distances(system, model)["layers.0.ffn.up.weight"] == {"text image": 0.0}
    assert plot_pairs(by_step, "distance").startswith(b"\x89PNG")


def test_means_are_of_layers_and_of_those_that_have_the_pair() -> None:
    pairs = {
        "layers.0.ffn.up.weight": {"a b": 1.0, "a c": 0.0},
        "layers.1.ffn.up.weight": {"a b": 0.0},
        "layers.1.norm.weight": {"a b": 0.5},
        "embedding.weight": {"a b": 9.0},
    }
    assert mean_by(group_of, pairs, "a b") == {"ffn.up": 0.5, "norm": 0.5}
    assert mean_by(layer_of, pairs, "a b") == {"layer 0": 1.0, "layer 1": 0.25}
    assert mean_by(layer_of, pairs, "a c") == {"layer 0": 0.0}
