"""Both syntaxes: text to tree, tree to text, comments kept, mistakes told where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from motc.source import Diagnostic, SourceFile, Span, SpecError
from motc.syntax import Syntax, convert, format_source, read, read_file, write
from motc.syntax.files import LARGEST
from motc.syntax.tree import Entry, Mapping, Node, Scalar, Sequence
from tests.calls import calls

MOT = """\
# a spec

model tiny { language = 1
    extends "base.mot"
    width = 256  # the width

    # how deep
    layers = 4; vocab = 65_536
    modality text, image { vocab = 512 }
    modality speech
    attention { heads = 8, mask = causal,
      rope { theta = 10000 } }
    ffn { kind = swiglu # gated

       hidden = 768 }
    norm { eps = 1e-5 }
    embedding { tied = false
    # last
    }
    tower und = text, speech
    tower gen = image { ffn { hidden = 4096 } }
    untie attention,
       # inner
       *.norm
    untie ffn as {text} {image, speech} in layers 0 .. 3
    untie ffn in layer 3
    # the end of the body
} # tail
# foot
"""

CANONICAL_MOT = """\
# a spec

model tiny {
  language = 1
  extends "base.mot"
  width = 256  # the width

  # how deep
  layers = 4
  vocab = 65536
  modality text, image { vocab = 512 }
  modality speech
  attention { heads = 8, mask = causal, rope { theta = 10000 } }
  ffn {
    kind = swiglu  # gated

    hidden = 768
  }
  norm { eps = 1e-5 }
  embedding {
    tied = false
    # last
  }
  tower und = text, speech
  tower gen = image { ffn { hidden = 4096 } }
  # inner
  untie attention, *.norm
  untie ffn as {text} {image, speech} in layers 0..3
  untie ffn in layer 3
  # the end of the body
}  # tail
# foot
"""

CANONICAL_YAML = """\
model: tiny
language: 1
extends: base.mot
width: 256
layers: 4
vocab: 65536
modalities: {text: {}, image: {vocab: 512}, speech: {}}
attention: {heads: 8, mask: causal, rope: {theta: 10000}}
ffn: {kind: swiglu, hidden: 768}
norm: {eps: 1e-5}
embedding: {tied: false}
towers:
  und: {modalities: [text, speech]}
  gen: {modalities: [image], ffn: {hidden: 4096}}
untie:
  - {groups: [attention, "*.norm"]}
  - {groups: [ffn], as: [[text], [image, speech]], layers: 0..3}
  - {groups: [ffn], layers: 3}
"""

YAML = """\
# a spec
model: tiny   # its name
width: 256


layers: 4
towers:
  # one tower
  gen:
    modalities: [vae, "a # b"]  # kept
    width: 512
untie:
- groups: [ffn]
  # every layer
  layers: 0..3
- attention  # all of it
# foot
"""

FORMATTED_YAML = """\
# a spec
model: tiny  # its name
width: 256

layers: 4
towers:
  # one tower
  gen:
    modalities: [vae, "a # b"]  # kept
    width: 512
untie:
  - groups: [ffn]
    # every layer
    layers: 0..3
  - attention  # all of it
