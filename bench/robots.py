"""Steps of the gallery's two-tower robots beside the originals that their tests have, with the same weights.

    python -m bench.robots [--compiled] [--profile]

π0 beside transformers' class, the images' encoder in both; SmolVLA beside a plain model, for there is none. Forward and
backward of the actions' loss, and of π0 ten steps of denoising, in turns, float32 on one thread of a CPU; seconds are
the process's own. `--profile` tells instead how many of torch's operations and products there are, motc's first, and by
which they differ most.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

import motc
from bench.gallery import differences, ratio
from motc.driver import compile_ir
from motc.processor import processor_name
from motc.weights import bijection_of, parameters_of, read_mapping
from tests import test_pi0, test_smolvla
from tests.originals import GALLERY, Uniform

Runs = dict[str, Callable[[], None]]
"""What is timed of each side."""

SIGHTS, WORDS = 64, 20
SIZES = {"WIDE": 240, "NARROW": 180, "HEADS": 4, "KV_HEADS": 2, "HEAD_DIM": 60, "VOCAB": 2048, "SIGHT": 192}
SIZES |= {"STATE": 32, "ACTION": 32, "CHUNK": 50}


def backward(loss: Callable[[], Any]) -> None:
    """Forward and backward."""
    loss().backward()


def of_side(runs: Runs, _: Any, side: str) -> Callable[[], None]:
    """What is timed of one side."""
    return runs[side]


def filled(name: str, overrides: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """A gallery spec's model with the tensors of a checkpoint of its original."""
    path = GALLERY / f"{name}.mot"
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection = bijection_of(read_mapping(GALLERY / "mappings" / f"{name}.yaml"), shapes, compile_ir(path, overrides))
    ours: Any = motc.load(path, set=overrides)
    ours.load_state_dict({name: each.clone() for name, each in parameters_of(bijection, tensors).items()})
    return ours


