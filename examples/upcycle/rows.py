"""Emoji and their names as rows of a batch: a caption in SmolLM2's tokens, and behind it the picture."""

from __future__ import annotations

import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "emoji"))
from data import load_emoji

TEXT, IMAGE, PADDING = 0, 1, -1
FIRST, LAST, PICTURE = "<|im_start|>", "<|im_end|>", "<file_sep>"  # tokens that SmolLM2 has; the last begins a picture
SIDE, PATCHES = 32, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Emoji:
    """Names, and pictures [N, 3, 32, 32] in -1..1; which of them are trained on, and which are held out.

    Of those in `new`, nothing alike is trained on; of the others that are held out, another skin tone is.
    """

    names: tuple[str, ...]
    pictures: Tensor
    training: list[int]
    held_out: list[int]
    new: list[int]


def read_emoji() -> Emoji:
    """The emoji of examples/emoji, one in twenty of which is held out."""
    data = load_emoji()
    patches = data.codebook[data.codes.view(-1, 8, 8)].float() / 127.5 - 1  # [N, 8, 8, 4, 4, 3]
    names = tuple(caption.decode() for caption in data.captions)
    held_out = [place for place, name in enumerate(names) if zlib.crc32(name.encode()) % 20 == 0]
    training = sorted(set(range(len(names))) - set(held_out))
    known = {without_tone(names[place]) for place in training}
    return Emoji(
        names=names,
        pictures=patches.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, SIDE, SIDE),
        training=training,
        held_out=held_out,
        new=[place for place in held_out if without_tone(names[place]) not in known],
    )


def without_tone(name: str) -> str:
    """`man farmer dark skin tone` is a man farmer."""
    return re.sub(r" (medium-light|medium-dark|light|medium|dark) skin tone", "", name)


def rows(tokenizer: Tokenizer, names: list[str]) -> tuple[Tensor, Tensor]:
    """Ids and modalities int64 [B, S] of names, each with a picture behind it; an empty name is any picture."""
    first, begin = (tokenizer.token_to_id(each) for each in (FIRST, PICTURE))
    captions = [[first, *tokenizer.encode(name, add_special_tokens=False).ids, begin] for name in names]
    ids = torch.zeros(len(names), max(map(len, captions)) + PATCHES, dtype=torch.int64)
    modality_ids = torch.full_like(ids, PADDING)
    for row, caption in enumerate(captions):
        ids[row, : len(caption)] = torch.tensor(caption)
        modality_ids[row, : len(caption)] = TEXT
        modality_ids[row, len(caption) : len(caption) + PATCHES] = IMAGE
    return ids, modality_ids
