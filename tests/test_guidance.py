"""Guidance: latents led away from what less of a row predicts, against loops over whole rows that lack it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import motc
from motc.validate.random_parameters import randomise

SPEC = """
model guided {
  width = 16, layers = 2, vocab = 20
  modality text
  modality image { latent { channels = 2, patch = 2, objective = flow } }
  modality vit { features { size = 3 } }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 24 }
  untie attention
}
"""
ROBOT = """
model guided_robot {
  width = 16, layers = 2, vocab = 20
  modality text
  modality vit { features { size = 3 } }
  modality action { latent { channels = 2, patch = [1], objective = flow } }
  attention { heads = 2, mask { kind = blocks, blocks = [[text, vit], action] } }
  ffn { hidden = 24 }
  untie attention
}
"""
STEPS, BEGIN, END = 3, 6, 7
SPAN = {"image": {"begin": BEGIN, "end": END, "size": (2, 4)}}


def load(text: str, folder: Path) -> Any:
    path = folder / "guided.mot"
    path.write_text(text)
    module = motc.load(path, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    return module.eval()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def denoise(noise: Tensor, predicted: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    for time in scheduler.timesteps:
        noise = scheduler.step(predicted(noise, time), time, noise).prev_sample
    return noise


def whole_row(model: Any, name: str, tokens: list[tuple[int, int]], **given: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """What the model predicts of a row's last latent, by the whole row: pairs of ids and modalities, then patches."""
    index = model.modalities.index(name)
    before = given.pop("before", [])

    def predicted(x: Tensor, time: Tensor) -> Tensor:
        count = x[0, 0].numel() // (4 if x.ndim == 4 else 1)
        ids, of = torch.tensor([[*tokens, *[(0, index)] * count]]).unbind(-1)
        times = torch.cat([torch.zeros(len(before)), time[None]])
        latents = {name: torch.cat([*before, x]).double()}
        with torch.no_grad():
            output = model(ids, of, latents=latents, timesteps={name: times}, **given)
        prediction: Tensor = output.predictions[name][-1:]
        return prediction

    return predicted


