"""The gallery's π0.5 against a plain model of our own, after `models/pi0.py` and `gemma.py` of openpi: one tower's
norms are adaptive by the timestep.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import motc
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from tests.originals import GALLERY

PATH = GALLERY / "pi0_5.mot"
WIDE, NARROW, HEADS, SIZE, CHUNK, ACTIONS = 24, 16, 4, 8, 5, 3
SMALL = {
    "width": WIDE,
    "layers": 2,
    "vocab": 31,
    "modalities.vit.features.size": 20,
    "modalities.action.latent.channels": ACTIONS,
    "modalities.action.condition.timestep.size": NARROW,
    "attention.heads": HEADS,
    "attention.head_dim": SIZE,
    "ffn.hidden": 40,
    "towers.expert.width": NARROW,
    "towers.expert.ffn.hidden": 28,
}


def rotated(x: Tensor) -> Tensor:
    """Queries or keys [n, heads, size], turned by their positions, of halves."""
    half = SIZE // 2
    steps = 10000.0 ** -(torch.arange(half, dtype=torch.float32) / half)
    angles = (torch.arange(len(x)).float()[:, None] * steps)[:, None].to(torch.float32)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    one, other = x[..., :half], x[..., half:]
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)


def standard(x: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


class Plain:
    """Velocities of one row: images and words in one tower, actions in another, joined by attention."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.parameters = parameters

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias"))

    def condition(self, time: float) -> Tensor:
        """Sines and cosines of a time in 0..1, two maps, and a swish behind each."""
        periods = 0.004 * (4.0 / 0.004) ** torch.linspace(0.0, 1.0, NARROW // 2)
        angles = 1.0 / periods * 2 * math.pi * torch.tensor(time, dtype=torch.float32)
        waves = torch.cat((angles.sin(), angles.cos())).double()
        inner = F.silu(self.linear("conditions.action.timestep.hidden", waves))
        return F.silu(self.linear("conditions.action.timestep.out", inner))

    def adaptive(self, name: str, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """A norm of actions that has no weights, and the gate of what is added; the final one has none."""
        scale, shift = (self.linear(f"{name}.{part}", condition) for part in ("scale", "shift"))
        has_gate = f"{name}.gate.weight" in self.parameters
        return standard(x) * (1 + scale) + shift, self.linear(f"{name}.gate", condition) if has_gate else None

    def velocities(self, images: Tensor, ids: Tensor, noised: Tensor, time: float) -> Tensor:
        p, condition = self.parameters, self.condition(time)
        words = p["embedding.weight"][ids] * WIDE**0.5
        prefix = torch.cat((self.linear("features.vit.out", images), words))
        suffix, seen = self.linear("latents.action.encode", noised), len(prefix)
        for layer in range(2):
            at = f"layers.{layer}.attention"
            h = standard(prefix) * (1 + p[f"{at}.norm.language.weight"])
            a, gate = self.adaptive(f"{at}.modulation.expert", suffix, condition)
            q, k, v = (
                torch.cat((self.linear(f"{at}.{n}.language", h), self.linear(f"{at}.{n}.expert", a))).unflatten(
                    1, (-1, SIZE)
                )
                for n in "qkv"
            )
            q, k = rotated(q), rotated(k)
            scores = torch.einsum("qhd,kd->hqk", q, k[:, 0]) * SIZE**-0.5
            scores[:, :seen, seen:] = -torch.inf  # the prefix does not see actions
            mixed = torch.einsum("hqk,kd->qhd", scores.softmax(-1), v[:, 0]).flatten(1)
            prefix = prefix + self.linear(f"{at}.out.language", mixed[:seen])
            suffix = suffix + self.linear(f"{at}.out.expert", mixed[seen:]) * gate
            at = f"layers.{layer}.ffn"
            prefix = prefix + self.feed(at, "language", standard(prefix) * (1 + p[f"{at}.norm.language.weight"]))
            a, gate = self.adaptive(f"{at}.modulation.expert", suffix, condition)
            suffix = suffix + self.feed(at, "expert", a) * gate
        return self.linear("latents.action.decode", self.adaptive("final_modulation.expert", suffix, condition)[0])

    def feed(self, at: str, tower: str, x: Tensor) -> Tensor:
        gate = F.gelu(self.linear(f"{at}.gate.{tower}", x), approximate="tanh")
        return self.linear(f"{at}.down.{tower}", gate * self.linear(f"{at}.up.{tower}", x))


def test_velocities_and_all_gradients() -> None:
    ours: Any = motc.load(PATH, set=SMALL, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    plain = Plain({name: each.detach().clone().requires_grad_() for name, each in ours.named_parameters()})
    images = torch.randn(2, 3, 20, generator=generator, dtype=torch.float64)
    noised = torch.randn(2, CHUNK, ACTIONS, generator=generator, dtype=torch.float64)
    ids, times = torch.randint(0, 31, (2, 4), generator=generator), [0.125, 0.875]
    expected = torch.stack([plain.velocities(*each) for each in zip(images, ids, noised, times, strict=True)])

    modality_ids = torch.tensor([[0] * 3 + [1] * 4 + [2] * CHUNK] * 2)
    given: dict[str, Any] = {"latents": {"action": noised.mT}, "features": {"vit": images}}
    given["timesteps"] = {"action": 1000 * torch.tensor(times)}
    made = ours(F.pad(ids, (3, CHUNK)), modality_ids, **given).predictions["action"].mT
    assert (made - expected).abs().max() <= 1e-9 * expected.abs().max()
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    (made * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in ours.named_parameters():
        both = (parameter.grad, plain.parameters[name].grad)
        mine, wanted = (torch.zeros_like(parameter) if each is None else each for each in both)  # none: never seen
        assert (mine - wanted).abs().max() <= 1e-9 * max(1.0, float(wanted.abs().max())), name


def test_a_spec_of_the_published_size() -> None:
    row = next(line for line in (GALLERY / "README.md").read_text().splitlines() if line.startswith("| [pi0_5]"))
    assert f"| {total_parameters(compile_ir(PATH)):,} |" in row
