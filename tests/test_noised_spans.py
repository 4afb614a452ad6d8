"""Spans of latents that are clean: they are seen as they are, and no targets; and noised ones that only they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

import motc
from codegen_templates.mask_bidirectional import Bidirectional
from codegen_templates.mask_causal import Causal
from codegen_templates.mask_hidden import HidesNoised
from codegen_templates.masks import visibility
from motc.diff import diff
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.reference.visibility import ReferenceMask
from motc.reference.visibility import visibility as reference_visibility
from motc.source import SpecError
from motc.validate.random_parameters import randomise
from tests.fuzz.properties import agrees_with_sorted
from tests.planted import report

SPEC = """
model roles {
  width = 16, layers = 2, vocab = 20
  modality text
  modality image { latent { channels = 2, patch = 2, objective = flow } }
  attention { heads = 2, mask { bidirectional = image%s } }
  ffn { hidden = 24 }
  untie attention
}
"""
HIDDEN = SPEC % ", hide_noised = image"
DELIMITED = SPEC % ", hide_noised = image, delimiters = true"
BEGIN, END, STEPS = 6, 7, 3


def load(text: str, folder: Path, **how: Any) -> Any:
    path = folder / "roles.mot"
    path.write_text(text)
    module = motc.load(path, dtype=torch.float64, **how)
    randomise(module, torch.Generator().manual_seed(1))
    return module.eval()


def batch() -> tuple[Tensor, Tensor, dict[str, Any]]:
    """A row of words, a noised image, the same one clean, and words; and one of words and a noised image."""
    modality_ids = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1, 0, 0, 0]])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 20, modality_ids.shape, generator=generator)
    latents, noise = torch.randn(2, 3, 2, 2, 4, generator=generator, dtype=torch.float64)
    latents[1] = latents[0]
    given = {
        "latents": {"image": latents},
        "noise": {"image": noise},
        "timesteps": {"image": torch.tensor([300.0, 600.0, 900.0], dtype=torch.float64)},
        "clean": {"image": torch.tensor([False, True, False])},
    }
    return ids, modality_ids, given


@pytest.mark.parametrize("delimited", [False, True])
def test_who_sees_whom_entry_by_entry(delimited: bool) -> None:
    """Of words w, a noised image n and a clean one c."""
    drawn = {
        False: {  # w n n w c c w
            "w n n w c c w": [
                "x......",
                "xxx....",
                "xxx....",
                "x..x...",
                "x..xxx.",
                "x..xxx.",
                "x..xxxx",
            ]
        },
        True: {  # the word between is in both spans: the noised one's own
            "w n n w c c w": [
                "xxxx...",
                "xxxx...",
                "xxxx...",
                "xxxxxxx",
                "...xxxx",
                "...xxxx",
                "...xxxx",
            ]
        },
    }
    ((said, rows),) = drawn[delimited].items()
    modality_ids = torch.tensor([[int(word in "nc") for word in said.split()]])
    noised = torch.tensor([[word == "n" for word in said.split()]])
    expected = torch.tensor([[[mark == "x" for mark in row] for row in rows]])
    mask = HidesNoised(Bidirectional(Causal(), (1,), delimited=delimited), (1,))
    assert (visibility(mask, modality_ids, None) & mask.shown(modality_ids, None, noised)).equal(expected)
    reference = ReferenceMask(kind="causal", bidirectional=("image",), hide_noised=("image",), delimiters=delimited)
    assert reference_visibility(reference, ("text", "image"), modality_ids, None, noised).equal(expected)


@pytest.mark.parametrize("delimited", [False, True])
def test_random_rows_with_padding_and_documents(delimited: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    modality_ids = torch.randint(-1, 3, (20, 12), generator=generator)
    document_ids = torch.randint(0, 2, (20, 12), generator=generator).sort(dim=1).values
    noised = torch.randint(0, 2, (20, 12), generator=generator).bool() & (modality_ids > 0)
    for row in range(20):  # spans are noised whole
        for column in range(1, 12):
            same = modality_ids[row, column] == modality_ids[row, column - 1]
            if same and document_ids[row, column] == document_ids[row, column - 1]:
                noised[row, column] = noised[row, column - 1]
    mask = HidesNoised(Bidirectional(Causal(), (1, 2), delimited=delimited), (2,))
    reference = ReferenceMask(
        kind="causal", bidirectional=("image", "depth"), hide_noised=("depth",), delimiters=delimited
    )
    expected = reference_visibility(reference, ("text", "image", "depth"), modality_ids, document_ids, noised)
    real = (modality_ids >= 0)[:, :, None] & (modality_ids >= 0)[:, None, :]
    visible = visibility(mask, modality_ids, document_ids) & mask.shown(modality_ids, document_ids, noised)
    whole = {row for row in range(20) if not bool((modality_ids[row, 1:-1] < 0).any())}
    for row in whole:
        assert (visible & real)[row].equal(expected[row])
    assert len(whole) > 0


@pytest.mark.parametrize("text", [SPEC % "", HIDDEN, DELIMITED])
def test_clean_spans_are_no_targets(text: str, tmp_path: Path) -> None:
    model = load(text, tmp_path)
    ids, modality_ids, given = batch()
    losses = model.loss(ids, modality_ids, **given)
    noised = given["latents"]["image"].clone()
    for span in (0, 2):
        sigma = given["timesteps"]["image"][span] / 1000
        noised[span] = (1 - sigma) * noised[span] + sigma * given["noise"]["image"][span]
    times = given["timesteps"]["image"] * torch.tensor([1, 0, 1])
    shown = {"latents": {"image": noised}, "timesteps": {"image": times}, "clean": given["clean"]}
    predicted = model(ids, modality_ids, **shown).predictions["image"]
    error = (predicted - (given["noise"]["image"] - given["latents"]["image"])).square()
    torch.testing.assert_close(losses.by_modality["image"], error[[0, 2]].mean(), rtol=1e-12, atol=0)
    assert losses.weights["image"] == 2 * 16
    given.pop("timesteps"), given.pop("noise")
    assert model.count(ids, modality_ids, **given)["image"] == 2 * 16


def test_all_clean_is_no_loss_and_no_gradient_that_is_not_a_number(tmp_path: Path) -> None:
    model = load(SPEC % "", tmp_path)
    ids, modality_ids, given = batch()
    given["clean"] = {"image": torch.ones(3, dtype=torch.bool)}
    losses = model.loss(ids, modality_ids, **given)
    losses.total.backward()
    assert losses.by_modality["image"] == 0
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(("text", "moves"), [(SPEC % "", True), (HIDDEN, False), (DELIMITED, False)])
def test_words_behind_see_a_clean_copy_and_not_the_noised_one(text: str, moves: bool, tmp_path: Path) -> None:
    model = load(text, tmp_path)
    ids, modality_ids, given = batch()
    given["noise"]["image"].requires_grad_()
    given["latents"]["image"].requires_grad_()
    labels = torch.full_like(ids, -100)
    labels[:, -1] = ids[:, -1]
    model.loss(ids, modality_ids, labels=labels, **given).by_modality["text"].backward()
    touched = given["noise"]["image"].grad.flatten(1).abs().sum(1) > 0
    assert touched.tolist() == [moves, False, moves], "words see no noise"
    assert bool(given["latents"]["image"].grad[1].any()), "but what is clean"


@pytest.mark.laws
def test_every_law_holds() -> None:
    verdict = report(DELIMITED)
    assert verdict.ok, verdict


@pytest.mark.parametrize("strategy, tolerance", [("blend", 1e-12), ("reference", 1e-12), ("grouped", 2e-4)])
def test_strategies_agree(strategy: Any, tolerance: float) -> None:
    agrees_with_sorted(HIDDEN, strategy, tolerance)


@pytest.mark.parametrize("text", [HIDDEN, DELIMITED])
def test_documents_with_clean_latents_go_on_as_in_training(text: str, tmp_path: Path) -> None:
    """What is generated after a clean image is what whole rows give, in which the image that is made is noised."""
    model = load(text, tmp_path)
    ids, of = torch.tensor([[5, BEGIN, 0, 0, END, 4, BEGIN]]), torch.tensor([[0, 0, 1, 1, 0, 0, 0]])
    image = torch.randn(1, 2, 2, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    generated = model.generate(
        ids,
        of,
        max_new_tokens=3,
        latents={"image": image},
        spans={"image": {"begin": BEGIN, "end": END, "size": (2, 4)}},
        schedulers={"image": diffusers.FlowMatchEulerDiscreteScheduler()},
        denoising_steps=STEPS,
        seed=3,
    ).latents["image"]
    x = torch.randn(1, 2, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    after = torch.tensor([[0, 0, END]])
    whole, kinds = torch.cat((ids, after), 1), torch.cat((of, torch.tensor([[1, 1, 0]])), 1)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    for time in scheduler.timesteps:
        with torch.no_grad():
            predicted = model(
                whole,
                kinds,
                latents={"image": torch.cat((image, x))},
                timesteps={"image": torch.stack((time * 0, time))},
                clean={"image": torch.tensor([True, False])},
            ).predictions["image"][1:]
        x = scheduler.step(predicted, time, x).prev_sample
    torch.testing.assert_close(generated, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("clean", "message"),
    [
        ([True], "clean must be a dict of tensors by modality, not list"),
        ({"image": torch.ones(2, dtype=torch.bool)}, r"clean of image must be torch.bool \[3\], one a span"),
        ({"image": torch.ones(3)}, r"must be torch.bool \[3\], one a span, not torch.float32"),
        ({"text": torch.ones(3, dtype=torch.bool)}, "'text' is no continuous modality"),
    ],
)
def test_what_is_no_role_is_told(clean: Any, message: str, tmp_path: Path) -> None:
    model = load(HIDDEN, tmp_path)
    ids, modality_ids, given = batch()
    with pytest.raises((TypeError, ValueError), match=message):
        model.loss(ids, modality_ids, **{**given, "clean": clean})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPEC % ", hide_noised = text", "spans of text are not noised: it has no latents"),
        (SPEC % ", hide_noised = picture", "no modality or tower `picture`"),
        (HIDDEN.replace("bidirectional = image, ", ""), "that sees all of itself, and image is in none"),
        (HIDDEN.replace("heads = 2,", "heads = 2, window = 4,"), "not hidden in layers with a window"),
        (SPEC % ", hide_noised = image, detach { image = text }", "not hidden in layers with reading without gradient"),
    ],
)
def test_masks_that_cannot_hide_are_told(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "roles.mot"
    path.write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        compile_ir(path)
    assert caught.value.diagnostics[0].span is not None


def test_a_diff_and_a_hash_tell_it(tmp_path: Path) -> None:
    path = tmp_path / "roles.mot"
    path.write_text(SPEC % "")
    plain = compile_ir(path)
    path.write_text(HIDDEN)
    hidden = compile_ir(path)
    assert semantic_hash(plain) != semantic_hash(hidden)
    (edit,) = diff(plain, hidden)
    assert (edit.subject, edit.after) == ("attention.mask", "causal, bidirectional {image}, noised {image} hidden")
