"""Denoisers of diffusers, small, beside the gallery's specs of them: the same parameters, outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import motc
from motc.cli import main
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.weights import Bijection, bijection_of, parameters_of, read_mapping, tensors_of
from tests.originals import GALLERY, NothingNarrowed

DOUBLE = torch.float64


@dataclass(frozen=True)
class Pair:
    """One of diffusers, ours with the same parameters, and how these correspond."""

    theirs: Any
    ours: Any
    bijection: Bijection
    model: Model

    def assert_same(self, made: Tensor, expected: Tensor) -> None:
        """What both predict, and the gradients of all parameters, of one random sum of it."""
        assert_close(made, expected)
        weights = torch.randn_like(expected)
        (made * weights).sum().backward()
        with NothingNarrowed():
            (expected * weights).sum().backward()
        wanted = parameters_of(self.bijection, gradients(self.theirs))
        for name, parameter in self.ours.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad - wanted[name]).abs().max() <= 1e-9 * max(1.0, wanted[name].abs().max()), name

    def assert_tensors_come_back(self) -> None:
        """All of theirs, as they were, of our parameters."""
        theirs, back = dict(self.theirs.named_parameters()), tensors_of(self.bijection, self.ours.state_dict())
        assert theirs.keys() == back.keys()
        assert all(torch.equal(theirs[name], tensor) for name, tensor in back.items())

    def assert_its_folder_comes_in(self, folder: Path) -> None:
        """What its class saves is, by `motc import`, ours with the same parameters, and what nothing reads is kept."""
        saved, spec, weights, rest = (folder / name for name in ("it", "it.mot", "it.safetensors", "rest.safetensors"))
        self.theirs.save_pretrained(saved, max_shard_size="60KB")
        assert main(["import", f"{saved}", "-o", f"{spec}", "--weights", f"{weights}", "--left-out", f"{rest}"]) == 0
        assert semantic_hash(compile_ir(spec)) == semantic_hash(self.model), spec.read_text()
        parameters, ours = load_file(weights), self.ours.state_dict()
        assert parameters.keys() == ours.keys()
        assert all(torch.equal(parameters[name], ours[name]) for name in ours)
        given = {name: each for path in saved.glob("*.safetensors") for name, each in load_file(path).items()}
        back = tensors_of(self.bijection, parameters) | load_file(rest)
        assert back.keys() == given.keys()
        assert all(torch.equal(back[name], given[name]) for name in given)


def pair(spec: Path, mapping: str | Path, small: dict[str, Any], theirs: Any) -> Pair:
    """Both in float64; `small` sets the spec to the sizes of `theirs`, whose parameters become random ones."""
    torch.manual_seed(0)
    theirs = theirs.eval()
    for parameter in theirs.parameters():
        parameter.data = nn.init.normal_(parameter.data.to(DOUBLE), std=0.2)
    tensors = {name: parameter.detach() for name, parameter in theirs.named_parameters()}
    ours: Any = motc.load(spec, set=small, dtype=DOUBLE)
    bijection = bijection_of(read_mapping(mapping_file(mapping)), shapes(theirs), compile_ir(spec, small))
    ours.load_state_dict({name: each.clone() for name, each in parameters_of(bijection, tensors).items()})
    return Pair(theirs, ours, bijection, compile_ir(spec, small))


def mapping_file(name: str | Path) -> Path:
    """That of the gallery's mapping of a name, or one that is given."""
    return name if isinstance(name, Path) else GALLERY / "mappings" / f"{name}.yaml"


def shapes(theirs: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in theirs.named_parameters()}


def gradients(theirs: nn.Module) -> dict[str, Tensor]:
    """By name; zeros where nothing was read."""
    named = theirs.named_parameters()
    return {name: torch.zeros_like(each) if each.grad is None else each.grad for name, each in named}


def assert_close(made: Tensor, expected: Tensor) -> None:
    assert made.shape == expected.shape
    assert (made - expected).abs().max() <= 1e-9 * expected.abs().max()


