"""Whole models pickled and copied: compiled ones, in other programs, and for a data loader's workers."""

from __future__ import annotations

import copy
import copyreg
import gc
import inspect
import linecache
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from motc.driver import compile_ir, generate

SPEC = """
model kept {
  width = 16, layers = 1
  modality text { vocab = 11 }, image { vocab = 7 }
  attention { heads = 2, qk_norm = rms }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""
IDS, KINDS = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[0, 0, 1, -1]])


@pytest.fixture
def model() -> Any:
    return motc.load(SPEC)


def total(model: Any, **how: Any) -> float:
    value: float = model.loss(IDS, KINDS, **how).total.item()
    return value


@pytest.mark.parametrize("strategy", ["sorted", "grouped", "blend", "reference"])
def test_copies_and_pickles(strategy: Any, model: Any) -> None:
    model = motc.load(SPEC, strategy=strategy)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(copied) is type(model)
        assert total(copied) == total(model)
        copied.embedding["text"].weight.data.zero_()
    assert model.embedding["text"].weight.any()


def test_a_compiled_model_s_copy_is_not_compiled(model: Any) -> None:
    model.compile()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not copied.is_compiled and model.is_compiled
        assert copied.layers[0]._compiled_call_impl is None
        assert total(copied) > 0


@pytest.mark.compiled
@pytest.mark.parametrize("strategy", ["sorted", "blend"])
def test_a_compiled_model_s_shallow_copy_has_its_compiled_layers(strategy: Any) -> None:
    model: Any = motc.load(SPEC, strategy=strategy)
    expected = total(model)
    model.compile(backend="eager")
    shallow = copy.copy(model)
    assert shallow.is_compiled and shallow.layers is model.layers
    assert total(shallow) == pytest.approx(expected, rel=1e-6) == total(model)


IN_ANOTHER_PROGRAM = """
import pickle, sys, torch
given = torch.load(sys.argv[1], weights_only=False)
model, ids, kinds = given["model"], given["ids"], given["kinds"]
given["collate"], layout = (pickle.loads(part) for part in given["parts"])
made = given["collate"](kinds)  # as a worker would, that was started by spawn
total = model.loss(ids, kinds, layout=layout).total.item()
with open(sys.argv[2], "wb") as file:
    pickle.dump((total, made, type(model).__module__), file)
"""


@pytest.mark.compiled
def test_a_whole_model_goes_to_another_program_and_a_layout_comes_back(model: Any, tmp_path: Path) -> None:
    parts = [pickle.dumps(model.layout), pickle.dumps(model.layout(KINDS))]
    torch.save({"model": model, "ids": IDS, "kinds": KINDS, "parts": parts}, tmp_path / "model.pt")
    arguments = [str(tmp_path / "model.pt"), str(tmp_path / "made.pickle")]
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROGRAM, *arguments], check=True)
    loss, layout, module = pickle.loads((tmp_path / "made.pickle").read_bytes())
    assert loss == total(model) == total(model, layout=layout)
    assert type(layout) is type(model.layout(KINDS))
    assert module == type(model).__module__


def test_what_is_loaded_after_an_unpickled_model_has_classes_of_its_own(model: Any) -> None:
    name = type(model).__module__
    kept = pickle.dumps(model)
    del sys.modules[name]  # as in a program that has not loaded it
    loaded = pickle.loads(kept)
    assert type(loaded).__module__ == name and type(loaded) is not type(model)
    assert type(motc.load(SPEC)) is not type(loaded)


def test_a_model_of_a_file_is_pickled_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept.mot").write_text(SPEC)
    (tmp_path / "kept_model.py").write_text(generate(compile_ir(tmp_path / "kept.mot")))
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("kept_model")
    model = module.Kept()
    model.init_weights()
    model.compile()
    text = pickle.dumps(model)
    assert b"kept_model" in text and b"rebuilt" not in text
    assert total(pickle.loads(text)) == total(copy.deepcopy(model))


@pytest.fixture
def little_garbage() -> None:
    """A collection looks at what the test made, and not at all that is there."""
    gc.freeze()


@pytest.mark.usefixtures("little_garbage")
@pytest.mark.parametrize("strategy", ["sorted", "grouped", "blend", "reference"])
def test_a_module_goes_with_its_last_model(strategy: Any) -> None:
    """Else a program that loads many, such as a sweep, would keep the text and the classes of all."""
    model: Any = motc.load(SPEC, strategy=strategy)
    cls, name = weakref.ref(type(model)), type(model).__module__
    model.loss(IDS, KINDS).total.backward()
    twin, kept = copy.deepcopy(model), pickle.dumps(model)
    del model
    gc.collect()
    assert name in sys.modules and f"<{name}>" in linecache.cache
    assert type(pickle.loads(kept)) is type(twin)
    layer, layout = twin.layers[0], twin.layout(KINDS)
    del twin
    gc.collect()
    assert name in sys.modules and type(layer).__module__ == name
    del layer
    gc.collect()
    assert name not in sys.modules and f"<{name}>" not in linecache.cache
    assert cls() is not None and torch.equal(copy.deepcopy(layout).modality_ids, KINDS)
    del layout
    sys.modules.pop(name)  # which copying made anew
    gc.collect()
    assert cls() is None
    assert total(pickle.loads(kept)) > 0


def test_lines_of_code_are_those_of_the_text() -> None:
    """As tracebacks and debuggers show them, though building blocks are compiled by themselves."""
    models = [motc.load(SPEC) for _ in range(2)]
    functions = [vars(type(part))["forward"] for model in models for part in model.modules() if is_generated(part)]
    assert len(functions) > 20
    for function in functions:
        assert inspect.getsource(function).lstrip().startswith("def forward(")
    assert len({id(function.__code__) for function in functions}) == len({id(function) for function in functions})


def is_generated(part: Any) -> bool:
    return type(part).__module__.startswith("motc_generated_") and "forward" in vars(type(part))


def test_a_class_made_from_a_model_s_is_pickled_as_any(model: Any) -> None:
    child = type("Child", (type(model),), {"__module__": __name__})
    assert child().__reduce_ex__(2)[0] is copyreg.__newobj__  # type: ignore[attr-defined]
