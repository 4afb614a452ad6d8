"""A step of SmolVLA's spec beside the plain model of its test, which is none of transformers, with the same weights.

    python -m bench.smolvla [--compiled] [--profile]

Forward and backward of the actions' loss in turns, float32 on one thread of a CPU, 240 wide, of 2 rows of 64 vectors of
images, 20 words, a state and 50 actions; seconds are the process's own. `--profile` tells instead by which of torch's
operations the two differ most: microseconds and calls, motc's first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import motc
from bench.gallery import differences, ratio
from motc.driver import compile_ir
from motc.processor import processor_name
from motc.weights import bijection_of, parameters_of, read_mapping
from tests import test_smolvla as plain

SIGHTS, WORDS = 64, 20
SIZES = {"WIDE": 240, "NARROW": 180, "HEADS": 4, "KV_HEADS": 2, "HEAD_DIM": 60, "VOCAB": 2048, "SIGHT": 192}
SIZES |= {"STATE": 32, "ACTION": 32, "CHUNK": 50}
MODALITIES = (SIGHTS, WORDS, 1, 50)


def enlarged() -> dict[str, Any]:
    """Makes the test's plain model so wide, and says how its spec is set."""
    hidden = {SIZES["WIDE"]: 640, SIZES["NARROW"]: 512}
    vars(plain).update(SIZES, HIDDEN=hidden)
    return {
        "width": SIZES["WIDE"],
        "vocab": SIZES["VOCAB"],
        "modalities.vit.features.size": SIZES["SIGHT"],
        "modalities.state.features.size": SIZES["STATE"],
        "modalities.action.latent.channels": SIZES["ACTION"],
        "attention.heads": SIZES["HEADS"],
        "attention.kv_heads": SIZES["KV_HEADS"],
        "attention.head_dim": SIZES["HEAD_DIM"],
        "ffn.hidden": hidden[SIZES["WIDE"]],
        "towers.expert.width": SIZES["NARROW"],
        "towers.expert.ffn.hidden": hidden[SIZES["NARROW"]],
    }


def sides(compiled: bool) -> tuple[dict[str, Any], Callable[[Any, str], Callable[[], None]]]:
    """Both models, and what makes a step of either."""
    overrides, path = enlarged(), Path(plain.GALLERY) / "smolvla.mot"
    torch.manual_seed(0)
    theirs, ours = plain.SmolVla(), motc.load(path, set=overrides)
    tensors = {name: each.detach() for name, each in theirs.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    mapping = read_mapping(Path(plain.GALLERY) / "mappings" / "smolvla.yaml")
    ours.load_state_dict(parameters_of(bijection_of(mapping, shapes, compile_ir(path, overrides)), tensors))
    given: dict[str, Any] = {
        "vectors": torch.randn(2, SIGHTS, SIZES["SIGHT"]),
        "ids": torch.randint(0, SIZES["VOCAB"], (2, WORDS)),
        "real": torch.ones(2, WORDS, dtype=torch.bool),
        "state": torch.randn(2, SIZES["STATE"]),
    }
    actions, noise = (torch.randn(2, SIZES["CHUNK"], SIZES["ACTION"]) for _ in range(2))
    times = torch.tensor([0.375, 0.875])
    noised = torch.lerp(actions, noise, times[:, None, None])
    modality_ids = torch.arange(4).repeat_interleave(torch.tensor(MODALITIES)).expand(2, -1)
    ids = F.pad(given["ids"], (SIGHTS, 1 + SIZES["CHUNK"]))
    features = {"vit": given["vectors"].flatten(0, 1), "state": given["state"]}
    latents, made = ({"action": each.transpose(1, 2)} for each in (actions, noise))
    if compiled:
        ours.compile()
    models = {"ours": ours, "theirs": torch.compile(theirs) if compiled else theirs}

    more: dict[str, Any] = {"timesteps": {"action": 1000 * times}, "features": features}

    def step(model: Any, side: str) -> Callable[[], None]:
        def run() -> None:
            if side == "ours":
                loss: Any = model.loss(ids, modality_ids, latents=latents, noise=made, **more).total
            else:
                loss = F.mse_loss(model(given, noised, times), noise - actions)
            loss.backward()

        return run

    return models, step


def main() -> None:
    """Read the arguments, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models, step = sides(arguments.compiled)
    if arguments.profile:
        print(differences({side: step(model, side) for side, model in models.items()}, arguments.rounds))
        return
    told = ratio(models, step, arguments.rounds)
    print(f"{processor_name()}, torch {torch.__version__}, one thread, float32")
    print(f"{told['ratio']:.2f}: {told['ours']:.2f} s, the plain model {told['theirs']:.2f} s")


if __name__ == "__main__":
    main()
