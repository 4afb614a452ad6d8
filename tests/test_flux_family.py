"""Classes of diffusers with blocks as FLUX.1 has, said by its spec with less of a condition."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.denoisers import DOUBLE, Pair, assert_same_samples, behind_words, pair
from tests.originals import GALLERY
from tests.test_flux import turned, turns

diffusers = pytest.importorskip("diffusers")

SIZES = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
SIZES |= {"in_channels": 12, "joint_attention_dim": 12, "axes_dims_rope": (4, 6, 6)}
SMALL = {
    "width": 32,
    "layers": 4,
    "attention.heads": 2,
    "ffn.hidden": 128,
    "modalities.text.features.size": 12,
    "modalities.image.latent.channels": 3,
}
CLASSES = {
    "longcat_image": diffusers.LongCatImageTransformer2DModel,
    "bria": diffusers.BriaTransformer2DModel,
    "ovis_image": diffusers.OvisImageTransformer2DModel,
}
OF_TIME = {"longcat_image": "time_embed.timestep_embedder", "bria": "time_embed.timestep_embedder"}
OF_TIME |= {"ovis_image": "timestep_embedder"}
"""What embeds timesteps there."""


def spec_of(name: str) -> str:
    text = (GALLERY / "flux_1_schnell.mot").read_text()
    changes = [("layers 19..56", "layers 2..3"), ("layers 0..18", "layers 0..1"), ("16, 56, 56", "4, 6, 6")]
    changes += [(r", vector \{ size = \d+ \}", "")]
    if name == "ovis_image":
        changes += [
            ("kind = gelu_tanh", "kind = swiglu"),
            (r"size = 4096 \}", "size = 4096, projector { norm = rms } }"),
        ]
    for old, new in changes:
        text, count = re.subn(old, new, text)
        assert count == 1, old
    return text


def mapping_of(name: str) -> str:
    text = (
        (GALLERY / "mappings" / "flux_1.yaml").read_text().replace("time_text_embed.timestep_embedder", OF_TIME[name])
    )
    lines = [line for line in text.splitlines() if "time_text_embed" not in line]
    if name == "ovis_image":  # what is gated, and behind it what gates
        lines = [
            re.sub(r"(ff\S*\.net\.0\.proj: )(\S+)ffn\.up(\S*)", r"\1{rows: [\2ffn.up\3, \2ffn.gate\3]}", line)
            for line in lines
        ]
        lines = [re.sub(r"(proj_mlp: )(\S+)ffn\.up", r"\1{rows: [\2ffn.up, \2ffn.gate]}", line) for line in lines]
        lines.append("  context_embedder_norm: features.text.norm")
    return "\n".join(lines) + "\n"


@pytest.fixture(params=CLASSES)
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    name: str = request.param
    theirs = CLASSES[name](**SIZES, **({"out_channels": 12} if name == "ovis_image" else {}))
    theirs.pos_embed.forward = turns
    monkeypatch.setattr(f"diffusers.models.transformers.transformer_{name}.apply_rotary_emb", turned)
    spec, mapping = tmp_path / "small.mot", tmp_path / "small.yaml"
    spec.write_text(spec_of(name))
    mapping.write_text(mapping_of(name))
    return pair(spec, mapping, SMALL, theirs)


predicted = partial(behind_words, caption="text", made="image")


def expected(theirs: Any, words: Tensor, x: Tensor, times: Tensor) -> Tensor:
    """The class's, which is given patches of all channels and their places, and but for Bria times up to 1."""
    places = torch.cartesian_prod(torch.tensor([0]), torch.arange(x.shape[2] // 2), torch.arange(x.shape[3] // 2))
    most = 1 if isinstance(theirs, diffusers.BriaTransformer2DModel) else 1000
    out = theirs(
        F.unfold(x, 2, stride=2).mT,
        encoder_hidden_states=words,
        timestep=times.to(DOUBLE) / most,
        img_ids=places,
        txt_ids=torch.zeros(words.shape[1], 3),
    ).sample
    return F.fold(out.mT, (x.shape[2], x.shape[3]), 2, stride=2)


def test_velocities_and_all_gradients(both: Pair) -> None:
    words, x = torch.randn(2, 5, 12, dtype=DOUBLE), torch.randn(2, 3, 8, 12, dtype=DOUBLE)
    times = torch.tensor([3.0, 751.5])
    ours, theirs = predicted(both.ours, words, x, times), expected(both.theirs, words, x, times)
    both.assert_same(ours, theirs)
    both.assert_tensors_come_back()


def test_ten_steps_make_the_same_image(both: Pair) -> None:
    words, noise = torch.randn(2, 5, 12, dtype=DOUBLE), torch.randn(2, 3, 8, 8, dtype=DOUBLE)
    both_ways = partial(predicted, both.ours, words), partial(expected, both.theirs, words)
    assert_same_samples(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), *both_ways, noise)
