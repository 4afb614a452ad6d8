"""What an editor is told, by plain calls: a text with a ^ where the cursor is, and what comes of it."""

from __future__ import annotations

import json
import random
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Literal

import pytest

from motc.lsp.analysis import Analysis
from motc.lsp.completion import complete
from motc.lsp.costs import hints
from motc.lsp.diagnostics import shown
from motc.lsp.fixes import quick_fixes
from motc.lsp.hover import hover
from motc.lsp.names import definitions, references, rename
from motc.lsp.outline import Outline, Word, outline_of
from motc.lsp.positions import to_offset, to_position
from motc.lsp.session import Session
from motc.lsp.symbols import Symbol, folds, symbols
from motc.report.code import STATEMENTS
from motc.source import SourceFile
from motc.syntax import convert

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "specs").rglob("*.mot"))

BASE = """model base {
  width = 64
  layers = 4
  modality text { vocab = 256 }
  modality image { vocab = 512 }
  attention { heads = 4, mask { kind = prefix, prefix = image } }
  ffn { hidden = 128 }
  tower gen = image
}
"""
OVER = """model over {
  extends "base.mot"
  attention { kv_heads = 2 }
  untie ffn as {text} {image} in layers 0..1
}
"""


class Editor:
    """A folder with a base spec, and a session with one text open."""

    def __init__(self, folder: Path, name: str = "over.mot") -> None:
        (folder / "base.mot").write_text(BASE, encoding="utf-8")
        self.path = folder / name
        self.session = Session()

    def type(self, marked: str) -> tuple[Analysis, int]:
        """The analysis of a text, and where its cursor is: at ^, if there is one."""
        offset = max(0, marked.find("^"))
        self.session.change(self.path, marked.replace("^", "", 1))
        (analysis,) = self.session.told()
        return analysis, offset

    def hover(self, marked: str) -> str:
        told = hover(*self.type(marked))
        return "" if told is None else told[1]

    def complete(self, marked: str) -> dict[str, str]:
        """What fits at the cursor, with what is written for it."""
        analysis, offset = self.type(marked)
        return {each.label: each.insert for each in complete(analysis, offset, self.session.names(self.path))}

    def word(self, marked: str) -> Word:
        analysis, offset = self.type(marked)
        word = analysis.outline.word_at(offset)
        assert word is not None
        return word

    def fixed(self, text: str) -> str:
        """The text after the first quick fix."""
        analysis, _ = self.type(text)
        first, *_ = quick_fixes(analysis, 0, len(text))
        return text[: first.span.start] + first.text + text[first.span.end :]


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    return Editor(tmp_path)


def paths(outline: Outline) -> set[tuple[str, tuple[str | int, ...]]]:
    """The values, but for ranges of layers: `0..9 step 3` is one word in YAML."""
    values = ((word.shown, word.path) for word in outline.words if word.role == "value")
    return {each for each in values if each[1][-1] != "layers"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_outline_of_a_spec_is_the_same_in_both_syntaxes(path: Path) -> None:
    source = SourceFile(path.name, path.read_text(encoding="utf-8"))
    other = SourceFile("converted.yaml", convert(source, "yaml"))
    one, two = outline_of(source), outline_of(other)
    assert paths(one) == paths(two)


def test_no_text_is_too_wrong_for_an_outline(editor: Editor) -> None:
    for text in (OVER, BASE, convert(SourceFile("over.mot", OVER), "yaml"), "model a {" + "x {" * 300, "]]}}{{[[", ""):
        for name in ("a.mot", "a.yaml"):
            for end in range(0, len(text), 41):
                for strange in ("", "{", "]", '"', "\n  :", "= =", "\ud800", "- - -"):
                    outline = outline_of(SourceFile(name, text[:end] + strange + text[end + 5 :]))
                    assert all(0 <= word.start < word.end for word in outline.words)


def test_what_is_wrong_in_a_base_is_told_where_it_is_extended(editor: Editor) -> None:
    editor.type(OVER)
    editor.session.change(editor.path.parent / "base.mot", BASE.replace("ffn {", "ffn { haeds = 1, "))
    (first, *_), (over, *_) = (shown(each) for each in editor.session.told())
    assert (first.diagnostic.code, over.diagnostic.code) == ("MOT021", "MOT021")
    assert over.message.startswith("in base.mot: unknown key `haeds`")
    assert OVER[over.start : over.end] == "extends"
    assert over.related[0][1].source.name.endswith("base.mot")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("untie fnn", "untie ffn"),
        ("attention { kind = sofmax }", "attention { kind = softmax }"),
        ("attention { haed_dim = 8 }", "attention { head_dim = 8 }"),
        ("num_key_value_heads = 2", "attention { kv_heads = 2 }"),
        ("ffn { bias = yes }", "ffn { bias = true }"),
        ("ffn { hidden = 64 * 2 }", "ffn { hidden = 128 }"),
        ("untie ffn as {txet} {image}", "untie ffn as {text} {image}"),
        ("ffn { hidden: 64 }", "ffn { hidden = 64 }"),
        ("untie ffn in layers 2..1", "untie ffn in layers 1..2"),
        ("attention { mask = prefx }", "attention { mask = prefix }"),
        ("attention { rope = nnoe }", "attention { rope = none }"),
        ("tower a text", "tower a = text"),
        ("ffn in layers 0..1", "untie ffn in layers 0..1"),
        ("untie ffn norm", "untie ffn, norm"),
    ],
)
def test_a_way_out_can_be_taken(editor: Editor, wrong: str, right: str) -> None:
    text = 'model over {{\n  extends "base.mot"\n  {}\n}}\n'
    assert editor.fixed(text.format(wrong)) == text.format(right)


