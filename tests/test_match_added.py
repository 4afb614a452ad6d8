"""`motc match` with specs added to a run: the losses they would have had, and no times that do not compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from motc.ir.model import Model
from motc.match import Data, MatchError, Report, Settings, match_systems, read_data, to_markdown
from motc.match.plot import plot
from tests.small_run import SETTINGS, do_not_compile, models_in, write_data


@pytest.fixture
def data(tmp_path: Path) -> Data:
    write_data(tmp_path / "data")
    return read_data(tmp_path / "data")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Model]:
    """Three systems, none of them compiled."""
    do_not_compile(monkeypatch)
    return models_in(tmp_path)


def run(models: dict[str, Model], names: str, data: Data, out: Path, settings: Settings = SETTINGS) -> Report:
    return match_systems({name: models[name] for name in names.split()}, data, settings, out, lambda *_: None)


def losses(report: Report) -> list[object]:
    return [(curves.losses, curves.held_out) for curves in report.curves]


def test_a_spec_added_later_has_the_losses_it_would_have_had(
    models: dict[str, Model], data: Data, tmp_path: Path
) -> None:
    together = run(models, "dense mot ffn_untied", data, tmp_path / "together")
    run(models, "dense mot", data, tmp_path / "out")
    first = (tmp_path / "out" / "seed0.safetensors").read_bytes()
    added = run(models, "dense mot ffn_untied", data, tmp_path / "out")
    assert losses(added) == losses(together)
    assert (tmp_path / "out" / "seed0.safetensors").read_bytes() == first
    assert set(load_file(tmp_path / "out" / "seed0-added1.safetensors")) == {
        name for name in load_file(tmp_path / "together" / "seed0.safetensors") if name.startswith("ffn_untied/")
    }

    more = run(models, "dense mot ffn_untied", data, tmp_path / "out", replace(SETTINGS, seeds=2))
    assert losses(more)[0] == losses(together)[0]
    assert losses(more)[1] != losses(together)[0]


def test_times_of_a_spec_added_later_do_not_compare(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    run(models, "dense mot", data, tmp_path)
    report = run(models, "dense mot ffn_untied", data, tmp_path)
    assert report.apart == ("ffn_untied",)
    assert len(report.step_times("mot")) == len(report.ratios("mot", "text", "training_time")) == 1
    assert report.step_times("ffn_untied") == report.ratios("ffn_untied", "text", "training_time") == []
    assert len(report.ratios("ffn_untied", "text", "training")) == 1
    page = to_markdown(report, "motc match")
    assert "Trained apart from dense, so step times do not compare (–): ffn_untied." in page
    assert "| ffn_untied | time, training loss | – | – |" in page
    assert report.to_json()["trained_apart"] == ["ffn_untied"]
    assert plot(report).startswith(b"\x89PNG")

    other_base = run(models, "ffn_untied dense mot", data, tmp_path)
    assert other_base.apart == ("dense", "mot")


def test_what_was_added_may_be_left_out_again(models: dict[str, Model], data: Data, tmp_path: Path) -> None:
    before = run(models, "dense mot", data, tmp_path)
    run(models, "dense mot ffn_untied", data, tmp_path)
    recorded = (tmp_path / "run.json").read_text()
    assert run(models, "dense mot", data, tmp_path).to_json() == before.to_json()
    assert (tmp_path / "run.json").read_text() == recorded


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"systems": 3}', '{"systems": {}, "added": 1}'])
def test_a_file_that_is_no_record_of_a_run_is_told(
    record: str, models: dict[str, Model], data: Data, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(MatchError, match="is no record of a run"):
        run(models, "dense mot", data, tmp_path)


def test_a_part_of_those_trained_together_and_other_specs_of_the_same_name_are_refused(
    models: dict[str, Model], data: Data, tmp_path: Path
) -> None:
    run(models, "dense mot", data, tmp_path)
    recorded = (tmp_path / "run.json").read_text()
    with pytest.raises(MatchError, match="holds dense, mot, trained together: give mot too"):
        run(models, "dense ffn_untied", data, tmp_path)
    with pytest.raises(MatchError, match="another run: mot was "):
        run({**models, "mot": models["ffn_untied"]}, "dense mot", data, tmp_path)
    with pytest.raises(MatchError, match="another run: batch was 4, is 5"):
        run(models, "dense mot ffn_untied", data, tmp_path, replace(SETTINGS, batch=5))
    assert (tmp_path / "run.json").read_text() == recorded
