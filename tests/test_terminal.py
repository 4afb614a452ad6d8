"""The terminal: what to do first, completion, first specs, parameters explained, and specs that are watched."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from motc.cli import app, main
from motc.cli.new import models
from motc.cli.watch import watch
from motc.driver import compile_ir
from motc.ir.names import saved_shapes
from motc.report.parameter import UnknownParameter, named
from motc.report.subject import Subject
from motc.source import SourceFile

ROOT = Path(__file__).resolve().parent.parent
SPEC = str(ROOT / "specs" / "emoji_mot.mot")

ROUTED = """model routed {
  width = 8, layers = 3
  modality text { vocab = 16 }
  modality image { vocab = 16 }
  attention { heads = 2 }
  ffn { kind = moe, experts = 4, hidden = 8, correction = true }
  embedding { tied = true }
  untie attention.q in layer 1
}
"""


def test_without_a_command_it_says_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr().out
    commands = re.findall(r"^  motc (\w+)", told, re.M)
    assert commands == ["new", "show", "build"]
    for command in commands:
        assert main([command, "--help"]) == 0


def test_the_page_of_the_command_line_names_every_command() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    table = re.findall(r"`motc (\w+)`", page.partition("|---|")[2].partition("\n\n")[0])
    commands: Any = typer.main.get_command(app)
    assert sorted(table) == sorted(commands.commands)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("motc wat", "watch"),
        ("motc check specs/emoji_m", "specs/emoji_mot.mot"),
        ("motc diff specs/emoji_mot.mot sp", "specs/"),
        ("motc show --set attention.kv", "attention.kv_heads="),
        ("motc explain ffn.do", "ffn.down"),
        ("motc explain MOT02", "MOT021"),
        ("motc new a.mot --from smollm2", "smollm2_135m"),
    ],
)
def test_a_shell_completes(
    words: str, completed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    asked = {"_MOTC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 0
    assert completed in capsys.readouterr().out.split()


def test_completion_says_nothing_of_a_folder_that_is_not_there() -> None:
    from motc.cli.completion import specs

    assert specs("nowhere/x") == []


def test_new_writes_a_spec_that_is_right_and_overwrites_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "my first.mot"
    words = ["new", str(spec), "--from", "smollm2_135m", "--add", "image=512", "--add", "drawn=latent"]
    words += ["--add", "seen=features", "--untie", "attention, ffn", "--set", "layers=2"]
    assert main(words) == 0
    assert main(["check", str(spec)]) == 0 and main(["fmt", str(spec), "--check"]) == 0
    model = compile_ir(spec)
    assert (model.name, model.names, model.layers) == ("my_first", ("text", "image", "drawn", "seen"), 2)
    assert model.modality("text").width == 576
    assert len(next(leaf for leaf in model.leaves() if leaf.path == "ffn.down").blocks) == 4
    before = spec.read_text(encoding="utf-8")
    assert main(["new", str(spec), "--from", "qwen3_0_6b"]) == 1
    assert "--force" in capsys.readouterr().err and spec.read_text(encoding="utf-8") == before
    assert main(["new", str(spec), "--from", "qwen3_0_6b", "--force"]) == 0
    assert compile_ir(spec).names == ("text",)
    yaml = tmp_path / "other.yaml"
    assert main(["new", str(yaml), "--from", "emoji_mot", "--add", "speech=9"]) == 0
    assert compile_ir(yaml).names == ("text", "image", "speech"), "a spec that extends another is one text"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--from", "lama_3_2_1b"], 2, "did you mean `llama_3_2_1b`?"),
        ([], 2, "smollm2_135m"),
        (["--from", "emoji_mot", "--add", "speech"], 2, "'speech' is not NAME=KIND"),
        (["--from", "emoji_mot", "--add", "text=9"], 2, "has a modality text already"),
        (["--from", "emoji_mot", "--untie", "fnn"], 1, "MOT"),
        (["--from", "chameleon_7b", "--add", "speech=9"], 1, "share one vocabulary"),
        (["--from", "pi0", "--add", "speech=latent"], 1, "MOT043"),
    ],
)
def test_new_writes_nothing_where_that_would_not_be_right(
    words: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "my.mot"
    assert main(["new", str(spec), *words]) == code
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said
    assert not spec.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_new_asks_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("smollm2_135m\nimage=64, speech=32\nffn\n"))
    assert main(["new", str(tmp_path / "my.mot")]) == 0
    model = compile_ir(tmp_path / "my.mot")
    assert model.names == ("text", "image", "speech")
    assert [len(leaf.blocks) for leaf in model.leaves() if leaf.path in ("ffn.up", "attention.q")] == [1, 3]


def test_every_shipped_model_can_be_begun_from() -> None:
    assert {path.stem for path in (ROOT / "specs" / "gallery").glob("*.mot")} < models().keys()


def test_explain_says_who_uses_a_parameter_and_from_which_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "layers.3.ffn.down.image.weight", "--spec", SPEC]) == 0
    told = capsys.readouterr().out
    assert re.search(r"used by +image\n", told)
    assert re.search(r"where +layer 3; layers 0\.\.3 have one each like it\n", told)
    assert re.search(r"shapes +weight \[128, 384\]\n +parameters +49,152\n +FLOPs a token +98,304\n", told)
    assert "emoji_dense.mot:11: ffn { kind = swiglu, hidden = 384 }" in told
    assert "emoji_mot.mot:5: untie attention, ffn, norm" in told
    made = re.search(r"made +model\.py:\d+: (\w+)\.(\w+)\n", told)
    assert made is not None and made[2] == "down"
    assert main(["explain", "layers.3.ffn.down.image.weight", "--spec", SPEC, "--dense"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"used by +text, image\n", told) and "untie" not in told
    assert told.startswith("layers.3.ffn.down\n"), "the copy that image uses there"


def test_the_page_shows_what_explain_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n\$ motc (explain .*)\n([\s\S]*?)```", page)
    assert shown is not None
    assert main(shown[1].split()) == 0
    assert capsys.readouterr().out == shown[2]


def test_every_name_that_weights_have_can_be_explained() -> None:
    subject = Subject.read(SourceFile("routed.mot", ROUTED))
    for name, shape in saved_shapes(subject.model).items():
        (copy,) = named(subject, name)
        assert copy.shapes[name.rpartition(".")[2]] == shape
        assert copy.name == name.rpartition(".")[0]
    assert [copy.block.name for copy in named(subject, "attention.q")] == ["", "text", "image"]
    assert [copy.layers for copy in named(subject, "layers.*.attention.q")] == ["layers 0, 2", "layer 1", "layer 1"]
    assert all(copy.is_head for copy in named(subject, "embedding"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("layers.1.ffn.dwon.weight", "did you mean layers.1.ffn.down.weight?"),
        ("layers.1.attention.q.imag", "did you mean layers.1.attention.q.image?"),
        ("layers.3.ffn.down", "has no layer 3: they are 0..2"),
        ("layers.1.embedding", "no parameter or group"),
        ("head.weight", "it is the table of `embedding`"),
        ("quite.another.thing.altogether", "`motc show` lists the groups"),
    ],
)
def test_a_name_that_there_is_not_is_told_with_what_was_meant(name: str, told: str) -> None:
    with pytest.raises(UnknownParameter, match=re.escape(told)):
        named(Subject.read(SourceFile("routed.mot", ROUTED)), name)


def test_explain_says_how_parameters_are_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "ffn.down"]) == 2
    assert "--spec SPEC" in capsys.readouterr().err
    assert main(["explain", "ffn.donw", "--spec", SPEC]) == 1
    assert "did you mean ffn.down?" in capsys.readouterr().err


def save(path: Path, text: str) -> Callable[[], None]:
    """Write it, so that it is seen to be written."""

    def write() -> None:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(0, path.stat().st_mtime_ns + len(text)))

    return write


def test_watch_tells_what_each_saving_changed_since_it_was_last_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, spec = tmp_path / "base.mot", tmp_path / "my.mot"
    dense = "model base {{ width = 8, layers = 2, vocab = 9, modality text, image; attention {{ heads = {} }} }}"
    mot = 'model my {{ extends "base.mot"; untie {} }}'
    save(base, dense.format(2))()
    save(spec, mot.format("ffn"))()
    told: list[tuple[str, str]] = []

    def steps() -> Iterator[Callable[[], None]]:
        yield lambda: None
        yield save(spec, mot.format("fnn"))
        yield save(spec, mot.format("ffn, attention.q"))
        yield save(base, dense.format(4))
        yield base.unlink
        yield save(base, dense.format("4 "))

    following = steps()

    def wait() -> None:
        told.append(capsys.readouterr())
        change = next(following, None)
        if change is None:
            raise KeyboardInterrupt
        change()

    with pytest.raises(KeyboardInterrupt):
        watch(spec, {}, False, wait)
    first, nothing, wrong, untied, based, gone, back = told
    assert first[0].startswith(f"{spec}: ok, ") and nothing == ("", "")
    assert wrong[0] == "" and "did you mean" in wrong[1]
    assert "+ attention.q: {text image} → {text} {image}" in untied[0].replace("~", "+"), "since it was last right"
    assert "heads" in based[0] and gone[0] == "" and "MOT" in gone[1]
    assert back == (f"{spec}: ok, the same model\n", "")


def test_watch_ends_on_the_keyboard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("motc.cli.watch.time.sleep", stop)
    assert main(["watch", SPEC]) == 130
    assert f"{SPEC}: ok, " in capsys.readouterr().out
