"""The gallery's SmolVLA against a plain one of our own, as lerobot has it, for there is none in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import motc
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.weights import Bijection, bijection_of, parameters_of, read_mapping
from tests.originals import Uniform

GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"
LAYERS, WIDE, NARROW, HEADS, KV_HEADS, HEAD_DIM = 16, 24, 20, 4, 2, 6
VOCAB, SIGHT, STATE, ACTION, CHUNK = 31, 10, 6, 5, 7
HIDDEN = {WIDE: 40, NARROW: 28}
SMALL = {
    "width": WIDE,
    "vocab": VOCAB,
    "modalities.vit.features.size": SIGHT,
    "modalities.state.features.size": STATE,
    "modalities.action.latent.channels": ACTION,
    "attention.heads": HEADS,
    "attention.kv_heads": KV_HEADS,
    "attention.head_dim": HEAD_DIM,
    "ffn.hidden": HIDDEN[WIDE],
    "towers.expert.width": NARROW,
    "towers.expert.ffn.hidden": HIDDEN[NARROW],
}
VIT, TEXT, SEEN_STATE, ACTED = range(4)


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-5)


class Layer(nn.Module):
    """A layer of either stack; where `crosses`, keys and values are made of the other's."""

    def __init__(self, width: int, crosses: bool = False) -> None:
        super().__init__()
        kv = KV_HEADS * HEAD_DIM
        into = kv if crosses else width
        sizes = {"q_proj": (width, HEADS * HEAD_DIM), "k_proj": (into, kv), "v_proj": (into, kv)}
        sizes["o_proj"] = (HEADS * HEAD_DIM, width)
        self.self_attn = nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in sizes.items()})
        hidden = HIDDEN[width]
        sizes = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
        self.mlp = nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in sizes.items()})
        self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width)

    def heads(self, name: str, x: Tensor) -> Tensor:
        made: Tensor = self.self_attn[f"{name}_proj"](x)
        return made.unflatten(-1, (-1, HEAD_DIM))

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.self_attn["o_proj"](mixed)
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """x [B, S, heads, head_dim] by positions [B, S]; theta is 10,000, whatever the language model was trained with.

    Angles are in float32, as there, where a position is divided by the power: rounded otherwise.
    """
    angles = positions[:, :, None, None].float() * (1.0 / 10000 ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM))
    cos, sin, (a, b) = angles.cos().to(x.dtype), angles.sin().to(x.dtype), x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def attended(q: Tensor, k: Tensor, v: Tensor, sees: Tensor) -> Tensor:
    """What queries find of the keys that they see, bool [B, S, T]."""
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=2) for x in (k, v))
    scores = torch.einsum("bshd,bthd->bhst", q, k) * HEAD_DIM**-0.5
    weights = scores.masked_fill(~sees[:, None], torch.finfo(scores.dtype).min).softmax(-1)
    return torch.einsum("bhst,bthd->bshd", weights, v).flatten(2)


