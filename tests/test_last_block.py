"""Generating the last of a mask's blocks gives what denoising it by the whole sequence gives, from the same noise."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.validate.random_parameters import randomise
from tests.test_features import ROBOT

diffusers = pytest.importorskip("diffusers")

DENSE = """
model dense {
  width = 32, layers = 2, vocab = 40
  modality text
  modality picture { latent { channels = 2, patch = 1, objective = flow } }
  modality action { latent { channels = 5, patch = [2] } }
  modality video { latent { channels = 3, patch = [1, 2, 2], objective = flow } }
  attention { heads = 4, mask { kind = blocks, blocks = [[text, picture], [action, video]] } }
  ffn { hidden = 48 }
  untie ffn
}
"""
READING = """
model reading {
  width = 16, layers = 2, vocab = 40
  modality text, question
  modality action { latent { channels = 5, patch = [1], objective = flow } }
  modality grip { latent { channels = 2, patch = [2], objective = flow } }
  attention { heads = 4, kv_heads = 2, bias = true, mask { MASK } }
  ffn { hidden = 16 }
  tower expert = action, grip
  layer 1 { tower expert { attention { reads = [text, question] } } }
  untie *
}
"""
STEPS = 3


def scheduler_of(model: Any, name: str) -> Any:
    if model.objectives[name].whole:
        return diffusers.DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    return diffusers.FlowMatchEulerDiscreteScheduler(1000)


def recomputed(model: Any, ids: Tensor, of: Tensor, noise: dict[str, Tensor], **prompt: Any) -> dict[str, Tensor]:
    """One row's last block, denoised by the whole row at every step."""
    schedulers, x = {name: scheduler_of(model, name) for name in noise}, dict(noise)
    for scheduler in schedulers.values():
        scheduler.set_timesteps(STEPS)
    latents, clean = prompt.pop("latents", {}), {}
    for name, given in latents.items():
        clean[name] = torch.zeros(len(given), dtype=torch.int64)
    for step in range(STEPS):
        now = {name: scheduler.timesteps[step] for name, scheduler in schedulers.items()}
        times = clean | {name: time[None] for name, time in now.items()}
        predictions = model(ids, of, latents=latents | x, timesteps=times, **prompt).predictions
        x = {name: schedulers[name].step(predictions[name], now[name], x[name]).prev_sample for name in x}
    return x


