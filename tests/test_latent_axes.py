"""Latents of sequences and volumes, and of images whose patches are no squares."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import motc
from motc.cost import cost
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SpecError
from tests.fuzz.properties import agrees_with_sorted
from tests.planted import report
from tests.texts import of_one_layer

AXES = """
model axes {
  width = 32, layers = 2, vocab = 40
  modality text
  modality action { latent { channels = 3, patch = [1], objective = flow, time { kind = concat, max_period = 2 } } }
  modality video { latent { channels = 2, patch = [1, 2, 3], weight = 0.5 } }
  modality banner { latent { channels = 1, patch = [2, 1] } }
  attention { heads = 4, mask { bidirectional = [action, video] } }
  ffn { hidden = 48 }
  untie attention, ffn, norm
}
"""


def patched(patch: str, more: str = "") -> str:
    """A model of one continuous modality with these patches."""
    return AXES.split("  modality action")[0] + (
        f"  modality action {{ latent {{ channels = 3, patch = {patch}{more}, objective = flow }} }}\n"
        "  attention { heads = 4, mask { bidirectional = action } }\n  ffn { hidden = 48 }\n}\n"
    )


@pytest.mark.laws
def test_every_law_holds() -> None:
    verdict = report(of_one_layer(AXES))
    assert verdict.ok, verdict


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("grouped", 2e-4)])
def test_strategies_agree(strategy: Any, tolerance: float) -> None:
    agrees_with_sorted(of_one_layer(AXES), strategy, tolerance)


def test_a_patch_has_what_lies_along_its_axes() -> None:
    """The first map sees a patch's numbers by channel and axis; tokens go along the axes, the last fastest."""
    model: Any = motc.load(patched("[2, 1, 3]"), dtype=torch.float64)
    ends = model.latents["action"]
    video = torch.randn(2, 3, 4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens, _ = ends.tokens(video, torch.tensor([0, 1000]))
    by_hand = [
        ends.encode(video[n, :, 2 * frame : 2 * frame + 2, row : row + 1, :].flatten()) + ends.time(time)[0]
        for n, time in enumerate((torch.tensor([0]), torch.tensor([1000])))
        for frame in range(2)
        for row in range(2)
    ]
    torch.testing.assert_close(tokens, torch.stack(by_hand), rtol=0, atol=1e-12)
    back = ends.prediction(tokens, [video])
    torch.testing.assert_close(back[1, :, 2:4, 0, :].flatten(), ends.decode(tokens[6]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("patch, size", [("[2]", 4), ("[2]", (6,)), ("[1, 2, 2]", (2, 2, 4))])
def test_what_is_generated_is_what_the_whole_sequence_gives(patch: str, size: Any) -> None:
    diffusers = pytest.importorskip("diffusers")
    model: Any = motc.load(patched(patch), dtype=torch.float64)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(1000)
    generated = model.generate(
        torch.tensor([[5, 6]]),
        torch.tensor([[0, 0]]),
        max_new_tokens=6,
        spans={"action": {"begin": 6, "end": 7, "size": size}},
        schedulers={"action": scheduler},
        denoising_steps=3,
        seed=7,
    )
    shape = (1, 3, *(size if isinstance(size, tuple) else (size,)))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    count = generated.modality_ids[0].tolist().count(1)
    whole, of = torch.tensor([[5, 6] + [0] * count]), torch.tensor([[0, 0] + [1] * count])
    scheduler.set_timesteps(3)
    for time in scheduler.timesteps:
        output = model(whole, of, latents={"action": x}, timesteps={"action": time[None]})
        x = scheduler.step(output.predictions["action"], time, x).prev_sample
    torch.testing.assert_close(generated.latents["action"], x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("patch", "given", "said"),
    [
        ("[2]", torch.zeros(1, 3, 4, 4), "latents of action must be [spans, 3, length], not [1, 3, 4, 4]"),
        ("[2]", torch.zeros(1, 3, 5), "latents of action are 5: no multiple of 2"),
        ("[1, 2, 2]", torch.zeros(1, 3, 4, 4), "must be [spans, 3, frames, height, width], not [1, 3, 4, 4]"),
        ("[1, 2, 2]", torch.zeros(1, 3, 4, 3, 2), "latents of action are 4 x 3 x 2: no multiple of 1 x 2 x 2"),
        ("[1, 2, 2]", torch.zeros(1, 3, 1, 4, 6), "has another number of tokens than the 6 patches of 1 x 4 x 6"),
    ],
)
def test_latents_of_other_sizes_are_told(patch: str, given: torch.Tensor, said: str) -> None:
    model: Any = motc.load(patched(patch))
    ids = torch.tensor([[0, 1, 1, 0]])
    with pytest.raises(ValueError, match=re.escape(said)):
        model(ids, ids, latents={"action": given}, timesteps={"action": torch.zeros(1)})


@pytest.mark.parametrize(
    ("size", "error", "said"),
    [
        ((2, 4), TypeError, "the span of action needs its size as (length), not (2, 4)"),
        (3, ValueError, "the span of action has size 3: no multiple of its patch, 2"),
        (None, TypeError, "the size of the span of action must be a whole number"),
    ],
)
def test_other_sizes_are_not_generated(size: Any, error: type[Exception], said: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    model: Any = motc.load(patched("[2]"))
    with pytest.raises(error, match=re.escape(said)):
        model.generate(
            torch.tensor([[5, 6]]),
            torch.tensor([[0, 0]]),
            max_new_tokens=6,
            spans={"action": {"begin": 6, "end": 7, "size": size}},
            schedulers={"action": diffusers.FlowMatchEulerDiscreteScheduler(1000)},
        )


@pytest.mark.parametrize(
    ("patch", "more", "code", "said"),
    [
        ("[]", "", "MOT023", "`modalities.action.latent.patch` should be at least one, not an empty list"),
        ("[1, 1, 1, 1]", "", "MOT023", "`modalities.action.latent.patch` should be at most 3, not 4"),
        ("[1, 65]", "", "MOT023", "`modalities.action.latent.patch` should be at most 64, not 65"),
        ("0", "", "MOT023", "`modalities.action.latent.patch` should be at least 1, not 0"),
        ("two", "", "MOT023", "`modalities.action.latent.patch` should be a whole number, not `two`"),
        ("[2]", ", ends = unet", "MOT063", "a U-Net is of images in square patches, and these are 2"),
        ("[2, 4]", ", ends = unet", "MOT063", "a U-Net is of images in square patches, and these are 2 x 4"),
        (
            "2",
            ", ends = unet, time = concat",
            "MOT074",
            "a U-Net is told the timestep in each of its blocks, and not by",
        ),
        ("[2]", ", time { kind = none, scale = 2 }", "MOT074", "`scale` is of a timestep whose vector is added"),
        ("[2]", ", time { min_period = 1 }", "MOT074", "`min_period` is of sinusoids that are concatenated"),
        ("[2]", ", time { kind = concat, min_period = 4 }", "MOT074", "periods go up, not from 4 to 4"),
        (
            "[2]",
            ", time = joined",
            "MOT023",
            "`modalities.action.latent.time` should be added, concat, none or a",
        ),
    ],
)
def test_other_patches_are_refused(patch: str, more: str, code: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        motc.load(patched(patch, more))
    (diagnostic,) = refused.value.diagnostics
    assert diagnostic.code == code and diagnostic.message.startswith(said)


def test_a_square_is_said_in_two_ways_and_axes_are_told() -> None:
    square, both = compile_ir_of(patched("2")), compile_ir_of(patched("[2, 2]"))
    assert semantic_hash(square) == semantic_hash(both)
    volume = compile_ir_of(patched("[1, 2, 2]"))
    (edit,) = diff(square, volume)
    assert (edit.before, edit.after) == (
        "linear, 3 channels in patches of 2",
        "linear, 3 channels in patches of 1 x 2 x 2 of frames, height, width",
    )
    assert edit.parameters == cost(volume).parameters - cost(square).parameters == 0


def test_a_diff_tells_how_timesteps_are_told() -> None:
    added, mixed = compile_ir_of(patched("[2]")), compile_ir_of(patched("[2]", ", time = concat"))
    (edit,) = diff(added, mixed)
    assert edit.after == ("linear, 3 channels in patches of 2 of length, timesteps concatenated (periods 0.004 to 4)")
    assert edit.parameters == cost(mixed).parameters - cost(added).parameters == 32 * (2 * 32 - 256)


def compile_ir_of(text: str) -> Any:
    from motc.source import SourceFile

    return compile_ir(SourceFile("axes.mot", text))