def sinusoids(times: Tensor) -> Tensor:
    """Of a time in 0..1; in float32, where lerobot has float64."""
    periods = 4e-3 * (4.0 / 4e-3) ** torch.linspace(0.0, 1.0, NARROW // 2)
    angles = 1.0 / periods * 2 * torch.pi * times[:, None].float()
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def named(**modules: Any) -> nn.ModuleDict:
    return nn.ModuleDict(modules)


class SmolVla(nn.Module):
    """With the names that checkpoints have, from the encoder's vectors on."""

    def __init__(self) -> None:
        super().__init__()
        text = named(
            embed_tokens=nn.Embedding(VOCAB, WIDE),
            layers=nn.ModuleList([Layer(WIDE) for _ in range(LAYERS)]),
            norm=Norm(WIDE),
        )
        connector = named(modality_projection=named(proj=nn.Linear(SIGHT, WIDE, bias=False)))
        expert = named(
            layers=nn.ModuleList([Layer(NARROW, crosses=index % 2 == 1) for index in range(LAYERS)]),
            norm=Norm(NARROW),
        )
        vlm = named(model=named(text_model=text, connector=connector))
        self.model = named(
            vlm_with_expert=named(vlm=vlm, lm_expert=expert),
            state_proj=nn.Linear(STATE, WIDE),
            action_in_proj=nn.Linear(ACTION, NARROW),
            action_out_proj=nn.Linear(NARROW, ACTION),
            action_time_mlp_in=nn.Linear(2 * NARROW, NARROW),
            action_time_mlp_out=nn.Linear(NARROW, NARROW),
        )

    def forward(self, given: dict[str, Tensor], noised: Tensor, times: Tensor) -> Tensor:
        """Velocities [B, chunk, action] of noised actions; `real` [B, n] says which words are none of padding."""
        model: Any = self.model
        text, expert = model["vlm_with_expert"]["vlm"]["model"]["text_model"], model["vlm_with_expert"]["lm_expert"]
        connector = model["vlm_with_expert"]["vlm"]["model"]["connector"]
        seen = connector["modality_projection"]["proj"](given["vectors"]) * WIDE**0.5
        words = text["embed_tokens"](given["ids"]) * WIDE**0.5
        x = torch.cat((seen, words, model["state_proj"](given["state"])[:, None]), dim=1)
        acted = model["action_in_proj"](noised)
        waves = sinusoids(times).to(acted.dtype)[:, None].expand_as(acted)
        acted = model["action_time_mlp_in"](torch.cat((acted, waves), dim=2))
        y = model["action_time_mlp_out"](F.silu(acted))

        first = x.shape[1]  # what comes before the actions: images and words see each other, then all is causal
        real = torch.ones(x.shape[0], first + CHUNK, dtype=torch.bool)
        real[:, seen.shape[1] : first - 1] = given["real"]
        turn = torch.tensor([0] * (first - 1) + [1] * (1 + CHUNK)).cumsum(0)
        sees = (turn[None, :] <= turn[:, None]) & real[:, None, :] & real[:, :, None]
        positions = real.long().cumsum(1) - 1
        for index, (own, other) in enumerate(zip(text["layers"], expert["layers"], strict=True)):
            h, g = own.input_layernorm(x), other.input_layernorm(y)
            q, k, v = (own.heads(name, h) for name in "qkv")
            if index % 2 == 0:
                q, k, v = (torch.cat((a, other.heads(n, g)), dim=1) for a, n in zip((q, k, v), "qkv", strict=True))
                mixed = attended(rotated(q, positions), rotated(k, positions), v, sees)
                of_x, of_y = mixed[:, :first], mixed[:, first:]
            else:
                k = rotated(k, positions[:, :first])
                of_x = attended(rotated(q, positions[:, :first]), k, v, sees[:, :first, :first])
                anew = positions[:, first:] - positions[:, first:].amin(1, keepdim=True)
                k, v = other.heads("k", k.flatten(2)), other.heads("v", v.flatten(2))
                of_y = attended(rotated(other.heads("q", g), anew), k, v, sees[:, first:, :first])
            x, y = own.after(x, of_x), other.after(y, of_y)
        velocities: Tensor = model["action_out_proj"](expert["norm"](y))
        return velocities


@pytest.fixture(scope="module")
def both() -> tuple[SmolVla, Any, Bijection]:
    """Theirs, ours with the same parameters, and how these correspond."""
    torch.manual_seed(0)
    theirs = SmolVla().double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    path = GALLERY / "smolvla.mot"
    tensors = dict(theirs.named_parameters())
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection = bijection_of(read_mapping(GALLERY / "mappings" / "smolvla.yaml"), shapes, compile_ir(path, SMALL))
    ours: Any = motc.load(path, set=SMALL, dtype=torch.float64)
    ours.load_state_dict(parameters_of(bijection, {name: each.detach() for name, each in tensors.items()}))
    return theirs, ours, bijection


def batch() -> dict[str, Tensor]:
    """Two rows of an image, words and a state; the second with padding, which stands before the state."""
    generator = torch.Generator().manual_seed(1)
    real = torch.ones(2, 5, dtype=torch.bool)
    real[1, 3:] = False
    numbers = {
        "vectors": (2, 4, SIGHT),
        "state": (2, STATE),
        "actions": (2, CHUNK, ACTION),
        "noise": (2, CHUNK, ACTION),
    }
    drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in numbers.items()}
    return {"ids": torch.randint(0, VOCAB, (2, 5), generator=generator), "real": real, **drawn}