def denoised(scheduler: Any, velocities: Callable[[Tensor, Tensor], Tensor], x: Tensor, steps: int = 10) -> Tensor:
    """What a scheduler of diffusers makes of noise [n, ...] by velocities of it at times [n], 1000 being all noise."""
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for time in scheduler.timesteps:
            x = scheduler.step(velocities(x, time.expand(len(x))), time, x, return_dict=False)[0].to(DOUBLE)
    return x


def assert_same_samples(
    scheduler: Any,
    ours: Callable[[Tensor, Tensor], Tensor],
    theirs: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
) -> None:
    """What a scheduler makes of noise by the velocities of ours and of theirs, and that it is no longer that noise."""
    samples = [denoised(scheduler, velocities, noise) for velocities in (ours, theirs)]
    assert_close(*samples)
    assert (samples[0] - noise).abs().max() > 0.1


def norms_in_full(theirs: nn.Module) -> None:
    """Statistics of root mean squares in the dtype of what is normed, which are float32's whatever that is."""
    for norm in theirs.modules():
        if type(norm).__module__.startswith("diffusers") and type(norm).__name__ == "RMSNorm":
            norm.forward = partial(F.rms_norm, normalized_shape=norm.dim, weight=norm.weight, eps=norm.eps)  # type: ignore


def assert_parameters_at_published_size(spec: Path, mapping: str, theirs: nn.Module, unread: int = 0) -> None:
    """As many as `theirs` on the meta device, but for those that nothing reads there, which the mapping fits, and as
    many as the gallery's table says.
    """
    model = compile_ir(spec)
    bijection_of(read_mapping(mapping_file(mapping)), shapes(theirs), model)
    total = sum(parameter.numel() for parameter in theirs.parameters())
    rows = (GALLERY / "README.md").read_text().splitlines()
    row = next(line for line in rows if line.startswith(f"| [{spec.stem}]"))
    ours = total_parameters(model)
    assert total == ours + unread
    assert f"| {ours:,} | {total:,} |" in row


def behind_words(ours: Any, words: Tensor, x: Tensor, times: Tensor, *, caption: str, made: str) -> Tensor:
    """What is predicted of latents [B, ...] with patches of 2 x 2, a row's words [B, n, w] being before them."""
    ids = torch.tensor([0] * words.shape[1] + [1] * (x[0, 0].numel() // 4)).expand(len(x), -1)
    given: dict[str, Any] = {"latents": {made: x}, "timesteps": {made: times}}
    predicted: Tensor = ours(ids, ids, features={caption: words.flatten(0, 1)}, **given).predictions[made]
    return predicted


def captioned(lengths: list[int], height: int, width: int, caption: int = 0, image: int = 1) -> tuple[Tensor, Tensor]:
    """Rows of a caption and an image's patches: modalities [B, S], and three positions [B, S, 3] of each.

    Words are placed on the first axis, and all of an image behind them, by row and column on the others.
    """
    patches, longest = height * width, max(lengths)
    ids, positions = [], []
    for length in lengths:
        padding = longest - length
        ids.append(F.pad(torch.tensor([caption] * length + [image] * patches), (0, padding), value=-1))
        words = F.pad(torch.arange(length)[:, None], (0, 2))
        places = torch.cartesian_prod(torch.tensor([length]), torch.arange(height), torch.arange(width))
        positions.append(F.pad(torch.cat((words, places)), (0, 0, 0, padding)))
    return torch.stack(ids), torch.stack(positions)


def turns_in_float32(sizes: Sequence[int], lengths: Sequence[int], theta: float) -> list[Tensor]:
    """For each axis of `sizes` components its pairs' turns at so many positions, cos + i sin, as ours are made."""
    powers = [torch.arange(0, size, 2).float() / size for size in sizes]
    frequencies = zip(lengths, (1.0 / theta**each for each in powers), strict=True)
    angles = [torch.arange(length).float()[:, None] * of_axis for length, of_axis in frequencies]
    return [torch.complex(each.cos(), each.sin()) for each in angles]
