"""Wan's class of diffusers, said by three layers for each of its blocks: velocities and all gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from tests.denoisers import DOUBLE, assert_close, backward_of_both, gradients, turns_in_float32
from tests.originals import NothingNarrowed

diffusers = pytest.importorskip("diffusers")

SPEC = """
model wan {
  width  = 24
  layers = 6                      # attention of the video, attention to words, and a feed-forward, for each block
  modality text { features { size = 10, projector { kind = gelu_tanh } } }
  modality video {
    latent { channels = 3, patch = [1, 2, 2], objective = flow, time = none }
    condition { timestep { size = 8 } }
    positions { kind = grid, start = 0 }
  }
  attention {
    heads = 2, bias = true, mask = full, qk_norm { kind = rms, over = heads }
    rope { pairing = interleaved, axes = [4, 4, 4] }
  }
  ffn { kind = gelu_tanh, hidden = 40, bias = true }
  norm { kind = layer, weight = false, eps = 1e-6 }
  tower words = text { attention = none, ffn = none }
  tower picture = video {
    norm {
      adaptive { by = video, shared = blocks, table = true }
      final { adaptive { by = video, activation = none, map = false, table = true } }
    }
  }
  layers 0..5 step 3 { tower picture { ffn = none } }
  layers 1..5 step 3 {
    tower picture { attention { cross = text }, ffn = none, norm { adaptive = none, weight = true, bias = true } }
  }
  layers 2..5 step 3 { tower picture { attention = none } }
  untie *
}
"""
SIZES = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 3, "out_channels": 3, "num_layers": 2}
SIZES |= {"text_dim": 10, "freq_dim": 8, "ffn_dim": 40, "rope_max_seq_len": 16}

MODULES = {
    "patch_embedding": "latents.video.encode",
    "proj_out": "latents.video.decode",
    "condition_embedder.time_embedder.linear_1": "conditions.video.timestep.hidden",
    "condition_embedder.time_embedder.linear_2": "conditions.video.timestep.out",
    "condition_embedder.text_embedder.linear_1": "features.text.hidden",
    "condition_embedder.text_embedder.linear_2": "features.text.out",
}
PARTS = ("shift", "scale", "gate")


def as_ours(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The class's tensors, parameters or gradients, under our names."""
    ours = {}
    for name, other in MODULES.items():
        ours |= {f"{other}.{kind}": theirs[f"{name}.{kind}"] for kind in ("weight", "bias")}
    ours["latents.video.encode.weight"] = ours["latents.video.encode.weight"].flatten(1)
    of_places = [each.unflatten(0, (4, 3)).transpose(0, 1).flatten(0, 1) for each in last_of(theirs)]
    ours["latents.video.decode.weight"], ours["latents.video.decode.bias"] = of_places
    shift, scale = theirs["scale_shift_table"][0]
    ours |= {"final_modulation.shift": shift, "final_modulation.scale": scale}
    for kind in ("weight", "bias"):
        each = theirs[f"condition_embedder.time_proj.{kind}"].chunk(6)
        for number, part in enumerate(each):
            role = ("attention", "ffn")[number // 3]
            ours[f"conditions.video.shared.blocks.{role}.picture.{PARTS[number % 3]}.{kind}"] = part
    for block in range(2):
        for number, part in enumerate(theirs[f"blocks.{block}.scale_shift_table"][0]):
            layer, role = ((3 * block, "attention"), (3 * block + 2, "ffn"))[number // 3]
            ours[f"layers.{layer}.{role}.modulation.picture.{PARTS[number % 3]}"] = part
        for name, other in block_modules(3 * block).items():
            for kind in ("weight", "bias"):
                if f"blocks.{block}.{name}.{kind}" in theirs:
                    ours[f"{other}.{kind}"] = theirs[f"blocks.{block}.{name}.{kind}"]
    return ours


def last_of(theirs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The weight and the bias of what makes patches, whose channels are last there."""
    return theirs["proj_out.weight"], theirs["proj_out.bias"]


def block_modules(first: int) -> dict[str, str]:
    """A block's modules, as those of three layers of ours from `first` on."""
    modules = {"norm2": f"layers.{first + 1}.attention.norm.picture"}
    modules |= {
        "ffn.net.0.proj": f"layers.{first + 2}.ffn.up.picture",
        "ffn.net.2": f"layers.{first + 2}.ffn.down.picture",
    }
    names = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "out", "norm_q": "q_norm", "norm_k": "k_norm"}
    for name, other in names.items():
        of_words = "words" if other in ("k", "v", "k_norm") else "picture"
        modules[f"attn1.{name}"] = f"layers.{first}.attention.{other}.picture"
        modules[f"attn2.{name}"] = f"layers.{first + 1}.attention.{other}.{of_words}"
    return modules


def turns(hidden_states: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [1, S, 1, 12] of a video's places, each pair's twice, as ours are made."""
    grid = (hidden_states.shape[2], hidden_states.shape[3] // 2, hidden_states.shape[4] // 2)
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    tables = turns_in_float32((4, 4, 4), grid, 10000.0)
    each = torch.cat([table[places[:, axis]] for axis, table in enumerate(tables)], dim=1).repeat_interleave(2, 1)
    return each.real.to(DOUBLE)[None, :, None], each.imag.to(DOUBLE)[None, :, None]


def test_velocities_and_all_gradients(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs: Any = diffusers.WanTransformer3DModel(**SIZES).eval()
    for parameter in theirs.parameters():
        parameter.data = nn.init.normal_(parameter.data.to(DOUBLE), std=0.2)
    theirs.rope.forward = turns
    path = tmp_path / "wan.mot"
    path.write_text(SPEC)
    ours: Any = motc.load(path, dtype=DOUBLE)
    ours.load_state_dict({name: each.clone() for name, each in as_ours(dict(theirs.state_dict())).items()})

    words, x = torch.randn(2, 5, 10, dtype=DOUBLE), torch.randn(2, 3, 3, 4, 6, dtype=DOUBLE)
    times = torch.tensor([3.0, 751.5])
    ids = torch.tensor([0] * 5 + [1] * 18).expand(2, -1)
    given: dict[str, Any] = {"latents": {"video": x}, "timesteps": {"video": times}}
    made = ours(ids, ids, features={"text": words.flatten(0, 1)}, **given).predictions["video"]
    with NothingNarrowed():
        expected = theirs(x, timestep=times, encoder_hidden_states=words).sample
    assert_close(made, expected)
    backward_of_both(made, expected)
    wanted = as_ours(gradients(theirs))
    for name, parameter in ours.named_parameters():
        assert (parameter.grad - wanted[name]).abs().max() <= 1e-9 * max(1.0, wanted[name].abs().max()), name
