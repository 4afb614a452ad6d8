"""The gallery's trunk of Show-o2 against transformers' Qwen2, given vectors and a mask as `models` of showlab/Show-o
(show-o2) have them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

import motc
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.weights import bijection_of, parameters_of, read_mapping
from tests.originals import GALLERY, NothingNarrowed, as_parameters

PATH = GALLERY / "show_o2_7b.mot"
WIDTH, SEEN, VOCAB = 32, 12, 31
SMALL = {
    "width": WIDTH,
    "layers": 2,
    "vocab": VOCAB,
    "modalities.time.features.size": WIDTH,
    "modalities.image.features.size": SEEN + WIDTH,
    "attention.heads": 4,
    "attention.kv_heads": 2,
    "ffn.hidden": 24,
}
CONFIG = Qwen2Config(
    hidden_size=WIDTH,
    num_hidden_layers=2,
    vocab_size=VOCAB,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    rope_theta=1000000.0,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    attn_implementation="eager",
)


class Fusion(nn.Module):
    """`RMSNorm` of Show-o2's modules."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


class Trunk(nn.Module):
    """`Showo2Qwen2_5` up to its logits, given the vectors of timesteps and of images, with its parameters' names."""

    def __init__(self) -> None:
        super().__init__()
        self.showo: Any = Qwen2ForCausalLM(CONFIG)
        wide = SEEN + WIDTH
        self.fusion_proj = nn.Sequential(Fusion(wide), nn.Linear(wide, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, ids: Tensor, spans: list[list[tuple[int, int]]], times: Tensor, images: Tensor) -> Tensor:
        """Logits [B, S, VOCAB]; a span is where it begins and how long it is, its timestep's vector being the first."""
        x, fused, number = self.showo.model.embed_tokens(ids).clone(), self.fusion_proj(images), 0
        sees = torch.ones(ids.shape[1], ids.shape[1]).tril().bool().repeat(len(ids), 1, 1, 1)
        first = 0
        for row, of_row in enumerate(spans):
            for start, length in of_row:
                x[row, start] = times[number]
                x[row, start + 1 : start + length] = fused[first : first + length - 1]
                sees[row, :, start : start + length, start : start + length] = True
                number, first = number + 1, first + length - 1
        mask = torch.zeros(sees.shape, dtype=x.dtype).masked_fill(~sees, torch.finfo(x.dtype).min)
        logits: Tensor = self.showo(inputs_embeds=x, attention_mask=mask).logits
        return logits


def test_logits_and_all_gradients() -> None:
    torch.manual_seed(0)
    theirs = Trunk()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    tensors = dict(theirs.named_parameters())
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection = bijection_of(read_mapping(GALLERY / "mappings" / "show_o2.yaml"), shapes, compile_ir(PATH, SMALL))
    ours: Any = motc.load(PATH, set=SMALL, dtype=torch.float64)
    ours.load_state_dict(parameters_of(bijection, {name: each.detach() for name, each in tensors.items()}))

    text, time, image = (ours.modalities.index(name) for name in ("text", "time", "image"))
    spans = [[(2, 4), (8, 3)], [(3, 5)]]
    modality_ids = torch.full((2, 13), text)
    for row, of_row in enumerate(spans):
        for start, length in of_row:
            modality_ids[row, start], modality_ids[row, start + 1 : start + length] = time, image
    ids = torch.randint(0, VOCAB, modality_ids.shape)
    times = torch.randn(3, WIDTH, dtype=torch.float64, requires_grad=True)
    images = torch.randn(9, SEEN + WIDTH, dtype=torch.float64, requires_grad=True)
    said = modality_ids == text
    with NothingNarrowed():
        expected = theirs(ids, spans, times, images)[said]
    got = ours(ids, modality_ids, features={"time": times, "image": images}).logits[said]
    assert (got - expected).abs().max() <= 1e-9 * expected.detach().abs().max()
    weights = torch.randn_like(expected)
    of_theirs = torch.autograd.grad((expected * weights).sum(), [*tensors.values(), times, images])
    of_ours = torch.autograd.grad((got * weights).sum(), [*ours.parameters(), times, images])
    wanted = parameters_of(bijection, dict(zip(tensors, of_theirs, strict=False)))
    pairs = [(mine, wanted[name]) for (name, _), mine in zip(ours.named_parameters(), of_ours, strict=False)]
    for mine, other in [*pairs, *zip(of_ours[-2:], of_theirs[-2:], strict=True)]:
        assert (mine - other).abs().max() <= 1e-9 * max(1.0, float(other.abs().max()))


def test_a_spec_of_the_published_size() -> None:
    row = next(line for line in (GALLERY / "README.md").read_text().splitlines() if line.startswith("| [show_o2_7b]"))
    assert f"| {total_parameters(compile_ir(PATH)):,} |" in row
