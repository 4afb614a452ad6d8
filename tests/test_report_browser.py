"""A page in a browser: it loads without an error or a request, and does what it says. Skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motc.report.page import page, page_of_diff
from motc.report.subject import Subject
from tests.shipped import SHIPPED

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
pytestmark = [pytest.mark.compiled, pytest.mark.skipif(not CHROMIUM, reason="there is no chromium")]
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
).split()
SPECS = {path.stem: path for path in SHIPPED}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Opened:
    """A page that is open, and what went wrong in it or was asked for."""

    def __init__(self, browser: Any, path: Path, text: str, width: int = 1280, theme: str = "light") -> None:
        path.write_text(text, encoding="utf-8")
        self.page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        own = path.as_uri()
        self.page.on(
            "request", lambda request: request.url.startswith((own, "data:")) or self.wrong.append(request.url)
        )
        self.page.goto(own)

    def ground(self) -> str:
        colour: str = self.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour

    def told(self) -> str:
        shown: str = self.page.locator("#detail").inner_text() if self.page.locator("#detail").is_visible() else ""
        return shown


@pytest.fixture(scope="module")
def ernie() -> str:
    return page(Subject.read(SPECS["ernie_4_5_vl_28b_a3b"]))


def cell(opened: Opened, key: str) -> Any:
    return opened.page.locator(f'[data-key="{key}"]').first


def test_pointing_keeping_and_arrows(browser: Any, tmp_path: Path, ernie: str) -> None:
    opened = Opened(browser, tmp_path / "page.html", ernie)
    assert opened.told() == ""
    cell(opened, "B/ffn.gate/vision").hover()
    assert "{text} {image boundary}" in opened.told() and "2,264,924,160" in opened.told()
    opened.page.mouse.move(5, 5)
    assert opened.told() == ""
    cell(opened, "B/ffn.gate/vision").click()
    opened.page.mouse.move(5, 5)
    assert "image, boundary" in opened.told()
    cell(opened, "B/attention.q/all").hover()  # what is kept stays
    assert "ffn.gate" in opened.told() and "attention.q" not in opened.told()
    opened.page.keyboard.press("ArrowLeft")
    assert opened.told().startswith(("×\nffn.up", "ffn.up"))
    opened.page.keyboard.press("Escape")
    assert opened.told() == ""
    assert opened.page.locator('[data-key][tabindex="0"]').count() == 1
    assert opened.wrong == []


def test_links_lead_to_lines_and_open_what_they_are_in(browser: Any, tmp_path: Path, ernie: str) -> None:
    opened = Opened(browser, tmp_path / "page.html", ernie)
    cell(opened, "B/ffn.gate/vision").click()
    opened.page.locator("#detail a", has_text="model.py").click()
    assert "self.gate" in opened.page.locator(".line.at").inner_text()
    assert opened.page.locator(".line.at").is_visible()
    opened.page.locator("#detail a").first.click()
    assert "ffn {" in opened.page.locator(".line.at").inner_text()
    opened.page.locator("#copies a", has_text="ffn.router").first.click()
    assert "ffn.router" in opened.told()
    assert opened.wrong == []


def test_tables_sort(browser: Any, tmp_path: Path, ernie: str) -> None:
    opened = Opened(browser, tmp_path / "page.html", ernie)
    head = opened.page.locator("#copies th", has_text="parameters")

    def values() -> list[int]:
        return [int(each.replace(",", "")) for each in opened.page.locator("#copies td:nth-child(4)").all_inner_texts()]

    before = values()
    head.locator("button").click()
    assert values() == sorted(before, reverse=True) and head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert values() == sorted(before) and head.get_attribute("aria-sort") == "ascending"
    opened.page.locator("#copies th button").first.click()
    names = opened.page.locator("#copies td:nth-child(1)").all_inner_texts()
    assert names == sorted(names)
    assert opened.wrong == []


def test_light_and_dark(browser: Any, tmp_path: Path, ernie: str) -> None:
    light, dark = (Opened(browser, tmp_path / f"{theme}.html", ernie, theme=theme) for theme in ("light", "dark"))
    assert light.ground() != dark.ground()
    was = (light.ground(), dark.ground())
    for opened in (light, dark):
        opened.page.locator("#theme").click()
    assert (dark.ground(), light.ground()) == was
    assert light.wrong == dark.wrong == []


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(browser: Any, tmp_path: Path, ernie: str, width: int) -> None:
    opened = Opened(browser, tmp_path / "page.html", ernie, width=width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    cell(opened, "B/ffn.down/text").hover()
    box = opened.page.locator("#detail").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert opened.wrong == []


def test_texts_fit_in_their_boxes(browser: Any, tmp_path: Path, ernie: str) -> None:
    """How wide texts are is estimated where they are placed."""
    opened = Opened(browser, tmp_path / "page.html", ernie)
    sticking_out = opened.page.evaluate("""() => [...document.querySelectorAll('.cell')].flatMap(cell => {
        const boxes = [...cell.querySelectorAll('rect.box')].map(each => each.getBoundingClientRect())
        return [...cell.querySelectorAll('text')].filter(text => {
            const { left, right } = text.getBoundingClientRect()
            return !boxes.some(box => box.left <= left + 0.5 && right <= box.right + 0.5)
        }).map(text => text.textContent)
    })""")
    assert sticking_out == []


def test_it_prints_in_the_light_without_what_moves(browser: Any, tmp_path: Path) -> None:
    before, after = Subject.read(SPECS["pi0"], prefix="b"), Subject.read(SPECS["pi0_5"])
    opened = Opened(browser, tmp_path / "page.html", page_of_diff(before, after), theme="dark")
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("#theme").is_visible() and not opened.page.locator("#model").is_visible()
    assert opened.page.locator("#drawing svg").is_visible() and opened.page.locator("#edits").is_visible()
    printed = opened.page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    assert opened.wrong == []
