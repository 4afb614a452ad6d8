"""The site: it builds strictly, has a page and a drawing of every model of the gallery, and asks nothing of others."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytest.importorskip("material", reason="mkdocs-material is not installed")
pytestmark = pytest.mark.compiled
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_model_of_the_gallery_has_a_page_and_a_drawing(site: Path) -> None:
    index = (site / "gallery" / "index.html").read_text(encoding="utf-8")
    for spec in (ROOT / "specs" / "gallery").glob("*.mot"):
        page = (site / "gallery" / spec.stem / "index.html").read_text(encoding="utf-8")
        assert (site / "gallery" / f"{spec.stem}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert f'src="../{spec.stem}.svg"' in page and f'href="{spec.stem}/"' in index


def test_the_reference_has_all_keys_commands_and_functions(site: Path) -> None:
    def text(name: str) -> str:
        return (site / "reference" / name / "index.html").read_text(encoding="utf-8")

    for key in ("width", "attention.kv_heads", "modalities.NAME.latent.patch", "ffn.routing"):
        assert f"<code>{key}</code>" in text("keys")
    for command in ("new", "explain", "watch", "init"):
        assert f'id="motc-{command}"' in text("commands")
    for name in ("load", "save", "freeze", "diff"):
        assert re.search(rf'<h2 id="[\w.]+\.{name}"', text("python"))


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_pages_load_in_a_browser_of_any_width_without_asking_others(address: str) -> None:
    api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((found for name in names if (found := shutil.which(name))), "")
    if not chromium:
        pytest.skip("there is no chromium")
    wrong: list[str] = []
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width, theme in ((1280, "light"), (400, "dark")):
            page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
            page.on("request", lambda each: each.url.startswith((address, "data:")) or wrong.append(each.url))
            page.on("response", lambda each: each.status < 400 or wrong.append(each.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            for place in ("", "tutorial/", "gallery/", "gallery/bagel_7b_mot/", "language/", "reference/python/"):
                page.goto(address + place)
                wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wider <= 0, (place, width)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (theme == "light")
        browser.close()
    assert wrong == []
