"""An HTML file that asks for nothing: its head, its style and what every page can do."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from html import escape
from importlib.resources import files

from motc.report.palette import page_style

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""What a browser lets the page do: nothing but show itself."""


def document(title: str, told: str, sections: Iterable[str], foot: str, skip: str = "", script: str = "") -> str:
    """A page of sections, light or dark, with tables that sort; `skip` is what a link to #drawing is called."""
    held = "".join(sections)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(title)} · motc</title><link rel="icon" href="data:,">',
            f"<style>{page_style()}\n{asset('page.css')}</style></head><body>",
            *([f'<a class="skip" href="#drawing">{escape(skip)}</a>'] if skip else []),
            f"<header><div><h1>{escape(title)}</h1><p>{escape(told)}</p></div>",
            '<button type="button" id="theme" aria-label="Light or dark">◐</button></header>',
            f"<main>{held}</main>",
            f"<footer>{escape(foot)}</footer>",
            f"<script>{asset('document.js')}</script>{script}</body></html>\n",
        ]
    )


def section(name: str, title: str, body: str) -> str:
    """A part of a page."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>'


@lru_cache
def asset(name: str) -> str:
    """A file that stands beside this one."""
    return files("motc.report").joinpath(name).read_text(encoding="utf-8")
