"""The table of the paper's specs is what the specs give."""

from __future__ import annotations

import pytest

from examples.paper.table import PAPER, README, paper_name, table, with_table


def test_the_readme_holds_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, "run python examples/paper/table.py"


def test_every_spec_has_one_row() -> None:
    rows = table().splitlines()[2:]
    assert sorted(row.split("](")[1].split(")")[0] for row in rows) == sorted(path.name for path in PAPER.glob("*.mot"))


def test_rows_say_what_is_shared() -> None:
    rows = {row.split("](")[0].removeprefix("| ["): row.split(" | ") for row in table().splitlines()[2:]}
    assert rows["chameleon_37m_dense"][3:7] == ["–", "37.0", "37.0", "40.4"]
    assert rows["chameleon_speech_880m_ffn_only"][3:5] == ["ffn: {text} {image} {speech}", "1,786.8"]
    assert rows["chameleon_speech_443m_text_alone"][3:5] == ["attention, ffn, norm: {text} {image speech}", "750.9"]


@pytest.mark.parametrize(
    ("stem", "name"), [("chameleon_37m_mot", "37M"), ("chameleon_speech_1_5b_dense", "1.5B"), ("other", "–")]
)
def test_a_spec_s_name_holds_the_paper_s(stem: str, name: str) -> None:
    assert paper_name(stem) == name
