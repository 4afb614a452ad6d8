"""The gallery's CogVLM against a plain one of our own, as there is none in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import motc
from motc.driver import compile_ir
from motc.weights import bijection_of, parameters_of, read_mapping

GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"
WIDTH, HEADS, HIDDEN, VOCAB = 32, 4, 24, 31
SMALL = {"width": WIDTH, "layers": 2, "vocab": VOCAB, "attention.heads": HEADS, "ffn.hidden": HIDDEN}
SMALL |= {f"modalities.{name}.features.size": WIDTH for name in ("begin", "image", "end")}
MODALITIES = ["text", "begin", "end", "image"]


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (WIDTH,), self.weight, 1e-5)


class Layer(nn.Module):
    """Every token through both experts, of which `by_vision` [B, S] says whose it keeps."""

    def __init__(self) -> None:
        super().__init__()
        linear = {"query_key_value": 3 * WIDTH, "dense": WIDTH}
        names = {f"{expert}_expert_{name}": out for expert in ("language", "vision") for name, out in linear.items()}
        self.self_attn = nn.ModuleDict({name: nn.Linear(WIDTH, out, bias=False) for name, out in names.items()})
        self.mlp = nn.ModuleDict(
            {
                f"{expert}_mlp": nn.ModuleDict(
                    {
                        "gate_proj": nn.Linear(WIDTH, HIDDEN, bias=False),
                        "up_proj": nn.Linear(WIDTH, HIDDEN, bias=False),
                        "down_proj": nn.Linear(HIDDEN, WIDTH, bias=False),
                    }
                )
                for expert in ("language", "vision")
            }
        )
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()

    def forward(self, x: Tensor, by_vision: Tensor, positions: Tensor) -> Tensor:
        def chosen(name: str, h: Tensor) -> Tensor:
            of_both = [self.self_attn[f"{expert}_expert_{name}"](h) for expert in ("vision", "language")]
            return torch.where(by_vision[..., None], *of_both)

        def rotated(h: Tensor) -> Tensor:  # [B, heads, S, head_dim]
            size = WIDTH // HEADS
            angles = positions[:, None, :, None].float() * (1.0 / 10000 ** (torch.arange(0, size, 2) / size))
            cos, sin, (a, b) = angles.cos().to(h.dtype), angles.sin().to(h.dtype), h.chunk(2, dim=-1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

        h = chosen("query_key_value", self.input_layernorm(x))
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in h.chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x = x + chosen("dense", mixed.transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        of_each: list[Tensor] = []
        for expert in ("vision", "language"):
            mlp: Any = self.mlp[f"{expert}_mlp"]
            of_each.append(mlp["down_proj"](F.silu(mlp["gate_proj"](h)) * mlp["up_proj"](h)))
        return x + torch.where(by_vision[..., None], *of_each)


class CogVlm(nn.Module):
    """With the names that CogVLM's checkpoints have."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(VOCAB, WIDTH),
                "layers": nn.ModuleList([Layer(), Layer()]),
                "norm": Norm(),
            }
        )
        self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids: Tensor, vectors: Tensor, is_image: Tensor) -> Tensor:
        """`vectors` [n, width] stand where `is_image` [B, S]: a run of them is an image from its begin to its end."""
        model: Any = self.model
        x = model["embed_tokens"](ids).masked_scatter(is_image[..., None], vectors)
        follows = F.pad(is_image[:, :-1], (1, 0))  # after a vector of an image
        leads = F.pad(is_image[:, 1:], (0, 1))  # before one
        inner = is_image & follows & leads
        positions = (~(inner & F.pad(inner[:, :-1], (1, 0)))).cumsum(1) - 1  # inner ones share the first one's
        for layer in model["layers"]:
            x = layer(x, is_image & leads, positions)
        logits: Tensor = self.lm_head(model["norm"](x))
        return logits


def test_logits_and_gradients() -> None:
    torch.manual_seed(0)
    theirs = CogVlm().double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    path = GALLERY / "cogvlm_17b.mot"
    tensors = dict(theirs.named_parameters())
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection = bijection_of(read_mapping(GALLERY / "mappings" / "cogvlm.yaml"), shapes, compile_ir(path, SMALL))
    ours: Any = motc.load(path, set=SMALL, dtype=torch.float64)
    ours.load_state_dict(parameters_of(bijection, {name: each.detach() for name, each in tensors.items()}))

    text, begin, end, image = range(4)
    modality_ids = torch.tensor(
        [[text] * 2 + [begin] + [image] * 4 + [end] + [text] * 3, [begin, image, end] + [text] * 8]
    )
    is_image = modality_ids != text
    ids = torch.randint(0, VOCAB, modality_ids.shape)
    vectors = torch.randn(int(is_image.sum()), WIDTH, dtype=torch.float64, requires_grad=True)
    kinds = modality_ids[is_image]
    features = {name: vectors[kinds == index] for index, name in enumerate(MODALITIES) if index != text}
    expected = theirs(ids, vectors, is_image)[~is_image]
    got = ours(ids, modality_ids, features=features).logits[~is_image]
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    given = {**tensors, "vectors": vectors}
    of_theirs = torch.autograd.grad((expected * weights).sum(), list(given.values()), allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for x, g in zip(given.values(), of_theirs, strict=True)]
    by_name = dict(zip(given, filled, strict=True))
    wanted = {"vectors": by_name.pop("vectors"), **parameters_of(bijection, by_name)}
    parameters = dict(ours.named_parameters()) | {"vectors": vectors}
    of_ours = torch.autograd.grad((got * weights).sum(), list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, of_ours, strict=True):
        if gradient is None:
            gradient = torch.zeros_like(parameters[name])
        scale = wanted[name].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(gradient / scale, wanted[name] / scale, rtol=1e-9, atol=1e-9, msg=name)
