"""A race: systems trained step by step in turns, on the same batches, from one seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from motc.ir.model import Model
from motc.loading import instantiate
from motc.match.batches import PreparedBatch, held_out_batches, training_batches
from motc.match.checkpoint import REMEDY, optimizer_tensors, read_checkpoint, restore_optimizer, write_checkpoint
from motc.match.contents import below, check_checkpoint
from motc.match.data import Data
from motc.match.report import eval_steps
from motc.match.settings import BETAS, MatchError, Settings

UNTIMED = 3  # first steps of a process, in which torch compiles

Notify = Callable[[float, str], None]
"""Called with the fraction that is done and what is being done."""


class Diverged(MatchError):
    """A loss is no finite number."""


class EachStep(Protocol):
    """Called after each step with the systems that took it, and whether held-out losses were taken."""

    def __call__(self, seed: int, step: int, systems: Sequence[System], *, evaluated: bool) -> None: ...


def nothing(seed: int, step: int, systems: Sequence[System], *, evaluated: bool) -> None:
    """Nobody watches."""


class System:
    """A model in training, and what its steps have given: losses [steps, M], seconds [steps], held-out [evals, M]."""

    def __init__(self, name: str, model: Model, settings: Settings, seed: int) -> None:
        self.name = name
        self.device = torch.device(settings.device)
        self.network = cast(Any, instantiate(model, device=self.device, seed=seed))
        self.modalities = cast(tuple[str, ...], self.network.modalities)
        self.settings = settings
        self.seed = seed
        self.names = {x: parameter for parameter, x in self.network.named_parameters()}
        groups = [{"params": list(self.names), "initial_lr": settings.learning_rate}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, betas=BETAS, weight_decay=settings.weight_decay
        )
        self.losses: list[Tensor] = []
        self.seconds: list[float] = []
        self.held_out: list[Tensor] = []
        self.start(0)

    def start(self, done: int) -> None:
        """Compile, and have the schedule stand after `done` steps."""
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate_factor(step, self.settings), last_epoch=done - 1
        )
        self.network.compile()

    def step(self, batch: PreparedBatch, *, timed: bool) -> None:
        """One step on the batch, whose layout counts into its seconds. Raises Diverged at a NaN or infinite loss."""
        start = perf_counter()
        losses = self.losses_of(batch, f"seed {self.seed}, step {len(self.losses)}")
        self.optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        if hasattr(self.network, "update_corrections"):
            self.network.update_corrections()
        each = torch.stack([losses.by_modality[name] for name in self.modalities]).detach().double().cpu()
        seconds = perf_counter() - start + batch.layout_seconds[self.name]
        counted = torch.stack([losses.weights[name] for name in self.modalities]).cpu() > 0
        if not bool(each.isfinite().all()):
            told = ", ".join(f"{name} {loss:.3g}" for name, loss in zip(self.modalities, each.tolist(), strict=True))
            raise Diverged(f"{self.name}: the loss of step {len(self.losses) + 1} is no finite number ({told})")
        self.losses.append(each.where(counted, math.nan))
        self.seconds.append(seconds if timed else math.nan)

    @torch.no_grad()
    def evaluate(self, batches: list[PreparedBatch]) -> None:
        """Record the mean held-out loss of each modality, every target and image counted once.

        Raises Diverged at a NaN or infinite loss.
        """
        sums, weights = torch.zeros(2, len(self.modalities), dtype=torch.float64)
        for number, batch in enumerate(batches):
            losses = self.losses_of(batch, f"held-out batch {number}")
            means, numbers = (
                torch.stack([of[name] for name in self.modalities]).double().cpu()
                for of in (losses.by_modality, losses.weights)
            )
            sums += means * numbers
            weights += numbers
        if not bool(sums.isfinite().all()):
            raise Diverged(f"{self.name}: a held-out loss after step {len(self.losses)} is no finite number")
        self.held_out.append(sums / weights)

    def losses_of(self, batch: PreparedBatch, noise: str) -> Any:
        """The batch's losses. `noise` seeds timesteps and noise, so that every system has the same ones, every time."""
        layout = batch.layouts[self.name].to(self.device)
        ids, kinds = batch.input_ids.to(self.device), batch.modality_ids.to(self.device)
        if not batch.latents:
            return self.network.loss(ids, kinds, layout=layout)
        latents = {name: x.to(self.device) for name, x in batch.latents.items()}
        digest = hashlib.sha256(noise.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # of which it reads 32 bits
        return self.network.loss(ids, kinds, layout=layout, latents=latents, generator=generator)

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds of it."""
        return {
            **{f"{self.name}/model/{name}": x for name, x in self.network.state_dict().items()},
            **{f"{self.name}/optimizer/{name}": x for name, x in optimizer_tensors(self.optimizer, self.names).items()},
            f"{self.name}/losses": torch.stack(self.losses),
            f"{self.name}/seconds": torch.tensor(self.seconds, dtype=torch.float64),
            f"{self.name}/held_out": torch.stack(self.held_out),
        }

    def restore(self, saved: Mapping[str, Tensor], done: int) -> None:
        """Go back to where a checkpoint was written; its tensors must be of the right shapes."""
        mine = below(f"{self.name}/", saved)
        self.losses = list(mine["losses"].unbind())
        self.seconds = mine["seconds"].tolist()
        self.held_out = list(mine["held_out"].unbind())
        self.network.load_state_dict(below("model/", mine))
        restore_optimizer(self.optimizer, self.names, below("optimizer/", mine))
        self.start(done)


def rate_factor(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to the final rate, as a factor of the learning rate; steps count from 0."""
    steps, final = settings.steps, settings.final_rate
    warm_up = max(1, round(settings.warm_up * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = min((step - warm_up) / max(1, steps - warm_up), 1.0)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def race(
    models: Mapping[str, Model],
    data: Data,
    settings: Settings,
    seed: int,
    path: Path,
    notify: Notify,
    each_step: EachStep = nothing,
) -> list[System]:
    """Train the systems from one seed, or go on from the checkpoint at `path`. Raises MatchError."""
    systems = [System(name, model, settings, seed) for name, model in models.items()]
    first = 0
    if path.is_file():
        first, saved = read_checkpoint(path)
        if first not in eval_steps(settings):
            raise MatchError(f"{path} says it is of step {first}, after which none is written; {REMEDY}")
        check_checkpoint(path, saved, {system.name: system.network for system in systems}, first, settings)
        for system in systems:
            system.restore(saved, first)
    if first == settings.steps:
        return systems
    layouts = {system.name: system.network.layout for system in systems}
    held_out = list(held_out_batches(data, layouts, batch=settings.batch))
    batches = training_batches(data, layouts, batch=settings.batch, seed=seed, first=first, steps=settings.steps)
    for step, batch in enumerate(batches, start=first + 1):
        turn = step % len(systems)  # each has the machine's noise, and its neighbours' caches, as often as any other
        for system in systems[turn:] + systems[:turn]:
            system.step(batch, timed=step > first + UNTIMED)
        evaluated = step % settings.eval_every == 0 or step == settings.steps
        if evaluated:
            for system in systems:
                system.evaluate(held_out)
            tensors = {name: x for system in systems for name, x in system.tensors().items()}
            write_checkpoint(path, tensors, step)
        each_step(seed, step, systems, evaluated=evaluated)
        means = (f"{system.name} {float(system.losses[-1].nanmean()):.3f}" for system in systems)
        notify(step / settings.steps, f"seed {seed}, step {step}: {', '.join(means)}")
    return systems
