"""Train a Transfusion pair on captioned emoji, pixels as latents, and draw from captions with a scheduler of diffusers.

    python examples/emoji/diffuse.py --seconds 60 --out build/diffusion

The Mixture-of-Transformers of diffusion.mot and its dense twin see the same batches, noise and timesteps, in turn. A
tenth of the samples have no caption, so that what is drawn can be led away from that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from agreement import agreement, trained_classifier
from data import END, IMAGE, PADDING, TEXT, EmojiData, encode_caption, load_emoji, shuffle_forever
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from rich.console import Console
from torch import Tensor

import motc

SIDE = 16  # pixels
PATCHES = (SIDE // 2) ** 2
END_OF_IMAGE = 258
LEARNING_RATE = 2e-3
SCALE = 6
UNCAPTIONED = 0.1  # of the samples
TOLD = 96  # held-out captions whose pictures are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Rows of one caption and its image each: ids and modalities int64 [B, S], and pixels [B, 3, 16, 16] in -1..1."""

    input_ids: Tensor
    modality_ids: Tensor
    pixels: Tensor


def pictures(data: EmojiData, indices: list[int]) -> Tensor:
    """Pixels [n, 3, 16, 16] in -1..1 of samples, at half their size."""
    patches = data.codebook[data.codes[indices].view(-1, 8, 8)].float() / 127.5 - 1  # [n, 8, 8, 4, 4, 3]
    whole = patches.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, 32, 32)
    return torch.nn.functional.avg_pool2d(whole, 2)


def samples(data: EmojiData, indices: list[int], uncaptioned: Container[int] = ()) -> Samples:
    """A row for each sample: its caption, its image between two tokens of text, and padding.

    Those at the places of `uncaptioned` have the end of a caption alone.
    """
    captions = [
        [END] if place in uncaptioned else encode_caption(data.captions[index]) for place, index in enumerate(indices)
    ]
    length = max(map(len, captions)) + PATCHES + 1
    input_ids = torch.zeros(len(indices), length, dtype=torch.int64)
    modality_ids = torch.full_like(input_ids, PADDING)
    for row, caption in enumerate(captions):
        end = len(caption) + PATCHES
        input_ids[row, : len(caption)] = torch.tensor(caption)
        input_ids[row, end] = END_OF_IMAGE
        modality_ids[row, : end + 1] = TEXT
        modality_ids[row, len(caption) : end] = IMAGE
    return Samples(input_ids=input_ids, modality_ids=modality_ids, pixels=pictures(data, indices))


def batches(data: EmojiData, batch_size: int, seed: int) -> Iterator[Samples]:
    """Endless batches of the training samples."""
    order, generator = shuffle_forever(data.training, seed), torch.Generator().manual_seed(seed)
    while True:
        dropped = torch.rand(batch_size, generator=generator) < UNCAPTIONED
        yield samples(data, [next(order) for _ in range(batch_size)], dropped.nonzero().flatten().tolist())


def train(models: dict[str, Any], data: EmojiData, *, seconds: float, batch_size: int, seed: int) -> dict[str, Any]:
    """Step the models in turn until the time is up; the mean losses of their last 20 steps."""
    optimizers = {
        name: torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
        for name, model in models.items()
    }
    history: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    start = time.perf_counter()
    for step, batch in enumerate(batches(data, batch_size, seed)):
        passed = (time.perf_counter() - start) / seconds
        if passed >= 1:
            break
        for name, model in models.items():
            optimizers[name].param_groups[0]["lr"] = LEARNING_RATE * min((step + 1) / 20, 1.1 - passed)
            generator = torch.Generator().manual_seed(step)
            latents = {"image": batch.pixels}
            losses = model.loss(batch.input_ids, batch.modality_ids, latents=latents, generator=generator)
            optimizers[name].zero_grad()
            losses.total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers[name].step()
            history[name].append((losses.by_modality["text"].item(), losses.by_modality["image"].item()))
    means = {name: torch.tensor(steps[-20:]).mean(0).tolist() for name, steps in history.items()}
    return {"steps": len(next(iter(history.values()))), **means}


def draw(model: Any, batch: Samples, *, steps: int, scale: float, seed: int) -> Tensor:
    """Pixels [B, 3, 16, 16] that the model makes of noise for the captions of a batch."""
    captions = (batch.modality_ids == TEXT) & (batch.input_ids != END_OF_IMAGE)
    generated = model.generate(
        batch.input_ids,
        torch.where(captions, TEXT, PADDING),
        max_new_tokens=PATCHES + 1,
        spans={"image": {"begin": END, "end": END_OF_IMAGE, "size": (SIDE, SIDE)}},
        schedulers={"image": FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)},
        denoising_steps=steps,
        guidance={} if scale == 1 else {"image": {"scale": scale, "drop": "text"}},
        seed=seed,
    )
    pixels: Tensor = generated.latents["image"]
    return pixels


def save(rows: list[Tensor], path: Path) -> None:
    """Write a PNG with a row of pictures for each entry."""
    sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)  # [3, rows * 16, columns * 16]
    pixels = ((sheet.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    height, width, _ = pixels.shape
    picture = Image.frombytes("RGB", (width, height), bytes(pixels.flatten().tolist()))
    picture.resize((width * SCALE, height * SCALE), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Read the arguments, train, and write samples.png: the originals, then what each model draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="training time, both models together")
    parser.add_argument("--out", type=Path, required=True, help="folder for samples.png")
    parser.add_argument("--batch-size", type=int, default=16, help="samples a step")
    parser.add_argument("--steps", type=int, default=25, help="steps of the scheduler")
    parser.add_argument("--guidance", type=float, default=3.0, help="how far captions lead; 1 is not at all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    data, console = load_emoji(), Console()
    spec = Path(__file__).with_name("diffusion.mot")
    models: dict[str, Any] = {
        "MoT": motc.load(spec, seed=arguments.seed),
        "dense": motc.load(spec, dense=True, seed=arguments.seed),
    }
    losses = train(models, data, seconds=arguments.seconds, batch_size=arguments.batch_size, seed=arguments.seed)
    console.print(f"{losses['steps']} steps each; losses of text and image, mean of the last 20:")
    for name in models:
        console.print(f"  {name:<6}{losses[name][0]:.3f}  {losses[name][1]:.3f}")
    shown = samples(data, data.held_out[:: len(data.held_out) // 8][:8])
    with console.status("drawing"):
        how: dict[str, Any] = {"steps": arguments.steps, "seed": arguments.seed}
        drawn = [draw(model.eval(), shown, scale=arguments.guidance, **how) for model in models.values()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    save([shown.pixels, *drawn], arguments.out / "samples.png")
    console.print(f"wrote {arguments.out / 'samples.png'}")
    told = data.held_out[:TOLD]
    captions = [data.captions[index] for index in told]
    with console.status("telling skin tones"):
        classifier = trained_classifier(pictures(data, data.training), data, arguments.seed)
        found = {"real": agreement(classifier, pictures(data, told), captions)}
        for name, model in models.items():
            for scale in sorted({1.0, arguments.guidance}):
                pixels = draw(model, samples(data, told), scale=scale, **how)
                found[f"{name}, guidance {scale:g}"] = agreement(classifier, pixels, captions)
    console.print(f"held-out pictures, of {len(told)}, with their caption's skin tone, or none where it says none:")
    for said, share in found.items():
        console.print(f"  {said:<20}{share:.0%}")


if __name__ == "__main__":
    main()
