"""Emoji pictures from two sets, turned, scaled and moved over a background."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SIZE = 109  # the one size the font has bitmaps for
GLYPH_BOX = (0, 0, 136, 128)
SIDE = 64  # of the pictures that are turned and scaled
IMAGE_SIDE = 32
PATCH = 4

Bytes = NDArray[np.uint8]


def noto(wanted: list[str]) -> dict[str, Bytes]:
    """The emoji that Noto Color Emoji draws as one glyph, uint8 RGBA [64, 64, 4] each."""
    if not features.check("raqm"):
        raise SystemExit("Pillow finds no raqm, which lays out flags and joined sequences: apt install libfribidi0")
    if not FONT.is_file():
        raise SystemExit(f"there is no {FONT}: apt install fonts-noto-color-emoji")
    font = ImageFont.truetype(str(FONT), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    pictures = {}
    for characters in wanted:
        if tuple(map(int, font.getbbox(characters))) == GLYPH_BOX:
            canvas = Image.new("RGBA", (136, 136), (255, 255, 255, 0))
            ImageDraw.Draw(canvas).text((0, 4), characters, font=font, embedded_color=True)
            pictures[characters] = np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return pictures


def twemoji(archive: Path, wanted: list[str]) -> dict[str, Bytes]:
    """The emoji of the npm package emoji-datasource-twitter, uint8 RGBA [64, 64, 4] each."""
    if not archive.is_file():
        raise SystemExit(f"there is no {archive}: npm pack emoji-datasource-twitter@16.0.0")
    names = {"-".join(f"{ord(character):04x}" for character in characters): characters for characters in wanted}
    pictures = {}
    with tarfile.open(archive) as files:
        for member in files:
            folder, _, name = member.name.rpartition("/")
            characters = names.get(name.removesuffix(".png"))
            content = files.extractfile(member) if folder == "package/img/twitter/64" and characters else None
            if content is not None and characters is not None:
                picture = Image.open(io.BytesIO(content.read())).convert("RGBA")
                pictures[characters] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return pictures


def vary(picture: Bytes, generator: np.random.Generator) -> Bytes:
    """The picture turned by up to 20 degrees, at 0.7 to 1 of its size, on a background: uint8 RGB [32, 32, 3]."""
    turned = Image.fromarray(picture).rotate(generator.uniform(-20, 20), Image.Resampling.BICUBIC)
    side = int(generator.integers(45, SIDE + 1))
    small = turned.resize((side, side), Image.Resampling.BICUBIC)
    background = tuple(int(level) for level in generator.integers(128, 256, 3))
    canvas = Image.new("RGB", (SIDE, SIDE), background)
    left, top = (int(place) for place in generator.integers(0, SIDE - side + 1, 2))
    canvas.paste(small, (left, top), small)
    return np.asarray(canvas.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX))


def cut_patches(image: Bytes) -> NDArray[np.float32]:
    """[32, 32, 3] to float32 [64, 48], patches in raster order."""
    side = IMAGE_SIDE // PATCH
    grid = image.reshape(side, PATCH, side, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(side * side, -1).astype(np.float32)
