"""Build a data folder for `motc match`: emoji as text, image and speech tokens, in random modality orders.

Each sample is drawn anew: a group of emoji, one of it, a language, a voice, speed and pitch, one of two picture sets, a
turn, a size, a place and a background. README.md lists what this needs, docs/match.md describes the folder.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from draws import (
    BEGIN,
    CODES,
    END,
    HELD_OUT,
    IMAGE,
    SPEECH,
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
from numpy.typing import NDArray
from pictures import cut_patches
from rich.progress import track
from safetensors.numpy import save_file
from scipy.cluster.vq import kmeans2, vq
from speech import log_mel, speak

IMAGE_CODES, SPEECH_UNITS = 512, 256
SPEECH_END = SPEECH_UNITS
FITTING = 3000  # samples the codes are fitted to

Floats = NDArray[np.float32]


def features(drawn: Drawn) -> tuple[Floats, Floats]:
    """What is quantised: patches [64, 48] and frames [frames, 40]."""
    return cut_patches(drawn.picture), log_mel(speak(drawn.name, drawn.voice))


def tokens(drawn: Drawn, patch_codes: Floats, frame_codes: Floats) -> Tensors:
    """A sample: begin, then caption, image and speech in its order."""
    patches, frames = features(drawn)
    parts = {
        TEXT: np.array([*drawn.caption.encode(), END]),
        IMAGE: vq(patches, patch_codes)[0],
        SPEECH: np.append(vq(frames, frame_codes)[0], SPEECH_END),
    }
    ids = np.concatenate([[BEGIN], *(parts[modality] for modality in drawn.order)])
    modalities = np.concatenate([[TEXT], *(np.full(len(parts[modality]), modality) for modality in drawn.order)])
    return {"input_ids": ids.astype(np.int16), "modality_ids": modalities.astype(np.uint8)}


# What a worker process has from its parent, by fork.
_source: Source
_codes: tuple[Floats, Floats]


def _features_for_codes(number: int) -> tuple[Floats, Floats]:
    return features(draw(_source, CODES, number))


def _make(kind: int, number: int) -> Tensors:
    return tokens(draw(_source, kind, number), *_codes)


def fit(points: Floats, count: int, seed: int) -> Floats:
    """k-means centres [count, D] of at most 40,000 of the points."""
    generator = np.random.default_rng(seed)
    chosen = points[generator.choice(len(points), min(40_000, len(points)), replace=False)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # it keeps its centre, a point of the data
        centres, _ = kmeans2(chosen, count, iter=25, minit="points", rng=generator)
    return np.asarray(centres, dtype=np.float32)


def build(output: Path, archive: Path, annotations: Path | None, *, samples: int, held_out: int, seed: int) -> None:
    """Write the folder; it appears whole or not at all."""
    global _source, _codes
    if shutil.which("espeak-ng") is None:
        raise SystemExit("there is no espeak-ng: apt install espeak-ng")
    _source = find_source(archive, annotations, seed)
    with multiprocessing.get_context("fork").Pool() as pool:
        features = pool.imap(_features_for_codes, range(FITTING), chunksize=16)
        patches, frames = zip(*track(features, "samples to fit codes to", total=FITTING), strict=True)
    _codes = fit(np.concatenate(patches), IMAGE_CODES, seed), fit(np.concatenate(frames), SPEECH_UNITS, seed)

    def fill(folder: Path) -> dict[str, Any]:
        total = write_shards(folder, "training", partial(_make, TRAINING), samples)
        write_shards(folder, "held_out", partial(_make, HELD_OUT), held_out)
        save_file({"patches": _codes[0], "frames": _codes[1]}, folder / "codes.safetensors")
        espeak = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
        print(f"{output}: {samples} + {held_out} samples, {total / samples:.1f} tokens each")
        return {
            "modalities": ["text", "image", "speech"],
            "vocab": {"text": END + 1, "image": IMAGE_CODES, "speech": SPEECH_UNITS + 1},
            "sources": {"espeak-ng": espeak.split("  ")[0], **_source.described()},
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
