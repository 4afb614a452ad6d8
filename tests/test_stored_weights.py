"""Weights on disk: saved with their spec, read into a model, and whatever may be wrong with a file is told by name."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import motc
from motc.cli import main
from motc.driver import check_spec, compile_ir, generate_package, spec_text
from motc.source import SpecError
from motc.weights.stored import open_weights
from tests.full_disk import files_of_at_most

SPEC = """
model small {
  width = 16
  layers = 2
  modality text { vocab = 9 }
  modality image { vocab = 7 }
  attention { heads = 2 }
  ffn { kind = moe, experts = 3, hidden = 8, correction = true }
  untie attention
}
"""
Header = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A model with corrections of routers, and its file."""
    model, generator = motc.load(SPEC, seed=3), torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if "correction" in name:
            tensor.normal_(generator=generator)
    path = tmp_path_factory.mktemp("weights") / "deep" / "small.safetensors"
    motc.save(model, path)
    return model, path


def assert_same(one: nn.Module, other: nn.Module) -> None:
    theirs = other.state_dict()
    assert one.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_there_and_back(saved: tuple[nn.Module, Path]) -> None:
    model, path = saved
    assert_same(model, motc.load(SPEC, weights=path))
    assert_same(model, motc.load(weights=str(path)))
    narrow = motc.load(weights=path, dtype="bfloat16")
    for name, tensor in narrow.state_dict().items():
        assert tensor.dtype == (torch.float32 if "correction" in name else torch.bfloat16)
        assert torch.equal(tensor, model.state_dict()[name].to(tensor.dtype))
    assert all(tensor.is_meta for tensor in motc.load(weights=path, device="meta").parameters())


def test_other_programs_read_what_is_saved(saved: tuple[nn.Module, Path]) -> None:
    model, path = saved
    tensors = load_file(path)
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in tensors.items())
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["motc.semantic_hash"] == model.semantic_hash
    assert metadata["motc.version"] == motc.__version__
    assert metadata["motc.spec"].startswith("model small {")


def test_a_narrow_model_and_its_dense_twin(tmp_path: Path) -> None:
    for dense in (False, True):
        model = motc.load(SPEC, dense=dense, dtype="bfloat16", set={"layers": 1})
        motc.save(model, tmp_path / "it.safetensors")  # corrections in float32 beside bfloat16
        again = motc.load(weights=tmp_path / "it.safetensors", dtype="bfloat16")
        assert_same(model, again)
        assert again.semantic_hash == model.semantic_hash


