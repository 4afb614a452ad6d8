"""Folders that are damaged: `motc import` names tensor and file, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from motc.cli import main
from motc.files import folder_aside
from motc.source import SpecError
from motc.upcycling.sources import open_source
from tests.full_disk import files_of_at_most

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 19,
    "tie_word_embeddings": False,
}
NORM, HEAD, INDEX = "model.norm.weight", "lm_head.weight", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama in two shards."""
    torch.manual_seed(0)
    shapes = {"model.embed_tokens.weight": (19, 16), HEAD: (19, 16), NORM: (16,)}
    for layer in ("model.layers.0", "model.layers.1"):
        shapes |= {f"{layer}.{name}_layernorm.weight": (16,) for name in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (16, 16) for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (24, 16) for name in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (16, 24)}
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write(folder, {name: torch.randn(shape) for name, shape in shapes.items()})
    return folder


def write(folder: Path, tensors: dict[str, Tensor]) -> None:
    files = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: each for name, each in tensors.items() if files[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": files}))


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: each for file in folder.glob("*.safetensors") for name, each in load_file(file).items()}


def with_tensors(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    return lambda folder: write(folder, change(tensors(folder)))


def with_index(change: Callable[[dict[str, str]], dict[str, str]]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        files = json.loads((folder / INDEX).read_text())["weight_map"]
        (folder / INDEX).write_text(json.dumps({"weight_map": change(files)}))

    return changed


def shard_of(folder: Path, tensor: str) -> Path:
    name: str = json.loads((folder / INDEX).read_text())["weight_map"][tensor]
    return folder / name


def cut(folder: Path) -> None:
    shard = shard_of(folder, NORM)
    shard.write_bytes(shard.read_bytes()[:-8])


def lie(folder: Path) -> None:
    shard = shard_of(folder, NORM)
    shard.write_bytes(shard.read_bytes().replace(b'"shape":[16]', b'"shape":[17]', 1))


def unsharded(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_bytes(content) and None  # type: ignore[func-returns-value]


def pickled(folder: Path) -> None:
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def nan(given: dict[str, Tensor]) -> dict[str, Tensor]:
    given[NORM][3] = torch.nan
    return given


DAMAGE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing": (
        with_tensors(lambda given: {name: of for name, of in given.items() if name != NORM}),
        f"{INDEX}: llama.yaml does not fit it: no tensor for the parameter final_norm.weight",
        "MOT101",
    ),
    "extra": (with_tensors(lambda given: given | {"eye": torch.ones(2)}), "no place for the tensor eye", "MOT101"),
    "misshapen": (
        with_tensors(lambda given: given | {HEAD: torch.ones(19, 17)}),
        f"{HEAD} [19, 17] should be head.weight [19, 16]",
        "MOT101",
    ),
    "turned": (with_tensors(lambda given: given | {HEAD: given[HEAD].T.contiguous()}), f"{HEAD} [16, 19]", "MOT101"),
    "of whole numbers": (
        with_tensors(lambda given: given | {NORM: torch.ones(16).int()}),
        f"{NORM} is of dtype I32; weights may be F64, F32, F16, BF16",
        "MOT100",
    ),
    "NaN": (with_tensors(nan), f"{NORM} has NaN in it", "MOT100"),
    "cut off": (cut, "is cut off: ", "MOT100"),
    "lying": (lie, "[17] in F32 has 68 bytes, and the header says", "MOT100"),
    "an absent shard": (
        with_index(lambda files: files | {NORM: "model-00003-of-00002.safetensors"}),
        f"has {NORM} in model-00003-of-00002.safetensors, which is not there",
        "MOT100",
    ),
    "a way out": (
        with_index(lambda files: files | {NORM: "../../model.safetensors"}),
        f"has {NORM} in '../../model.safetensors', which is no file of its folder",
        "MOT100",
    ),
    "no index": (lambda folder: (folder / INDEX).unlink(), "has neither model.safetensors nor", "MOT100"),
    "pickles": (pickled, "pytorch_model.bin is a pickle", "MOT100"),
    "a pickle under another name": (unsharded(pickle.dumps({})), "model.safetensors is a pickle", "MOT100"),
    "empty": (lambda folder: (folder / "model.safetensors").touch(), "is no safetensors file", "MOT100"),
    "another class": (
        lambda folder: (
            (folder / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["GPT2LMHeadModel"]})) and None
        ),
        "config.json: motc does not know GPT2LMHeadModel",
        "MOT103",
    ),
    "a key": (
        lambda folder: (folder / "config.json").write_text(json.dumps({**CONFIG, "alibi": True})) and None,
        "config.json: motc does not know what `alibi` does",
        "MOT103",
    ),
    "no configuration at all": (
        lambda folder: (folder / "config.json").write_text("{") and None,
        "config.json is no JSON",
        "MOT100",
    ),
    "sizes that no model has": (
        lambda folder: (folder / "config.json").write_text(json.dumps({**CONFIG, "num_attention_heads": 3})) and None,
        "3",
        "MOT0",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged(kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message, code = DAMAGE[kind]
    damage(folder)
    out, weights = tmp_path / "it.mot", tmp_path / "it.safetensors"
    assert main(["import", str(folder), "-o", str(out), "--weights", str(weights), "--json"]) == 1
    (diagnostic, *_) = json.loads(capsys.readouterr().out)["diagnostics"]
    assert message in diagnostic["message"]
    assert diagnostic["code"].startswith(code)
    assert [each.name for each in tmp_path.iterdir()] == ["llama"]


def test_tied_tensors_that_differ(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": True}))
    out, weights = tmp_path / "it.mot", tmp_path / "it.safetensors"
    assert main(["import", str(folder), "-o", str(out), "--weights", str(weights)]) == 1
    message = f"{HEAD} is not what model.embed_tokens.weight is, and the model ties them"
    assert message in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["llama"]
    source = open_source(folder)  # as what another model begins from, too
    with pytest.raises(SpecError, match=message):
        source.read("embedding.weight")


def test_no_folder_and_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path / "none"), "-o", str(tmp_path / "it.mot")]) == 1
    assert "config.json: No such file or directory" in capsys.readouterr().err
    assert main(["import", str(tmp_path), "-o", str(tmp_path / "it.mot"), "--check", "3"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_check_without_transformers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("motc.cli.machine.find_spec", lambda name: None)
    command = ["import", str(folder), "-o", str(tmp_path / "it.mot"), "--weights", str(tmp_path / "it.safetensors")]
    assert main([*command, "--check", "3"]) == 1
    assert "--check needs transformers" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["llama"]


def test_a_folder_made_of_a_file_is_not_taken_for_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file may take long enough for others to remove what nobody has locked."""

    def written(path: Path, folder: Path) -> None:
        os.utime(folder, (0, 0))
        with folder_aside(folder.parent):  # which removes what is left
            assert folder.exists()
        raise ValueError("no such file")

    monkeypatch.setattr("motc.importing.gguf.write_folder", written)
    assert main(["import", str(tmp_path / "it.gguf"), "-o", str(tmp_path / "it.mot")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files_of_at_most(5000):
        code = main(["import", str(folder), "-o", f"{tmp_path}/it.mot", "--weights", f"{tmp_path}/it.safetensors"])
    assert code == 1
    assert "it.safetensors: File too large" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["llama"]


def test_whole_it_comes_in(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that what is refused above is refused for its damage; a spec alone, and in YAML, too."""
    assert (
        main(["import", str(folder), "-o", str(tmp_path / "it.yaml"), "--weights", str(tmp_path / "it.safetensors")])
        == 0
    )
    assert "21 parameters in F32" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "it.yaml")]) == 0
    assert main(["show", str(tmp_path / "it.safetensors")]) == 0
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert main(["import", str(folder), "-o", str(tmp_path / "7 of 9.mot")]) == 0
    assert "model model_7_of_9 {" in (tmp_path / "7 of 9.mot").read_text()
