"""The gallery's Stable Diffusion 3 and 3.5 Large against diffusers' class: velocities, all gradients, ten steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.denoisers import Both, agree, comes_back, counted, in_common, sample_alike
from tests.originals import GALLERY

diffusers = pytest.importorskip("diffusers")

SMALL = {
    "width": 16,
    "layers": 3,
    "attention.heads": 2,
    "ffn.hidden": 64,
    "modalities.text.features.size": 12,
    "modalities.image.latent.channels": 4,
    "modalities.image.latent.sine.base": 4,
    "modalities.image.latent.sine.crop": 6,
    "modalities.image.condition.vector.size": 10,
}
LAST = {"sd3_medium": 23, "sd3_5_large": 37}
QK_NORM = {"sd3_medium": None, "sd3_5_large": "rms_norm"}


def original(name: str, **sizes: Any) -> Any:
    return diffusers.SD3Transformer2DModel(qk_norm=QK_NORM[name], **sizes)


@pytest.fixture(params=LAST)
def both(request: pytest.FixtureRequest) -> Both:
    torch.manual_seed(0)
    heads: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8, "caption_projection_dim": 16}
    sizes = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 6, "num_layers": 3}
    theirs = original(request.param, joint_attention_dim=12, pooled_projection_dim=10, **sizes, **heads)
    text = (GALLERY / f"{request.param}.mot").read_text()
    last = f"layer {LAST[request.param]} "
    assert last in text
    return in_common(theirs, text.replace(last, "layer 2 "), SMALL, GALLERY / "mappings" / "sd3.yaml")


def predictions(both: Both, words: Tensor, pooled: Tensor, x: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Theirs and ours, of images [B, 4, h, w] after words [B, n, 12]."""
    expected = both.theirs(x, encoder_hidden_states=words, pooled_projections=pooled, timestep=times).sample
    patches = x.shape[2] // 2 * (x.shape[3] // 2)
    modality_ids = torch.tensor([0] * words.shape[1] + [1] * patches).expand(len(x), -1)
    given: dict[str, Any] = {"features": {"text": words.flatten(0, 1)}, "conditions": {"image": {"vector": pooled}}}
    out = both.ours(modality_ids, modality_ids, latents={"image": x}, timesteps={"image": times}, **given)
    return expected, out.predictions["image"]


@pytest.mark.parametrize("side", [8, 12])
def test_velocities_and_all_gradients(both: Both, side: int) -> None:
    words, pooled, x = torch.randn(2, 5, 12).double(), torch.randn(2, 10).double(), torch.randn(2, 4, 8, side).double()
    expected, predicted = predictions(both, words, pooled, x, torch.tensor([3.0, 751.5]))
    agree(both, predicted, expected)


def test_ten_steps_make_the_same_image(both: Both) -> None:
    words, pooled, noise = torch.randn(2, 5, 12).double(), torch.randn(2, 10).double(), torch.randn(2, 4, 8, 8).double()

    def of(which: int) -> Any:
        return lambda x, t: predictions(both, words, pooled, x, t)[which]

    sample_alike(noise, of(0), of(1), shift=3.0)


def test_tensors_come_back(both: Both) -> None:
    comes_back(both)


@pytest.mark.parametrize("name", LAST)
def test_parameters_at_the_published_size(name: str) -> None:
    heads = {"sd3_medium": 24, "sd3_5_large": 38}[name]
    width = 64 * heads
    with torch.device("meta"):
        sizes: dict[str, Any] = {"num_layers": heads, "num_attention_heads": heads, "caption_projection_dim": width}
        sizes |= {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "pos_embed_max_size": 192}
        theirs = original(name, **sizes)
    unread = width * width + width + (64 if QK_NORM[name] else 0)  # the queries of words in the last layer
    counted(name, "sd3", theirs, unread)
