"""The files of a tokenizer, carried along as they are, and the ids of its special tokens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from motc.weights.header import read_json_file

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "spiece.model",
)
"""What tokenizers of transformers are saved as."""

GENERATION = "generation_config.json"

MOST = 256_000_000
"""How many bytes a file of a tokenizer has at most."""

BESIDE = ("max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")

SPECIAL = ("bos_token", "eos_token", "pad_token")


def carry_along(folder: Path, out: Path) -> list[str]:
    """Copy a tokenizer's files; their names. Raises OSError, FileNotFoundError where the folder has none."""
    names = [name for name in FILES if (folder / name).is_file()]
    if not names:
        raise FileNotFoundError(2, "no file of a tokenizer is there, such as tokenizer.json", str(folder))
    for name in names:
        shutil.copyfile(folder / name, out / name)
    return names


def special_ids(folder: Path) -> dict[str, int]:
    """Ids of the special tokens that configurations have, as far as the tokenizer's files say them.

    Raises SpecError for a file that is no JSON.
    """
    told = {**_read(folder / "special_tokens_map.json"), **_read(folder / "tokenizer_config.json")}
    known: dict[str, Any] = {}
    tokenizer = _read(folder / "tokenizer.json")
    added, of = tokenizer.get("added_tokens"), tokenizer.get("model")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict):
            known[str(token.get("content"))] = token.get("id")
    vocabulary = of.get("vocab") if isinstance(of, dict) else None
    ids: dict[str, int] = {}
    for name in SPECIAL:
        content = told.get(name)
        content = content.get("content") if isinstance(content, dict) else content
        if isinstance(content, str):
            number = known.get(content, vocabulary.get(content) if isinstance(vocabulary, dict) else None)
            ids |= {f"{name}_id": number} if isinstance(number, int) else {}
    return ids


def kept_beside(folder: Path) -> dict[str, Any]:
    """What a configuration beside a tokenizer says that changes nothing of the model: lengths, and special tokens.

    Raises SpecError for a file that is no JSON.
    """
    return {key: value for key, value in _read(folder / "config.json").items() if key in BESIDE}


def generation(folder: Path) -> dict[str, Any]:
    """How the model beside a tokenizer generates, such as where it ends and how tokens are drawn; kinds of caches are
    a matter of the class's own code.

    Raises SpecError for a file that is no JSON.
    """
    return {key: value for key, value in _read(folder / GENERATION).items() if not key.startswith("cache_")}


def _read(path: Path) -> dict[str, Any]:
    return read_json_file(path, MOST, "a file of a tokenizer") if path.is_file() else {}
