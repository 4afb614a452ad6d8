"""Build a data folder for `motc match`: emoji as text, image and speech tokens, in random modality orders.

Each sample is drawn anew: a group of emoji, one of it, a language, a voice, speed and pitch, one of two picture sets, a
turn, a size, a place and a background. README.md lists what this needs, docs/match.md describes the folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from names import LANGUAGES, Emoji, group, list_emoji, split
from numpy.typing import NDArray
from pictures import Bytes, cut_patches, noto, twemoji, vary
from rich.progress import track
from safetensors.numpy import save_file
from scipy.cluster.vq import kmeans2, vq
from speech import log_mel, speak

TEXT, IMAGE, SPEECH = 0, 1, 2
BEGIN, END = 256, 257  # text ids after the 256 bytes: of the sample, of the caption
IMAGE_CODES, SPEECH_UNITS = 512, 256
SPEECH_END = SPEECH_UNITS
ENGLISH = 0.5  # share of the samples in English; the other languages share the rest
FITTING = 3000  # samples the codes are fitted to
SHARD = 8192  # samples
TRAINING, HELD_OUT, CODES = 0, 1, 2  # which generator a sample is drawn from

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What samples are drawn from."""

    groups: tuple[tuple[tuple[Emoji, ...], ...], ...]  # to train on, held out, to fit codes to
    pictures: tuple[dict[str, Bytes], ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A sample before quantisation."""

    caption: bytes
    patches: Floats  # [64, 48]
    frames: Floats  # [frames, 40]
    order: tuple[int, ...]


def draw(source: Source, kind: int, number: int) -> Drawn:
    """Sample `number` of a kind, the same for the same seed."""
    generator = np.random.default_rng((source.seed, kind, number))
    groups = source.groups[kind]
    members = groups[generator.integers(len(groups))]
    chosen = members[generator.integers(len(members))]
    english = generator.random() < ENGLISH
    language = LANGUAGES[0] if english else str(generator.choice(LANGUAGES[1:]))
    sets = [found[chosen.characters] for found in source.pictures if chosen.characters in found]
    name = chosen.names[language]
    return Drawn(
        caption=name.encode(),
        patches=cut_patches(vary(sets[generator.integers(len(sets))], generator)),
        frames=log_mel(speak(name, language, generator)),
        order=tuple(generator.permutation(3).tolist()),
    )


def tokens(drawn: Drawn, patch_codes: Floats, frame_codes: Floats) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Token ids and modality ids of a sample: begin, then caption, image and speech in the sample's order."""
    parts = {
        TEXT: np.array([*drawn.caption, END]),
        IMAGE: vq(drawn.patches, patch_codes)[0],
        SPEECH: np.append(vq(drawn.frames, frame_codes)[0], SPEECH_END),
    }
    ids = np.concatenate([[BEGIN], *(parts[modality] for modality in drawn.order)])
    modalities = np.concatenate([[TEXT], *(np.full(len(parts[modality]), modality) for modality in drawn.order)])
    return ids.astype(np.int16), modalities.astype(np.uint8)


# What a worker process has from its parent, by fork.
_source: Source
_codes: tuple[Floats, Floats]


def _draw_for_codes(number: int) -> Drawn:
    return draw(_source, CODES, number)


def _make(job: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    return tokens(draw(_source, *job), *_codes)


def fit(points: Floats, count: int, seed: int) -> Floats:
    """k-means centres [count, D] of at most 40,000 of the points."""
    generator = np.random.default_rng(seed)
    chosen = points[generator.choice(len(points), min(40_000, len(points)), replace=False)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # it keeps its centre, a point of the data
        centres, _ = kmeans2(chosen, count, iter=25, minit="points", rng=generator)
    return np.asarray(centres, dtype=np.float32)


def write_shards(folder: Path, name: str, kind: int, count: int) -> int:
    """Make and write the samples of a kind; returns the number of tokens."""
    total = 0
    with multiprocessing.get_context("fork").Pool() as pool:
        jobs = [(kind, number) for number in range(count)]
        made = track(pool.imap(_make, jobs, chunksize=16), f"{name} samples", total=count)
        shard: list[tuple[NDArray[np.int16], NDArray[np.uint8]]] = []
        for number, sample in enumerate(made, start=1):
            shard.append(sample)
            if len(shard) == SHARD or number == count:
                path = folder / f"{name}-{(number - 1) // SHARD:05d}.safetensors"
                total += _write_shard(path, shard)
                shard = []
    return total


def _write_shard(path: Path, samples: Iterable[tuple[NDArray[np.int16], NDArray[np.uint8]]]) -> int:
    ids, modalities = zip(*samples, strict=True)
    lengths = np.array([len(sample) for sample in ids], dtype=np.int32)
    tensors = {"input_ids": np.concatenate(ids), "modality_ids": np.concatenate(modalities), "lengths": lengths}
    save_file(tensors, path)
    return int(lengths.sum())


def build(output: Path, archive: Path, *, samples: int, held_out: int, seed: int) -> None:
    """Write the folder; it appears whole or not at all."""
    global _source, _codes
    if output.exists():
        raise SystemExit(f"{output} is already there")
    if shutil.which("espeak-ng") is None:
        raise SystemExit("there is no espeak-ng: apt install espeak-ng")
    listed = list_emoji()
    characters = [each.characters for each in listed]
    pictures = (noto(characters), twemoji(archive, characters))
    parts = split(group([each for each in listed if any(each.characters in found for found in pictures)]))
    _source = Source(groups=(parts.training, parts.held_out, parts.training), pictures=pictures, seed=seed)

    with multiprocessing.get_context("fork").Pool() as pool:
        made = pool.imap(_draw_for_codes, range(FITTING), chunksize=16)
        drawn = list(track(made, "samples to fit codes to", total=FITTING))
    _codes = (
        fit(np.concatenate([each.patches for each in drawn]), IMAGE_CODES, seed),
        fit(np.concatenate([each.frames for each in drawn]), SPEECH_UNITS, seed),
    )

    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    total = write_shards(partial, "training", TRAINING, samples)
    write_shards(partial, "held_out", HELD_OUT, held_out)
    save_file({"patches": _codes[0], "frames": _codes[1]}, partial / "codes.safetensors")
    espeak = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout
    description = {
        "format": 1,
        "modalities": ["text", "image", "speech"],
        "vocab": {"text": 258, "image": IMAGE_CODES, "speech": SPEECH_UNITS + 1},
        "sources": {
            "espeak-ng": espeak.split("  ")[0],
            "emoji": version("emoji"),
            "twemoji": archive.name,
            "training groups": len(parts.training),
            "held-out groups": len(parts.held_out),
            "seed": seed,
        },
    }
    (partial / "data.json").write_text(json.dumps(description, indent=2) + "\n")
    partial.rename(output)
    print(f"{output}: {samples} + {held_out} samples, {total / samples:.1f} tokens each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder to make")
    parser.add_argument("--twemoji", type=Path, default=Path("emoji-datasource-twitter-16.0.0.tgz"))
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--held-out", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(
        arguments.output,
        arguments.twemoji,
        samples=arguments.samples,
        held_out=arguments.held_out,
        seed=arguments.seed,
    )
