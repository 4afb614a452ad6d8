"""Cosines between modalities' gradients, in a race, against gradients that are taken one after another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motc.match import read_data
from motc.match.batches import held_out_batches
from motc.match.gradients import gradient_cosines, held_out_cosines
from motc.match.pairs import Recorder, recorded
from motc.match.race import race
from tests.small_run import SETTINGS, do_not_compile, models_in, write_data


def test_cosines_are_those_of_gradients_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do_not_compile(monkeypatch)
    write_data(tmp_path / "data")
    data, models = read_data(tmp_path / "data"), models_in(tmp_path)
    watch = Recorder(tmp_path / "gradients.json", held_out_cosines(data, SETTINGS.batch))
    whole = race({"ffn": models["ffn_untied"]}, data, SETTINGS, 0, tmp_path / "a", lambda *_: None, watch)
    (alone,) = race({"ffn": models["ffn_untied"]}, data, SETTINGS, 0, tmp_path / "b", lambda *_: None)
    assert [x.tolist() for x in whole[0].losses] == [x.tolist() for x in alone.losses]  # watched or not

    batches = list(held_out_batches(data, {"ffn": alone.network.layout}, batch=SETTINGS.batch))
    cosines = gradient_cosines(alone, batches)
    assert recorded(tmp_path / "gradients.json").keys() == {4, 8}
    assert recorded(tmp_path / "gradients.json")[8] == cosines

    by_modality: dict[str, dict[str, torch.Tensor]] = {}
    for modality in ("text", "image"):
        alone.network.zero_grad()
        for batch in batches:
            losses = alone.network.loss(batch.input_ids, batch.modality_ids)
            (losses.by_modality[modality] * losses.weights[modality]).backward()
        found = {name: x.grad for name, x in alone.network.named_parameters() if x.grad is not None}
        by_modality[modality] = {name: x.clone().flatten() for name, x in found.items()}
    shared = by_modality["text"].keys() & by_modality["image"].keys()
    assert any("attention" in name for name in shared)
    for name in shared:
        a, b = by_modality["text"][name], by_modality["image"][name]
        if float(a.norm() * b.norm()) > 0:
            assert cosines[name]["text image"] == pytest.approx(float(torch.cosine_similarity(a, b, dim=0)), abs=1e-5)
    assert any(name not in cosines for name in by_modality["text"])  # those of one modality alone
