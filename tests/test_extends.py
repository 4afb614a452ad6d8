"""Chains of specs that extend one another: what is refused, and where that is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from motc.driver import check_spec
from motc.source import Diagnostic, SpecError
from motc.syntax.files import LARGEST


def refused(path: Path) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        check_spec(path)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def test_specs_that_extend_each_other_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.mot").write_text('model a { extends "b.mot" }')
    (tmp_path / "b.mot").write_text('model b {\n  extends "a.mot"\n}')
    diagnostic = refused(tmp_path / "a.mot")
    assert diagnostic.code == "MOT031"
    assert str(diagnostic.span) == f"{tmp_path / 'b.mot'}:2:11"


def test_more_specs_than_may_extend_each_other(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index}.mot").write_text(f'model a {{ extends "{index + 1}.mot" }}')
    diagnostic = refused(tmp_path / "0.mot")
    assert (diagnostic.code, str(diagnostic.span)) == ("MOT031", f"{tmp_path / '20.mot'}:1:19")


def test_specs_that_are_too_large_together(tmp_path: Path) -> None:
    padding = "#" * (LARGEST // 2)
    (tmp_path / "base.mot").write_text(f"model a {{ width = 8 }} {padding}")
    (tmp_path / "a.mot").write_text(f'model a {{ extends "base.mot" }} {padding}')
    diagnostic = refused(tmp_path / "a.mot")
    assert (diagnostic.code, str(diagnostic.span)) == ("MOT005", f"{tmp_path / 'a.mot'}:1:19")
    assert diagnostic.message.startswith(str(tmp_path / "base.mot"))
