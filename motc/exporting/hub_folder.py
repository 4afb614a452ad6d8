"""A folder that transformers loads without motc: written, asked, and only then there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from motc.exporting import used
from motc.exporting.batches import answers, asked, continuation, joint
from motc.exporting.card import model_card
from motc.exporting.deviation import NotTheSame, tolerance
from motc.exporting.hugging_face import code_files, config_json, token_ranges
from motc.exporting.tokenizer import carry_along, special_ids
from motc.files import new_folder
from motc.ir.model import Model
from motc.weights.kept import kept_by, metadata_of
from motc.weights.stored import FILE, INDEX
from motc.weights.write import NAMES, write_weights

SHARD = 5 * 10**9
"""Bytes of a file of weights at most, as transformers once had it; a tensor that is larger is a file of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was compared before the folder was there: deviations relative to the largest number."""

    batches: int
    logits: float
    loss: float
    generates: bool


def write_hub_folder(
    model: Model, spec: str, network: Any, out: Path, *, tokenizer: Path | None = None, licence: str | None = None
) -> Written:
    """Write the folder; `spec` is the model's as one text. Nothing is there unless it answers as the model does.

    Raises ValueError for a model that is none of language, NotTheSame, OSError, and ImportError without transformers.
    """
    if not model.token_modalities():
        raise ValueError("no modality has a vocabulary: transformers' language models have one")
    if importlib.util.find_spec("transformers") is None:
        raise ImportError("transformers is needed, to ask what was written: pip install 'motc[hf]'")
    dtype = next(network.parameters()).dtype
    name = str(dtype).removeprefix("torch.")
    special = {} if tokenizer is None else special_ids(tokenizer)
    with new_folder(out) as folder:
        for file, text in code_files(model, spec).items():
            (folder / file).write_text(text, encoding="utf-8")
        (folder / "config.json").write_text(config_json(model, name, special), encoding="utf-8")
        (folder / "generation_config.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(model, spec, name, licence), encoding="utf-8")
        if tokenizer is not None:
            carry_along(tokenizer, folder)
        save_shards(network.state_dict(), folder, {"format": "pt", **metadata_of(kept_by(network))})
        return compare(model, network, folder, dtype)


def save_shards(
    state: Mapping[str, torch.Tensor], folder: Path, metadata: Mapping[str, str], shard: int = SHARD
) -> None:
    """Tensors under motc's names, as transformers takes those of a base model: in one file, or in several of at most
    `shard` bytes, with an index."""
    parts: list[list[str]] = [[]]
    filled = 0
    for name, x in state.items():
        if parts[-1] and filled + x.nbytes > shard:
            parts.append([])
            filled = 0
        parts[-1].append(name)
        filled += x.nbytes
    files = [f"model-{number:05}-of-{len(parts):05}.safetensors" for number in range(1, len(parts) + 1)]
    files = [FILE] if len(parts) == 1 else files
    for file, names in zip(files, parts, strict=True):
        planned = {name: (NAMES[state[name].dtype], tuple(state[name].shape)) for name in names}
        write_weights(folder / file, planned, ((name, state[name]) for name in names), metadata)
    if len(parts) > 1:
        where = {name: file for file, names in zip(files, parts, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(x.nbytes for x in state.values())}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def compare(model: Model, network: Any, folder: Path, dtype: torch.dtype) -> Written:
    """Ask the folder in a process that has no motc. Raises NotTheSame."""
    network.eval()
    questions: dict[str, torch.Tensor] = {}
    batches = asked(model, dtype)
    for number, batch in enumerate(batches):
        questions |= {f"{number}?{name}": x.clone() for name, x in joint(model, batch).items()}
        questions |= {f"{number}!{name}": x.clone() for name, x in answers(network, batch).items()}
    prompt = continuation(model, network)
    if prompt:
        first = next(iter(token_ranges(model).values()))[0]
        real = prompt["modality_ids"] >= 0
        questions |= {"prompt?prompt": prompt["prompt"] + first, "prompt?attention_mask": real.long()}
        questions["prompt!said"] = prompt["said"] + first
    with TemporaryDirectory() as aside:
        path = Path(aside) / "questions.safetensors"
        save_file(questions, path)
        environment = {**os.environ, "HF_HOME": aside, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
        for name in ("HF_MODULES_CACHE", "TRANSFORMERS_CACHE", "PYTHONPATH"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, str(used.__file__), str(folder), str(path)],
            cwd=aside, env=environment, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NotTheSame(f"transformers cannot use what was written: {last}")
    said = json.loads(done.stdout.splitlines()[-1])
    limit = tolerance(dtype)
    for what in ("logits", "loss"):
        if not said[what] <= limit:
            raise NotTheSame(
                f"{what} of what was written differ by {said[what]:.1e} of the largest, beyond {limit:.0e}"
            )
    if not said["same"]:
        raise NotTheSame("tokens that transformers generates are not those of the model")
    return Written(batches=len(batches), logits=said["logits"], loss=said["loss"], generates=bool(said["generates"]))
