"""The command line's standard streams: closed, full, or read by nobody; and failures as JSON."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from motc.cli import main

ROOT = Path(__file__).resolve().parent.parent
SPEC = "specs/emoji_mot.mot"


def run(words: str, redirected: str) -> subprocess.CompletedProcess[str]:
    """`motc WORDS` by a shell, which prints the exit code behind what is left of the output."""
    program = f"{sys.executable} -m motc {words} {redirected}; echo code ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.compiled
@pytest.mark.parametrize("words, code", [(f"check {SPEC}", 0), ("check missing.mot", 1), ("check --nope", 2)])
def test_closed_streams_change_neither_the_code_nor_what_the_others_say(words: str, code: int, tmp_path: Path) -> None:
    for redirected in (">&-", "2>&-", ">&- 2>&- <&-"):
        done = run(words, redirected)
        assert done.stdout.splitlines()[-1] == f"code {code}"
        assert done.stderr == "" if "2>" in redirected or code == 0 else "Traceback" not in done.stderr


def test_no_file_is_taken_for_a_closed_stream(tmp_path: Path) -> None:
    written = tmp_path / "out.yaml"
    done = run(f"convert {SPEC} --to yaml -o {written}", ">&- 2>&-")
    assert done.stdout == "code 0\n"
    assert str(written) not in written.read_text(), "the path that would be printed stands in the file"


@pytest.mark.compiled
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_stdout_is_told() -> None:
    done = run(f"show {SPEC}", "> /dev/full")
    assert done.stdout == "code 1\n"
    assert done.stderr == "motc: standard output: No space left on device\n"
    assert run(f"show {SPEC}", "> /dev/full 2>&1").stdout == "code 1\n"
    assert run("check missing.mot", "2> /dev/full").stdout == "code 1\n"


@pytest.mark.compiled
def test_a_reader_that_leaves_is_no_traceback() -> None:
    for words in (f"show {SPEC}", "check missing.mot", "nope"):
        done = run(words, "2>&1 | (exec <&-; sleep 0)")
        assert (done.stdout.strip(), done.stderr) in ((f"code {code}", "") for code in (0, 1, 2))


@pytest.mark.parametrize(
    "raised, code",
    [(KeyboardInterrupt(), 130), (typer.Abort(), 130), (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1)],
)
def test_what_stops_a_command_is_an_exit_code(
    raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("motc.driver.check_spec", stop)
    before = sys.stdout, sys.stderr
    assert main(["show", str(ROOT / SPEC)]) == code
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words, code, said, way_out",
    [
        (["check"], 2, "Missing argument 'SPEC'", "see motc check --help"),
        (["nope"], 2, "No such command 'nope'", "see motc --help"),
        (["show", SPEC, "--set", "x"], 2, "'x' is not KEY=VALUE", "see motc show --help"),
        (["diff", SPEC], 1, "give either a second spec or --dense", "see motc diff --help"),
        (
            ["validate", SPEC, "--strategy", "nosuch"],
            2,
            "Invalid value for '--strategy': 'nosuch' is not one of 'sorted', 'reference', 'grouped', 'blend'.",
            "see motc validate --help",
        ),
        (["fmt", SPEC, "--write", "--check"], 2, "No such option: --json", "see motc fmt --help"),
        (["bench", SPEC, "--dtype", "int3"], 2, "'int3' is none of float32", "see motc bench --help"),
        (["match", SPEC, "--data", "nowhere", "--out", "OUT"], 1, "nowhere is no data folder", ""),
    ],
)
def test_a_failure_is_json_for_a_program(
    words: list[str], code: int, said: str, way_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("OUT", str(tmp_path / "out")) for word in words]
    assert main([*words, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    (diagnostic,) = document["diagnostics"]
    assert not document["ok"]
    assert said in diagnostic["message"]
    assert (diagnostic["code"], diagnostic["file"], diagnostic["help"]) == (None, None, way_out)


def test_an_option_without_its_value_names_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", SPEC, "--set"]) == 2
    (diagnostic,) = json.loads(capsys.readouterr().out)["diagnostics"]
    assert diagnostic["message"] == "Option '--set' requires an argument."
    assert diagnostic["help"] == "see motc check --help"


def test_a_file_that_cannot_be_written_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    words = [
        "match",
        "examples/emoji/specs/mot.mot",
        "--data",
        "examples/emoji/match_data",
        "--out",
        str(tmp_path / "out" / "below"),
    ]
    assert main([*words, "--json"]) == 1
    assert str(tmp_path / "out" / "below") in json.loads(capsys.readouterr().out)["diagnostics"][0]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ["check", ""],
        ["convert", SPEC, "--to", "yaml", "-o", ""],
        ["build", SPEC, "-o", ""],
        ["diff", SPEC, ""],
        ["bench", SPEC, "--plot", ""],
        ["match", SPEC, "--data", "", "--out", "out"],
    ],
)
def test_an_empty_path_is_not_the_working_directory(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == (1 if words[0] == "diff" else 2)
    assert "a path is needed" in capsys.readouterr().err


def test_fmt_either_writes_or_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text("model a{width=8}")
    assert main(["fmt", str(spec), "--write", "--check"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert spec.read_text() == "model a{width=8}"
