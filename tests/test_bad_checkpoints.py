"""Damaged checkpoints, always the same ones here; `make fuzz` looks for new ones."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import motc
from motc.source import SpecError
from motc.weights import read_mapping
from tests.fuzz.checkpoints import (
    a_full_disk_is_told,
    cleaned,
    is_refused_by_name,
    is_told,
    leaves_whole_files,
    loads_or_tells,
)
from tests.fuzz.damage import SMALL, damaged_config, damaged_folder
from tests.fuzz.maps import no_map_goes_untold


def test_damaged_weights_are_told_by_file_and_tensor(tmp_path: Path) -> None:
    for seed in range(40):
        with cleaned(tmp_path / "it") as under:
            is_told(damaged_folder(seed, under))


def test_mapping_files_and_map_files_are_told_where_they_are_wrong(tmp_path: Path) -> None:
    for seed in range(300):
        no_map_goes_untold(seed, tmp_path)


def test_strange_configurations_are_told(tmp_path: Path) -> None:
    for seed in range(20):
        with cleaned(tmp_path / "it") as under:
            is_told(damaged_config(seed, under))


def test_damaged_files_of_ours_are_told(tmp_path: Path) -> None:
    saved = tmp_path / "saved.safetensors"
    motc.save(motc.load(SMALL), saved)
    for seed in range(30):
        with cleaned(tmp_path / "it") as under:
            loads_or_tells(seed, saved, under)


def test_damaged_files_are_no_beginning_and_go_nowhere(tmp_path: Path) -> None:
    saved = tmp_path / "saved.safetensors"
    motc.save(motc.load(SMALL), saved)
    for seed in range(100, 108):
        with cleaned(tmp_path / "it") as under:
            is_refused_by_name(seed, saved, under)


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    for seed in range(6):
        with cleaned(tmp_path / "it") as under:
            a_full_disk_is_told(seed, under)


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGKILL])
def test_an_import_that_is_ended_leaves_nothing_partial(kill: signal.Signals, tmp_path: Path) -> None:
    for seed in range(6):  # of which the last ends it while it removes what it wrote aside
        with cleaned(tmp_path / "it") as under:
            leaves_whole_files(seed, under, kill)


def test_a_mapping_that_names_a_tensor_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("architectures: [A]\ntensors:\n  a: embedding\n  b: head\n  a: final_norm\n")
    with pytest.raises(SpecError, match=r"twice\.yaml:5.*`?a`?"):
        read_mapping(path)
