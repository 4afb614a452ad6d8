"""The gallery's LMFusion: its text is Llama, whose weights it begins with; images are held against motc's reference.

That is in `test_strategies.py`, outputs and all gradients.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import motc
from motc.driver import final_ir
from motc.weights import bijection_of, parameters_of
from tests.originals import GALLERY, as_parameters, widened
from tests.published import ORIGINALS

pytest.importorskip("transformers", minversion="5.0")


@torch.no_grad()
def test_text_is_llama() -> None:
    """Of rows of text all logits, and of a row with an image those before it."""
    torch.manual_seed(0)
    named = {original.spec: original for original in ORIGINALS}
    llama = replace(named["llama_3_2_1b"], small={"embedding.tied": False}, small_config={"tie_word_embeddings": False})
    llama = replace(llama, config={k: v for k, v in llama.config.items() if k not in ("rope_scaling", "head_dim")})
    llama = replace(llama, small={**llama.small, "attention.head_dim": 8, "attention.rope.scaling": "none"})
    theirs = llama.made(small=True)
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tensors = {name: each.detach() for name, each in theirs.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    text = parameters_of(bijection_of(llama.weights, shapes, final_ir(llama.checked)), tensors)

    small = {
        key: value for key, value in llama.overrides.items() if not key.startswith(("embedding", "attention.rope"))
    }
    small |= {"modalities.image.latent.channels": 3, "modalities.image.latent.unet.channels": 8}
    ours: Any = motc.load(GALLERY / "lmfusion_8b.mot", set=small, dtype=torch.float64)
    state = {
        name: text[name.replace(".text.", ".")]
        for name in ours.state_dict()
        if not name.startswith("latents") and ".image." not in name
    }
    assert len(state) == len(text)
    ours.load_state_dict(ours.state_dict() | state)

    ids = torch.randint(0, 61, (2, 9))
    modality_ids = torch.zeros_like(ids)
    modality_ids[1, 4:8] = 1
    latents = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    got = ours(ids, modality_ids, latents={"image": latents}, timesteps={"image": torch.tensor([300])}).logits
    with widened(torch.float64):
        expected = theirs(ids, use_cache=False).logits
    torch.testing.assert_close(got[0], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got[1, :4], expected[1, :4], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(got[1, 8], expected[1, 8])
