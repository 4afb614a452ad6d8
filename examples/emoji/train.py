"""Train a Mixture-of-Transformers and its dense twin side by side on captioned emoji, and compare them.

    python examples/emoji/train.py specs/emoji_mot.mot --seconds 60 --out runs/emoji

Both see the same batches in the same order, in turn; the learning rate follows the time elapsed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from data import Batch, EmojiData, held_out_batches, load_emoji, training_batches
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from samples import draw_comparison, generate_images

import motc

PEAK_LEARNING_RATE = 1e-3
WARM_UP = 0.05  # of the time given
LAST_STEPS = 20  # the training loss reported is the mean over these
MODALITIES = ("text", "image")

Losses = dict[str, float]


@dataclass(slots=True, kw_only=True)
class Trainee:
    """A model in training, with the losses of all its steps and the seconds they took."""

    name: str
    model: Any
    optimizer: torch.optim.Optimizer
    history: list[Losses] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def step(self, batch: Batch, learning_rate: float) -> None:
        """One optimiser step on the batch."""
        start = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        losses = self.model.loss(batch.input_ids, batch.modality_ids, document_ids=batch.document_ids)
        self.optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.history.append(
            {"total": losses.total.item(), **{name: losses.by_modality[name].item() for name in MODALITIES}}
        )
        self.seconds.append(time.perf_counter() - start)

    @torch.no_grad()
    def evaluate(self, data: EmojiData, batch_size: int) -> Losses:
        """Mean held-out loss of every modality, each target counted once."""
        sums, counts = dict.fromkeys(MODALITIES, 0.0), dict.fromkeys(MODALITIES, 0)
        for batch in held_out_batches(data, batch_size=batch_size):
            losses = self.model.loss(batch.input_ids, batch.modality_ids, document_ids=batch.document_ids)
            for name, count in batch.count_targets().items():
                sums[name] += losses.by_modality[name].item() * count
                counts[name] += count
        return {name: sums[name] / counts[name] for name in MODALITIES}

    def training_loss(self) -> Losses:
        """Mean loss of every modality over the last steps."""
        recent = self.history[-LAST_STEPS:]
        return {name: sum(losses[name] for losses in recent) / len(recent) for name in MODALITIES}


def load_trainee(name: str, spec: Path, *, dense: bool, seed: int) -> Trainee:
    """The model of the spec, or its dense twin, with a fresh AdamW."""
    model = motc.load(spec, dense=dense, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95))
    return Trainee(name=name, model=model, optimizer=optimizer)


def learning_rate_at(fraction: float) -> float:
    """Linear warm-up, then cosine down to a tenth, by the fraction of the time that has passed."""
    if fraction < WARM_UP:
        return PEAK_LEARNING_RATE * max(fraction / WARM_UP, 0.01)
    progress = min((fraction - WARM_UP) / (1 - WARM_UP), 1.0)
    return PEAK_LEARNING_RATE * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)


def train(
    trainees: list[Trainee], data: EmojiData, *, seconds: float, batch_size: int, seed: int, console: Console
) -> None:
    """Step the models in turn on the same batches until the time is up."""
    counter, losses = TextColumn("step {task.fields[step]}"), TextColumn("{task.description}")
    with Progress(counter, BarColumn(), TimeRemainingColumn(), losses, console=console) as progress:
        task = progress.add_task("", total=seconds, step=0)
        start = time.perf_counter()
        for step, batch in enumerate(training_batches(data, batch_size=batch_size, seed=seed), start=1):
            learning_rate = learning_rate_at((time.perf_counter() - start) / seconds)
            for trainee in trainees:
                trainee.step(batch, learning_rate)
            elapsed = time.perf_counter() - start
            description = "  ".join(f"{trainee.name} {trainee.history[-1]['total']:.3f}" for trainee in trainees)
            progress.update(task, completed=elapsed, step=step, description=description)
            if elapsed >= seconds:
                return


def draw_samples(trainees: list[Trainee], data: EmojiData, path: Path, *, seed: int) -> None:
    """Generate images for four held-out captions with every model and write them beside the originals."""
    indices = data.held_out[:: len(data.held_out) // 4][:4]
    captions = [data.captions[index] for index in indices]
    rows = {trainee.name: generate_images(trainee.model, captions, seed=seed) for trainee in trainees}
    draw_comparison(data, indices, rows, path)


def summarise(trainees: list[Trainee], data: EmojiData, *, batch_size: int) -> list[dict[str, Any]]:
    """What is written to results.json for each model."""
    return [
        {
            "name": trainee.name,
            "parameters": sum(parameter.numel() for parameter in trainee.model.parameters()),
            "steps": len(trainee.history),
            "seconds_per_step": statistics.median(trainee.seconds),
            "training_loss": trainee.training_loss(),
            "held_out_loss": trainee.evaluate(data, batch_size),
            "history": trainee.history,
        }
        for trainee in trainees
    ]


def make_table(results: list[dict[str, Any]]) -> Table:
    """A column for each model; losses in nats a token."""
    table = Table(title="Loss in nats a token", caption=f"training: mean of the last {LAST_STEPS} steps")
    table.add_column("")
    for result in results:
        table.add_column(result["name"], justify="right")
    for kind in ("training", "held_out"):
        for name in MODALITIES:
            losses = (f"{result[f'{kind}_loss'][name]:.3f}" for result in results)
            table.add_row(f"{kind.replace('_', '-')} {name}", *losses)
    table.add_section()
    table.add_row("steps", *(str(result["steps"]) for result in results))
    table.add_row("milliseconds a step (median)", *(f"{1000 * result['seconds_per_step']:.0f}" for result in results))
    table.add_row("parameters", *(f"{result['parameters']:,}" for result in results))
    return table


def main() -> None:
    """Read the arguments, train, and write results.json and samples.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, help="a spec with the modalities text (vocab 258) and image (vocab 512)")
    parser.add_argument("--seconds", type=float, default=60.0, help="training time, both models together")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and samples.png")
    parser.add_argument("--batch-size", type=int, default=4, help="rows of 512 tokens a step")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    console = Console()
    data = load_emoji()
    trainees = [
        load_trainee("MoT", arguments.spec, dense=False, seed=arguments.seed),
        load_trainee("dense", arguments.spec, dense=True, seed=arguments.seed),
    ]
    for trainee in trainees:
        if tuple(trainee.model.modalities) != MODALITIES:
            parser.error(f"the spec has the modalities {', '.join(trainee.model.modalities)}; this data is text, image")

    batch_size, seed = arguments.batch_size, arguments.seed
    train(trainees, data, seconds=arguments.seconds, batch_size=batch_size, seed=seed, console=console)
    for trainee in trainees:
        trainee.model.eval()
    results = summarise(trainees, data, batch_size=batch_size)
    console.print(make_table(results))
    arguments.out.mkdir(parents=True, exist_ok=True)
    document = {"spec": str(arguments.spec), "seconds": arguments.seconds, "batch_size": batch_size, "seed": seed}
    (arguments.out / "results.json").write_text(json.dumps({**document, "models": results}, indent=2) + "\n")
    draw_samples(trainees, data, arguments.out / "samples.png", seed=seed)
    console.print(f"wrote {arguments.out / 'results.json'} and {arguments.out / 'samples.png'}")


if __name__ == "__main__":
    main()
