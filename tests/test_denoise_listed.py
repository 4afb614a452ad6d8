"""`denoise` of latents of several sizes in one batch: each as in a batch of its own."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.test_denoise import CAPTIONS, flow, load, noise

VIDEOS = """
model videos {
  width = 16, layers = 2
  modality video { latent { channels = 3, patch = [1, 2, 2], objective = flow } }
  attention { heads = 2, mask = full }
  ffn { hidden = 24 }
}
"""
SIZES = [(4, 4), (2, 6)]


def captioned(patches: list[int]) -> Tensor:
    """Rows of three words and an image of so many patches, padded."""
    rows = [torch.tensor([0] * 3 + [1] * count + [-1] * (max(patches) - count)) for count in patches]
    return torch.stack(rows)


def given(row: slice) -> dict[str, Any]:
    """Captions and conditions of some rows of two."""
    words, vector = noise(2, 3, 5, seed=6)[row].flatten(0, 1), noise(2, 4, seed=7)[row]
    conditions = {"vector": vector, "number": noise(2, seed=8)[row]}
    return {"features": {"text": words}, "conditions": {"image": conditions}}


@pytest.mark.parametrize("guided", [False, True])
def test_images_of_two_sizes_are_each_as_alone(guided: bool) -> None:
    model = load(CAPTIONS)
    both = [noise(3, *size, seed=seed) for seed, size in enumerate(SIZES)]
    of = captioned([4, 3])
    how: dict[str, Any] = {"denoising_steps": 3}
    if guided:
        how["guidance"] = {
            "image": {
                "scale": 3.0,
                "renorm": True,
                "conditions": {"image": given(slice(2))["conditions"]["image"] | {"vector": noise(2, 4, seed=9)}},
            }
        }
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_image_seq_len=2)
    made = model.denoise(
        of.clamp(min=0), of, noise={"image": both}, schedulers={"image": scheduler}, **given(slice(2)), **how
    )
    for row, start in enumerate(both):
        one = slice(row, row + 1)
        alone = of[one][of[one] >= 0][None]
        if guided:
            how["guidance"]["image"]["conditions"] = {
                "image": given(one)["conditions"]["image"] | {"vector": noise(2, 4, seed=9)[one]}
            }
        expected = model.denoise(
            alone, alone, noise={"image": start[None]}, schedulers={"image": scheduler}, **given(one), **how
        )
        torch.testing.assert_close(made["image"][row], expected["image"][0], rtol=0, atol=1e-12)


def test_sizes_are_drawn_one_after_the_other() -> None:
    model, of = load(CAPTIONS), captioned([4, 3])
    how: dict[str, Any] = {"denoising_steps": 3, "seed": 5}
    made = model.denoise(
        of.clamp(min=0), of, sizes={"image": SIZES}, schedulers={"image": flow()}, **given(slice(2)), **how
    )
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(1, 3, *size, generator=generator, dtype=torch.float64)[0] for size in SIZES]
    expected = model.denoise(
        of.clamp(min=0), of, noise={"image": drawn}, schedulers={"image": flow()}, **given(slice(2)), **how
    )
    assert [x.shape for x in made["image"]] == [(3, *size) for size in SIZES]
    assert all(map(torch.equal, made["image"], expected["image"]))


def test_first_frames_of_videos_of_several_lengths_stay() -> None:
    model = load(VIDEOS)
    videos = [noise(3, frames, 2, 4, seed=frames) for frames in (3, 2, 1)]
    starts = [noise(3, frames, 2, 4, seed=9 + frames) for frames in (3, 2, 1)]
    clean = [torch.tensor([True, False, False]), torch.tensor([True, False]), torch.tensor([True])]
    of = torch.zeros(1, 12, dtype=torch.int64)
    documents = torch.tensor([[0] * 6 + [1] * 4 + [2] * 2])
    how: dict[str, Any] = {"denoising_steps": 3}
    made = model.denoise(
        of,
        of,
        document_ids=documents,
        latents={"video": videos},
        noise={"video": starts},
        clean={"video": clean},
        schedulers={"video": flow()},
        **how,
    )["video"]
    assert torch.equal(made[2], videos[2])
    for video, start, kept, one in zip(videos[:2], starts, clean, made, strict=False):
        ids = torch.zeros(1, 2 * len(kept), dtype=torch.int64)
        alone = model.denoise(
            ids,
            ids,
            latents={"video": video[None]},
            noise={"video": start[None]},
            clean={"video": kept[None]},
            schedulers={"video": flow()},
            **how,
        )["video"]
        torch.testing.assert_close(one, alone[0], rtol=0, atol=1e-12)
        assert torch.equal(one[:, 0], video[:, 0])


@pytest.mark.parametrize(
    "said, told",
    [
        ({"sizes": {"image": [(4, 4), (2, 5)]}}, "no multiple of its patch"),
        ({"sizes": {"image": [(4, 4)]}}, "image"),
        ({"sizes": {"image": SIZES}, "noise": {"image": [torch.zeros(3, 4, 4)]}}, "needs sizes, or noise or latents"),
        ({"latents": {"image": [torch.zeros(3, 4, 4)] * 2}}, "say which are clean"),
        ({"noise": {"image": [torch.zeros(2, 4, 4)]}}, "must have 3 channels"),
        (
            {"latents": {"image": [torch.zeros(3, 4, 4)]}, "clean": {"image": [torch.ones(3, dtype=torch.bool)] * 2}},
            "1 latents",
        ),
    ],
)
def test_what_fits_none_is_refused(said: dict[str, Any], told: str) -> None:
    model, of = load(CAPTIONS), captioned([4, 3])
    with pytest.raises(ValueError, match=told):
        model.denoise(of.clamp(min=0), of, schedulers={"image": flow()}, **given(slice(2)), **said)
