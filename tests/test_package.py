"""The generated package passes review: formatted, linted and typed, with what it needs and no more; overrides work."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import torch

from motc.driver import check_spec, compile_ir, final_ir, generate, generate_package, spec_text
from motc.ir.execution import Strategy
from motc.ir.identity import semantic_hash
from motc.source import SpecError

ROOT = Path(__file__).resolve().parent.parent
SPECS = [*sorted((ROOT / "specs").rglob("*.mot")), *sorted((ROOT / "tests" / "golden").rglob("*.mot"))]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True)


class Packages(NamedTuple):
    """Of every shipped spec and strategy a package in one folder, but that no file is there twice.

    Of those whose architectures are alike but for numbers and names the first is of a kind, and there as a single file
    too. `kinds` are their packages' texts, by the architecture.
    """

    folder: Path
    kinds: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    folder, kinds, written = tmp_path_factory.mktemp("packages"), dict[str, dict[str, str]](), set[tuple[str, str]]()
    for spec in SPECS:
        for strategy in get_args(Strategy):
            try:
                checked = check_spec(spec)
                model = final_ir(checked, strategy=strategy)
            except SpecError:  # a strategy that cannot run it
                continue
            package = folder / f"{model.name}_{strategy}"
            package.mkdir()
            quoted = spec_text(checked)
            texts = generate_package(model, quoted)
            for name, text in texts.items() - written:
                (package / name).write_text(text, encoding="utf-8")
            written |= texts.items()
            nameless = generate_package(replace(model, name="nameless"))["model.py"]
            kind = re.sub(r"\d+|# motc.*|semantic_hash = .*", "", nameless)
            if kind not in kinds:
                kinds[kind] = texts
                (folder / f"{model.name}_{strategy}_alone.py").write_text(generate(model, quoted), encoding="utf-8")
    assert 20 < len(kinds) < len(list(folder.glob("*/"))) * 2 / 3  # the gallery's are of many kinds
    return Packages(folder, kinds)


@pytest.mark.compiled
def test_what_is_generated_is_formatted(packages: Packages) -> None:
    done = run("ruff", "format", "--check", "--no-cache", "--config", ROOT / "pyproject.toml", packages.folder)
    assert done.returncode == 0, done.stdout


@pytest.mark.compiled
def test_what_is_generated_has_no_lint(packages: Packages) -> None:
    done = run("ruff", "check", "--no-cache", "--config", ROOT / "pyproject.toml", packages.folder)
    assert done.returncode == 0, done.stdout


@pytest.mark.compiled
def test_what_is_generated_is_typed(packages: Packages, tmp_path: Path) -> None:
    """In one package of all models, for building blocks are the same in each; what a file imports it has beside it."""
    blocks = {"__init__.py": ""}
    for number, texts in enumerate(map(dict, packages.kinds.values())):
        for text in texts.values():
            assert {f"{name}.py" for name in re.findall(r"^ *from \.(\w+) import", text, re.M)} <= texts.keys()
        for own in ("model", "parallel"):
            (tmp_path / f"{own}{number}.py").write_text(texts.pop(f"{own}.py"), encoding="utf-8")
        start = texts.pop("__init__.py").replace("from .model import", f"from .model{number} import")
        (tmp_path / f"start{number}.py").write_text(start, encoding="utf-8")
        for name, text in texts.items():
            assert blocks.setdefault(name, text) == text
    for name, text in blocks.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = run("mypy", "--strict", tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_package_has_no_more_than_it_needs() -> None:
    dense = generate_package(compile_ir(ROOT / "specs" / "paper" / "chameleon_37m_dense.mot"))
    assert not {"by_tower.py", "layout_sorted.py", "mask_prefix.py", "mask_blocks.py", "views.py"} & dense.keys()
    assert not {"experts.py", "latents.py", "denoising.py", "generate_latents.py"} & dense.keys()


def test_two_packages_live_in_one_program_and_are_subclassed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    classes = []
    for name, spec in (("one_of_two", "emoji_mot"), ("two_of_two", "emoji_dense")):
        (tmp_path / name).mkdir()
        for file, text in generate_package(compile_ir(ROOT / "specs" / f"{spec}.mot")).items():
            (tmp_path / name / file).write_text(text, encoding="utf-8")
        module: Any = importlib.import_module(name)
        (class_name,) = module.__all__
        classes.append(getattr(module, class_name))
    one, two = classes
    ids = torch.tensor([[1, 2, 3, 4]])

    class Doubled(one):  # type: ignore[misc,valid-type]
        def embed(self, ids: Any, layout: Any) -> Any:
            return 2 * super().embed(ids, layout)

    models = [cls() for cls in (one, two, Doubled)]
    for model in models:
        model.init_weights(0)
    plain, dense, doubled = (model.loss(ids, ids % 2).total.item() for model in models)
    assert plain == pytest.approx(dense, rel=1e-4) and doubled != plain
    models[2].compile(backend="eager")
    assert models[2].loss(ids, ids % 2).total.item() == pytest.approx(doubled, rel=1e-4)
    compiled = torch.compile(models[0].layers[0], backend="eager")
    layout = models[0].layout(ids % 2)
    x = torch.randn(4, 128)
    cos = sin = torch.ones(1, 4, 1, 16)
    torch.testing.assert_close(compiled(x, layout, None, cos, sin), models[0].layers[0](x, layout, None, cos, sin))


def test_the_docstring_quotes_the_spec_with_all_that_it_extends(tmp_path: Path) -> None:
    """It is the same model, from a text that needs no other; whatever a spec says, the file remains Python."""
    checked = check_spec(ROOT / "specs" / "emoji_mot.mot", {"layers": 3})
    text = generate_package(final_ir(checked), spec_text(checked))["model.py"]
    docstring = ast.get_docstring(ast.parse(text)) or ""
    spec = tmp_path / "again.mot"
    spec.write_text(docstring[docstring.index("    model") :])
    assert "layers = 3" in docstring and semantic_hash(compile_ir(spec)) in text
    odd = generate_package(final_ir(checked), 'model "\\n" """ ' + "word " * 50)["model.py"]
    assert '\\n" """ word' in (ast.get_docstring(ast.parse(odd)) or "")
    assert max(map(len, odd.splitlines())) <= 120
