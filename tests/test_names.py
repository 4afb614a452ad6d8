"""Names become code: none may be one that torch, a building block or the generated file already has."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
from pathlib import Path

import pytest
from torch import nn

from motc.driver import compile_ir, final_ir, generate
from motc.loading import import_source
from motc.plan.library import library, taken
from motc.plan.plan import name_of_class
from motc.schema import check
from motc.schema.names import ATTRIBUTES
from motc.source import SourceFile, SpecError
from motc.syntax import read

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted((ROOT / "codegen_templates").glob("[a-z]*.py"))
SPECS = sorted(ROOT.glob("specs/**/*.mot"))


def containers() -> list[type[nn.ModuleDict]]:
    """The classes whose entries are called by names of a spec."""
    classes: list[type[nn.ModuleDict]] = [nn.ModuleDict]
    for path in TEMPLATES:
        module = importlib.import_module(f"codegen_templates.{path.stem}")
        for _, each in inspect.getmembers(module, inspect.isclass):
            if issubclass(each, nn.ModuleDict) and each.__module__ == module.__name__:
                classes.append(each)
    return classes


def test_the_containers_are_those_of_every_strategy() -> None:
    assert {f"{each.__module__}.{each.__name__}" for each in containers()} >= {
        "codegen_templates.by_tower.ByTower",
        "codegen_templates.by_tower_grouped.GroupedByTower",
        "codegen_templates.norms.NormByTower",
    }


@pytest.mark.parametrize("container", containers(), ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_no_name_of_a_spec_is_an_attribute_of_what_holds_copies(container: type[nn.ModuleDict]) -> None:
    own = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(container)))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    attributes = {*dir(nn.ModuleDict()), *dir(container), *own}
    assert {name for name in attributes if not name.startswith("_")} - ATTRIBUTES == set()


@pytest.mark.parametrize("name", ["null", "true", "false", "none", "choose", "ends", "of", "class", "total", "a.b"])
@pytest.mark.parametrize(
    "syntax, text",
    [
        ("mot", "model a {{ width = 8, layers = 1, vocab = 9, attention {{ heads = 2 }}; modality b, {0} }}"),
        ("mot", "model a {{ width = 8, layers = 1, vocab = 9, attention {{ heads = 2 }}; modality b; tower {0} = b }}"),
        ("mot", "model {0} {{ width = 8, layers = 1, vocab = 9, attention {{ heads = 2 }}; modality b }}"),
        ("yaml", 'model: a\nwidth: 8\nlayers: 1\nvocab: 9\nattention: {{heads: 2}}\nmodalities: {{"{0}": {{}}}}'),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_both_syntaxes(syntax: str, text: str, name: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(read(SourceFile(f"a.{syntax}", text.format(name))))
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["MOT024"]
    assert f"`{name}`" in caught.value.diagnostics[0].message


def joined(name: str) -> list[list[str]]:
    """Modalities whose names joined by _ are `name`."""
    words = name.split("_")
    return [["_".join(words[:cut]), "_".join(words[cut:])] for cut in range(1, len(words))]


@pytest.mark.parametrize(
    "parts",
    [["state", "dict"], ["zero", "grad"], ["add", "module"], ["share", "memory"], ["extra", "repr"],
     ["requires", "grad_"]],
)  # fmt: skip
@pytest.mark.parametrize("tower", ["", "tower both = {} "])
def test_a_block_of_modalities_has_no_name_of_torch(parts: list[str], tower: str) -> None:
    names = ", ".join(parts)
    text = (
        f"model a {{ width = 8, layers = 1, vocab = 9, attention {{ heads = 2 }}; modality {names}, c; "
        f"{tower.format(names)}; untie ffn as {{{names}}} {{c}} }}"
    )
    checked = check(read(SourceFile("a.mot", text)))
    if tower:
        model = final_ir(checked)
        assert "both" in generate(model)
        return
    with pytest.raises(SpecError) as caught:
        final_ir(checked)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "MOT024" and f"`{'_'.join(parts)}`" in diagnostic.message
    assert diagnostic.span is not None and text[diagnostic.span.start : diagnostic.span.end] == f"{{{names}}}"


def defined(text: str) -> set[str]:
    """The names a module imports or defines at its top."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {each.asname or each.name.partition(".")[0] for each in names}
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def could_be_a_class(name: str) -> bool:
    """Whether a model can be called so that its class would have this name."""
    return name[:1].isupper() and "_" not in name


def test_names_of_the_generated_file_are_taken_for_classes_of_models() -> None:
    names = set[str]().union(*(defined(path.read_text(encoding="utf-8")) for path in TEMPLATES))
    assert {name for name in names if could_be_a_class(name)} <= taken()


def test_no_two_building_blocks_define_the_same_name() -> None:
    names = [name for block in library().values() for name in block.names]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_generated_file_defines_only_what_is_taken_and_its_own(path: Path) -> None:
    model = compile_ir(path)
    own = name_of_class(model.name)
    others = {name for name in defined(generate(model)) if could_be_a_class(name) and not name.startswith(own)}
    assert others <= taken()


def test_no_class_of_a_model_is_one_of_the_file_or_of_python() -> None:
    ends = ("Attention", "FeedForward", "Layer")
    for name in [*taken(), *dir(builtins)]:
        snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in name).strip("_")
        assert name_of_class(snake) not in taken() and not hasattr(builtins, name_of_class(snake))
        assert not any(name in {name_of_class(name.removesuffix(end)) + end for end in ends} for end in ends)


@pytest.mark.parametrize("name", ["callable", "mapping", "any", "step", "layer_norm", "ddpm", "f"])
def test_a_model_may_have_the_name_of_an_import(name: str, tmp_path: Path) -> None:
    spec = tmp_path / "a.mot"
    spec.write_text(
        f"model {name} {{ width = 8, layers = 1, vocab = 9, attention {{ heads = 2 }}\n"
        "modality text, image { latent { channels = 1, patch = 1 } }; untie ffn }"
    )
    module = import_source(generate(compile_ir(spec)))
    assert getattr(module, name_of_class(name))().modalities == ("text", "image")
