"""The gallery's BAGEL against a plain model of our own, after `modeling/bagel` and `data` of ByteDance-Seed/Bagel.

Its own layers need flash_attn. Here a sample is a list of what it consists of, in the order of its sequence plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import motc
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.weights import bijection_of, parameters_of, read_mapping
from tests.originals import GALLERY

PATH = GALLERY / "bagel_7b_mot.mot"
WIDTH, HEADS, GROUPS, HIDDEN, VOCAB, CHANNELS, SIDE = 32, 4, 2, 24, 31, 3, 8
SIZE = WIDTH // HEADS
BEGIN, END = 29, 30
SMALL = {
    "width": WIDTH,
    "layers": 2,
    "vocab": VOCAB,
    "modalities.vit.features.size": WIDTH,
    "modalities.vae.latent.channels": CHANNELS,
    "attention.heads": HEADS,
    "attention.kv_heads": GROUPS,
    "ffn.hidden": HIDDEN,
}


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class Feed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return made


class Layer(nn.Module):
    """`Qwen2MoTDecoderLayer` in training: what ends in `_moe_gen` is of the tokens in `gen`."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict()
        for tower in ("", "_moe_gen"):
            for name, heads in (("q", HEADS), ("k", GROUPS), ("v", GROUPS)):
                self.self_attn[f"{name}_proj{tower}"] = nn.Linear(WIDTH, heads * SIZE)
            self.self_attn[f"o_proj{tower}"] = nn.Linear(HEADS * SIZE, WIDTH, bias=False)
            self.self_attn[f"q_norm{tower}"], self.self_attn[f"k_norm{tower}"] = Norm(SIZE), Norm(SIZE)
            setattr(self, f"input_layernorm{tower}", Norm(WIDTH))
            setattr(self, f"post_attention_layernorm{tower}", Norm(WIDTH))
            setattr(self, f"mlp{tower}", Feed())

    def forward(self, x: Tensor, gen: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        def routed(modules: Any, name: str, h: Tensor) -> Tensor:
            return torch.where(gen[:, None], modules(f"{name}_moe_gen")(h), modules(name)(h))

        def own(name: str) -> Any:
            return getattr(self, name)

        def heads(name: str, h: Tensor) -> Tensor:
            return routed(self.self_attn.__getitem__, f"{name}_proj", h).unflatten(1, (-1, SIZE))

        def rotated(name: str, h: Tensor) -> Tensor:
            h = torch.where(
                gen[:, None, None], self.self_attn[f"{name}_norm_moe_gen"](h), self.self_attn[f"{name}_norm"](h)
            )
            steps = 1.0 / 1000000.0 ** (torch.arange(0, SIZE, 2).float() / SIZE)
            angles = positions[:, None, None].float() * steps
            cos, sin, (a, b) = angles.cos().to(h), angles.sin().to(h), h.chunk(2, dim=-1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

        h = routed(own, "input_layernorm", x)
        q, k = rotated("q", heads("q", h)), rotated("k", heads("k", h)).repeat_interleave(HEADS // GROUPS, 1)
        v = heads("v", h).repeat_interleave(HEADS // GROUPS, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * SIZE**-0.5
        mixed = torch.einsum("hqk,khd->qhd", scores.masked_fill(~mask, -torch.inf).softmax(-1), v).flatten(1)
        x = x + routed(self.self_attn.__getitem__, "o_proj", mixed)
        return x + routed(own, "mlp", routed(own, "post_attention_layernorm", x))


@dataclass
class Part:
    """Words, an image as an encoder sees it, or as a latent: noised at a time above 0, which is learnt, or clean."""

    ids: Tensor | None = None
    vectors: Tensor | None = None
    latent: Tensor | None = None
    noise: Tensor | None = None
    time: float = 0.0

    @property
    def kind(self) -> int:
        return 0 if self.ids is not None else 1 if self.vectors is not None else 2

    @property
    def tokens(self) -> int:
        """How many it has, between its delimiters."""
        if self.latent is not None:
            return self.latent[0].numel() // 4
        return len(self.ids if self.vectors is None else self.vectors)  # type: ignore[arg-type]


def sines() -> Tensor:
    """`get_2d_sincos_pos_embed` of a square, [SIDE * SIDE, WIDTH]: the first half is of columns."""

    def along(places: Tensor) -> Tensor:
        omega = 1.0 / 10000 ** (torch.arange(WIDTH // 4, dtype=torch.float64) / (WIDTH / 4.0))
        angles = places.flatten().double()[:, None] * omega
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return torch.cat((along(columns), along(rows)), dim=1).float()


class Bagel(nn.Module):
    """With the names that BAGEL's checkpoint has."""

    def __init__(self) -> None:
        super().__init__()
        self.language_model = nn.ModuleDict({"model": nn.Module(), "lm_head": nn.Linear(WIDTH, VOCAB, bias=False)})
        model: Any = self.language_model["model"]
        model.embed_tokens, model.layers = nn.Embedding(VOCAB, WIDTH), nn.ModuleList(Layer() for _ in range(2))
        model.norm, model.norm_moe_gen = Norm(WIDTH), Norm(WIDTH)
        self.time_embedder = nn.ModuleDict()
        self.time_embedder["mlp"] = nn.Sequential(nn.Linear(256, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.vae2llm, self.llm2vae = nn.Linear(4 * CHANNELS, WIDTH), nn.Linear(WIDTH, 4 * CHANNELS)
        self.latent_pos_embed = nn.ParameterDict({"pos_embed": nn.Parameter(sines(), requires_grad=False)})

    def forward(self, parts: list[Part]) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
        """Logits of a sample's words and delimiters, velocities [tokens, numbers] of noised latents, and two losses."""
        model: Any = self.language_model["model"]
        stream, gen, modes, positions, place = [], list[int](), list[tuple[str, int]](), list[int](), 0
        wanted = []
        for part in parts:
            inner = torch.zeros(0, WIDTH, dtype=torch.float64)
            if part.ids is not None:
                stream.append(model.embed_tokens(part.ids))
                modes.append(("causal", part.tokens))
                positions += range(place, place + part.tokens)
                gen += [0] * part.tokens
                place += part.tokens
                continue
            if part.vectors is not None:
                inner = part.vectors
            if part.latent is not None:
                assert part.noise is not None
                clean, noise = (self.patches(each) for each in (part.latent, part.noise))
                rows, columns = (side // 2 for side in part.latent.shape[1:])
                at = (torch.arange(rows)[:, None] * SIDE + torch.arange(columns)).flatten()
                noised = (1 - part.time) * clean + part.time * noise
                inner = self.vae2llm(noised) + self.timed(part.time) + self.latent_pos_embed["pos_embed"][at]
                if part.time > 0:
                    wanted.append(noise - clean)
            stream += [model.embed_tokens(torch.tensor([BEGIN])), inner, model.embed_tokens(torch.tensor([END]))]
            gen += [0, *[int(part.latent is not None)] * part.tokens, 0]
            modes.append(("noise" if part.time > 0 else "full", part.tokens + 2))
            positions += [place] * (part.tokens + 2)
            place += part.time == 0  # a noised image is where its clean copy will be
        x, is_gen = torch.cat(stream), torch.tensor(gen) > 0
        mask = mask_of(modes)
        for layer in model.layers:
            x = layer(x, is_gen, mask, torch.tensor(positions))
        x = torch.where(is_gen[:, None], model.norm_moe_gen(x), model.norm(x))
        starts = [sum(length for _, length in modes[:index]) for index in range(len(modes))]
        learnt = [
            self.llm2vae(x[start + 1 : start + length - 1])
            for start, (mode, length) in zip(starts, modes, strict=True)
            if mode == "noise"
        ]
        errors = torch.cat([(v - w).square().flatten() for v, w in zip(learnt, wanted, strict=True)])
        logits = self.language_model["lm_head"](x)
        said = [
            F.cross_entropy(logits[start : start + length - 1], part.ids[1:], reduction="none")
            for part, start, (_, length) in zip(parts, starts, modes, strict=True)
            if part.ids is not None
        ]
        return logits, learnt, torch.cat(said), errors

    def patches(self, latent: Tensor) -> Tensor:
        """[tokens, 4 * channels], channels last."""
        rows, columns = (side // 2 for side in latent.shape[1:])
        cut = latent.reshape(CHANNELS, rows, 2, columns, 2)
        return torch.einsum("chpwq->hwpqc", cut).reshape(rows * columns, -1)

    def timed(self, time: float) -> Tensor:
        """The vector of a time from 0 to 1; angles in float32, a thousandth of those of a thousand times it."""
        frequencies = 1.0 / 10000.0 ** (torch.arange(128).float() / 128)
        angles = 0.001 * (torch.tensor(1000 * time).float() * frequencies)
        embedded: Tensor = self.time_embedder["mlp"](torch.cat((angles.cos(), angles.sin())).double())
        return embedded


def mask_of(modes: list[tuple[str, int]]) -> Tensor:
    """`prepare_attention_mask_per_sample`: what sees what, the last index being who is seen."""
    total = sum(length for _, length in modes)
    mask, start = torch.zeros(total, total, dtype=torch.bool), 0
    for mode, length in modes:
        end = start + length
        mask[start:end, :start] = True
        mask[start:end, start:end] = torch.ones(length, length).tril().bool() if mode == "causal" else True
        start = end
    start = 0
    for mode, length in modes:
        end = start + length
        if mode == "noise":
            mask[:, start:end] = False
            mask[start:end, start:end] = True
        start = end
    return mask


def drawn_samples() -> list[list[Part]]:
    """A picture after words, noised, clean and seen, and words; and a clean one, then words and one of another size."""

    def words(count: int) -> Part:
        return Part(ids=torch.randint(0, BEGIN, (count,)))

    def seen(count: int) -> Part:
        return Part(vectors=torch.randn(count, WIDTH, dtype=torch.float64, requires_grad=True))

    def pair(height: int, width: int, time: float) -> list[Part]:
        latent, noise = (torch.randn(CHANNELS, height, width, dtype=torch.float64) for _ in range(2))
        return [Part(latent=latent, noise=noise, time=time), Part(latent=latent, noise=noise)]

    first = [words(3), *pair(4, 6, 0.7), seen(4), words(4)]
    second = [words(2), pair(4, 6, 0.0)[1], words(3), *pair(8, 2, 0.3), seen(2), words(2)]
    return [first, second]


def row_of(parts: list[Part]) -> tuple[list[int], list[int]]:
    """Ids and modality ids of a sample."""
    ids, kinds = list[int](), list[int]()
    for part in parts:
        if part.ids is not None:
            ids, kinds = ids + part.ids.tolist(), kinds + [0] * part.tokens
        else:
            ids, kinds = [*ids, BEGIN, *[0] * part.tokens, END], [*kinds, 0, *[part.kind] * part.tokens, 0]
    return ids, kinds


def position_row(parts: list[Part]) -> list[int]:
    positions, place = list[int](), 0
    for part in parts:
        if part.ids is not None:
            positions, place = [*positions, *range(place, place + part.tokens)], place + part.tokens
        else:
            positions, place = positions + [place] * (part.tokens + 2), place + (part.time == 0)
    return positions


def test_what_a_packed_row_makes_and_all_gradients() -> None:
    torch.manual_seed(0)
    theirs = Bagel().double()
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
        else:
            parameter.data = sines().double()
    tensors = {name: each for name, each in theirs.named_parameters() if each.requires_grad}
    shapes = {name: tuple(each.shape) for name, each in theirs.named_parameters()}
    bijection = bijection_of(read_mapping(GALLERY / "mappings" / "bagel.yaml"), shapes, compile_ir(PATH, SMALL))
    ours: Any = motc.load(PATH, set=SMALL, dtype=torch.float64)
    ours.load_state_dict(parameters_of(bijection, {name: each.detach() for name, each in tensors.items()}))

    samples = drawn_samples()
    rows = [row_of(parts) for parts in samples]
    ids, modality_ids = (torch.tensor([[each for row in rows for each in row[which]]]) for which in range(2))
    documents = torch.tensor([[number for number, row in enumerate(rows) for _ in row[0]]])
    positions = torch.tensor([[each for parts in samples for each in position_row(parts)]])
    latents = [part for parts in samples for part in parts if part.latent is not None]
    vectors = [part.vectors for parts in samples for part in parts if part.vectors is not None]
    is_word = torch.tensor([[each for parts in samples for part in parts for each in words_in(part)]])
    given: dict[str, Any] = {
        "features": {"vit": torch.cat(vectors)},
        "latents": {"vae": [part.latent for part in latents]},
        "clean": {"vae": torch.tensor([part.time == 0 for part in latents])},
        "document_ids": documents,
    }
    times = torch.tensor([1000 * part.time for part in latents])
    assert torch.equal(ours.positions(modality_ids, documents, clean=given["clean"]), positions)
    made = [theirs(parts) for parts in samples]
    expected_words, expected_errors = (torch.cat([each[which] for each in made]).mean() for which in (2, 3))

    noise = [part.noise for part in latents]
    labels = torch.where(is_word, ids, -100)
    losses = ours.loss(ids, modality_ids, labels=labels, timesteps={"vae": times}, noise={"vae": noise}, **given)
    close(losses.by_modality["text"], expected_words)
    close(losses.by_modality["vae"], expected_errors)
    shown = [(1 - part.time) * part.latent + part.time * part.noise for part in latents]  # type: ignore[operator]
    out = ours(ids, modality_ids, **{**given, "latents": {"vae": shown}}, timesteps={"vae": times})
    close(out.logits[0][modality_ids[0] == 0], torch.cat([each[0] for each in made])[modality_ids[0] == 0])
    predicted = [x for x, part in zip(out.predictions["vae"], latents, strict=True) if part.time > 0]
    for mine, wanted in zip(predicted, [v for each in made for v in each[1]], strict=True):
        close(theirs.patches(mine), wanted)

    total = expected_words + expected_errors
    of_theirs = torch.autograd.grad(total, [*tensors.values(), *vectors], allow_unused=True)
    by_name = {
        name: torch.zeros_like(tensors[name]) if gradient is None else gradient
        for name, gradient in zip(tensors, of_theirs, strict=False)
    }
    wanted_gradients = parameters_of(bijection, by_name)
    parameters = dict(ours.named_parameters())
    of_ours = torch.autograd.grad(losses.total, [*parameters.values(), *vectors])
    for name, gradient in zip(parameters, of_ours, strict=False):
        close(gradient, wanted_gradients[name], name)
    for mine, wanted in zip(of_ours[-len(vectors) :], of_theirs[-len(vectors) :], strict=True):
        close(mine, wanted)


def words_in(part: Part) -> list[bool]:
    """Which tokens of a part are learnt: words but the first."""
    return [index > 0 for index in range(part.tokens)] if part.ids is not None else [False] * (part.tokens + 2)


def close(mine: Tensor, wanted: Tensor, name: str = "") -> None:
    assert (mine - wanted).abs().max() <= 1e-9 * max(1.0, float(wanted.detach().abs().max())), name


def test_a_spec_of_the_published_size() -> None:
    row = next(line for line in (GALLERY / "README.md").read_text().splitlines() if line.startswith("| [bagel_7b_mot]"))
    assert f"| {total_parameters(compile_ir(PATH)):,} |" in row
