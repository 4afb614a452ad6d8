"""`motc import`: folders that transformers' classes save come in as the specs and weights that they are.

All are random and small; each is saved by the class's own save_pretrained.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import motc
from motc.cli import main
from motc.driver import compile_ir
from motc.importing.architectures import BY_NAME, DENOISERS
from motc.ir.identity import semantic_hash
from motc.source import SourceFile
from motc.weights import bijection_of, tensors_of
from tests.originals import Original, as_parameters, described
from tests.published import FOLDERS, ITS_LANGUAGE_MODEL

pytest.importorskip("transformers", minversion="5.0")


def each(originals: tuple[Original, ...]) -> Any:
    return pytest.mark.parametrize("original", originals, ids=lambda original: f"{original.spec}, {original.mapping}")


def read(config: dict[str, Any]) -> str:
    """The spec of a configuration."""
    return described(config).spec("it", "It.", "config.json")


@each(tuple(original for original in FOLDERS if original is not ITS_LANGUAGE_MODEL))
def test_a_published_configuration_is_the_shipped_spec(original: Original) -> None:
    """As it is published, with what the class adds to it, and as transformers 5 saves it."""
    import transformers

    wanted = semantic_hash(compile_ir(original.path))
    whole = getattr(transformers, original.architecture).config_class(**original.config)
    forms = [dict(original.config), *(json.loads(whole.to_json_string(use_diff=only)) for only in (False, True))]
    for form in forms:
        text = read({**form, "architectures": [original.architecture]})
        assert semantic_hash(compile_ir(SourceFile("it.mot", text))) == wanted, text
    shipped = original.path.read_text().split()
    assert "extends" in shipped or len(text.split()) <= len(shipped)


def saved(original: Original, folder: Path) -> Any:
    """A small original with random weights, saved."""
    torch.manual_seed(0)
    theirs = original.made(small=True)
    as_parameters(theirs, torch.float32)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(folder, max_shard_size="60KB")
    config = folder / "config.json"
    config.write_text(re.sub(r'"unused": \d+,', "", config.read_text()))  # which the tests of ERNIE make up
    return theirs


@each(FOLDERS)
def test_a_folder_there_and_back(original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same logits on text; and what the folder had, bit for bit, from what was written."""
    folder, spec, weights, rest = (tmp_path / name for name in ("it", "it.mot", "it.safetensors", "rest.safetensors"))
    saved(original, folder)
    given = {name: each for path in folder.glob("*.safetensors") for name, each in load_file(path).items()}
    options = ["-o", str(spec), "--weights", str(weights), "--left-out", str(rest), "--check", "9", "--json"]
    code = main(["import", str(folder), *options])
    told = json.loads(capsys.readouterr().out)
    assert code == 0, told
    assert told["difference"] <= 1e-5 * told["largest_logit"]
    model = motc.load(spec, weights=weights)
    shapes = {name: tuple(each.shape) for name, each in given.items()}
    bijection = bijection_of(original.weights, shapes, compile_ir(spec))
    back = tensors_of(bijection, model.state_dict()) | load_file(rest)
    assert back.keys() == given.keys()
    assert all(torch.equal(back[name], given[name]) for name in given)
    assert not any(model.state_dict()[name].any() for name in bijection.zeros)
    assert set(told["left_out"]) == set(load_file(rest))


def test_every_class_of_the_gallery_is_known() -> None:
    assert {original.architecture for original in FOLDERS} <= BY_NAME.keys()


def test_the_page_names_every_class() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "weights.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(\w+For\w+)`", page.partition("<!-- classes -->")[2]))
    assert names == BY_NAME.keys() - {each.name for each in DENOISERS}