def test_a_bracket_is_closed(editor: Editor) -> None:
    fixed = editor.fixed(OVER.rstrip().removesuffix("}"))
    assert editor.type(fixed)[0].is_right


def test_a_key_is_explained_with_its_value_here(editor: Editor) -> None:
    told = editor.hover('model over {\n  extends "base.mot"\n  ffn { hid^den = }\n}')
    assert "`ffn.hidden`" in told and "here: `128`" not in told  # nothing was right yet
    told = editor.hover(OVER.replace("kv_heads", "kv_h^eads"))
    assert "**`attention.kv_heads`** — key and value heads" in told
    assert "here: `2`, from [over.mot:3](file://" in told
    assert "here: `128`, from [base.mot:7]" in editor.hover(OVER.replace("untie", "ffn { hid^den = }\nuntie"))


def test_groups_and_modalities_are_told_with_their_costs(editor: Editor) -> None:
    told = editor.hover(OVER.replace("untie ffn", "untie f^fn"))
    assert "| `ffn.up` | {text} {image} | 64 → 128 | 2 × 16,384 | 16,384 |" in told
    told = editor.hover(OVER.replace("{image}", "{im^age}"))
    assert "tower {image}, width 64; token ids of 512; next-token logits" in told
    assert "active parameters" in told


def test_keys_and_words_are_completed(editor: Editor) -> None:
    assert editor.complete(OVER.replace("kv_heads = 2", "kv_heads = 2, r^"))["rope"] == "rope { "
    assert "kv_heads" not in editor.complete(OVER.replace("kv_heads = 2", "kv_heads = 2, r^"))
    root = editor.complete(OVER.replace("untie", "^\n  untie"))
    assert root["tower"] == "tower " and root["vocab"] == "vocab = " and "width" in root and "extends" not in root
    assert {"swiglu", "moe", "none"} <= editor.complete("model a {\n ffn { kind = ^").keys()
    assert {"true", "false"} == editor.complete("model a {\n ffn { bias = ^ }").keys()
    assert {"text", "image", "gen"} == editor.complete(OVER.replace("{text}", "{t^}")).keys() | {"image"}
    assert {"ffn", "attention.q", "*"} <= editor.complete(OVER.replace("untie ffn", "untie f^")).keys()
    assert {"as", "in layers"} == editor.complete("model a {\n untie ffn ^\n}").keys()
    assert editor.complete('model a {\n extends "^" }') == {"base.mot": "base.mot"}


def test_yaml_is_completed(tmp_path: Path) -> None:
    editor = Editor(tmp_path, "over.yaml")
    assert editor.complete("extends: base.mot\nattention:\n  he^")["heads"] == "heads: "
    assert {"swiglu", "moe"} <= editor.complete("ffn: {kind: ^}").keys()
    assert {"text", "image", "gen"} == editor.complete("extends: base.mot\nattention: {mask: {prefix: ^}}").keys()
    assert editor.complete("width: 64\nla^")["layers"] == "layers: "


def test_names_and_keys_lead_to_where_they_are_said(editor: Editor) -> None:
    def leads(marked: str) -> list[tuple[str, str]]:
        word = editor.word(marked)
        places = definitions(editor.session.chain(editor.path), word)
        return [(each.path.name, each.outline.source.text[each.start : each.end]) for each in places]

    assert leads(OVER.replace("{image}", "{im^age}")) == [("base.mot", "image")]
    assert leads(OVER.replace("attention {", "att^ention {")) == [("base.mot", "attention")]
    assert leads(OVER.replace("untie ffn", "untie f^fn")) == [("base.mot", "ffn")]
    assert leads(OVER.replace('"base', '"b^ase')) == [("base.mot", "")]
    assert leads(OVER.replace("kv_heads", "kv_h^eads")) == []


def test_a_modality_is_renamed_wherever_it_is_said(editor: Editor) -> None:
    other = editor.path.parent / "other.yaml"
    other.write_text("extends: base.mot\nuntie: {groups: [norm], as: [[image], [text]]}\n", encoding="utf-8")
    (editor.path.parent / "stranger.mot").write_text(BASE, encoding="utf-8")
    word = editor.word(OVER.replace("{image}", "{im^age}"))
    family = editor.session.family(editor.path, word)
    places = rename(family, word, "picture")
    counts: dict[str, int] = {}
    for place in places:
        assert place.outline.source.text[place.start : place.end] == "image"
        counts[place.path.name] = counts.get(place.path.name, 0) + 1
    assert counts == {"over.mot": 1, "base.mot": 3, "other.yaml": 1}
    for wrong, why in (("text", "already"), ("class", "keyword"), ("gen", "already"), ("a b", "not a name")):
        with pytest.raises(ValueError, match=why):
            rename(family, word, wrong)
    assert {each.path.name for each in references(family, word)} == counts.keys()


