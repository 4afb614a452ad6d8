"""Draw emoji from their captions: sample image tokens from a model, decode them, and lay them out for comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from data import END, IMAGE_TOKENS, PADDING, TEXT, EmojiData, encode_caption
from PIL import Image, ImageDraw
from torch import Tensor

SCALE = 4


def generate_images(model: Any, captions: Sequence[bytes], *, temperature: float = 0.8, seed: int = 0) -> Tensor:
    """Image tokens [B, 64] drawn for each caption."""
    texts = [encode_caption(caption) for caption in captions]
    longest = max(map(len, texts))
    generated = model.generate(
        torch.tensor([text + [0] * (longest - len(text)) for text in texts]),
        torch.tensor([[TEXT] * len(text) + [PADDING] * (longest - len(text)) for text in texts]),
        max_new_tokens=IMAGE_TOKENS,
        spans={"image": {"begin": END, "length": IMAGE_TOKENS}},
        temperature=temperature,
        seed=seed,
    )
    images: Tensor = generated.input_ids
    return images


def decode_image(codes: Tensor, codebook: Tensor) -> Image.Image:
    """Codes [64] to the 32x32 picture that their patches make, in raster order."""
    side = int(len(codes) ** 0.5)
    patches = codebook[codes.view(side, side)]  # [8, 8, 4, 4, 3]
    pixels = patches.transpose(1, 2).flatten(0, 1).flatten(1, 2)  # [32, 32, 3]
    height, width, _ = pixels.shape
    return Image.frombytes("RGB", (width, height), bytes(pixels.flatten().tolist()))


def draw_comparison(data: EmojiData, indices: Sequence[int], rows: dict[str, Tensor], path: Path) -> None:
    """Write a PNG: a column for each sample under its caption, the original first, then one row for each entry."""
    everything = {"original": data.codes[list(indices)], **rows}
    cell = 32 * SCALE + 16
    left, top = 72, 64
    sheet = Image.new("RGB", (left + cell * len(indices), top + cell * len(everything)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, index in enumerate(indices):
        caption = textwrap.fill(data.captions[index].decode(), 22)
        draw.multiline_text((left + column * cell, 4), caption, fill="black")
    for row, (name, tokens) in enumerate(everything.items()):
        draw.text((8, top + row * cell + cell // 2 - 12), name, fill="black")
        for column, codes in enumerate(tokens):
            picture = decode_image(codes, data.codebook)
            enlarged = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left + column * cell, top + row * cell))
    sheet.save(path)
