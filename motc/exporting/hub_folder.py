"""A folder that transformers loads without motc: written, asked, and only then there."""

from __future__ import annotations

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
from motc.exporting.batches import Asked, asked, continuation, joint, logits_of, loss_of
from motc.exporting.card import model_card
from motc.exporting.deviation import NotTheSame, tolerance
from motc.exporting.given import check_unconditioned, need
from motc.exporting.hugging_face import code_files, config_json, token_ranges
from motc.exporting.original import original
from motc.exporting.tokenizer import GENERATION, carry_along, generation, kept_beside, special_ids
from motc.files import new_folder
from motc.ir.model import Model
from motc.schema import Checked
from motc.weights import tensors_of
from motc.weights.kept import kept_by, metadata_of
from motc.weights.stored import FILE, INDEX
from motc.weights.write import write_tensors

SHARD = 5 * 10**9
"""Bytes of a file of weights at most, as transformers once had it; a tensor that is larger is a file of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was compared before the folder was there: deviations relative to the largest number.

    The loss of a class of transformers is its own, and is not asked.
    """

    batches: int
    logits: float
    loss: float | None
    generates: bool


def write_hub_folder(
    model: Model, spec: str, network: Any, out: Path, *, tokenizer: Path | None = None, licence: str | None = None
) -> Written:
    """Write the folder; `spec` is the model's as one text. Nothing is there unless it answers as the model does.

    Raises ValueError for a model that is none of language, NotTheSame, OSError, and ImportError without transformers.
    """
    if not model.token_modalities():
        raise ValueError("no modality has a vocabulary: transformers' language models have one")
    check_unconditioned(model, "a language model of transformers")
    need(("transformers",), "hf")
    dtype = next(network.parameters()).dtype
    name = str(dtype).removeprefix("torch.")
    special = {} if tokenizer is None else special_ids(tokenizer)
    with new_folder(out) as folder:
        for file, text in code_files(model, spec).items():
            (folder / file).write_text(text, encoding="utf-8")
        card = model_card(model, spec, name, licence)
        write_texts(folder, config_json(model, name, special), special, card, tokenizer)
        save_shards(network.state_dict(), folder, {"format": "pt", **metadata_of(kept_by(network))})
        return compare(model, network, folder, dtype)


def write_original(
    kind: str,
    checked: Checked,
    model: Model,
    spec: str,
    network: Any,
    out: Path,
    *,
    tokenizer: Path | None = None,
    licence: str | None = None,
) -> Written:
    """Write the folder of a class of transformers that the model is, under that one's names.

    Raises SpecError for a model that is none, NotTheSame, OSError, and ImportError without transformers.
    """
    need(("transformers",), "hf")
    state = network.state_dict()
    beside = {} if tokenizer is None else {**special_ids(tokenizer), **kept_beside(tokenizer)}
    theirs = original(kind, checked, model, {name: tuple(x.shape) for name, x in state.items()}, beside)
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    special = {key: value for key, value in beside.items() if key.endswith("_token_id")}
    with new_folder(out) as folder:
        configuration = {**theirs.configuration, "dtype": dtype, "torch_dtype": dtype}
        card = model_card(model, spec, dtype, licence, theirs.configuration["architectures"][0])
        write_texts(folder, json.dumps(configuration, indent=2) + "\n", special, card, tokenizer)
        save_shards(tensors_of(theirs.bijection, state), folder, {"format": "pt"})
        network.float()
        batches = [batch for batch in asked(model, torch.float32) if batch.keys() == {"input_ids", "modality_ids"}]
        questions: Asked = {}
        for number, batch in enumerate(batches):
            real = batch["modality_ids"] >= 0
            questions[f"{number}?input_ids"] = torch.where(real, batch["input_ids"], 0)
            questions[f"{number}?attention_mask"] = real.long()
            questions[f"{number}!logits"] = logits_of(network, batch)["logits"]
        return ask(folder, {**questions, **prompted(model, network, 0)}, len(batches), torch.float32)


def write_texts(folder: Path, configuration: str, special: dict[str, int], card: str, tokenizer: Path | None) -> None:
    """What stands beside the weights of every model: its configurations, its card, and its tokenizer's files."""
    generates = {**special, **({} if tokenizer is None else generation(tokenizer))}
    texts = {"config.json": configuration, GENERATION: json.dumps(generates, indent=2) + "\n", "README.md": card}
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    if tokenizer is not None:
        carry_along(tokenizer, folder)


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
        write_tensors(folder / file, {name: state[name] for name in names}, metadata)
    if len(parts) > 1:
        where = {name: file for file, names in zip(files, parts, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(x.nbytes for x in state.values())}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def compare(model: Model, network: Any, folder: Path, dtype: torch.dtype) -> Written:
    """Ask a folder with code of its own. Raises NotTheSame."""
    network.eval()
    questions: Asked = {}
    batches = asked(model, dtype)
    for number, batch in enumerate(batches):
        questions |= {f"{number}?{name}": x for name, x in joint(model, batch).items()}
        answers = {**logits_of(network, batch), **loss_of(network, batch)}
        questions |= {f"{number}!{name}": x for name, x in answers.items()}
    first = next(iter(token_ranges(model).values()))[0]
    return ask(folder, {**questions, **prompted(model, network, first)}, len(batches), dtype)


def prompted(model: Model, network: Any, first: int) -> Asked:
    """The question of what follows a prompt, whose ids begin at `first`; none where the model generates none."""
    prompt = continuation(model, network)
    if not prompt:
        return {}
    real = (prompt["modality_ids"] >= 0).long()
    return {
        "prompt?prompt": prompt["prompt"] + first,
        "prompt?attention_mask": real,
        "prompt!said": prompt["said"] + first,
    }


def ask(folder: Path, questions: Asked, batches: int, dtype: torch.dtype) -> Written:
    """Ask a folder in a process that has no motc. Raises NotTheSame."""
    with TemporaryDirectory() as aside:
        path = Path(aside) / "questions.safetensors"
        save_file({name: x.clone() for name, x in questions.items()}, path)
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
        if said[what] is not None and not said[what] <= limit:
            raise NotTheSame(
                f"{what} of what was written differ by {said[what]:.1e} of the largest, beyond {limit:.0e}"
            )
    if not said["same"]:
        raise NotTheSame("tokens that transformers generates are not those of the model")
    return Written(batches=batches, logits=said["logits"], loss=said["loss"], generates=bool(said["generates"]))