def test_what_a_model_costs_stands_beside_it_and_what_changed(editor: Editor) -> None:
    editor.path.write_text(OVER, encoding="utf-8")
    analysis, _ = editor.type(OVER)
    assert hints(analysis)[0].text.endswith("parameters")
    analysis, _ = editor.type(OVER.replace("in layers 0..1", ""))
    model, *_ = hints(analysis)
    assert "+49.2k parameters against the file" in model.text
    assert "ffn: {text image} → {text} {image}, layers 2..3" in editor.hover(
        OVER.replace("in layers 0..1", "").replace("over", "o^ver")
    )
    editor.path.write_text(OVER.replace("in layers 0..1", ""), encoding="utf-8")
    editor.session.save(editor.path)
    saved = editor.session.analysis(editor.path)
    assert saved is not None and "against" not in hints(saved)[0].text


def test_parts_are_listed_and_folded(editor: Editor) -> None:
    def told(parts: list[Symbol]) -> list[object]:
        return [(each.name, *told(each.children)) if each.children else each.name for each in parts]

    analysis, _ = editor.type(BASE.replace("tower gen", "untie ffn in layers 0..1\n  tower gen"))
    listed = told(symbols(analysis.outline))
    mask = ("mask", "kind", "prefix")
    inner = ["width", "layers", ("text", "vocab"), ("image", "vocab"), ("attention", "heads", mask), ("ffn", "hidden")]
    assert listed == [("model", *inner, "untie ffn in layers 0..1", "gen")]
    assert folds(analysis.outline) == [(0, 9)]


@pytest.mark.parametrize("name", ["emoji_mot.mot", "gallery/bagel_7b_mot.mot", "gallery/flux_2_dev.mot"])
@pytest.mark.parametrize("syntax", ["mot", "yaml"])
def test_whatever_is_typed_all_is_told(name: str, syntax: Literal["mot", "yaml"]) -> None:
    draw = random.Random(f"{name} {syntax}")
    path = (ROOT / "specs" / name).with_suffix(f".typed.{syntax}")
    right = convert(SourceFile(name, (ROOT / "specs" / name).read_text(encoding="utf-8")), syntax)
    strange = [
        "",
        "",
        "",
        "{",
        "}",
        "[",
        "=",
        ",",
        "\n",
        '"',
        "#",
        ":",
        "text",
        "ffn",
        "untie ",
        "0..3",
        "- ",
        "𝔘",
        "&a",
        "1e999",
    ]
    session, text = Session(), right
    for number in range(24):
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice(strange) + text[at + draw.choice((0, 1, 9)) :] if number % 6 else right
        session.change(path, text)
        (analysis,) = session.told()
        hints(analysis), symbols(analysis.outline), folds(analysis.outline)
        for each in shown(analysis):
            assert 0 <= each.start <= each.end <= len(analysis.source.text) + 1
        for fix in quick_fixes(analysis, 0, len(text)):
            session.change(path, text[: fix.span.start] + fix.text + text[fix.span.end :])
            (after,) = session.told()
            assert fix.complaint not in shown(after), fix
        for offset in (at, 0, len(text)):
            hover(analysis, offset), complete(analysis, offset, ("text",))
            word = analysis.outline.word_at(offset)
            assert word is None or definitions((analysis.outline,), word) is not None


def test_colours_know_the_statements() -> None:
    grammar = json.loads((ROOT / "editors/vscode/syntaxes/mot.tmLanguage.json").read_text(encoding="utf-8"))
    statements = next(
        each["match"] for each in grammar["patterns"] if each.get("match", "").startswith("(?<![\\w.=])(model|")
    )
    assert set(re.findall(r"\(([a-z|]+)\)", statements)[0].split("|")) == set(STATEMENTS)
    for each in grammar["patterns"]:
        re.compile(each.get("match") or each["begin"])
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    module, name = entry_points["pygments.lexers"]["mot"].split(":")
    lexer = getattr(import_module(module), name)()
    assert (lexer.aliases, lexer.filenames) == (["mot"], ["*.mot"])
    assert "".join(text for _, text in lexer.get_tokens(BASE)) == BASE


def test_places_are_counted_as_editors_do() -> None:
    source = SourceFile("a.mot", "# 𝔘é x\nmodel a { }")
    offset = source.text.index("x")
    assert to_position(source, offset) == (0, 6)
    assert to_position(source, offset, "utf-8") == (0, 9)
    assert to_position(source, offset, "utf-32") == (0, 5)
    for encoding in ("utf-8", "utf-16", "utf-32"):
        for each in range(len(source.text)):
            assert to_offset(source, *to_position(source, each, encoding), encoding) == each
    assert to_offset(source, 99, 0) == len(source.text)
