"""The page of a model, and of a diff: one file, complete, linked within itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import motc
from motc.cli import main
from motc.cost import cost
from motc.ir.names import parameter_shapes
from motc.report.build import scene
from motc.report.code import coloured
from motc.report.details import details
from motc.report.page import page, page_of_diff
from motc.report.palette import COLOURS, OWNERS
from motc.report.subject import Subject
from motc.source import SourceFile
from tests.shipped import SHIPPED

SPECS = {path.stem: path for path in SHIPPED}
VOID = {"meta", "link", "br", "input"}


class Page(HTMLParser):
    """What a page has: ids, links within it, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found and tag == "a" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.parametrize("name", ["emoji_mot", "ernie_4_5_vl_28b_a3b", "dit_xl_2"])
def test_a_page_is_whole_and_asks_for_nothing(name: str) -> None:
    text = page(Subject.read(SPECS[name]))
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"https?://|@import|url\(", text.replace("http://www.w3.org/2000/svg", ""))
    parsed = Page(text)
    assert parsed.open == ["html"] or parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    told = data_of(text)
    places = [place[0] for each in told.values() for place in (*each["spec"], *each["made"])]
    assert {link.removeprefix("#") for link in parsed.links} | set(places) <= {*parsed.ids, ""}
    assert set(re.findall(r'data-key="([^"]+)"', text)) == set(told)
    assert all(each["made"] for each in told.values())


@pytest.mark.parametrize("name", ["emoji_mot", "ernie_4_5_vl_28b_a3b", "smolvla"])
def test_copies_add_up_to_the_model(name: str) -> None:
    subject = Subject.read(SPECS[name])
    costs, every = cost(subject.model), tuple(details(scene(subject.model), subject))
    assert sum(each.parameters * each.cell.place.count for each in every) == costs.parameters
    for modality, flops in costs.flops_per_token.items():
        reading = any(body.readers for layer, _ in subject.model.kinds for body in layer.attentions)
        paid = sum(each.flops * each.cell.place.count for each in every if modality in each.cell.modalities)
        assert paid == flops or (reading and paid < flops)
    names = parameter_shapes(subject.model)
    for each in every:
        first = min(each.cell.place.layers, default=None)
        name = str(each.rows()["name"]).replace("*", str(first))
        shapes = {f"{name}.{part}": shape for part, shape in each.cell.block.operator.shapes().items()}
        assert shapes.items() <= names.items()


def test_a_copy_is_linked_to_the_lines_that_say_and_make_it() -> None:
    subject = Subject.read(SPECS["ernie_4_5_vl_28b_a3b"])
    every = {each.cell.key: each for each in details(scene(subject.model), subject)}
    experts = every["B/ffn.gate/vision"]
    assert [said.text for said in experts.said] == [
        "ffn {",
        "tower vision = image, boundary { ffn { hidden = 512 } }",
        "untie ffn",
    ]
    assert experts.made is not None
    assert subject.text.splitlines()[experts.made.line - 1].strip().startswith("self.gate = ")
    assert [said.text for said in every["A/ffn.gate/all"].said][-1] == "untie ffn as {text, image, boundary} in layer 0"
    for each in every.values():
        assert each.made is not None
        assert f"self.{each.made.attribute}" in subject.text.splitlines()[each.made.line - 1]


def test_what_is_set_on_the_command_line_has_no_line() -> None:
    subject = Subject.read(SPECS["emoji_mot"], {"ffn.hidden": 64, "layers": 2})
    every = {each.cell.key: each for each in details(scene(subject.model), subject)}
    said = [said.text for said in every["A/ffn.up/text"].said]
    assert said == ["ffn { kind = swiglu, hidden = 384 }", "untie attention, ffn, norm"]
    assert "--set" in page(subject)


def test_a_twin_is_not_said_to_be_untied() -> None:
    subject = Subject.read(SPECS["emoji_mot"], dense=True)
    every = {each.cell.key: each for each in details(scene(subject.model), subject)}
    assert not any("untie" in said.text for said in every["A/ffn.up/all"].said)


