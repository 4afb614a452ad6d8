"""Build emoji.safetensors: captioned 32x32 emoji as 64 image tokens each, from Debian's Noto Color Emoji font.

Run once by whoever changes the data (README.md lists what it needs); training reads only the file it writes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import emoji
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features
from safetensors.numpy import save_file

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_PACKAGE = "fonts-noto-color-emoji"
FONT_SIZE = 109  # the one size the font has bitmaps for
GLYPH_BOX = (0, 0, 136, 128)
IMAGE_SIZE = 32
PATCH = 4
CODES = 512
SEED = 0

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


def package_version(package: str) -> str:
    """The version of an installed Debian package."""
    query = ["dpkg-query", "--show", "--showformat=${Version}", package]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout


def list_emoji(font: ImageFont.FreeTypeFont) -> list[tuple[str, str]]:
    """(characters, caption) of every emoji that the font draws as exactly one glyph, sorted by caption."""
    wanted = {emoji.STATUS["fully_qualified"], emoji.STATUS["component"]}
    captioned: list[tuple[str, str]] = []
    for characters, entry in emoji.EMOJI_DATA.items():
        # A missing glyph has an empty box; a sequence without its ligature is drawn as several glyphs side by side.
        if entry["status"] in wanted and tuple(map(int, font.getbbox(characters))) == GLYPH_BOX:
            captioned.append((entry["en"].strip(":").replace("_", " ").lower(), characters))
    return [(characters, caption) for caption, characters in sorted(captioned)]


def render(font: ImageFont.FreeTypeFont, characters: str) -> Bytes:
    """The emoji on white, [32, 32, 3]."""
    _, _, width, height = GLYPH_BOX
    canvas = Image.new("RGB", (width, width), "white")
    origin = (0, (width - height) // 2)
    ImageDraw.Draw(canvas).text(origin, characters, font=font, embedded_color=True)
    return np.asarray(canvas.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS), dtype=np.uint8)


def cut_patches(images: Bytes) -> Bytes:
    """[N, 32, 32, 3] to [N, 64, 4, 4, 3], patches in raster order."""
    side = IMAGE_SIZE // PATCH
    grid = images.reshape(-1, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(grid.reshape(-1, side * side, PATCH, PATCH, 3))


def nearest(points: Floats, centres: Floats) -> Integers:
    """Index of the nearest centre for each point."""
    half_norms = (centres**2).sum(axis=1) / 2
    chunks = np.array_split(points, max(1, len(points) // 8192))
    return np.concatenate([np.argmin(half_norms - chunk @ centres.T, axis=1) for chunk in chunks])


def k_means(points: Floats, weights: Floats, centre_count: int, steps: int = 60) -> Floats:
    """Weighted k-means from a fixed seed; a centre that loses all its points moves to a random one."""
    generator = np.random.default_rng(SEED)
    centres = points[generator.choice(len(points), centre_count, replace=False)]
    for _ in range(steps):
        assignment = nearest(points, centres)
        totals = np.bincount(assignment, weights=weights, minlength=centre_count)
        sums = np.stack(
            [np.bincount(assignment, weights=weights * column, minlength=centre_count) for column in points.T], axis=1
        )
        updated = sums / np.maximum(totals, 1)[:, None]
        empty = totals == 0
        updated[empty] = points[generator.choice(len(points), int(empty.sum()), replace=False)]
        centres = updated.astype(np.float32)
    return centres


def build(output: Path) -> None:
    """Render, quantise and write the data set; prints its size and the quantisation error."""
    if not features.check("raqm"):
        raise SystemExit("Pillow finds no raqm, which lays out flags and joined sequences: install libfribidi0")
    font = ImageFont.truetype(str(FONT), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    listed = list_emoji(font)
    patches = cut_patches(np.stack([render(font, characters) for characters, _ in listed]))
    flat = patches.reshape(-1, PATCH * PATCH * 3)

    unique, counts = np.unique(flat, axis=0, return_counts=True)
    centres = k_means(unique.astype(np.float32), counts.astype(np.float32), CODES)
    codebook = np.clip(np.rint(centres), 0, 255).astype(np.uint8)
    codebook = codebook[np.argsort(codebook.astype(np.int64).sum(axis=1), kind="stable")]  # from dark to light
    codes = nearest(flat.astype(np.float32), codebook.astype(np.float32))

    captions = [caption.encode() for _, caption in listed]
    tensors: dict[str, NDArray[Any]] = {
        "codes": codes.reshape(len(listed), -1).astype(np.int16),
        "codebook": codebook.reshape(CODES, PATCH, PATCH, 3),
        "caption_bytes": np.frombuffer(b"".join(captions), dtype=np.uint8),
        "caption_ends": np.cumsum([len(caption) for caption in captions]).astype(np.int32),
    }
    sources = {
        "font": f"Noto Color Emoji, Debian package {FONT_PACKAGE} {package_version(FONT_PACKAGE)}",
        "font_sha256": hashlib.sha256(FONT.read_bytes()).hexdigest(),
        "font_license": "SIL Open Font License 1.1",
        "emoji": version("emoji"),
        "pillow": version("pillow"),
        "numpy": version("numpy"),
        "seed": str(SEED),
    }
    # safetensors writes metadata keys in no fixed order: one key keeps the file the same, byte for byte.
    save_file(tensors, output, metadata={"sources": json.dumps(sources)})
    error = np.sqrt(np.mean((flat.astype(np.float32) - codebook[codes].astype(np.float32)) ** 2))
    print(f"{output}: {len(listed)} emoji, {output.stat().st_size} bytes, root mean square error {error:.1f} of 255")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("emoji.safetensors"))
    build(parser.parse_args().output)