def test_text_and_images_are_dropped_one_after_the_other(tmp_path: Path) -> None:
    """A row with an image, a vector and words, then latents; as BAGEL leads them, by text first."""
    model = load(SPEC, tmp_path)
    image, vit, text = random(1, 2, 2, 4, seed=1), random(1, 3, seed=2), [(5, 0), (4, 0)]
    shown = [(0, 2), (BEGIN, 0), (0, 1), (0, 1), (END, 0)]
    tokens = [*shown, *text, (BEGIN, 0)]
    ids, of = torch.tensor([tokens]).unbind(-1)
    guidance = {"image": [{"scale": 4.0, "drop": "text"}, {"scale": 1.5, "drop": ["image", "vit"], "renorm": True}]}
    given = {"latents": {"image": image}, "features": {"vit": vit}}
    how = {"spans": SPAN, "denoising_steps": STEPS, "seed": 3, "max_new_tokens": 3, **given}

    def generated(**more: Any) -> Tensor:
        schedulers = {"image": diffusers.FlowMatchEulerDiscreteScheduler()}
        latents: Tensor = model.generate(ids, of, schedulers=schedulers, **how, **more).latents["image"]
        return latents

    full = whole_row(model, "image", tokens, before=[image], features={"vit": vit})
    wordless = whole_row(model, "image", [*shown, (BEGIN, 0)], before=[image], features={"vit": vit})
    blind = whole_row(model, "image", [*text, (BEGIN, 0)])

    def led(x: Tensor, time: Tensor) -> Tensor:
        p = full(x, time)
        p = wordless(x, time) + 4.0 * (p - wordless(x, time))
        q = blind(x, time) + 1.5 * (p - blind(x, time))
        return q * min(1.0, float(p.norm() / (q.norm() + 1e-8)))

    noise = torch.randn(1, 2, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(generated(guidance=guidance), denoise(noise, led), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(generated(), denoise(noise, full), rtol=1e-9, atol=1e-9)
    for scale, expected in ((1.0, full), (0.0, wordless)):
        found = generated(guidance={"image": {"scale": scale, "drop": "text"}})
        torch.testing.assert_close(found, denoise(noise, expected), rtol=1e-9, atol=1e-9)


def test_latents_that_a_row_got_are_part_of_what_it_has_seen(tmp_path: Path) -> None:
    """Two rows of different lengths, one of which gets two latents: the second is led with the first in sight."""
    model = load(SPEC, tmp_path)
    ids = torch.tensor([[0, 5, BEGIN], [4, 5, 3]])
    of = torch.tensor([[-1, 0, 0], [0, 0, 0]])
    guidance = {"image": {"scale": 3.0, "drop": "text"}}
    generated = model.generate(
        ids,
        of,
        max_new_tokens=3,
        spans=SPAN,
        schedulers={"image": diffusers.FlowMatchEulerDiscreteScheduler()},
        denoising_steps=STEPS,
        guidance=guidance,
        seed=3,
    )
    first = generated.latents["image"][:1]
    again = torch.cat([ids[0, 1:], generated.input_ids[0], torch.tensor([BEGIN])])[None]
    modalities = torch.cat([of[0, 1:], generated.modality_ids[0], torch.tensor([0])])[None]
    second = model.generate(
        again,
        modalities,
        max_new_tokens=3,
        spans=SPAN,
        schedulers={"image": diffusers.FlowMatchEulerDiscreteScheduler()},
        denoising_steps=STEPS,
        guidance=guidance,
        latents={"image": first},
        seed=4,
    ).latents["image"]
    tokens = list(zip(again[0].tolist(), modalities[0].tolist(), strict=True))
    full = whole_row(model, "image", tokens, before=[first])
    wordless = whole_row(model, "image", [(BEGIN, 0), (0, 1), (0, 1), (END, 0), (BEGIN, 0)], before=[first])
    noise = torch.randn(1, 2, 2, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = denoise(noise, lambda x, t: wordless(x, t) + 3.0 * (full(x, t) - wordless(x, t)))
    torch.testing.assert_close(second, expected, rtol=1e-9, atol=1e-9)


def test_a_last_block_is_led_and_each_condition_is_computed_once(tmp_path: Path, monkeypatch: Any) -> None:
    model = load(ROBOT, tmp_path)
    ids, of = torch.tensor([[0, 3, 4], [5, 0, 2]]), torch.tensor([[1, 0, 0], [-1, 1, 0]])
    vit = random(2, 3)
    seen: list[int] = []
    transform = type(model).transform

    def spy(self: Any, tokens: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(tokens.numel())
        return transform(self, tokens, *rest, **more)

    monkeypatch.setattr(type(model), "transform", spy)
    generated = model.generate(
        ids,
        of,
        sizes={"action": 4},
        schedulers={"action": diffusers.FlowMatchEulerDiscreteScheduler()},
        denoising_steps=STEPS,
        guidance={"action": {"scale": 2.5, "drop": "text"}},
        features={"vit": vit},
        seed=5,
    ).latents["action"]
    assert seen == [5, 2, *[8, 8] * STEPS], "a prompt with and without words once, then the block alone"
    monkeypatch.undo()
    noise = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for row, tokens in enumerate(([(0, 1), (3, 0), (4, 0)], [(0, 1), (2, 0)])):
        features = {"vit": vit[row : row + 1]}
        full, less = (whole_row(model, "action", each, features=features) for each in (tokens, [(0, 1)]))
        expected = denoise(noise[row : row + 1], lambda x, t: less(x, t) + 2.5 * (full(x, t) - less(x, t)))  # noqa: B023
        torch.testing.assert_close(generated[row : row + 1], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        ([1], "guidance must be a dict by the names of modalities"),
        ({"text": {"scale": 2.0, "drop": "text"}}, "'text' is none of them"),
        ({"image": 4.0}, "guidance of image must be a dict with scale and drop"),
        ({"image": {"scale": 2.0}}, "guidance of image needs scale and drop"),
        ({"image": {"scale": True, "drop": "text"}}, "the scale of guidance of image must be a number"),
        ({"image": {"scale": 2.0, "drop": "words"}}, "guidance drops modalities of text, image, vit, not 'words'"),
        ({"image": {"scale": 2.0, "drop": []}}, "guidance of image drops nothing"),
    ],
)
def test_guidance_that_means_nothing_is_told(guidance: Any, message: str, tmp_path: Path) -> None:
    model = load(SPEC, tmp_path)
    schedulers = {"image": diffusers.FlowMatchEulerDiscreteScheduler()}
    ids = torch.tensor([[5, BEGIN]])
    with pytest.raises((TypeError, ValueError), match=message):
        model.generate(ids, ids * 0, max_new_tokens=3, spans=SPAN, schedulers=schedulers, guidance=guidance)


def test_what_leaves_nothing_of_a_row_and_given_positions_are_told(tmp_path: Path) -> None:
    model = load(ROBOT, tmp_path)
    ids = torch.tensor([[5, 4]])
    schedulers = {"action": diffusers.FlowMatchEulerDiscreteScheduler()}
    how: dict[str, Any] = {"sizes": {"action": 4}, "guidance": {"action": {"scale": 2.0, "drop": "text"}}}
    with pytest.raises(ValueError, match="without text nothing of a row is left for guidance"):
        model.generate(ids, ids * 0, schedulers=schedulers, **how)
    with pytest.raises(ValueError, match="position_ids cannot be given with it"):
        model.generate(ids, ids * 0, schedulers=schedulers, position_ids=torch.tensor([[3, 4]]), **how)
