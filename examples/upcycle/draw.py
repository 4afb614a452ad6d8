"""Draw emoji from names that were held out, below the originals: new ones, and then those known in another skin tone.

python examples/upcycle/draw.py build/upcycle/short/weights.safetensors --out build/upcycle/drawn.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image, ImageDraw
from rows import LAST, PATCHES, PICTURE, SIDE, read_emoji, rows
from tokenizers import Tokenizer
from torch import Tensor

import motc

SCALE, COLUMNS = 3, 12
LINE, MARGIN = 30, 6  # pixels below a picture for its name, and around


class Guided:
    """Euler's steps from noise to pictures; half of the rows have names and half have none, of the same noise.

    The velocity is led away from that without a name (classifier-free guidance, Ho and Salimans, 2207.12598).
    """

    def __init__(self, guidance: float) -> None:
        self.guidance, self.timesteps = guidance, torch.empty(0)

    def set_timesteps(self, steps: int, device: torch.device | None = None) -> None:
        times = torch.linspace(1000, 0, steps + 1, device=device)[:-1]
        self.timesteps = torch.cat([times[:1], times])  # at first, both halves are given one noise

    def step(self, velocity: Tensor, time: Tensor, x: Tensor) -> SimpleNamespace:
        if x.shape[0] % 2 or not torch.equal(*x.chunk(2)):
            return SimpleNamespace(prev_sample=x.chunk(2)[0].repeat(2, 1, 1, 1))
        named, nameless = velocity.chunk(2)
        led = nameless + self.guidance * (named - nameless)
        return SimpleNamespace(prev_sample=x - led.repeat(2, 1, 1, 1) / (len(self.timesteps) - 1))


@torch.no_grad()
def draw(model: Any, tokenizer: Tokenizer, names: list[str], *, guidance: float, steps: int, seed: int) -> Tensor:
    """A picture [n, 3, 32, 32] for each name."""
    ids, modality_ids = (each[:, :-PATCHES] for each in rows(tokenizer, [*names, *[""] * len(names)]))
    begin, end = (tokenizer.token_to_id(each) for each in (PICTURE, LAST))
    with torch.autocast("cpu", torch.bfloat16):
        generated = model.eval().generate(
            ids,
            modality_ids.masked_fill(modality_ids == 1, -1),
            max_new_tokens=PATCHES + 1,
            spans={"image": {"begin": begin, "end": end, "size": (SIDE, SIDE)}},
            schedulers={"image": Guided(guidance)},
            denoising_steps=steps,
            seed=seed,
        )
    pictures: Tensor = generated.latents["image"][: len(names)]
    return pictures


def sheet(names: list[str], rows_of_pictures: list[Tensor], path: Path) -> None:
    """Write a PNG: of each name a picture of each row, one below the other, and the name."""
    side, high = SIDE * SCALE + MARGIN, len(rows_of_pictures) * (SIDE * SCALE + MARGIN) + LINE
    lines = (len(names) + COLUMNS - 1) // COLUMNS
    canvas = Image.new("RGB", (min(COLUMNS, len(names)) * side + MARGIN, lines * high + MARGIN), "gainsboro")
    pen = ImageDraw.Draw(canvas)
    for number, name in enumerate(names):
        left, top = MARGIN + number % COLUMNS * side, MARGIN + number // COLUMNS * high
        for place, pictures in enumerate(rows_of_pictures):
            levels = ((pictures[number].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
            picture = Image.frombytes("RGB", (SIDE, SIDE), bytes(levels.flatten().tolist()))
            picture = picture.resize((SIDE * SCALE, SIDE * SCALE), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top + place * side))
        words, text = name.split(), [""]
        for word in words:
            text = [*text[:-1], f"{text[-1]} {word}".strip()] if len(text[-1] + word) < 16 else [*text, word]
        pen.multiline_text((left, top + len(rows_of_pictures) * side), "\n".join(text[:2]), fill="black", spacing=1)
    canvas.save(path)


def spread(places: list[int], count: int) -> list[int]:
    """So many of them, evenly spread."""
    return [places[number * len(places) // count] for number in range(min(count, len(places)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--names", nargs="*", help="what to draw; default: names that were held out")
    parser.add_argument("--count", type=int, default=24, help="of new names, and half as many of others")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(given.weights.parent.parent / "tokenizer.json"))
    emoji, model = read_emoji(), motc.load(weights=given.weights)
    how = {"guidance": given.guidance, "steps": given.steps, "seed": given.seed}
    if given.names:
        sheet(given.names, [draw(model, tokenizer, given.names, **how)], given.out)
    else:
        others = sorted(set(emoji.held_out) - set(emoji.new))
        chosen = [*spread(emoji.new, given.count), *spread(others, given.count // 2)]
        names = [emoji.names[each] for each in chosen]
        sheet(names, [emoji.pictures[chosen], draw(model, tokenizer, names, **how)], given.out)
    print(given.out)


if __name__ == "__main__":
    main()
