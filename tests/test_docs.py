"""The documentation is tested: its specs compile, its errors are the ones shown, every key of the schema is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import motc
from motc.driver import compile_ir, generate
from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS
from motc.loading import import_source
from motc.plan.plan import name_of_class
from motc.schema.keys import sections_below
from motc.schema.spec import Spec
from motc.source import SpecError

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^```(?P<syntax>mot|yaml)[ \t]*(?P<code>MOT\d+)?\n(?P<text>.*?)^```\n(?:\s*```text\n(?P<shown>.*?)^```)?",
    re.M | re.S,
)


class Example(NamedTuple):
    """A fenced spec; `code` is of the error it shows, and `shown` the error as printed on the page."""

    page: Path
    file: str
    text: str
    code: str | None
    shown: str | None


def examples(page: Path) -> Iterator[Example]:
    for number, fence in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
        named = re.match(r"# (\S+\.(?:mot|yaml))\n", fence["text"])
        file = named[1] if named else f"example_{number}.{fence['syntax']}"
        yield Example(page, file, fence["text"], fence["code"], fence["shown"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """Of each page a folder of its specs as files, so that one can extend another."""
    folders = {page: tmp_path_factory.mktemp(page.stem) for page in PAGES}
    for example in EXAMPLES:
        path = folders[example.page] / example.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example.text, encoding="utf-8")
    return folders


EXAMPLES = [example for page in PAGES for example in examples(page)]
RIGHT = [example for example in EXAMPLES if example.code is None]
WRONG = [example for example in EXAMPLES if example.code is not None]


def identify(example: Example) -> str:
    return f"{example.page.stem}-{example.file}"


@pytest.mark.parametrize("example", RIGHT, ids=identify)
def test_a_spec_on_a_page_compiles(example: Example, folders: dict[Path, Path]) -> None:
    for dense in (False, True):
        model = compile_ir(folders[example.page] / example.file, dense=dense)
        assert hasattr(import_source(generate(model)), name_of_class(model.name))


@pytest.mark.parametrize("example", WRONG, ids=identify)
def test_an_error_on_a_page_is_the_one_shown(
    example: Example, folders: dict[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[example.page])
    with pytest.raises(SpecError) as caught:
        compile_ir(Path(example.file))
    assert {diagnostic.code for diagnostic in caught.value.diagnostics} == {example.code}
    assert example.shown is not None and str(caught.value).strip() == example.shown.strip()


def test_the_language_page_shows_both_syntaxes_and_errors() -> None:
    of_language = [example for example in EXAMPLES if example.page.name == "language.md"]
    assert {Path(example.file).suffix for example in of_language} == {".mot", ".yaml"}
    assert len(WRONG) >= 5


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of the schema; NAME stands for a name that the author of a spec chooses."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield key, field
        for inner, middle in sections_below(field.annotation):
            yield from keys(inner, f"{key}.{middle}")


def words(annotation: Any) -> Iterator[str]:
    """The words a key can be set to."""
    if get_origin(annotation) is Literal:
        yield from (str(value) for value in get_args(annotation))
    elif not list(sections_below(annotation)):
        for part in get_args(annotation):
            yield from words(part)


def plain(value: Any) -> str | None:
    """A default as the page writes it; None for one that is not a plain value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "1e-5" if value == 1e-5 else f"{value:g}"
    return str(value) if isinstance(value, int | str) else None


@cache
def rows() -> dict[str, str]:
    text = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    table = text.partition("\n## Every key\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", table, re.M)
    assert len(found) == len({key for key, _ in found}), "a key has two rows"
    return dict(found)


IN_LAYERS = re.compile(r"by_layer\.(\w+\..*)")
TOLD = [(key, field) for key, field in keys(Spec) if not IN_LAYERS.match(key)]


def test_every_key_of_the_schema_has_a_row_and_every_row_a_key() -> None:
    assert set(rows()) == {key for key, _ in TOLD} | {"extends"}


