"""The gallery's Qwen-Image against diffusers' class: velocities and all gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.denoisers import (
    DOUBLE,
    Pair,
    assert_parameters_at_published_size,
    norms_in_full,
    pair,
    turns_in_float32,
)
from tests.originals import GALLERY

diffusers = pytest.importorskip("diffusers")

SPEC = GALLERY / "qwen_image.mot"
SMALL = {
    "width": 32,
    "layers": 2,
    "attention.heads": 2,
    "ffn.hidden": 128,
    "modalities.text.features.size": 12,
    "modalities.image.latent.channels": 3,
}
SIZES = {"num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 12}
WORDS, HEIGHT, WIDTH = 5, 4, 6


def places() -> Tensor:
    """Of words behind half of the longer side, and of patches around the middle, int64 [WORDS + patches, 3]."""
    words = (max(HEIGHT, WIDTH) // 2 + torch.arange(WORDS))[:, None].expand(-1, 3)
    rows, columns = (torch.arange(side) - (side - side // 2) for side in (HEIGHT, WIDTH))
    return torch.cat((words, torch.cartesian_prod(torch.tensor([0]), rows, columns)))


def turns(positions: Tensor) -> Tensor:
    """Those of each pair of components, as ours are made."""
    tables = turns_in_float32((4, 6, 6), (9, 9, 9), 10000.0)
    of_axes = (table[positions[:, axis].abs()] for axis, table in enumerate(tables))
    signs = positions.sign()
    return torch.cat([torch.where(signs[:, [axis]] < 0, each.conj(), each) for axis, each in enumerate(of_axes)], dim=1)


def turned(x: Tensor, turns: Tensor, use_real: bool) -> Tensor:
    """Queries or keys [B, S, heads, d], in their own dtype, which are turned in float32 there."""
    assert not use_real
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns[:, None].to(torch.complex128)).flatten(3)


@pytest.fixture
def both(tmp_path: Path) -> Pair:
    spec = tmp_path / "small.mot"
    spec.write_text(SPEC.read_text().replace("16, 56, 56", "4, 6, 6"))
    theirs = diffusers.QwenImageTransformer2DModel(in_channels=12, out_channels=3, axes_dims_rope=(4, 6, 6), **SIZES)
    made = pair(spec, "qwen_image", SMALL, theirs)
    norms_in_full(made.theirs)
    return made


def test_velocities_and_all_gradients(both: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = both.theirs
    positions = places()
    image, words = turns(positions[WORDS:]), turns(positions[:WORDS])
    for made, of_class in zip(
        (image, words), theirs.pos_embed([(1, HEIGHT, WIDTH)], max_txt_seq_len=WORDS), strict=True
    ):
        torch.testing.assert_close(made, of_class, rtol=0, atol=1e-6)
    theirs.pos_embed.forward = lambda *_, **__: (image, words)
    monkeypatch.setattr("diffusers.models.transformers.transformer_qwenimage.apply_rotary_emb_qwen", turned)
    waves = both.ours.conditions["image"].timestep.waves  # of which the class takes thousandths, in float32
    theirs.time_text_embed.time_proj.forward = lambda times: waves(1000 * times)
    vectors, times = torch.randn(2, WORDS, 12, dtype=DOUBLE), torch.tensor([3.0, 751.5], dtype=DOUBLE)
    x = torch.randn(2, 3, 2 * HEIGHT, 2 * WIDTH, dtype=DOUBLE)
    given: dict[str, Any] = {"encoder_hidden_states": vectors, "encoder_hidden_states_mask": None}
    shapes = [[(1, HEIGHT, WIDTH)]] * 2
    out = theirs(F.unfold(x, 2, stride=2).mT, timestep=times / 1000, img_shapes=shapes, **given).sample
    expected = F.fold(out.mT, (2 * HEIGHT, 2 * WIDTH), 2, stride=2)
    ids = torch.tensor([0] * WORDS + [1] * HEIGHT * WIDTH).expand(2, -1)
    given = {"features": {"text": vectors.flatten(0, 1)}, "position_ids": positions.expand(2, -1, -1)}
    predicted = both.ours(ids, ids, latents={"image": x}, timesteps={"image": times}, **given).predictions["image"]
    both.assert_same(predicted, expected)


def test_its_folder_comes_in(both: Pair, tmp_path: Path) -> None:
    both.assert_its_folder_comes_in(tmp_path)


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = diffusers.QwenImageTransformer2DModel()
    assert_parameters_at_published_size(SPEC, "qwen_image", theirs)
