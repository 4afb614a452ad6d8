"""Models all of whose modalities are continuous: there is no embedding, no head and no logit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import motc
from motc.driver import compile_ir
from motc.source import SourceFile, SpecError
from tests.planted import broken, report
from tests.texts import of_one_layer

IMAGES = """
model images {
  width = 16, layers = 2
  modality image {
    latent { channels = 3, patch = 2, time = none, sine { base = 4 } }
    condition { timestep { size = 8, closed = true }, label { count = 5 } }
  }
  attention { heads = 2, mask = full, bias = true, rope = none }
  ffn { kind = gelu_tanh, hidden = 32, bias = true }
  norm { kind = layer, weight = false, adaptive = image }
}
"""
CAPTIONS = """
model captions {
  width = 16, layers = 2
  modality text { features { size = 5 } }
  modality image {
    latent { channels = 3, patch = [1, 2], objective = flow, time = none, sine { base = 4, crop = 7 } }
    condition { timestep { size = 8 }, vector { size = 4 } }
  }
  attention { heads = 2, mask = full }
  ffn { hidden = 24 }
  norm { kind = layer, weight = false, adaptive = image }
  tower reader = text { width = 8 }
  untie *
}
"""
SPECS = {"images": IMAGES, "captions": CAPTIONS}


@pytest.mark.laws
@pytest.mark.parametrize("name", SPECS)
def test_every_law_holds(name: str) -> None:
    verdict = report(of_one_layer(SPECS[name]))
    assert verdict.ok, verdict


@pytest.mark.laws
def test_another_base_of_sines_is_found() -> None:
    assert broken(of_one_layer(IMAGES), "SineTable(base=4)", "SineTable(base=5)")


def test_there_are_no_logits_and_nothing_to_continue() -> None:
    model: Any = motc.load(IMAGES)
    assert model.vocabularies == {} and not hasattr(model, "generate")
    assert not any(name.startswith(("embedding", "head")) for name, _ in model.named_parameters())
    ids, x = torch.zeros(2, 4, dtype=torch.int64), torch.randn(2, 3, 4, 4)
    out = model(ids, ids, latents={"image": x}, timesteps={"image": torch.tensor([1, 2])})
    assert out.logits == {} and out.predictions["image"].shape == x.shape
    losses = model.loss(ids, ids, latents={"image": x})
    assert losses.total == losses.by_modality["image"]


def test_a_grid_larger_than_its_crop_is_refused() -> None:
    model: Any = motc.load(CAPTIONS)
    ids, x = torch.ones(1, 8, dtype=torch.int64), torch.randn(1, 3, 8, 2)
    vector = {"image": {"vector": torch.zeros(1, 4)}}
    with pytest.raises(ValueError, match="a latent has 8 patches along a side, and its table is of 7"):
        model(ids, ids, latents={"image": x}, timesteps={"image": torch.tensor([1.0])}, conditions=vector)


@pytest.mark.parametrize(
    "old, new, code, told",
    [
        ("layers = 2\n", "layers = 2, vocab = 8\n", "MOT062", "`vocab` is of tokens with ids"),
        ("sine { base = 4 }", "sine { crop = 4 }", "MOT074", "`crop` is of a table whose places are scaled"),
        (
            "patch = 2, time = none",
            "patch = [2], time = none",
            "MOT074",
            "sines of rows and columns are added to images'",
        ),
    ],
)
def test_what_does_not_fit_is_told(old: str, new: str, code: str, told: str) -> None:
    with pytest.raises(SpecError) as refused:
        compile_ir(SourceFile("images.mot", IMAGES.replace(old, new)))
    assert any(each.code == code and told in each.message for each in refused.value.diagnostics)
