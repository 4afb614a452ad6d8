"""Train the image tower beside a frozen text tower; a run that was stopped goes on.

python examples/upcycle/learn.py build/upcycle/init.safetensors --steps 200 --out build/upcycle/short
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rows import Emoji, read_emoji, rows
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import motc

WARM_UP, DECAY = 50, 0.3  # steps, and the last part of all
CAPTIONLESS = 0.1  # so that guidance has something to lead away from
AVERAGED = 0.995
MOMENTS = ("exp_avg", "exp_avg_sq")


def batch_of(emoji: Emoji, step: int, size: int) -> tuple[list[str], Tensor, Tensor]:
    """Names and pictures of a training step, and a timestep for each; they follow from the step alone."""
    epoch, place = divmod(step * size, len(emoji.training) - size)
    order = torch.randperm(len(emoji.training), generator=torch.Generator().manual_seed(epoch)).tolist()
    chosen = [emoji.training[each] for each in order[place : place + size]]
    generator = torch.Generator().manual_seed(10_000 + step)
    left_out = (torch.rand(size, generator=generator) < CAPTIONLESS).tolist()
    names = ["" if out else emoji.names[each] for each, out in zip(chosen, left_out, strict=True)]
    return names, emoji.pictures[chosen], 1000 * torch.sigmoid(torch.randn(size, generator=generator))


def denoising_loss(model: Any, tokenizer: Tokenizer, names: list[str], pictures: Tensor, **how: Any) -> Tensor:
    """The mean squared error of the velocity; no word is a target."""
    ids, modality_ids = rows(tokenizer, names)
    given = {"labels": torch.full_like(ids, -100), "latents": {"image": pictures}, **how}
    # torch's fused attention is slow in its backward, on a CPU in bfloat16
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        loss: Tensor = model.loss(ids, modality_ids, **given).by_modality["image"]
    return loss


@torch.no_grad()
def held_out_loss(model: Any, tokenizer: Tokenizer, emoji: Emoji) -> float:
    """Of all names held out, with the same noise each time."""
    generator, total = torch.Generator().manual_seed(1), 0.0
    for at in range(0, len(emoji.held_out), 32):
        some = emoji.held_out[at : at + 32]
        times = {"image": 1000 * torch.rand(len(some), generator=generator)}
        names, pictures = [emoji.names[each] for each in some], emoji.pictures[some]
        how = {"timesteps": times, "generator": generator}
        total += len(some) * denoising_loss(model, tokenizer, names, pictures, **how).item()
    return total / len(emoji.held_out)


def rate(step: int, steps: int, most: float) -> float:
    """The learning rate: up, level, and in the last part down to nothing."""
    return most * min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


class Training:
    """What is trained of a model, its averages and its optimizer; kept in a folder."""

    def __init__(self, model: Any, out: Path, learning_rate: float) -> None:
        self.trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.averages = {name: each.detach().clone() for name, each in self.trained.items()}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=learning_rate, betas=(0.9, 0.95), fused=True)
        self.file, self.step, self.history = out / "training.safetensors", 0, list[tuple[int, float]]()
        if self.file.exists():
            self.go_on()

    def go_on(self) -> None:
        """Take up what is kept."""
        kept = load_file(self.file)
        self.step = int(kept["step"])
        for name, each in self.trained.items():
            each.data.copy_(kept[f"now.{name}"])
            self.averages[name].copy_(kept[f"average.{name}"])
            moments = {key: kept[f"{key}.{name}"] for key in MOMENTS if f"{key}.{name}" in kept}
            if moments:  # what has had no gradient yet has none
                self.optimizer.state[each] = {"step": torch.tensor(float(self.step)), **moments}
        self.history = json.loads(self.file.with_suffix(".json").read_text())

    def keep(self) -> None:
        """Write all of it, so that another run goes on from here."""
        kept = {"step": torch.tensor(self.step)}
        for name, each in self.trained.items():
            kept |= {f"now.{name}": each.detach(), f"average.{name}": self.averages[name]}
            state = self.optimizer.state[each]
            kept |= {f"{key}.{name}": state[key] for key in MOMENTS if key in state}
        aside = self.file.with_suffix(".tmp")
        save_file(kept, aside)
        aside.replace(self.file)
        self.file.with_suffix(".json").write_text(json.dumps(self.history))

    def take_step(self, loss: Tensor, learning_rate: float) -> None:
        """One step of the optimizer, and of the averages."""
        self.optimizer.param_groups[0]["lr"] = learning_rate
        with sdpa_kernel(SDPBackend.MATH):
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        kept = min(AVERAGED, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.averages.values()), [each.detach() for each in self.trained.values()], 1 - kept)
        self.history.append((self.step, loss.item()))


def freeze_text(model: Any) -> None:
    """Train the image tower alone. Text does not see images, so no gradient goes through it."""
    motc.freeze(model, "text.*", "embedding")
    motc.cast(model, "text.*", dtype="bfloat16")  # as autocast would make it anew in each step


def without_logits(model: Any) -> None:
    """No word is a target, so no logits are made."""
    model.score = lambda x, layout, wanted: (torch.zeros(2), model.norm(x, layout))


def every(seconds: float) -> Iterator[bool]:
    """Whether so much time has passed since that was last so."""
    last = time.monotonic()
    while True:
        passed = time.monotonic() - last > seconds
        last = time.monotonic() if passed else last
        yield passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="what `motc init` made")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--train-text", action="store_true", help="all parameters, and not the image tower alone")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(given.weights.with_name("tokenizer.json")))
    emoji, model = read_emoji(), motc.load(weights=given.weights)
    without_logits(model)
    if not given.train_text:
        freeze_text(model)
    training = Training(model, given.out, given.learning_rate)
    print(f"{sum(map(torch.numel, training.trained.values())):,} parameters are trained, from step {training.step}")
    is_time = every(120)
    while training.step < given.steps:
        names, pictures, times = batch_of(emoji, training.step, given.batch)
        how = {"timesteps": {"image": times}, "generator": torch.Generator().manual_seed(training.step)}
        loss = denoising_loss(model, tokenizer, names, pictures, **how)
        training.take_step(loss, rate(training.step, given.steps, given.learning_rate))
        if training.step % 25 == 0:
            recent = [loss for _, loss in training.history[-25:]]
            print(f"step {training.step}: {sum(recent) / len(recent):.4f}", flush=True)
        if next(is_time):
            training.keep()
    training.keep()
    for name, each in training.trained.items():
        each.data.copy_(training.averages[name])
    print(f"held-out names: {held_out_loss(model, tokenizer, emoji):.4f}")
    first = load_file(given.weights)
    motc.save(model, given.out / "weights.safetensors", tensors={**first, **training.averages})
    print(given.out / "weights.safetensors")


if __name__ == "__main__":
    main()
