"""Captions as words: each word of the training captions has an id, and any other word is spelled in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from data import BEGIN, END, EmojiData
from torch import Generator, rand

END_OF_IMAGE = 258
FIRST_WORD = 259  # after the bytes, BEGIN, END and END_OF_IMAGE
SPELLED = 0.1  # of the words in training, so that the bytes are learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The ids of known words, from FIRST_WORD on."""

    ids: dict[str, int]

    @property
    def vocab(self) -> int:
        """How many ids there are, the bytes and marks included."""
        return FIRST_WORD + len(self.ids)

    def encode(self, caption: bytes, spelling: Generator | None = None) -> list[int]:
        """The text tokens of a sample: begin, words, end of caption. With a generator some known words are spelled."""
        words = caption.decode().split()
        spelled = (
            [False] * len(words) if spelling is None else (rand(len(words), generator=spelling) < SPELLED).tolist()
        )
        tokens = [BEGIN]
        for word, by_bytes in zip(words, spelled, strict=True):
            tokens += b" " + word.encode() if by_bytes or word not in self.ids else [self.ids[word]]
        return [*tokens, END]


def known_words(data: EmojiData) -> Words:
    """The words of the training captions, in the order in which they first stand there."""
    words = dict.fromkeys(word for index in data.training for word in data.captions[index].decode().split())
    return Words(ids={word: FIRST_WORD + number for number, word in enumerate(words)})