def test_a_package_by_itself_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.mot"
    path.write_text(SPEC)
    (tmp_path / "built").mkdir()
    for name, text in generate_package(compile_ir(path), spec_text(check_spec(path))).items():
        (tmp_path / "built" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import built  # type: ignore[import-not-found]

    model = built.Small()
    model.init_weights(0)  # until then its numbers are whatever was in memory, NaN too
    motc.save(model, tmp_path / "small.safetensors")
    assert_same(model, motc.load(path, weights=tmp_path / "small.safetensors"))


def test_weights_of_another_model_are_refused_with_the_difference(saved: tuple[nn.Module, Path]) -> None:
    with pytest.raises(SpecError, match=r"small.safetensors has weights of another model; .*~ attention.rope.theta"):
        motc.load(SPEC, set={"attention.rope.theta": 500}, weights=saved[1])
    with pytest.raises(SpecError, match=r"MOT102 .*- towers|MOT102 .*~ attention"):
        motc.load(SPEC, dense=True, weights=saved[1])


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    model = motc.load(SPEC)
    path = tmp_path / "x.safetensors"
    for wrong, message in (
        (nn.Linear(2, 2), "Linear is no model that motc made"),
        (nn.Sequential(model), "Sequential is no model that motc made; .* ddp.module"),
        (motc.load(SPEC, device="meta"), "embedding.text.weight has no numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            motc.save(wrong, path)
    for change, message in (
        ({"head.more.weight": torch.ones(1)}, "head.more.weight is no parameter of the model"),
        ({"final_norm.weight": torch.ones(3)}, r"final_norm.weight is torch.float32 \[3\]; it should be \[16\]"),
        ({"final_norm.weight": torch.ones(16).long()}, "final_norm.weight is torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            motc.save(model, path, tensors=model.state_dict() | change)
    with pytest.raises(OSError, match="a directory"):
        motc.save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """In a process that may write files of 2,000 bytes only."""
    path = tmp_path / "x.safetensors"
    path.write_text("before")
    with files_of_at_most(2000), pytest.raises(OSError, match=re.escape(f"File too large: '{path}'")):
        motc.save(saved[0], path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]
    assert path.read_text() == "before"


def test_show_prints_the_spec(
    saved: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = saved
    assert main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"semantic hash {model.semantic_hash}" in shown
    (tmp_path / "shown.mot").write_text(shown)
    assert compile_ir(tmp_path / "shown.mot").name == "small"
    assert motc.load(tmp_path / "shown.mot").semantic_hash == model.semantic_hash
    assert main(["show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["semantic_hash"] == model.semantic_hash
    program = f"import sys; from motc.cli import main; main(['show', {str(path)!r}]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def read(path: Path) -> tuple[Header, bytes]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def written(header: Any, numbers: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def changed(header: Header, name: str, **said: Any) -> Header:
    return {**header, name: {**header[name], **said}}


NORM = "final_norm.weight"
BAD: dict[str, tuple[Callable[[Header, bytes], bytes], str]] = {
    "nothing": (lambda header, numbers: b"", "x.safetensors is no safetensors file"),
    "a text": (lambda header, numbers: b"model small {\n" * 9, "is no safetensors file"),
    "a pickle": (lambda header, numbers: pickle.dumps({}), "is a pickle, which may run any program"),
    "a zip": (lambda header, numbers: b"PK\x03\x04" + numbers, "is a pickle, which may run any program"),
    "a header cut off": (lambda header, numbers: written(header, numbers)[:200], "is cut off: its header should have"),
    "numbers cut off": (lambda header, numbers: written(header, numbers[:-4]), "is cut off: .* should end at byte"),
    "more numbers": (lambda header, numbers: written(header, numbers + b"1234"), "has 4 bytes that are of no tensor"),
    "no JSON": (lambda header, numbers: written(b"{" * 40, numbers), "the header of .* is no JSON"),
    "deep JSON": (lambda header, numbers: written(b"[" * 99_999, numbers), "the header of .* is no JSON"),
    "not UTF-8": (lambda header, numbers: written(b"\xff\xfe", numbers), "the header of .* is no JSON"),
    "a list": (lambda header, numbers: written(b"[1]", numbers), "is no JSON object"),
    "a name twice": (
        lambda header, numbers: written(b'{"a": 1, "b": 1, "b": 2}', numbers),
        "the header of .*x.safetensors has b twice",
    ),
    "metadata": (lambda header, numbers: written({"__metadata__": {"a": 1}}, b""), "`__metadata__` should be texts"),
    "no dtype": (lambda header, numbers: written({**header, NORM: {}}, numbers), f"data_offsets of {NORM}"),
    "a strange dtype": (
        lambda header, numbers: written(changed(header, NORM, dtype="F33"), numbers),
        f"{NORM} is of dtype F33, which motc does not know",
    ),
    "a negative size": (
        lambda header, numbers: written(changed(header, NORM, shape=[-16]), numbers),
        rf"{NORM} has the shape \[-16\], which is none",
    ),
    "another shape": (
        lambda header, numbers: written(changed(header, NORM, shape=[17]), numbers),
        rf"{NORM} \[17\] in F32 has 68 bytes, and the header says",
    ),
    "bytes of another": (
        lambda header, numbers: written(changed(header, NORM, data_offsets=[0, 64]), numbers),
        "shares bytes with what is before it",
    ),
    "a turned shape": (
        lambda header, numbers: written(changed(header, NORM, shape=[4, 4]), numbers),
        rf"{NORM} \[4, 4\] should be \[16\]",
    ),
    "whole numbers": (
        lambda header, numbers: written(changed(header, NORM, dtype="I32"), numbers),
        f"not of floating point {NORM}",
    ),
    "another name": (
        lambda header, numbers: written({name.replace(NORM, "norm"): of for name, of in header.items()}, numbers),
        f"no tensor for the parameter {NORM}; no place for the tensor norm",
    ),
    "no spec": (
        lambda header, numbers: written({**header, "__metadata__": {}}, numbers),
        "does not say which spec it is of: it has no `motc.semantic_hash`",
    ),
    "another spec": (
        lambda header, numbers: written(
            changed(header, "__metadata__", **{"motc.spec": SPEC.replace("text", "words")}), numbers
        ),
        "spec.mot has the hash 1-[0-9a-f]+, and its spec 1-[0-9a-f]+",
    ),
    "no spec at all": (
        lambda header, numbers: written(changed(header, "__metadata__", **{"motc.spec": "model {"}), numbers),
        r"x.safetensors:spec.mot:1:8: MOT006",
    ),
    "a spec elsewhere": (
        lambda header, numbers: written(
            changed(header, "__metadata__", **{"motc.spec": 'model a { extends "/etc/passwd" }'}), numbers
        ),
        "is of a spec that extends another",
    ),
    "NaN": (lambda header, numbers: written(header, with_number(header, numbers, torch.nan)), f"{NORM} has NaN in it"),
    "infinity": (
        lambda header, numbers: written(header, with_number(header, numbers, -torch.inf)),
        f"{NORM} has infinity in it",
    ),
}


def with_number(header: Header, numbers: bytes, number: float) -> bytes:
    start = header[NORM]["data_offsets"][0] + 8
    return numbers[:start] + bytes(torch.tensor([number]).view(torch.uint8).tolist()) + numbers[start + 4 :]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file(kind: str, saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    mutate, message = BAD[kind]
    path = tmp_path / "x.safetensors"
    path.write_bytes(mutate(*read(saved[1])))
    with pytest.raises(SpecError, match=message) as error:
        motc.load(weights=path)
    assert str(path) in str(error.value)


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError):
        motc.load(weights=tmp_path / "x.safetensors")
    assert main(["show", str(tmp_path / "x.safetensors")]) == 1
    assert "x.safetensors: No such file or directory" in capsys.readouterr().err
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(SpecError, match=r"pytorch_model.bin is a pickle"):
        motc.load(weights=tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(SpecError, match=r"has neither model.safetensors nor model.safetensors.index.json"):
        motc.load(weights=tmp_path)


def shards(saved: tuple[nn.Module, Path], folder: Path) -> dict[str, str]:
    """A folder of two files, as transformers writes them; which tensor is in which."""
    header, _ = read(saved[1])
    tensors, metadata = load_file(saved[1]), header["__metadata__"]
    files = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for file in sorted(set(files.values())):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, folder / file, metadata)
    index(folder, files)
    return files


def index(folder: Path, files: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def test_shards(saved: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards(saved, tmp_path)
    assert_same(saved[0], motc.load(SPEC, weights=tmp_path))
    assert_same(saved[0], motc.load(weights=tmp_path / "model.safetensors.index.json"))
    assert main(["show", str(tmp_path)]) == 0
    assert "model small {" in capsys.readouterr().out


@pytest.mark.parametrize("length", [0x280, 0x480, 0x4B50])
def test_a_length_that_looks_like_a_pickle(length: int, tmp_path: Path) -> None:
    """The first bytes of a header's length may be those of a pickle or a zip."""
    path = tmp_path / "x.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode().ljust(length)
    path.write_bytes(written(header, bytes(8)))
    assert open_weights(path).tensors["x"].shape == (2,)


INDICES: dict[str, tuple[Callable[[dict[str, str]], Any], str]] = {
    "an absent shard": (
        lambda files: files | {NORM: "gone.safetensors"},
        f"has {NORM} in gone.safetensors, which is not there",
    ),
    "a way out": (
        lambda files: files | {NORM: "../x.safetensors"},
        f"has {NORM} in '../x.safetensors', which is no file of its folder",
    ),
    "a path from the root": (lambda files: files | {NORM: "/x.safetensors"}, "which is no file of its folder"),
    "another shard": (
        lambda files: files | {NORM: next(file for file in files.values() if file != files[NORM])},
        f"has {NORM} in model-0000[12]-of-00002.safetensors, which does not|has {NORM}, which model",
    ),
    "one too few": (
        lambda files: {name: file for name, file in files.items() if name != NORM},
        f"has {NORM}, which model.safetensors.index.json does not have there",
    ),
    "one too many": (lambda files: files | {"more": files[NORM]}, "has more in model-.*, which does not"),
    "nothing": (lambda files: {}, "should have a `weight_map`"),
    "numbers": (lambda files: files | {NORM: 2}, "should have a `weight_map`"),
}


@pytest.mark.parametrize("kind", INDICES)
def test_a_bad_index(kind: str, saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    mutate, message = INDICES[kind]
    index(tmp_path, mutate(shards(saved, tmp_path)))
    with pytest.raises(SpecError, match=message) as error:
        motc.load(weights=tmp_path)
    assert str(tmp_path) in str(error.value)


def test_shards_of_two_models(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    shards(saved, tmp_path)
    other = tmp_path / "model-00002-of-00002.safetensors"
    save_file(load_file(other), other, {"motc.spec": "model other {}"})
    with pytest.raises(SpecError, match="does not say which spec it is of"):
        motc.load(weights=tmp_path)


def test_a_tensor_said_twice(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    shards(saved, tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(path.read_text().replace('"weight_map": {', f'"weight_map": {{"{NORM}": "a.safetensors", '))
    with pytest.raises(SpecError, match=f"index.json has {re.escape(NORM)} twice"):
        motc.load(weights=tmp_path)
