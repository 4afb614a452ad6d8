"""Pages to follow, such as the README and the tutorial: all that stands there is done, and prints what is shown."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from motc.cli import main

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [DOCS.parent / "README.md", DOCS / "tutorial.md", *sorted(DOCS.glob("how_to_*.md"))]
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>[\s\S]*?)^```$", re.M)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a session, and what is shown of its output."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def run(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints; it must succeed, where one that compares may say that there is a difference."""
    program, *words = shlex.split(command)
    capsys.readouterr()
    if program == "motc":
        assert main(words) in ((0, 2) if words[0] == "diff" else (0,)), capsys.readouterr().err
    else:
        assert program == "python" and len(words) == 1
        runpy.run_path(words[0])
    return capsys.readouterr().out


def pattern(shown: str) -> str:
    """What is shown, where a line of dots stands for any lines, and dots in a line for any of it."""
    return re.escape(shown).replace(re.escape("...\n"), r"(?:.*\n)*").replace("…", ".*")


@pytest.mark.compiled
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_followed_to_the_letter(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    fences = list(FENCE.finditer(page.read_text(encoding="utf-8")))
    assert any(fence["language"] == "console" for fence in fences)
    for fence in fences:
        text = fence["text"]
        if fence["language"] == "console":
            for command, shown in commands(text):
                printed = run(command, capsys)
                assert not shown or re.fullmatch(pattern(shown), printed), (command, printed)
        else:
            named = re.match(r"# (\S+\.\w+)\n", text)
            if named is None:
                assert page.name == "README.md", text  # whose other specs are parts
                continue
            Path(named[1]).parent.mkdir(exist_ok=True)
            Path(named[1]).write_text(text, encoding="utf-8")
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]