@pytest.mark.parametrize("strategy", ["sorted", "blend", "reference"])
def test_actions_are_denoised_against_what_is_seen_once(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = motc.load(ROBOT, dtype=torch.float64, strategy=strategy)
    of = torch.tensor([[0, 0, 1, 1, 1, 2], [-1, 0, 1, -1, 1, 2]])
    ids = torch.randint(0, 40, of.shape, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    vit, state = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((3, 12), (2, 16)))
    seen: list[int] = []
    transform = type(model).transform

    def spy(self: Any, tokens: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(tokens.numel())
        return transform(self, tokens, *rest, **more)

    monkeypatch.setattr(type(model), "transform", spy)
    generated = model.generate(
        ids,
        of,
        features={"vit": vit, "state": state},
        sizes={"action": 7},
        schedulers={"action": scheduler_of(model, "action")},
        denoising_steps=STEPS,
        seed=5,
    )
    assert seen == [10 if strategy == "sorted" else 12, *[14] * STEPS], "the prompt goes through once"
    monkeypatch.undo()
    assert generated.modality_ids.tolist() == [[3] * 7] * 2 and not generated.input_ids.any()
    noise = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for row, vits in enumerate((slice(2), slice(2, 3))):
        real = of[row] >= 0
        expected = recomputed(
            model,
            torch.cat((ids[row][real], torch.zeros(7, dtype=torch.int64)))[None],
            torch.cat((of[row][real], torch.full((7,), 3)))[None],
            {"action": noise[row : row + 1]},
            features={"vit": vit[vits], "state": state[row : row + 1]},
        )
        torch.testing.assert_close(generated.latents["action"][row : row + 1], expected["action"], rtol=0, atol=1e-12)


def test_latents_of_several_modalities_are_denoised_together_after_latents_of_a_prompt() -> None:
    """Of packed documents the last alone."""
    model: Any = motc.load(DENSE, dtype=torch.float64)
    of = torch.tensor([[0, 1, 0, 1, 1, 1, 1, 0]])
    ids = torch.randint(0, 40, of.shape, generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
    pictures = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sizes = {"video": (1, 2, 4), "action": 4}
    schedulers = {name: scheduler_of(model, name) for name in sizes}
    how = {"sizes": sizes, "schedulers": schedulers, "denoising_steps": STEPS, "seed": 5}
    generated = model.generate(ids[:, 2:], of[:, 2:], latents={"picture": pictures}, **how)
    generator = torch.Generator().manual_seed(5)
    noise = {
        "video": torch.randn(1, 3, 1, 2, 4, generator=generator, dtype=torch.float64),
        "action": torch.randn(1, 5, 4, generator=generator, dtype=torch.float64),
    }
    whole = torch.cat((ids[:, 2:], torch.zeros(1, 4, dtype=torch.int64)), 1)
    kinds = torch.cat((of[:, 2:], torch.tensor([[3, 3, 2, 2]])), 1)
    expected = recomputed(model, whole, kinds, noise, latents={"picture": pictures})
    for name in sizes:
        torch.testing.assert_close(generated.latents[name], expected[name], rtol=0, atol=1e-12)
    more = torch.cat((torch.randn(1, 2, 2, 2, dtype=torch.float64)[..., :1, :1].expand(1, 2, 2, 2), pictures))
    with pytest.raises(ValueError, match=r"spans of picture|number of tokens"):
        model.generate(ids, of, document_ids=documents, latents={"picture": more[:1]}, **how)


@pytest.mark.parametrize(
    ("mask", "strategy"),
    [
        ("kind = prefix, prefix = [text, question]", "sorted"),
        ("kind = prefix, prefix = question, bidirectional = action", "blend"),
        ("kind = blocks, blocks = [[text, question], expert]", "sorted"),
    ],
)
def test_what_reads_is_made_as_the_last_block(mask: str, strategy: Any) -> None:
    model: Any = motc.load(READING.replace("MASK", mask), dtype=torch.float64, strategy=strategy)
    randomise(model, torch.Generator().manual_seed(0))
    of, sizes = torch.tensor([[0, 1, 0, 1], [-1, 1, 1, -1]]), {"action": 5, "grip": 4}
    ids = torch.randint(0, 40, of.shape, generator=torch.Generator().manual_seed(0))
    schedulers = {name: scheduler_of(model, name) for name in sizes}
    made = model.generate(ids, of, sizes=sizes, schedulers=schedulers, denoising_steps=STEPS, seed=5)
    generator = torch.Generator().manual_seed(5)
    noise = {"action": (2, 5, 5), "grip": (2, 2, 4)}
    drawn = {name: torch.randn(size, generator=generator, dtype=torch.float64) for name, size in noise.items()}
    for row in range(2):
        real = of[row : row + 1] >= 0
        tokens = [x[row : row + 1][real][None] for x in (ids, of)]
        whole = [
            torch.cat((x, torch.tensor([[kind] * 5 + [more] * 2])), 1)
            for x, kind, more in zip(tokens, (0, 2), (0, 3), strict=True)
        ]
        expected = recomputed(model, *whole, {name: x[row : row + 1] for name, x in drawn.items()})
        for name, x in expected.items():
            torch.testing.assert_close(made.latents[name][row : row + 1], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"sizes": {}}, ValueError, "nothing is to be made: sizes={'action': ...}"),
        (
            {"sizes": {"text": 3}},
            ValueError,
            "sizes are of modalities in the mask's last block, action, and not of 'text'",
        ),
        ({"sizes": {"action": (2, 2)}}, TypeError, "needs its size as (length), not (2, 2)"),
        ({"sizes": {"action": 0}}, ValueError, "no multiple of its patch, 1"),
        ({"sizes": 3}, TypeError, "sizes must be a dict"),
        ({"schedulers": {}}, ValueError, "action needs a scheduler"),
        ({"schedulers": {"text": 0}}, ValueError, "'text' is no continuous modality"),
        ({"features": {}}, ValueError, "modality_ids have 1 tokens of vit, and there are features for 0"),
        ({"modality_ids": torch.tensor([[0, 1, 3]])}, ValueError, "this one has tokens of action"),
        ({"denoising_steps": 0}, ValueError, "denoising_steps must be positive"),
    ],
)
def test_what_does_not_fit_is_told(change: dict[str, Any], error: type[Exception], said: str) -> None:
    model: Any = motc.load(ROBOT)
    right = {
        "input_ids": torch.tensor([[0, 1, 0]]),
        "modality_ids": torch.tensor([[0, 1, 2]]),
        "features": {"vit": torch.zeros(1, 12), "state": torch.zeros(1, 16)},
        "sizes": {"action": 3},
        "schedulers": {"action": scheduler_of(model, "action")},
    }
    with pytest.raises(error, match=re.escape(said)):
        model.generate(**{**right, **change})


def test_schedulers_of_several_modalities_take_as_many_steps() -> None:
    model: Any = motc.load(DENSE)
    few = diffusers.FlowMatchEulerDiscreteScheduler(1000)
    few.set_timesteps(2)
    few.set_timesteps = lambda *args, **kwargs: None
    with pytest.raises(ValueError, match="as many timesteps each, and there are 3 of action, 2 of video"):
        model.generate(
            torch.zeros(1, 2, dtype=torch.int64),
            torch.zeros(1, 2, dtype=torch.int64),
            sizes={"action": 2, "video": (1, 2, 2)},
            schedulers={"action": scheduler_of(model, "action"), "video": few},
            denoising_steps=3,
        )


@pytest.mark.parametrize(
    "blocks", ["[[vit, text], [state, action]]", "[[vit, text], action, state]", "[[vit, action], [text, state]]"]
)
def test_other_last_blocks_are_not_generated(blocks: str) -> None:
    model = motc.load(ROBOT.replace("[[vit, text], state, action]", blocks), device="meta")
    assert not hasattr(model, "generate")
