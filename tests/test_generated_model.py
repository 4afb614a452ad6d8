"""The generated file and the model it defines, as their users meet them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from motc.driver import compile_ir, generate
from motc.source import SpecError
from tests.exact import OUTPUTS, WIDEST

SPEC = """
model tiny {
  width = 24
  layers = 2
  modality text { vocab = 11 }, image { vocab = 7 }
  attention { heads = 4 }
  ffn { hidden = 20 }
  untie attention, ffn, norm
}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("specs") / "tiny.mot"
    path.write_text(SPEC)
    return path


@pytest.fixture
def model(spec: Path) -> Any:
    return motc.load(spec, dtype=torch.float64)


def test_it_imports_only_torch_and_the_standard_library(spec: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(generate(compile_ir(spec)))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"torch"}


@pytest.mark.compiled
def test_it_runs_alone(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(generate(compile_ir(spec)))
    program = (
        "import sys, torch, model; m = model.Tiny(); m.init_weights(0)\n"
        "i = torch.ones(1, 4, dtype=torch.int64); print(m(i, i).logits['image'].shape)\n"
        "assert 'motc' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch.Size([1, 4, 7])"


@pytest.mark.compiled
def test_it_does_not_depend_on_the_hash_seed(spec: Path) -> None:
    program = f"from pathlib import Path; from motc.driver import *; print(generate(compile_ir(Path({str(spec)!r}))))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(texts) == 1


def test_parameter_names(model: Any) -> None:
    names = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert names["layers.1.attention.q.image.weight"] == (24, 24)
    assert names["layers.1.ffn.down.text.weight"] == (24, 20)
    assert names["embedding.text.weight"] == (11, 24)
    assert names["head.image.weight"] == (7, 24)


def test_meta_and_eager_loading_agree(spec: Path, model: Any) -> None:
    later: Any = motc.load(spec, device="meta", dtype=torch.float64)
    assert all(parameter.is_meta for parameter in later.parameters())
    later = later.to_empty(device="cpu")
    later.init_weights()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, dict(later.named_parameters())[name]), name


def test_a_sparse_model_starts_equal_to_its_dense_twin(spec: Path, model: Any) -> None:
    dense: Any = motc.load(spec, dense=True, dtype=torch.float64)
    ids, modality = torch.randint(0, 7, (2, 9)), torch.randint(0, 2, (2, 9))
    ours, theirs = model(ids, modality).logits, dense(ids, modality).logits
    for name in ("text", "image"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-12, atol=1e-12)
    assert model.loss(ids, modality).total.item() > 0


@pytest.mark.parametrize(
    "modality",
    [
        torch.zeros(2, 6),
        torch.ones(1, 6),
        torch.zeros(1, 1),
        torch.tensor([[0, 1, 0, -1, -1]]),
        torch.tensor([[-1, 0, 1, -1, 0]]),
        torch.full((2, 3), -1),
    ],
    ids=["text only", "image only", "one token", "padding after", "padding within", "padding only"],
)
def test_any_mixture_runs_forward_and_backward(model: Any, modality: torch.Tensor) -> None:
    modality = modality.long()
    ids = torch.zeros_like(modality)
    losses = model.loss(ids, modality)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    logits = model(ids, modality).logits
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    for values in logits.values():
        assert not values[modality == -1].any()


@pytest.mark.parametrize("modality", [torch.ones(2, 1, dtype=torch.int64), torch.full((2, 3), -1)])
def test_a_batch_without_a_target_has_loss_0_and_gradients_of_0(model: Any, modality: torch.Tensor) -> None:
    losses = model.loss(modality.clamp(min=0), modality)
    losses.total.backward()
    assert [losses.total.item(), *(loss.item() for loss in losses.by_modality.values())] == [0, 0, 0]
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_in_the_loss_a_head_sees_only_positions_whose_target_is_of_its_modality(model: Any) -> None:
    seen = {}
    for name, head in model.head.items():
        head.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].shape[0]}))
    modality = torch.tensor([[0, 0, 1, 1, 1, -1], [1, 0, 0, 1, 1, 1]])
    documents = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    model.loss(torch.zeros_like(modality), modality, document_ids=documents)
    assert seen == {"text": 3, "image": 5}  # of text 1 and 2, of image 3, 1 and 1


def test_ids_out_of_range_are_refused(model: Any) -> None:
    ids = torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="modality_ids"):
        model(ids, ids + 2)


@pytest.mark.compiled
def test_compiled_layers_agree(spec: Path, model: Any) -> None:
    compiled: Any = motc.load(spec, dtype=WIDEST)
    compiled.compile(backend="eager")
    ids, modality = torch.randint(0, 7, (2, 9)), torch.randint(0, 2, (2, 9))
    logits = compiled(ids, modality).logits
    for name, expected in model.to(WIDEST)(ids, modality).logits.items():
        torch.testing.assert_close(logits[name], expected, rtol=OUTPUTS, atol=OUTPUTS)


@pytest.mark.parametrize("name", ["tensor", "by_tower", "ellipsis", "value_error", "f", "permute", "layer_norm", "x"])
def test_a_model_of_any_name_runs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "named.mot"
    path.write_text(SPEC.replace("model tiny", f"model {name}"))
    model: Any = motc.load(path)
    ids = torch.ones(1, 3, dtype=torch.int64)
    assert model(ids, ids).logits["text"].shape == (1, 3, 11)


@pytest.mark.parametrize("name", sorted(set(dir(torch.nn.ModuleDict({}))) - {"route"}))
def test_a_modality_of_any_allowed_name_runs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "named.mot"
    path.write_text(SPEC.replace("image", name))
    try:
        compile_ir(path)
    except SpecError as error:
        codes = {diagnostic.code for diagnostic in error.diagnostics}
    else:
        codes = {"MOT024"}
        assert motc.load(path).get_submodule(f"embedding.{name}") is not None
    assert codes <= {"MOT006", "MOT024"}


def test_towers_with_other_heads_are_refused_with_both_places(tmp_path: Path) -> None:
    path = tmp_path / "heads.mot"
    path.write_text(SPEC.replace("untie", "tower other = image { attention { heads = 2 } }\n  untie"))
    with pytest.raises(SpecError) as refused:
        compile_ir(path)
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == "MOT053"
    assert str(diagnostic.span).endswith("heads.mot:8:45")
    assert [str(span).rpartition("heads.mot:")[2] for _, span in diagnostic.related] == ["6:23"]


def test_a_mistake_in_two_kinds_of_layers_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "twice.mot"
    path.write_text(
        SPEC.replace(
            "untie attention, ffn, norm", "tower other = image { ffn { hidden = 8 } }\n  untie attention in layer 0"
        )
    )
    with pytest.raises(SpecError) as refused:
        compile_ir(path)
    assert [diagnostic.code for diagnostic in refused.value.diagnostics] == ["MOT046"]
