"""`denoise`: latents made by whole batches, against loops written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import motc
from motc.validate.random_parameters import randomise
from tests.test_no_tokens import IMAGES
from tests.tracing import TRACED_LAYERS

CAPTIONS = """
model captions {
  width = 16, layers = 2
  modality text { features { size = 5 } }
  modality image {
    latent { channels = 3, patch = 2, objective = flow, time = none }
    condition { timestep { size = 8 }, vector { size = 4 }, number { size = 4 } }
  }
  attention { heads = 2, mask = full }
  ffn { hidden = 24 }
  norm { kind = layer, weight = false, adaptive = image }
  untie *
}
"""
FRAMES = """
model frames {
  width = 16, layers = 2
  modality text { vocab = 9 }
  modality image { latent { channels = 3, patch = 2, objective = flow } }
  attention { heads = 2, mask { bidirectional = image, hide_noised = image } }
  ffn { hidden = 24 }
}
"""
STEPS = 3


def load(text: str) -> Any:
    model = motc.load(text, dtype=torch.float64)
    randomise(model, torch.Generator().manual_seed(1))
    return model


def noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flow() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler()


def by_hand(scheduler: Any, x: Tensor, predicted: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for time in scheduler.timesteps:
            x = scheduler.step(predicted(x, time.expand(len(x))), time, x).prev_sample
    return x


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_images_by_their_class_led_away_from_none() -> None:
    model, ids = load(IMAGES), torch.zeros(2, 4, dtype=torch.int64)
    labels = torch.tensor([1, 4])

    def predicted(label: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        given = {"image": {"label": label}}
        return lambda x, t: model(ids, ids, latents={"image": x}, timesteps={"image": t}, conditions=given).predictions[
            "image"
        ]

    one, none = predicted(labels), predicted(torch.full((2,), 5))
    x, scheduler = noise(2, 3, 4, 4), diffusers.DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    how: dict[str, Any] = {"denoising_steps": STEPS, "seed": 3, "conditions": {"image": {"label": labels}}}
    for begins in ({"sizes": {"image": (4, 4)}}, {"noise": {"image": x}}):
        made = model.denoise(ids, ids, schedulers={"image": scheduler}, **begins, **how)
        assert made.keys() == {"image"}
        same(made["image"], by_hand(scheduler, x, one))
    guidance = {"image": {"scale": 4.0, "conditions": {"image": {}}}}
    found = model.denoise(ids, ids, schedulers={"image": scheduler}, sizes={"image": (4, 4)}, guidance=guidance, **how)[
        "image"
    ]
    same(found, by_hand(scheduler, x, lambda x, t: none(x, t) + 4.0 * (one(x, t) - none(x, t))))
    assert (found - by_hand(scheduler, x, one)).abs().max() > 0.1


def test_another_prompt_leads_away() -> None:
    model = load(CAPTIONS)
    of = torch.tensor([[0, 0, 1, 1, 1, 1], [-1, 0, 1, 1, 1, 1]])
    features = [{"text": noise(3, 5, seed=seed)} for seed in (4, 5)]
    conditions = [{"image": {"vector": noise(2, 4, seed=seed), "number": torch.tensor([3.5, seed])}} for seed in (6, 7)]

    def predicted(which: int) -> Callable[[Tensor, Tensor], Tensor]:
        given = {"features": features[which], "conditions": conditions[which]}
        return lambda x, t: model(of, of, latents={"image": x}, timesteps={"image": t}, **given).predictions["image"]

    contrast = {"features": features[1], "conditions": conditions[1]}
    found = model.denoise(
        of,
        of,
        schedulers={"image": flow()},
        denoising_steps=STEPS,
        sizes={"image": (4, 4)},
        features=features[0],
        conditions=conditions[0],
        guidance={"image": {"scale": 2.5, "renorm": True, **contrast}},
        seed=3,
    )["image"]

    def led(x: Tensor, t: Tensor) -> Tensor:
        p, u = predicted(0)(x, t), predicted(1)(x, t)
        q = u + 2.5 * (p - u)
        longer = p.flatten(1).norm(dim=1) / (q.flatten(1).norm(dim=1) + 1e-8)
        return q * longer.clamp(max=1)[:, None, None, None]

    same(found, by_hand(flow(), noise(2, 3, 4, 4), led))


def test_clean_frames_stay_and_are_seen() -> None:
    """A row whose first image is given, and two rows packed into one: what is made is by the clean ones alone."""
    model = load(FRAMES)
    image = [1, 1, 1, 1]
    of = torch.tensor([[0, *image, 0, *image], [0, *image, 0, *image]])
    ids = torch.tensor([[3, *image, 4, *image], [5, *image, 6, *image]]) * (of == 0)
    given, clean = noise(4, 3, 4, 4, seed=8), torch.tensor([True, False, False, False])

    def predicted(x: Tensor, time: Tensor) -> Tensor:
        whole, times = given.clone(), torch.zeros(4)
        whole[1:], times[1:] = x, time[0]
        found = model(ids, of, latents={"image": whole}, timesteps={"image": times}, clean={"image": clean})
        prediction: Tensor = found.predictions["image"][1:]
        return prediction

    how: dict[str, Any] = {"latents": {"image": given}, "clean": {"image": clean}, "denoising_steps": STEPS, "seed": 3}
    made = model.denoise(ids, of, schedulers={"image": flow()}, **how)["image"]
    assert torch.equal(made[0], given[0])
    same(made[1:], by_hand(flow(), noise(3, 3, 4, 4), predicted))


@pytest.mark.compiled
def test_a_compiled_model_makes_the_same() -> None:
    ids = torch.tensor([[3, 0, 0, 0, 0, 4, 0, 0, 0, 0]])
    of = torch.tensor([[0, 1, 1, 1, 1, 0, 1, 1, 1, 1]])
    given = {"latents": {"image": noise(2, 3, 4, 4)}, "clean": {"image": torch.tensor([True, False])}}
    model = load(FRAMES)
    once, again = [], []
    for made in (once, again):
        for how in (given, {"sizes": {"image": (4, 4)}}):
            made.append(model.denoise(ids, of, schedulers={"image": flow()}, denoising_steps=STEPS, seed=3, **how))
        torch._dynamo.reset()
        model.compile(backend=TRACED_LAYERS)
    for eager, compiled in zip(once, again, strict=True):
        same(compiled["image"], eager["image"])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedulers": {}}, "nothing is to be made"),
        ({"schedulers": {"text": flow()}}, "'text' is no continuous modality"),
        ({}, "what is made of image needs a size, or noise or latents that have one"),
        ({"sizes": {"image": (4, 3)}}, "no multiple of its patch"),
        ({"sizes": {"image": (8, 4)}}, "4 tokens of image, and latents of 8 x 4 have 8 each"),
        ({"sizes": {"text": (4, 4)}}, "'text' is no modality that is made"),
        ({"sizes": {"image": (4, 4)}, "noise": {"image": noise(1, 3, 4, 4)}}, "and have sizes and noise"),
        ({"latents": {"image": noise(1, 3, 4, 4)}}, "say which are clean"),
        ({"noise": {"image": noise(2, 3, 4, 4)}}, "1 spans of image, and there are latents for 2"),
        ({"sizes": {"image": (4, 4)}, "guidance": {"image": {"scale": 2.0}}}, "gives nothing else than the batch"),
        ({"sizes": {"image": (4, 4)}, "guidance": {"image": {"scale": 2.0, "drop": "text"}}}, "needs a scale and some"),
        ({"sizes": {"image": (4, 4)}, "guidance": {"text": {"scale": 2.0}}}, "'text' is none of them"),
        ({"sizes": {"image": (4, 4)}, "features": {"text": noise(1, 2)}}, "no modality of features"),
        ({"sizes": {"image": (4, 4)}, "denoising_steps": 0}, "must be positive"),
    ],
)
def test_what_does_not_fit_is_told(given: dict[str, Any], message: str) -> None:
    model = load(FRAMES)
    of = torch.tensor([[0, 1, 1, 1, 1]])
    with pytest.raises((TypeError, ValueError), match=message):
        model.denoise(of, of, **{"schedulers": {"image": flow()}, **given})