def test_a_page_of_a_diff_has_before_and_after() -> None:
    before, after = Subject.read(SPECS["pi0"], prefix="b"), Subject.read(SPECS["pi0_5"])
    text = page_of_diff(before, after)
    parsed = Page(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    told = data_of(text)
    assert {each["status"] for each in told.values()} == {"same", "added", "removed", "changed"}
    assert all(not each["made"] for each in told.values() if each["status"] == "removed")
    places = [place[0] for each in told.values() for place in (*each["spec"], *each["made"])]
    assert set(places) <= {*parsed.ids, ""}
    assert "state before" in text and "action after" in text


def test_the_same_model_is_said_to_be_the_same() -> None:
    subject = Subject.read(SPECS["emoji_mot"])
    text = page_of_diff(Subject.read(SPECS["emoji_mot"], prefix="b"), subject)
    assert "they are the same model" in text


@pytest.mark.parametrize("strategy", ["reference", "grouped", "blend"])
def test_a_page_is_of_any_strategy(strategy: Any) -> None:
    assert page(Subject.read(SPECS["emoji_mot"], strategy=strategy))


def test_what_a_spec_says_is_no_markup() -> None:
    comment = '# </script><b onload="x">&amp;'
    text = f"model a {{ width = 8, layers = 1, vocab = 9\n modality text\n attention {{ heads = 1 }} {comment}\n}}"
    shown = page(Subject.read(SourceFile("<b>.mot", text)))
    assert "<b " not in shown and "</script><b" not in shown
    Page(shown)


def test_lines_of_code_are_numbered_and_kept() -> None:
    text = 'model a {  # "x" <y>\n\n  untie ffn as {text}\n}\n'
    shown = coloured(text, "s0-", "mot")
    lines = re.findall(r'<span class="line" id="s0-(\d)">(.*?)\n</span>', shown, re.S)
    assert [number for number, _ in lines] == ["1", "2", "3", "4"]
    plain = [re.sub(r"<[^>]+>", "", line).replace("&lt;", "<").replace("&gt;", ">") for _, line in lines]
    assert plain == text.splitlines()


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_what_they_stand_on(theme: int) -> None:
    def of(name: str) -> str:
        return COLOURS[name][theme]

    grounds = ["paper", "page", "panel", "frame", *OWNERS, "added-tint", "removed-tint", "changed-tint"]
    for ground in grounds:
        assert contrast(of("ink"), of(ground)) >= 7, ground
        assert contrast(of("muted"), of(ground)) >= 4.5, ground
    assert contrast(of("on-meeting"), of("meeting")) >= 7
    for name in ("link", "code-keyword", "code-string", "code-number", "code-name"):
        assert contrast(of(name), of("page")) >= 4.5, name
    for owner in OWNERS:
        assert contrast(of(f"{owner}-line"), of("paper")) >= 3, owner


def test_a_page_beside_json_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "show",
        str(SPECS["emoji_mot"]),
        "--dense",
        "--html",
        str(tmp_path / "a.html"),
        "--svg",
        str(tmp_path / "a.svg"),
    ]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "emoji_mot"
    assert "<h1>emoji_mot (dense twin)</h1>" in (tmp_path / "a.html").read_text()


def test_weights_have_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "a.safetensors"
    motc.save(motc.load(SPECS["emoji_mot"], set={"width": 16, "layers": 1}), weights)
    assert main(["show", str(weights), "--html", str(tmp_path / "a.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.html'}\n"
    assert "<h1>emoji_mot</h1>" in (tmp_path / "a.html").read_text()


def test_show_and_diff_write_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, spec = tmp_path / "new" / "emoji.html", str(SPECS["emoji_mot"])
    assert main(["show", spec, "--html", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    first = out.read_text()
    assert main(["show", spec, "--html", str(out), "--svg", str(tmp_path / "a.svg")]) == 0
    assert out.read_text() == first and (tmp_path / "a.svg").exists()
    capsys.readouterr()
    assert main(["diff", spec, "--dense", "--html", str(out)]) == 2
    assert "~ ffn: {text image}" in capsys.readouterr().out
    assert "emoji_mot (dense twin) → emoji_mot" in out.read_text()
    assert main(["show", spec, "--html", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["show", spec, "--html", "/dev/stdout"]) == 0
    assert capsys.readouterr().out == ""
