"""What MkDocs calls while it builds the site: pages from elsewhere in the repository, and links between all of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.pages import ELSEWHERE, ROOT, models, pages

LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\]|!\[[^\]]*\]\([^)]*\))*)\]\((?P<target>[^()\s]+)\)")
CODE = re.compile(r"(^```[\s\S]*?^```|(?<=\n\n)(?:    .*\n)+)", re.M)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Navigation lists decisions and models, which are as many as there are files."""
    for section in config.nav or []:
        for title, entries in section.items():
            if title == "Gallery":
                entries += [f"gallery/{name}.md" for name in models()]
            if title == "Project":
                numbers = sorted(Path(config.docs_dir, "adr").glob("*.md"))
                entries.append({"Decisions": [f"adr/{path.name}" for path in numbers]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages that are no file of docs/."""
    for place, content in pages():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their pages; what has no page is named only."""
    here = page.file.src_uri
    own = f"specs/{here}" if here.startswith("gallery/") else f"docs/{here}"
    source = next((path for path, place in ELSEWHERE.items() if place == here), own)
    places = {**ELSEWHERE, **{f"specs/gallery/{name}.mot": f"gallery/{name}.md" for name in models()}}

    def led(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        place = places.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(place) is None:
            if match["image"]:
                return match[0]  # one that was made beside the page
            if not (ROOT / path).exists():
                raise ValueError(f"{source} has a link to {match['target']}, which there is not")
            return match["text"]
        link = os.path.relpath(place, os.path.dirname(here) or ".")
        return f"{match['image']}[{match['text']}]({link}{'#' + anchor if anchor else ''})"

    parts = CODE.split(markdown)  # text and code in turns
    return "".join(part if place % 2 else LINK.sub(led, part) for place, part in enumerate(parts))