# foot
"""


def mot(text: str) -> SourceFile:
    return SourceFile("spec.mot", text)


def yaml(text: str) -> SourceFile:
    return SourceFile("spec.yaml", text)


def refused(source: SourceFile) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        read(source)
    assert str(caught.value)
    return caught.value.diagnostics


def plain(node: Node) -> Any:
    """Plain values; what both syntaxes mean the same by is made the same."""
    match node:
        case Scalar(value=value):
            return value
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(entries=entries):
            return {entry.key: plain(entry.value) for entry in entries}


def test_both_syntaxes_say_the_same_tree() -> None:
    tree = read(mot(MOT))
    assert tree == read(yaml(CANONICAL_YAML))
    assert write(tree, "yaml") == CANONICAL_YAML
    assert read(mot(write(tree, "mot"))) == tree


@pytest.mark.parametrize(
    "source, expected",
    [(mot(MOT), CANONICAL_MOT), (mot(CANONICAL_MOT), CANONICAL_MOT), (yaml(YAML), FORMATTED_YAML),
     (yaml(FORMATTED_YAML), FORMATTED_YAML)],
    ids=["mot", "mot again", "yaml", "yaml again"],
)  # fmt: skip
def test_formatting_keeps_comments_and_the_tree(source: SourceFile, expected: str) -> None:
    assert format_source(source) == expected
    assert read(SourceFile(source.name, expected)) == read(source)


def test_values_are_told_apart() -> None:
    words = "1e-5 1_000 -3 2.5 true false null no yes on .inf .nan 0x10 1_0e3 0..3 +1".split()
    expected = [1e-5, 1000, -3, 2.5, True, False, None, "no", "yes", "on", ".inf", ".nan", "0x10", "1_0e3", "0..3", 1]
    for source in (mot(f"model {{ x = [{', '.join(words)}] }}"), yaml(f"x: [{', '.join(words)}]")):
        assert plain(read(source)) == {"x": expected}
    assert plain(read(yaml("a:\nb: ~\nc: 'true'\n1: \"3\""))) == {"a": None, "b": None, "c": "true", "1": "3"}


def test_a_list_of_modalities_becomes_a_statement() -> None:
    tree = read(yaml("model: a\nmodalities: [text, image]\nuntie: attention"))
    assert write(tree, "mot") == "model a {\n  modality text, image\n  untie attention\n}\n"


def test_long_blocks_take_a_line_a_statement() -> None:
    body = ", ".join(f"key_{index} = {index}" for index in range(12))
    text = format_source(mot(f"model a {{ ffn {{ {body} }} }}"))
    assert text.startswith("model a {\n  ffn {\n    key_0 = 0\n    key_1 = 1\n")
    tree = read(mot(text))
    assert write(tree, "yaml").startswith("model: a\nffn:\n  key_0: 0\n")


@pytest.mark.parametrize(
    "source, code, place, words",
    [
        (SourceFile("spec.txt", "model: a"), "MOT001", "", "unknown suffix `.txt`"),
        (SourceFile("spec", "model: a"), "MOT001", "", "no suffix"),
        (mot("model a { x = \0 }"), "MOT003", "1:15", "U+0000"),
        (mot("# nothing\n"), "MOT004", "", "holds no spec"),
        (yaml("---\n"), "MOT004", "", "holds no spec"),
        (mot("model a {\n  width 256\n}"), "MOT006", "2:9", "unexpected `256`: expected `=` or `{`"),
        (mot("model a {\n  width =\n}"), "MOT006", "2:10", "unexpected end of the line"),
        (mot("model a {\n  width = 3"), "MOT006", "2:12", "ends too early"),
        (mot('model a {\n  x = "abc\n}'), "MOT006", "2:7", "not closed on its line"),
        (mot("model a {\n  x = (3)\n}"), "MOT006", "2:7", "unexpected `(`"),
        (mot('model a { x = "\\q" }'), "MOT006", "1:15", "unknown escape"),
        (mot("model a { x = " + "9" * 5000 + " }"), "MOT006", "1:15", "too large"),
        (yaml("x: 1e999"), "MOT006", "1:4", "too large"),
        (yaml("a: b\n\tc: d"), "MOT006", "2:1", ""),
        (yaml("a: [b"), "MOT006", "1:", ""),
        (yaml("- a"), "MOT006", "1:1", "a mapping"),
        (yaml("[a]: b"), "MOT006", "1:1", "a key is a word"),
        (yaml("a: !!int 3"), "MOT008", "1:4", "tags are refused"),
        (yaml("a: &x 3"), "MOT008", "1:4", "anchors"),
        (yaml("a: *.norm"), "MOT008", "1:4", "anchors"),
        (yaml("a: b\n---\nc: d"), "MOT009", "2:1", "second document"),
        (mot("model a " + "{ x " * 50000), "MOT010", "1:", "nested"),
        (yaml("a: " + "[" * 50000), "MOT010", "1:", "nested"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_it_is(source: SourceFile, code: str, place: str, words: str) -> None:
    diagnostic = refused(source)[0]
    assert diagnostic.code == code
    assert words in diagnostic.message
    assert diagnostic.help or code == "MOT006"
    assert (str(diagnostic.span) if diagnostic.span else "").startswith(f"{source.name}:{place}" if place else "")


def test_every_duplicate_is_told_with_both_places() -> None:
    text = "model a {\n width = 1\n width = 2\n modality t, t\n ffn { x = 1, x = 2 }\n untie a\n}"
    diagnostics = refused(mot(text))
    assert [(d.code, str(d.span), str(d.related[0][1])) for d in diagnostics] == [
        ("MOT007", "spec.mot:3:2", "spec.mot:2:2"),
        ("MOT007", "spec.mot:4:14", "spec.mot:4:11"),
        ("MOT007", "spec.mot:5:15", "spec.mot:5:8"),
    ]
    diagnostics = refused(yaml("a: 1\nb: {c: 1, c: 2}\na: 2\n"))
    assert [str(diagnostic.span) for diagnostic in diagnostics] == ["spec.yaml:2:11", "spec.yaml:3:1"]
    with pytest.raises(SpecError):
        format_source(mot(text))


def test_files_that_are_no_spec(tmp_path: Path) -> None:
    contents = {"MOT003": (b"a\0b", b"\xff\xfea"), "MOT004": (b"", b" \n"), "MOT005": (b"#" * (LARGEST + 1),)}
    cases = [("MOT002", tmp_path / "absent.mot"), ("MOT002", tmp_path), ("MOT002", Path("a\0b"))]
    for code, datas in contents.items():
        for index, data in enumerate(datas):
            path = tmp_path / f"{code}_{index}.mot"
            path.write_bytes(data)
            cases.append((code, path))
    for code, path in cases:
        with pytest.raises(SpecError) as caught:
            read_file(path)
        assert [(d.code, bool(d.help)) for d in caught.value.diagnostics] == [(code, True)]


def test_a_byte_order_mark_and_other_line_ends_are_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffmodel: ä\r\nwidth: 3\r".encode())
    assert read_file(path).text == "model: ä\nwidth: 3\n"


def test_a_long_spec_is_read_in_linear_time() -> None:
    def work(lines: int) -> int:
        body = "".join(f"  untie ffn as {{a}} {{b, c}} in layer {index}\n" for index in range(lines))
        tree = read(mot(f"model a {{\n{body}}}\n"))
        assert len(plain(tree)["untie"]) == lines
        assert read(yaml(write(tree, "yaml"))) == tree
        return lines

    work(10)
    assert calls(lambda: work(400)) < 4.1 * calls(lambda: work(100))


def test_a_parser_is_imported_only_for_its_syntax() -> None:
    program = (
        "import sys; from motc.source import SourceFile; from motc.syntax import read\n"
        "read(SourceFile('a.{0}', {1!r})); sys.exit('{2}' in sys.modules)"
    )
    for arguments in (("mot", "model a {}", "yaml"), ("yaml", "model: a", "lark")):
        assert subprocess.run([sys.executable, "-c", program.format(*arguments)], check=False).returncode == 0


PIECES = st.sampled_from(
    [
        *"model extends modality tower untie as in layers layer a text 3 0..3 1e-5 true".split(),
        *'"s" " { } [ ] = , ; : - # & * ! | > ? % \' ~ ---'.split(),
        *("\n", "\t", "  ", " ", "\\", "é", "\r", " # c\n", "\n# d\n", "\n\n"),
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=40).map(" ".join), st.lists(PIECES).map("".join))


@pytest.mark.parametrize("suffix", ["mot", "yaml"])
@settings(max_examples=300, deadline=None)
@given(text=TEXTS, wrapped=st.booleans())
@example(text="x = 1\x1c", wrapped=True)
@example(text="\ud800", wrapped=False)
def test_any_text_is_a_tree_or_a_spec_error(suffix: str, text: str, wrapped: bool) -> None:
    if wrapped:
        text = f"model a {{\n{text}\n}}" if suffix == "mot" else f"model: a\n{text}"
    source = SourceFile(f"a.{suffix}", text)
    try:
        tree = read(source)
    except SpecError:
        return
    once = SourceFile(source.name, format_source(source))
    assert read(once) == tree
    assert format_source(once) == once.text


ENDS = ["\n", " # c\n", "\n# c\n", "\n\n"]
GAPS = st.sampled_from(["", " ", "\n    ", " # c\n    ", "\n    # c\n    ", "\n\n    # c\n\n    "])


@st.composite
def commented(draw: st.DrawFn, syntax: str, depth: int = 3) -> str:
    """A value with comments and line ends wherever they may stand in it."""
    kind = draw(st.integers(0, 2 if depth else 0))
    if kind == 0:
        return draw(st.sampled_from(["a", '"q # r"', "3", "0..3", "1e-5"]))
    inner = [draw(commented(syntax, depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    gaps = [draw(GAPS) for _ in range(2 * len(inner) + 1)]
    if kind == 1 and syntax == "mot":  # a comma follows its item on the line
        return f"[{','.join(gap + item for gap, item in zip(gaps, inner, strict=False))}{gaps[-1]}]"
    if kind == 1:
        items = [f"{gaps[2 * index]}{item}{gaps[2 * index + 1]}" for index, item in enumerate(inner)]
        return f"[{','.join(items)}{gaps[-1]}]"
    colon = ": " if syntax == "yaml" else " = "
    items = [f"k{index}{colon}{gaps[2 * index]}{item}{gaps[2 * index + 1]}" for index, item in enumerate(inner)]
    if syntax == "mot":  # a value follows its key on the line
        items = [f"{gaps[2 * index]}k{index} = {item}{gaps[2 * index + 1]}" for index, item in enumerate(inner)]
    return f"{{{gaps[-1]}{', '.join(items)}{draw(GAPS)}}}"


STATEMENTS = {
    "mot": ["modality a", "modality b { k = 1 }", "tower t = a { k = 2 }", "untie ffn as {a} {b}", "untie *.norm"],
    "yaml": ["modalities: {a: {}, b: {k: 1}}", "towers:\n  t:\n    modalities: [a]", 'untie: [ffn, "*.norm"]'],
}


@st.composite
def commented_specs(draw: st.DrawFn, syntax: str) -> SourceFile:
    """Values and statements, and comments wherever they may stand."""
    colon = ": " if syntax == "yaml" else " = "
    values = draw(st.lists(commented(syntax), min_size=1, max_size=3))
    lines = [f"m{index}{colon}{value}" for index, value in enumerate(values)]
    unique = None if syntax == "mot" else str
    statements = draw(st.lists(st.sampled_from(STATEMENTS[syntax]), max_size=3, unique_by=unique))
    if syntax == "mot":  # modalities and towers may be said once each
        statements = [
            each for index, each in enumerate(statements) if "untie" in each or each not in statements[:index]
        ]
    lines = draw(st.permutations([*lines, *statements]))
    text = "".join(f"{line}{draw(st.sampled_from(ENDS))}" for line in lines)
    return SourceFile(f"a.{syntax}", text if syntax == "yaml" else f"model a {{\n{text}}}\n")


@pytest.mark.parametrize("syntax", ["mot", "yaml"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_formatting_twice_changes_nothing_more_wherever_comments_stand(syntax: str, data: st.DataObject) -> None:
    source = data.draw(commented_specs(syntax))
    once = SourceFile(source.name, format_source(source))
    assert format_source(once) == once.text
    assert read(once) == read(source)
    assert once.text.count("# c") == source.text.count("# c")


CONVERTED_MOT = """\
# a spec
model tiny {  # its name
  width = 256

  layers = 4
  # one tower
  tower gen = vae, "a # b" {  # kept
    width = 512
  }
  # every layer
  untie ffn in layers 0..3
  untie attention  # all of it
}
# foot
"""


def test_comments_go_along_into_the_other_syntax() -> None:
    assert convert(yaml(YAML), "mot") == CONVERTED_MOT
    there = convert(mot(MOT), "yaml")
    assert [line for line in there.splitlines() if "#" in line] == [
        "# a spec",
        "width: 256  # the width",
        "# how deep",
        "  kind: swiglu  # gated",
        "# last",
        "# inner",
        "  - {groups: [ffn], layers: 3}  # tail",
        "# the end of the body",
        "# foot",
    ]
    gathered = "model a {\n  modality b  # 1\n  # 2\n  width = 3\n  modality c  # 3\n  # 4\n  tower d = b  # 5\n}\n"
    assert convert(mot(gathered), "yaml") == (
        "model: a\nmodalities:\n  b: {}  # 1\n  c: {}  # 3\n# 2\nwidth: 3\n# 4\ntowers: {d: {modalities: [b]}}  # 5\n"
    )


@pytest.mark.parametrize("syntax, to", [("mot", "yaml"), ("yaml", "mot"), ("mot", "mot"), ("yaml", "yaml")])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_comment_is_lost_in_the_other_syntax(syntax: str, to: Syntax, data: st.DataObject) -> None:
    source = data.draw(commented_specs(syntax))
    there = SourceFile(f"a.{to}", convert(source, to))
    assert format_source(there) == there.text
    assert same(plain(read(there))) == same(plain(read(source)))
    assert there.text.count("# c") == source.text.count("# c")


def test_comments_in_braces_stay_where_they_are_or_leave_at_once() -> None:
    assert format_source(yaml("ffn: {kind: # c\n  swiglu}\n")) == "ffn: {kind: swiglu}  # c\n"
    assert (
        format_source(yaml("ffn: {kind: swiglu, bias: # c\n  true}\n")) == "ffn:\n  kind: swiglu\n  bias: true  # c\n"
    )
    assert format_source(yaml("ffn: {kind: swiglu\n  # c\n  }\n")) == "ffn: {kind: swiglu}\n# c\n"


SPAN = Span(yaml(""), 0, 0)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from("causal 0..3 true no 1e-5 *.norm untie".split()),
)  # fmt: skip
KEYS = st.one_of(st.sampled_from("model modalities towers untie groups as layers extends in ffn".split()), st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4))  # fmt: skip


def node(value: Any) -> Node:
    match value:
        case dict():
            entries = tuple(Entry(key=key, key_span=SPAN, value=node(item)) for key, item in value.items())
            return Mapping(entries=entries, span=SPAN)
        case list():
            return Sequence(items=tuple(node(item) for item in value), span=SPAN)
        case _:
            return Scalar(value=value, span=SPAN)


VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)


def same(value: Any) -> Any:
    """Shorthands that the schema takes alike, written out."""
    value = dict(value)
    listed = value.get("modalities")
    if isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed):
        value["modalities"] = {name: {} for name in listed}
    if "untie" in value:
        items = value["untie"] if isinstance(value["untie"], list) else [value["untie"]]
        value["untie"] = [{"groups": [item]} if isinstance(item, str) else item for item in items]
    return value


@pytest.mark.parametrize("syntax", ["mot", "yaml"])
@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(KEYS, VALUES, max_size=4))
def test_what_is_written_is_read_back(syntax: Syntax, value: dict[str, Any]) -> None:
    listed = value.get("modalities")
    if isinstance(listed, list) and len({repr(name) for name in listed}) < len(listed):
        return
    text = write(node(value), syntax)  # type: ignore[arg-type]
    if not value and syntax == "yaml":
        assert text == "{}\n"
    assert same(plain(read(SourceFile(f"a.{syntax}", text)))) == same(value)