def smolvla(compiled: bool) -> tuple[dict[str, Any], dict[str, Runs]]:
    """240 wide, 16 layers, of 2 rows of 64 vectors of images, 20 words, a state and 50 actions."""
    hidden = {SIZES["WIDE"]: 640, SIZES["NARROW"]: 512}
    vars(test_smolvla).update(SIZES, HIDDEN=hidden)
    sizes = {
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
    theirs: Any = test_smolvla.SmolVla()
    ours = filled("smolvla", sizes, {name: each.detach() for name, each in theirs.named_parameters()})
    given: dict[str, Any] = {
        "vectors": torch.randn(2, SIGHTS, SIZES["SIGHT"]),
        "ids": torch.randint(0, SIZES["VOCAB"], (2, WORDS)),
        "real": torch.ones(2, WORDS, dtype=torch.bool),
        "state": torch.randn(2, SIZES["STATE"]),
    }
    actions, noise = (torch.randn(2, SIZES["CHUNK"], SIZES["ACTION"]) for _ in range(2))
    times = torch.tensor([0.375, 0.875])
    noised = torch.lerp(actions, noise, times[:, None, None])
    counts = torch.tensor((SIGHTS, WORDS, 1, SIZES["CHUNK"]))
    how: dict[str, Any] = {
        "input_ids": F.pad(given["ids"], (SIGHTS, 1 + SIZES["CHUNK"])),
        "modality_ids": torch.arange(4).repeat_interleave(counts).expand(2, -1),
        "latents": {"action": actions.transpose(1, 2)},
        "noise": {"action": noise.transpose(1, 2)},
        "timesteps": {"action": 1000 * times},
        "features": {"vit": given["vectors"].flatten(0, 1), "state": given["state"]},
    }
    called = torch.compile(theirs) if compiled else theirs
    step: Runs = {
        "ours": partial(backward, lambda: ours.loss(**how).total),
        "theirs": partial(backward, lambda: F.mse_loss(called(given, noised, times), noise - actions)),
    }
    return {"ours": ours, "theirs": theirs}, {"forward and backward": step}


def pi0(compiled: bool) -> tuple[dict[str, Any], dict[str, Runs]]:
    """256 and 128 wide, 4 layers, of 2 rows of 64 patches, 20 words, a state and 50 actions."""
    wide, narrow, hidden, dit_hidden, sight, vocab = 256, 128, 768, 384, 96, 2048
    scale = float(torch.tensor(wide**0.5))
    sizes = {"width": wide, "layers": 4, "vocab": vocab, "embedding.scale": scale, "ffn.hidden": hidden}
    sizes |= {"attention.heads": 4, "attention.head_dim": 64, "modalities.vit.features.size": sight}
    sizes |= {"towers.expert.width": narrow, "towers.expert.ffn.hidden": dit_hidden}
    gemma = {"model_type": "gemma", "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1}
    gemma |= {"head_dim": 64, "vocab_size": vocab, "rms_norm_eps": 1e-6, "attn_implementation": "sdpa"}
    vision = {"model_type": "siglip_vision_model", "hidden_size": sight, "intermediate_size": 192}
    vision |= {"num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 32, "patch_size": 4}
    theirs = test_pi0.made(
        {
            "model_type": "paligemma",
            "text_config": {**gemma, "hidden_size": wide, "intermediate_size": hidden},
            "vision_config": {**vision, "vision_use_head": False},
            "projection_dim": wide,
            "image_token_id": vocab - 1,
        },
        {**gemma, "hidden_size": narrow, "intermediate_size": dit_hidden},
        chunk_size=50,
        max_state_dim=32,
        max_action_dim=32,
    )
    checkpoint = test_pi0.of_checkpoint(theirs, {name: each.detach() for name, each in theirs.named_parameters()})
    ours = filled("pi0", sizes, checkpoint)
    ids = torch.randint(1, vocab - 1, (2, SIGHTS + WORDS))
    ids[:, :SIGHTS] = vocab - 1
    state, actions, noise = torch.randn(2, 32), torch.randn(2, 50, 32), torch.randn(2, 50, 32)
    given: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(2, 1, 3, 32, 32),
        "pixel_attention_mask": torch.ones(2, 1).bool(),
        "state": state,
        "noise": noise,
    }
    times = torch.tensor([0.375, 0.875])
    modality_ids = torch.arange(4).repeat_interleave(torch.tensor((SIGHTS, WORDS, 1, 50))).expand(2, -1)
    how: dict[str, Any] = {
        "latents": {"action": actions.transpose(1, 2)},
        "noise": {"action": noise.transpose(1, 2)},
        "timesteps": {"action": 1000 * times},
    }
    encoder = theirs.model.vlm.vision_tower

    def features() -> dict[str, torch.Tensor]:
        return {"vit": encoder(given["pixel_values"].flatten(0, 1)).last_hidden_state, "state": state}

    def loss() -> Any:
        return ours.loss(F.pad(ids, (0, 51)), modality_ids, features=features(), **how).by_modality["action"]

    @torch.no_grad()
    def made() -> None:
        ours.generate(
            F.pad(ids, (0, 1)),
            modality_ids[:, :-50],
            features=features(),
            sizes={"action": 50},
            schedulers={"action": Uniform()},
        )

    @torch.no_grad()
    def sampled() -> None:
        theirs.sample_actions(**given, num_steps=10)

    called = torch.compile(theirs) if compiled else theirs
    step: Runs = {
        "ours": partial(backward, loss),
        "theirs": partial(backward, lambda: called(**given, actions=actions, timestep=times).loss),
    }
    runs = {"forward and backward": step}
    return {"ours": ours, "theirs": theirs}, runs if compiled else runs | {
        "ten steps": {"ours": made, "theirs": sampled}
    }


def main() -> None:
    """Read the arguments, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor_name()}, torch {torch.__version__}, one thread, float32")
    for make in (pi0, smolvla):
        torch.manual_seed(0)
        models, runs = make(arguments.compiled)
        if arguments.compiled:
            models["ours"].compile()
        for name, sides in runs.items():
            if arguments.profile:
                print(f"{make.__name__}, {name}: {differences(sides, arguments.rounds)}")
                continue
            told = ratio(models, partial(of_side, sides), arguments.rounds)
            print(f"{make.__name__}, {name}: {told['ratio']:.2f} ({told['ours']:.3f} s, theirs {told['theirs']:.3f} s)")


if __name__ == "__main__":
    main()
