"""Samples of emoji, each drawn anew, and their data folder: what build_match_data.py and build_pixel_data.py share."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from annotations import ARCHIVES, read_annotations
from captions import caption
from names import LANGUAGES, Emoji, group, list_annotated, list_emoji, split, without_held_out
from numpy.typing import NDArray
from pictures import Bytes, noto, twemoji, vary
from rich.progress import track
from safetensors.numpy import save_file
from speech import Voice, draw_voice

TEXT, IMAGE, SPEECH = 0, 1, 2
BEGIN, END = 256, 257  # text ids after the 256 bytes: of the sample, of the caption
ENGLISH = 0.5  # share of the samples in English; the other languages share the rest
SHARD = 8192  # samples
TRAINING, HELD_OUT, CODES = 0, 1, 2  # which generator a sample is drawn from

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What samples are drawn from."""

    groups: tuple[tuple[tuple[Emoji, ...], ...], ...]  # to train on, held out, to fit codes to
    pictures: tuple[dict[str, Bytes], ...]
    seed: int
    archive: str  # its name
    languages: tuple[str, ...]  # English first
    annotated: bool  # whether captions are made up, with keywords, or are names

    def described(self) -> dict[str, Any]:
        """For data.json."""
        return {
            "emoji": version("emoji"),
            "twemoji": self.archive,
            "training groups": len(self.groups[TRAINING]),
            "held-out groups": len(self.groups[HELD_OUT]),
            "seed": self.seed,
            **({"annotations": list(ARCHIVES), "languages": list(self.languages)} if self.annotated else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A sample, not spoken yet."""

    name: str  # what is spoken
    caption: str
    picture: Bytes  # [32, 32, 3]
    voice: Voice
    order: tuple[int, ...]


def find_source(archive: Path, annotations: Path | None, seed: int) -> Source:
    """Emoji that either set of pictures has, in groups; `annotations` is the folder of CLDR's archives, if any."""
    told = None if annotations is None else read_annotations(annotations)
    listed = list_emoji() if told is None else list_annotated(told)
    characters = [each.characters for each in listed]
    pictures = (noto(characters), twemoji(archive, characters))
    parts = split(group([each for each in listed if any(each.characters in pictured for pictured in pictures)]))
    parts = without_held_out(parts)
    return Source(
        groups=(parts.training, parts.held_out, parts.training),
        pictures=pictures,
        seed=seed,
        archive=archive.name,
        languages=LANGUAGES if told is None else tuple(told),
        annotated=told is not None,
    )


def draw(source: Source, kind: int, number: int) -> Drawn:
    """Sample `number` of a kind, the same for the same seed."""
    generator = np.random.default_rng((source.seed, kind, number))
    groups = source.groups[kind]

    def choose() -> Emoji:
        members = groups[generator.integers(len(groups))]
        return members[generator.integers(len(members))]

    chosen = choose()
    english = generator.random() < ENGLISH
    language = source.languages[0] if english else str(generator.choice(source.languages[1:]))
    sets = [pictures[chosen.characters] for pictures in source.pictures if chosen.characters in pictures]
    picture = vary(sets[generator.integers(len(sets))], generator)
    voice = draw_voice(language, generator)
    order = tuple(generator.permutation(3).tolist())
    name = chosen.names[language]
    told = caption(chosen, (choose(), choose()), language, generator) if source.annotated else name
    return Drawn(name=name, caption=told, picture=picture, voice=voice, order=order)


def write_shards(folder: Path, name: str, make: Callable[[int], Tensors], count: int) -> int:
    """Make and write samples; returns the number of tokens. Worker processes have what `make` reads by fork."""
    total = 0
    with multiprocessing.get_context("fork").Pool() as pool:
        samples = track(pool.imap(make, range(count), chunksize=16), f"{name} samples", total=count)
        shard: list[Tensors] = []
        for number, sample in enumerate(samples, start=1):
            shard.append(sample)
            if len(shard) == SHARD or number == count:
                path = folder / f"{name}-{(number - 1) // SHARD:05d}.safetensors"
                tensors = {key: np.concatenate([each[key] for each in shard]) for key in shard[0]}
                lengths = np.array([len(each["input_ids"]) for each in shard], dtype=np.int32)
                save_file({**tensors, "lengths": lengths}, path)
                total += int(lengths.sum())
                shard = []
    return total


def write_whole(output: Path, fill: Callable[[Path], dict[str, Any]]) -> None:
    """Have a new folder filled and its description written; it appears whole or not at all."""
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    description = {"format": 1, **fill(partial)}
    (partial / "data.json").write_text(json.dumps(description, indent=2) + "\n")
    partial.rename(output)


def read_arguments(description: str | None) -> argparse.Namespace:
    """What both scripts are told. Ends the program where the folder is there already."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the folder to make")
    parser.add_argument("--twemoji", type=Path, default=Path("emoji-datasource-twitter-16.0.0.tgz"))
    parser.add_argument("--annotations", type=Path, help="the folder of CLDR's archives; else captions are names alone")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--held-out", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise SystemExit(f"{arguments.output} is already there")
    return arguments
