"""Build a data folder for `motc match` in the Transfusion setting: captions as bytes, pictures as 32x32 pixels.

Captions, pictures and their order are those of build_match_data.py with the same seed; nothing is spoken. README.md
lists what this needs, docs/match.md describes the folder.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from draws import (
    BEGIN,
    END,
    HELD_OUT,
    IMAGE,
    TEXT,
    TRAINING,
    Drawn,
    Source,
    Tensors,
    draw,
    find_source,
    read_arguments,
    write_shards,
    write_whole,
)
from pictures import IMAGE_SIDE, PATCH

END_OF_IMAGE = 258
PATCHES = (IMAGE_SIDE // PATCH) ** 2


def sample(drawn: Drawn) -> Tensors:
    """Begin, then caption and image in the sample's order, a token of text behind each."""
    parts = {TEXT: [*drawn.caption.encode(), END], IMAGE: [0] * PATCHES + [END_OF_IMAGE]}
    kinds = {TEXT: [TEXT] * len(parts[TEXT]), IMAGE: [IMAGE] * PATCHES + [TEXT]}
    order = [modality for modality in drawn.order if modality in parts]
    return {
        "input_ids": np.array([BEGIN, *(token for modality in order for token in parts[modality])], dtype=np.int16),
        "modality_ids": np.array([TEXT, *(kind for modality in order for kind in kinds[modality])], dtype=np.uint8),
        "latents.image": drawn.picture.transpose(2, 0, 1)[None],
    }


_source: Source  # which a worker process has from its parent, by fork


def _make(kind: int, number: int) -> Tensors:
    return sample(draw(_source, kind, number))


def build(output: Path, archive: Path, annotations: Path | None, *, samples: int, held_out: int, seed: int) -> None:
    """Write the folder; it appears whole or not at all."""
    global _source
    _source = find_source(archive, annotations, seed)

    def fill(folder: Path) -> dict[str, Any]:
        total = write_shards(folder, "training", partial(_make, TRAINING), samples)
        write_shards(folder, "held_out", partial(_make, HELD_OUT), held_out)
        print(f"{output}: {samples} + {held_out} samples, {total / samples:.1f} tokens each")
        return {
            "modalities": ["text", "image"],
            "vocab": {"text": END_OF_IMAGE + 1},
            "latents": {"image": {"channels": 3, "height": IMAGE_SIDE, "width": IMAGE_SIDE, "tokens": PATCHES}},
            "sources": _source.described(),
        }

    write_whole(output, fill)


if __name__ == "__main__":
    arguments = read_arguments(__doc__)
    build(
        arguments.output,
        arguments.twemoji,
        arguments.annotations,
        samples=arguments.samples,
        held_out=arguments.held_out,
        seed=arguments.seed,
    )
