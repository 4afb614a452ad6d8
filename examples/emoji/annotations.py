"""What Unicode's CLDR calls emoji, and by which words it finds them, in many languages."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

ARCHIVES = ("cldr-annotations-full-48.2.0.tgz", "cldr-annotations-derived-full-48.2.0.tgz")  # single emoji, joined ones
VARIATION = "\ufe0f"  # which CLDR leaves out

# espeak-ng speaks them, CLDR names 3,940 emoji or more in them, and their letters are one or two bytes of UTF-8.
LANGUAGES = (
    *("en", "af", "az", "be", "bg", "bs", "ca", "cs", "cy", "de", "el", "es", "et", "eu", "fi", "fr", "ga", "hr", "hu"),
    *("hy", "id", "is", "it", "kk", "ky", "lt", "lv", "mk", "ms", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sq", "sr"),
    *("sv", "sw", "tk", "tr", "uk", "uz", "vi"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """An emoji's name in a language, and words that tell of it there, without the name; all in lower case."""

    name: str
    keywords: tuple[str, ...]


def read_annotations(folder: Path) -> dict[str, dict[str, Annotation]]:
    """By language, then by an emoji's characters without variation selectors. `folder` has both archives of npm."""
    annotations: dict[str, dict[str, Annotation]] = {language: {} for language in LANGUAGES}
    for name in ARCHIVES:
        path = folder / name
        if not path.is_file():
            package, _, version = name.removesuffix(".tgz").rpartition("-")
            raise SystemExit(f"there is no {path}: npm pack {package}@{version}")
        with tarfile.open(path) as files:
            for member in files:
                *_, language, file = f"/{member.name}".split("/")
                if file != "annotations.json" or language not in annotations:
                    continue
                content = files.extractfile(member)
                assert content is not None
                (top,) = json.load(content).values()
                for characters, told in top["annotations"].items():
                    if "tts" in told:
                        annotations[language][characters] = _annotation(told)
    return annotations


def _annotation(told: dict[str, list[str]]) -> Annotation:
    name = told["tts"][0].lower()
    keywords = dict.fromkeys(word.lower() for word in told.get("default", []))
    return Annotation(name=name, keywords=tuple(word for word in keywords if word != name))
