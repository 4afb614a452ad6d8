"""Train a Transfusion on captioned emoji, pixels as latents, and draw captions it has not seen.

    python examples/emoji/diffuse.py --out build/diffusion

A tenth of the samples have no caption, so that what is drawn, with a scheduler of diffusers, can be led away from that.
What draws is the moving mean of the weights.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from agreement import TONES, agreement, tone_of, trained_classifier
from data import END, IMAGE, PADDING, TEXT, EmojiData, load_emoji, shuffle_forever
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from words import END_OF_IMAGE, Words, known_words

import motc

SIDE = 16  # pixels
PATCHES = (SIDE // 4) ** 2
LEARNING_RATE, WARM_UP, FALLING = 2e-3, 50, 0.7  # steps it rises, share of the steps in which it falls to 0
DECAY = 0.998  # of the moving mean of the weights
UNCAPTIONED = 0.1  # of the samples
SHOWN, COLUMNS = 32, 4  # held-out captions in the picture
SCALE, BESIDE = 4, 150  # of a pixel, and pixels for the caption


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


def samples(captions: list[list[int]], pixels: Tensor) -> Samples:
    """A row for each caption: its tokens, its image between two tokens of text, and padding."""
    length = max(map(len, captions)) + PATCHES + 1
    input_ids = torch.zeros(len(captions), length, dtype=torch.int64)
    modality_ids = torch.full_like(input_ids, PADDING)
    for row, caption in enumerate(captions):
        end = len(caption) + PATCHES
        input_ids[row, : len(caption)] = torch.tensor(caption)
        input_ids[row, end] = END_OF_IMAGE
        modality_ids[row, : end + 1] = TEXT
        modality_ids[row, len(caption) : end] = IMAGE
    return Samples(input_ids=input_ids, modality_ids=modality_ids, pixels=pixels)


def batches(data: EmojiData, words: Words, batch_size: int, seed: int) -> Iterator[Samples]:
    """Endless batches of the training samples, some of them with nothing but the end of a caption."""
    order, generator = shuffle_forever(data.training, seed), torch.Generator().manual_seed(seed)
    while True:
        indices = [next(order) for _ in range(batch_size)]
        uncaptioned = (torch.rand(batch_size, generator=generator) < UNCAPTIONED).tolist()
        captions = [
            [END] if bare else words.encode(data.captions[index], generator)
            for index, bare in zip(indices, uncaptioned, strict=True)
        ]
        yield samples(captions, pictures(data, indices))


def train(model: Any, stream: Iterator[Samples], steps: int) -> Any:
    """Train for some steps; returns the moving mean of the weights, and prints the losses of the last tenth."""
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    model.compile()
    history = []
    for step in track(range(steps), description="training"):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(
            1, (step + 1) / WARM_UP, (steps - step) / (FALLING * steps)
        )
        batch, generator = next(stream), torch.Generator().manual_seed(step)
        losses = model.loss(batch.input_ids, batch.modality_ids, latents={"image": batch.pixels}, generator=generator)
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean.update_parameters(model)
        history.append([losses.by_modality["text"].item(), losses.by_modality["image"].item()])
    text, image = torch.tensor(history[-max(1, steps // 10) :]).mean(0).tolist()
    Console().print(f"{steps} steps; losses in the last tenth of them: text {text:.3f}, image {image:.3f}")
    return mean.module.eval()


def draw(model: Any, captions: list[list[int]], *, guidance: float, steps: int, seed: int) -> Tensor:
    """Pixels [n, 3, 16, 16] that the model makes of noise for captions."""
    batch = samples(captions, torch.empty(0))
    given = (batch.modality_ids == TEXT) & (batch.input_ids != END_OF_IMAGE)
    generated = model.generate(
        batch.input_ids,
        torch.where(given, TEXT, PADDING),
        max_new_tokens=PATCHES + 1,
        spans={"image": {"begin": END, "end": END_OF_IMAGE, "size": (SIDE, SIDE)}},
        schedulers={"image": FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)},
        denoising_steps=steps,
        guidance={} if guidance == 1 else {"image": {"scale": guidance, "drop": "text"}},
        seed=seed,
    )
    pixels: Tensor = generated.latents["image"]
    return pixels


def picture(pixels: Tensor) -> Image.Image:
    """One of pixels [3, 16, 16], enlarged."""
    values = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    image = Image.frombytes("RGB", (SIDE, SIDE), bytes(values.flatten().tolist()))
    return image.resize((SIDE * SCALE, SIDE * SCALE), Image.Resampling.NEAREST)


def save(captions: list[bytes], real: Tensor, drawn: Tensor, path: Path) -> None:
    """Write a PNG: for each caption the original, what was drawn, and the caption."""
    side = SIDE * SCALE
    width, height = 2 * side + BESIDE, side + 8
    sheet = Image.new("RGB", (COLUMNS * width, -(-len(captions) // COLUMNS) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions):
        left, top = number % COLUMNS * width, number // COLUMNS * height
        sheet.paste(picture(real[number]), (left, top))
        sheet.paste(picture(drawn[number]), (left + side + 4, top))
        pen.text((left + 2 * side + 10, top + 2), "\n".join(textwrap.wrap(caption.decode(), 22)), fill="black")
    sheet.save(path)


def main() -> None:
    """Read the arguments, train, write weights and samples.png, and tell how many pictures have their skin tone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for samples.png and weights.safetensors")
    parser.add_argument("--dense", action="store_true", help="train the dense twin instead")
    parser.add_argument("--steps", type=int, default=7000, help="of training")
    parser.add_argument("--batch-size", type=int, default=32, help="samples a step")
    parser.add_argument("--denoising-steps", type=int, default=25, help="steps of the scheduler")
    parser.add_argument("--guidance", type=float, default=3.0, help="how far captions lead; 1 is not at all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    data, console = load_emoji(), Console()
    words = known_words(data)
    model: Any = motc.load(Path(__file__).with_name("diffusion.mot"), dense=arguments.dense, seed=arguments.seed)
    stream = batches(data, words, arguments.batch_size, arguments.seed)
    mean = train(model, stream, arguments.steps)
    arguments.out.mkdir(parents=True, exist_ok=True)
    motc.save(mean, arguments.out / "weights.safetensors")

    captions = [data.captions[index] for index in data.held_out]
    real = pictures(data, data.held_out)
    encoded = [words.encode(caption) for caption in captions]
    how: dict[str, Any] = {"steps": arguments.denoising_steps, "seed": arguments.seed}
    drawn = {
        guidance: draw(mean, encoded, guidance=guidance, **how)
        for guidance in track(sorted({1.0, arguments.guidance}), description="drawing")
    }
    shown = range(0, len(captions), -(-len(captions) // SHOWN))
    chosen = [captions[place] for place in shown]
    save(chosen, real[shown], drawn[arguments.guidance][shown], arguments.out / "samples.png")
    console.print(f"wrote {arguments.out / 'samples.png'}")

    classifier = trained_classifier(pictures(data, data.training), data, arguments.seed)
    toned = [place for place, caption in enumerate(captions) if tone_of(caption) < len(TONES)]
    console.print(
        f"held-out pictures with their caption's skin tone: of {len(captions)}, or none where it names none; "
        f"and of the {len(toned)} whose captions name one"
    )
    for said, pixels in {"real": real, **{f"guidance {guidance:g}": drawn[guidance] for guidance in drawn}}.items():
        of_all = agreement(classifier, pixels, captions)
        of_toned = agreement(classifier, pixels[toned], [captions[place] for place in toned])
        console.print(f"  {said:<12}{of_all:>5.0%}{of_toned:>6.0%}")


if __name__ == "__main__":
    main()
