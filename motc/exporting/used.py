"""Run by itself, as `python used.py FOLDER QUESTIONS`: a folder is loaded as by someone who has not motc, and asked.

One without code of its own is asked in float32, of its class in transformers.

QUESTIONS is a safetensors file: of each batch the arguments, as `0?input_ids`, and what is to come, as `0!logits`.
Prints as JSON how far off the answers are, relative to the largest number, and whether generated tokens are the same.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def questions(path: str, kind: str) -> dict[str, dict[str, Any]]:
    """By batch, what stands behind `kind`, `?` or `!`; of modalities in a dict by their names."""
    batches: dict[str, dict[str, Any]] = {}
    for key, x in load_file(path).items():
        number, mark, name = key.partition(kind)
        if mark:
            name, _, of = name.partition("/")
            batch = batches.setdefault(number, {})
            if of:
                batch.setdefault(name, {})[of] = x
            else:
                batch[name] = x
    return batches


def deviation(got: Tensor, expected: Tensor) -> float:
    """How far off, relative to the largest expected number; infinite where one is no number and the other is."""
    if not expected.numel():
        return 0.0
    got, expected = got.double(), expected.double()
    if not torch.equal(got.isnan(), expected.isnan()):
        return float("inf")
    difference = (got - expected).nan_to_num().abs().max()
    return float(difference / expected.nan_to_num().abs().max().clamp(min=1e-30)) if difference else 0.0


def said_by(logits: Tensor, ranges: dict[str, list[int]], expected: dict[str, Tensor]) -> float:
    """How far logits of a joint vocabulary are off those of each modality's own; one head speaks at each place."""
    worst, speaking = 0.0, torch.zeros(logits.shape[:2], dtype=torch.int64)
    silent = torch.finfo(logits.dtype).min
    for name, (first, end) in ranges.items():
        part = logits[..., first:end]
        speaks = (part > silent).any(dim=-1)
        speaking += speaks.long()
        worst = max(worst, deviation(part[speaks], expected[name][speaks]))
    nothing = torch.stack([(logits == 0).all(dim=-1), speaking == 1]).any(dim=0)
    return worst if bool(nothing.all()) else float("inf")


def main(folder: str, path: str) -> dict[str, Any]:
    sys.modules["motc"] = None  # type: ignore[assignment]
    from transformers import AutoModelForCausalLM

    with open(f"{folder}/config.json", encoding="utf-8") as file:
        has_code = "auto_map" in json.load(file)
    how: dict[str, Any] = {"trust_remote_code": True} if has_code else {"dtype": torch.float32}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, **how)
    model.eval()
    if getattr(model.config, "attn_logit_softcapping", None):  # which torch's own kernel, that is called else, has not
        model.set_attn_implementation("eager")
    model.generation_config = type(model.generation_config)()  # what is asked is the most likely token, by itself
    asked, expected = questions(path, "?"), questions(path, "!")
    worst: dict[str, float] = {"logits": 0.0, **({"loss": 0.0} if has_code else {})}
    same = True
    for number, batch in asked.items():
        answer = expected[number]
        with torch.no_grad():
            if "prompt" in batch:
                made = model.generate(
                    batch["prompt"], attention_mask=batch["attention_mask"], do_sample=False, max_new_tokens=4,
                    eos_token_id=None, pad_token_id=0,
                )  # fmt: skip
                same = bool(torch.equal(made[:, batch["prompt"].shape[1] :], answer["said"]))
                continue
            logits = model(**batch, use_cache=False).logits
            if "loss" in answer:
                losses = model(**batch, labels=batch["input_ids"]).loss
                worst["loss"] = max(worst["loss"], deviation(losses, answer["loss"]))
        of_logits = answer["logits"]
        if isinstance(of_logits, dict):
            off = said_by(logits, model.config.token_ranges, of_logits)
        else:
            real = batch["attention_mask"] > 0
            off = deviation(logits[real], of_logits[real])
        worst["logits"] = max(worst["logits"], off)
    return {"loss": None, **worst, "generates": any("prompt" in batch for batch in asked.values()), "same": same}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201
