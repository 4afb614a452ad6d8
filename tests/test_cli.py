"""The command line: exit codes, what goes where, and that no input brings a traceback or half a file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from motc.cli import main
from motc.driver import check_spec
from motc.emit.signature import is_untouched, sign
from motc.schema import Checked
from motc.source import SourceFile
from motc.source.codes import CODES

ROOT = Path(__file__).resolve().parent.parent
SPEC = str(ROOT / "specs" / "emoji_mot.mot")
DENSE = str(ROOT / "specs" / "emoji_dense.mot")

TOWERS = """model towers {
  width = 64, layers = 6, vocab = 300
  modality text, vit, vae
  attention { heads = 4, kv_heads = 2, qk_norm = rms }
  tower und = text, vit
  tower gen = vae { width = 32, ffn { hidden = 96 } }
  untie attention, ffn, norm, embedding, head
  untie ffn.* as {text} {vit} {vae} in layers 2..3
}
"""

BAD = {
    "binary.mot": b"\x80\x02\x00model",
    "latin.mot": "model caf\u00e9 { }".encode("latin-1"),
    "empty.mot": b"",
    "comment.mot": b"# nothing\n",
    "unclosed.mot": b"model a { width = 3",
    "nested.mot": b"model a " + b"{ a " * 5000,
    "unknown.mot": b"model a { widht = 8, layers = 1, vocab = 8, modality text; attention { heads = 1 } }",
    "keyword.mot": b"model a { width = 8, layers = 1, vocab = 8, modality class; attention { heads = 1 } }",
    "huge.mot": b"model a { width = 99999999999999999999999999, layers = 1 }",
    "cycle.mot": b'model a { extends "cycle.mot" }',
    "no_base.mot": b'model a { extends "missing.mot" }',
    "folder_base.mot": b'model a { extends "." }',
    "suffix.txt": b"model a { }",
    "list.yaml": b"- a\n- b\n",
    "tag.yaml": b"model: !!python/object/apply:os.system [ls]\n",
    "bomb.yaml": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121)),
    "self.yaml": b"model: &a {b: *a}\n",
    "twice.yaml": b"model: a\nmodel: b\n",
    "deep.yaml": b"[" * 20000,
}


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", ["check", "show", "fmt", "convert", "build", "validate", "bench", "diff"])
@pytest.mark.parametrize("name", [*BAD, "missing.mot", "folder.mot"])
def test_a_bad_input_is_told_with_exit_code_1_and_writes_nothing(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, data in BAD.items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / "folder.mot").mkdir()
    before = sorted(tmp_path.rglob("*"))
    options = {"convert": ["--to", "yaml", "-o", str(tmp_path / "out.yaml")], "build": ["-o", str(tmp_path / "out")]}
    options |= {"diff": ["--dense"], "fmt": ["--write"]}
    code = main([command, str(tmp_path / name), *options.get(command, [])])
    told = capsys.readouterr()
    if command in ("fmt", "convert") and code == 0:  # their business is the syntax, and that was right
        assert name in ("unknown.mot", "keyword.mot", "huge.mot", "cycle.mot", "no_base.mot", "folder_base.mot")
        return
    assert code == 1
    assert told.out == ""
    assert re.search(r"MOT0\d\d ", told.err)
    assert "Traceback" not in told.err
    assert sorted(tmp_path.rglob("*")) == before


def test_check_says_ok_and_diagnostics_have_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "unknown.mot"
    wrong.write_bytes(BAD["unknown.mot"])
    assert run_json(capsys, "check", SPEC, DENSE) == (0, {"ok": True, "diagnostics": []})
    code, output = run_json(capsys, "check", SPEC, str(wrong))
    assert (code, output["ok"]) == (1, False)
    first = next(entry for entry in output["diagnostics"] if entry["code"] == "MOT021")
    assert (first["file"], first["line"], first["column"]) == (str(wrong), 1, 11)
    assert "width" in first["help"]
    code, output = run_json(capsys, "show", str(wrong))
    assert code == 1
    assert not output["ok"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["check"], 2),
        (["check", SPEC, "--nope"], 2),
        (["check", SPEC, "--set", "layers"], 2),
        (["check", SPEC, "--set", "=2"], 2),
        (["check", SPEC, "--set", "layers=none"], 1),
        (["check", SPEC, "--set", "layers=2", "--set", "attention.rope=none"], 0),
        (["nope"], 2),
        (["build", SPEC], 2),
        (["build", SPEC, "--stop-after", "nope"], 2),
        (["build", SPEC, "--print-after", "nope"], 2),
        (["convert", SPEC, "--to", "toml"], 2),
        (["convert", SPEC, "--to", "yaml", "-o", "nowhere/x.mot"], 2),
        (["convert", SPEC, "--to", "mot", "-o", "nowhere/x.YML"], 2),
        (["bench", SPEC, "--device", "cuda:²"], 2),
        (["bench", SPEC, "--device", "cuda:977"], 2),
        (["explain", "MOT999"], 2),
        (["diff", SPEC], 1),
        (["diff", SPEC, "--nope"], 1),
        (["diff", SPEC, SPEC, "--dense"], 1),
        (["diff", SPEC, SPEC], 0),
        (["diff", SPEC, "--dense"], 2),
        (["diff", DENSE, "--dense"], 0),
        (["--version"], 0),
    ],
    ids=lambda value: " ".join(Path(word).name for word in value) if isinstance(value, list) else str(value),
)
def test_exit_codes(words: list[str], code: int) -> None:
    assert main(words) == code


@pytest.mark.parametrize("command", "new check fmt convert show build validate bench diff explain watch schema".split())
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: motc {command}" in capsys.readouterr().out


def test_show_as_json_holds_what_the_design_promises(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run_json(capsys, "show", SPEC)
    assert code == 0
    assert (output["model"], output["modalities"]) == ("emoji_mot", ["text", "image"])
    assert output["parameters"]["total"] == sum(group["parameters"] for group in output["groups"])
    _, twin = run_json(capsys, "show", SPEC, "--dense")
    assert output["parameters"]["active"] == twin["parameters"]["active"]
    assert output["flops_per_token"] == twin["flops_per_token"]
    assert output["bytes"]["float32"] == 4 * output["parameters"]["total"]


def test_show_prints_every_group(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec = tmp_path / "towers.mot"
    spec.write_text(TOWERS)
    assert main(["show", str(spec)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ffn.up +│ 2\.\.3 +│ {text} {vit} {vae}", out)
    assert re.search(r"ffn.up +│ 0\.\.1, 4\.\.5 +│ {text vit} {vae}", out)
    assert "6 layers" in out


def test_resolved_says_where_each_value_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run_json(capsys, "show", SPEC, "--resolved", "--set", "layers=2")
    assert code == 0
    assert output["layers"] == {"value": 2, "from": "--set"}
    assert output["width"] == {"value": 128, "from": f"{DENSE}:4"}
    assert output["model"]["from"] == f"{SPEC}:2"
    assert output["attention.kv_heads"] == {"value": 4, "from": "default"}
    assert main(["show", SPEC, "--resolved"]) == 0
    assert re.search(r"attention.head_dim +32 +default", capsys.readouterr().out)


def test_build_writes_once_and_keeps_what_a_person_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, build = tmp_path / "a" / "model.py", ["build", SPEC, "-o", str(tmp_path / "a")]
    assert main([*build, "--check"]) == 1
    assert main(build) == 0
    text = model.read_text(encoding="utf-8")
    assert is_untouched(text)
    compile(text, "model.py", "exec")
    assert main([*build, "--check"]) == 0
    assert main([*build, "--check", "--dense"]) == 1
    assert main([*build, "--dense"]) == 0, "what motc wrote, it may replace"
    model.write_text(text.replace("import torch\n", "import torch  # mine\n", 1), encoding="utf-8")
    capsys.readouterr()
    assert main(build) == 1
    assert "--force" in capsys.readouterr().err
    assert "# mine" in model.read_text(encoding="utf-8")
    assert main([*build, "--force"]) == 0
    assert model.read_text(encoding="utf-8") == text
    (model.parent / "norms.py").write_text("# mine\n", encoding="utf-8")
    (model.parent / "notes.py").write_text("# mine\n", encoding="utf-8")
    assert main(build) == 1 and main([*build, "--check"]) == 1
    assert f"{model.parent / 'norms.py'} was edited" in capsys.readouterr().err
    assert main([*build, "--force"]) == 0
    assert main([*build, "--single-file"]) == 0, "what an earlier model needed goes"
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.py", "notes.py"]
    assert main([*build, "--single-file", "--check"]) == 0 and main([*build, "--check"]) == 1
    assert main(build) == 0 and main([*build, "--check"]) == 0


def test_build_into_a_file_is_an_error_not_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["build", SPEC, "-o", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_print_after_and_stop_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", SPEC, "-o", str(tmp_path / "a"), "--print-after", "lower", "--print-after", "assign_orders"]
    assert main([*words, "--stop-after", "assign_orders"]) == 0
    before, after = capsys.readouterr().out.split("# after assign_orders")
    assert "residual slots" in before
    assert "residual sorted" in after
    assert not (tmp_path / "a").exists()
    for stage in ("schema", "lower", "merge_segments", "plan", "emit"):
        assert main(["build", SPEC, "--stop-after", stage]) == 0


def test_fmt_and_convert_keep_the_meaning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, other = tmp_path / "towers.mot", tmp_path / "towers.yaml"
    spec.write_text(TOWERS.replace("  ", " "))
    assert main(["fmt", str(spec), "--check"]) == 1
    assert main(["fmt", str(spec), "--write"]) == 0
    assert main(["fmt", str(spec), "--check"]) == 0
    assert main(["convert", str(spec), "--to", "yaml", "-o", str(other)]) == 0
    assert main(["diff", str(spec), str(other)]) == 0
    capsys.readouterr()
    assert main(["convert", str(other), "--to", "mot"]) == 0
    spec.write_text(capsys.readouterr().out)
    assert main(["diff", str(spec), str(other)]) == 0


def test_diff_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run_json(capsys, "diff", SPEC, "--dense")
    assert (code, output["same"]) == (2, False)
    assert {edit["subject"] for edit in output["edits"]} == {"attention", "ffn", "norm"}
    assert all(edit["parameters"] > 0 for edit in output["edits"])
    assert run_json(capsys, "diff", SPEC, SPEC) == (0, {"same": True, "edits": []})


def test_validate_reduces_a_spec_of_towers_and_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "towers.mot"
    spec.write_text(TOWERS)
    code, output = run_json(capsys, "validate", str(spec))
    assert (code, output["ok"]) == (0, True)
    assert {"reference outputs", "reference gradients"} <= {law["name"] for law in output["laws"]}
    assert output["skipped"], "the twin of towers of other widths has other shapes"


def test_validate_refuses_the_strategy_without_float64(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = run_json(capsys, "validate", SPEC, "--strategy", "grouped")
    assert code == 2
    assert "float64" in output["diagnostics"][0]["message"]


def test_validate_says_that_no_batch_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motc.reference.experts.HAIR", 1.0)
    monkeypatch.setattr("motc.validate.batches.TRIES", 2)
    spec = tmp_path / "experts.mot"
    ffn = "ffn { kind = moe, experts = 4, hidden = 8 }"
    spec.write_text(
        f"model a {{ width = 8, layers = 1, vocab = 9, modality text, image; attention {{ heads = 2 }}; {ffn} }}"
    )
    code, output = run_json(capsys, "validate", str(spec))
    (failure,) = output["diagnostics"]
    assert (code, output["ok"]) == (1, False)
    assert failure["message"].startswith(
        "in each of 2 batches an expert is chosen by so little that rounding may decide"
    )
    assert failure["message"].endswith("try fewer layers or experts (--set), or another --seed")


def test_every_code_is_in_the_catalogue_and_on_the_page() -> None:
    used = {code for path in (ROOT / "motc").rglob("*.py") for code in re.findall(r"MOT\d{3}", path.read_text("utf-8"))}
    assert used == set(CODES)
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for entry in CODES.values():
        assert f"## {entry.code} {entry.title}\n\n{entry.explanation}\n" in page


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "mot021"]) == 0
    assert CODES["MOT021"].explanation in capsys.readouterr().out
    assert main(["explain"]) == 0
    listed = capsys.readouterr().out
    assert [code for code in CODES if code not in listed] == []


def test_the_schema_is_of_all_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"model", "extends", "untie", "attention"} <= set(schema["properties"])


def test_a_signature_breaks_with_any_edit() -> None:
    signed = sign("a = 1\n")
    assert is_untouched(signed)
    assert not is_untouched("a = 1\n")
    assert not is_untouched(signed.replace("1", "2", 1))
    assert not is_untouched(signed + "\n")


def test_as_a_program_with_a_reader_that_leaves(tmp_path: Path) -> None:
    program = f"{sys.executable} -m motc schema | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    done = subprocess.run([sys.executable, "-m", "motc", "diff", "-x"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such option" in done.stderr


def test_show_takes_latents_beside_vocabularies_of_each_modality(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(ROOT / "examples" / "emoji" / "specs" / "transfusion_mot.mot")]) == 0
    shown = capsys.readouterr().out
    assert "text: width 128, vocab 259" in shown
    assert "image: width 128, latent, 3 channels in patches of 4, linear ends, ddpm" in shown


def test_diff_from_the_dense_twin_reads_the_spec_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def counted(spec: Path | SourceFile, overrides: Mapping[str, Any] | None = None) -> Checked:
        read.append(spec)
        return check_spec(spec, overrides)

    monkeypatch.setattr("motc.driver.check_spec", counted)
    assert main(["diff", SPEC, "--dense"]) == 2
    assert len(read) == 1