def prompt(given: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Ids, modalities and features; images are given times the root of the width."""
    words = torch.full((2, 5), TEXT).masked_fill(~given["real"], -1)
    modality_ids = torch.cat((torch.full((2, 4), VIT), words, torch.full((2, 1), SEEN_STATE)), dim=1)
    features = {"vit": given["vectors"].flatten(0, 1) * WIDE**0.5, "state": given["state"]}
    return F.pad(given["ids"], (4, 1)), modality_ids, features


def test_velocities_and_all_gradients(both: tuple[SmolVla, Any, Bijection]) -> None:
    theirs, ours, bijection = both
    given, times = batch(), torch.tensor([0.375, 0.875])
    given["vectors"].requires_grad_()
    share = times.double()[:, None, None]
    noised = share * given["noise"] + (1 - share) * given["actions"]
    expected = theirs(given, noised, times)

    ids, modality_ids, features = prompt(given)
    whole, ids = F.pad(modality_ids, (0, CHUNK), value=ACTED), F.pad(ids, (0, CHUNK))
    where = {"features": features, "position_ids": (whole >= 0).cumsum(1) - 1}
    timesteps = {"action": 1000 * times}
    latents = {"action": noised.transpose(1, 2)}
    velocities = ours(ids, whole, latents=latents, timesteps=timesteps, **where).predictions["action"].transpose(1, 2)
    torch.testing.assert_close(velocities, expected, rtol=1e-9, atol=1e-9)

    clean, noise = ({"action": given[name].transpose(1, 2)} for name in ("actions", "noise"))
    losses = ours.loss(ids, whole, latents=clean, noise=noise, timesteps=timesteps, **where)
    loss = F.mse_loss(expected, given["noise"] - given["actions"])
    torch.testing.assert_close(losses.total, loss, rtol=1e-9, atol=1e-9)

    tensors = {**dict(theirs.named_parameters()), "vectors": given["vectors"]}
    of_theirs = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    by_name = {
        name: torch.zeros_like(x) if g is None else g for (name, x), g in zip(tensors.items(), of_theirs, strict=True)
    }
    wanted = {"vectors": by_name.pop("vectors"), **parameters_of(bijection, by_name)}
    parameters = dict(ours.named_parameters()) | {"vectors": given["vectors"]}
    of_ours = torch.autograd.grad(losses.total, list(parameters.values()), allow_unused=True)
    assert sum(bool(gradient.any()) for gradient in wanted.values()) > 16 * LAYERS
    for name, gradient in zip(parameters, of_ours, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameters[name])
        scale = wanted[name].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(gradient / scale, wanted[name] / scale, rtol=1e-9, atol=1e-9, msg=name)


def test_actions_are_sampled_as_theirs(both: tuple[SmolVla, Any, Bijection]) -> None:
    """Ten steps of denoising against the cache of what is before, and by the whole forward; from the same noise."""
    theirs, ours, _ = both
    given = batch()
    x = torch.randn(2, ACTION, CHUNK, generator=torch.Generator().manual_seed(3), dtype=torch.float64).transpose(1, 2)
    with torch.no_grad():
        for step in range(10):
            x = x - theirs(given, x, torch.full((2,), 1.0 - step / 10)) / 10
        ids, modality_ids, features = prompt(given)
        made = ours.generate(
            ids, modality_ids, features=features, sizes={"action": CHUNK}, schedulers={"action": Uniform()}, seed=3
        )
    torch.testing.assert_close(made.latents["action"].transpose(1, 2), x, rtol=1e-8, atol=1e-8)


def test_parameters_at_the_published_size() -> None:
    row = next(line for line in (GALLERY / "README.md").read_text().splitlines() if line.startswith("| [smolvla]"))
    assert f"| {total_parameters(compile_ir(GALLERY / 'smolvla.mot')):,} |" in row