def test_what_can_be_said_of_some_layers_can_be_said_of_all_in_the_same_words() -> None:
    in_layers = {match[1] for key, _ in keys(Spec) if (match := IN_LAYERS.match(key))}
    assert {"attention.rope.theta", "ffn.experts", "towers.NAME.ffn.hidden"} <= in_layers <= {key for key, _ in TOLD}


@pytest.mark.parametrize(("key", "field"), TOLD, ids=[key for key, _ in TOLD])
def test_a_row_says_the_default_and_all_words(key: str, field: FieldInfo) -> None:
    row = rows()[key]
    default = row.partition("|")[0].strip()
    assert (default == "required") == field.is_required()
    said = None if field.is_required() else plain(field.get_default(call_default_factory=True))
    if said is not None:
        assert default == f"`{said}`"
    assert [word for word in words(field.annotation) if f"`{word}`" not in row] == []


def meaning(row: str) -> str:
    """What a row says of a key, as plain text: without links, and what is only to be followed."""
    text = re.sub(r"[,;] see \[[^]]*\]\([^)]*\)", "", row.partition("|")[2].strip())
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)


REFERENCE = re.compile(
    r"as `|the same\b|may be repeated|.*refused here$|(`\w+`( or |, )?)+(, the same in all towers)?$"
)
"""A row that leaves the meaning of its key to another's."""


@pytest.mark.parametrize(("key", "field"), TOLD, ids=[key for key, _ in TOLD])
def test_an_editor_says_of_a_key_what_its_row_says(key: str, field: FieldInfo) -> None:
    told, _, _ = (field.description or "").partition("; default: ")
    own = meaning(rows()[key])
    if told != own:  # then it is what another row says of the key that is meant
        assert REFERENCE.match(own), f"the schema: {told}\nthe page: {own}"
        assert told in {meaning(row) for row in rows().values()}, told


def test_the_parameters_page_has_every_group() -> None:
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w.]+)` \|", text, re.M)
    assert sorted(named) == sorted([*(f"layers.N.{path}" for path in LAYER_PATHS), *OUTER_PATHS])


def test_names_and_shapes_are_those_of_the_parameters_page(tmp_path: Path) -> None:
    spec = tmp_path / "named.mot"
    spec.write_text(
        """model named {
          width = 8, layers = 2, vocab = 32
          modality text, vit, vae
          attention { heads = 4, kv_heads = 2, out_bias = true }
          ffn { hidden = 16 }
          tower und = text, vit
          tower gen = vae { attention { qk_norm = layer } }
          untie attention, final_norm
          untie ffn.down as {text} {vit, vae} in layer 1
        }""",
        encoding="utf-8",
    )
    layer = {
        "attention.norm.weight": (8,),
        "attention.q.und.weight": (8, 8),
        "attention.q.gen.weight": (8, 8),
        "attention.k.und.weight": (4, 8),
        "attention.k.gen.weight": (4, 8),
        "attention.v.und.weight": (4, 8),
        "attention.v.gen.weight": (4, 8),
        "attention.q_norm.gen.weight": (4, 2),
        "attention.q_norm.gen.bias": (4, 2),
        "attention.k_norm.gen.weight": (2, 2),
        "attention.k_norm.gen.bias": (2, 2),
        "attention.out.und.weight": (8, 8),
        "attention.out.und.bias": (8,),
        "attention.out.gen.weight": (8, 8),
        "attention.out.gen.bias": (8,),
        "ffn.norm.weight": (8,),
        "ffn.gate.weight": (16, 8),
        "ffn.up.weight": (16, 8),
    }
    expected = {f"layers.{number}.{name}": shape for number in (0, 1) for name, shape in layer.items()}
    expected |= {
        "embedding.weight": (32, 8),
        "layers.0.ffn.down.weight": (8, 16),
        "layers.1.ffn.down.text.weight": (8, 16),
        "layers.1.ffn.down.vit_vae.weight": (8, 16),
        "final_norm.und.weight": (8,),
        "final_norm.gen.weight": (8,),
        "head.weight": (32, 8),
    }
    network = motc.load(spec, device="meta")
    assert {name: tuple(parameter.shape) for name, parameter in network.named_parameters()} == expected
