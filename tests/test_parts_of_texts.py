"""A text of `.mot` is read part by part, so that an editor waits for what changed alone; that is not to be seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from motc.source import SourceFile, SpecError
from motc.syntax import read, read_file
from motc.syntax.mot_reader import parse

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", sorted(ROOT.rglob("specs/**/*.mot")), ids=lambda path: path.stem)
def test_a_text_read_in_parts_says_the_same_at_the_same_places(path: Path) -> None:
    text = read_file(path).text.replace("}\r\n", "}\n").rstrip("\n")
    whole = re.sub(r"\}\n(?=.)", "};", text, flags=re.DOTALL)  # no part ends where no line does
    assert text.count("}\n") == 0 or whole != text
    one, other = (parse(SourceFile("a.mot", each)) for each in (text, whole))
    assert repr(one) == repr(other)


def test_a_mistake_in_a_part_is_told_at_its_place_in_the_text() -> None:
    lines = [f"  layers {layer} {{\n    ffn {{ hidden = 64 }}\n  }}\n" for layer in range(4)]
    text = "".join(["model a {\n", *lines, "}\n"])
    told = []
    for wrong in (text.replace("hidden = 64", "hidden 64"), "".join(["model a {\n", *lines[:2], "}\n", *lines[2:]])):
        with pytest.raises(SpecError) as error:
            read(SourceFile("a.mot", wrong))
        told.append(str(error.value.diagnostics[0].span))
    assert told == ["a.mot:3:18", "a.mot:9:3"]
