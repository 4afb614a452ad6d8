"""Captions as words, in examples/emoji: as many ids as the spec has, and no word without tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from motc.driver import compile_ir
from motc.validate.batches import vocabulary

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "emoji"


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of the folder's data; other examples may have modules of these names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("data", "words"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield import_module("words").known_words(import_module("data").load_emoji())
    for name in ("data", "words"):
        sys.modules.pop(name, None)


def test_the_spec_has_an_id_for_each_word_of_the_training_captions(words: Any) -> None:
    assert vocabulary(compile_ir(FOLDER / "diffusion.mot"), "text") == words.vocab == 259 + len(words.ids)


def test_known_words_have_an_id_and_others_are_spelled(words: Any) -> None:
    begin, end = 256, 257
    assert words.encode(b"woman running") == [begin, words.ids["woman"], words.ids["running"], end]
    assert words.encode(b"woman xyzzy") == [begin, words.ids["woman"], *b" xyzzy", end]


def test_some_known_words_are_spelled_in_training(words: Any) -> None:
    caption, spelling = b"woman " * 400, torch.Generator().manual_seed(0)
    tokens = words.encode(caption, spelling)
    known = tokens.count(words.ids["woman"])
    assert 340 < known < 380
    assert len(tokens) == 2 + known + (400 - known) * len(b" woman")
