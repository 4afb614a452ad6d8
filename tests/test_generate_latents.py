"""Generating text and latents in turn gives what the whole sequence gives anew: each token, each denoised latent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motc.driver import check_spec, compile_ir, final_ir, stages
from motc.ir.execution import Strategy
from motc.ir.mask import Mask
from motc.loading import instantiate
from motc.source import SourceFile
from motc.validate.random_parameters import randomise
from motc.validate.reduce import reduce
from tests.test_latents import SPECS
from tests.test_masks_by_layer import attending
from tests.test_open_layers import of_layers

diffusers = pytest.importorskip("diffusers")

PAPER = Path(__file__).resolve().parent.parent / "specs" / "paper"
NEW = 20
STEPS = 3

HYBRID = """
model hybrid {
  width = 32, layers = 2, vocab = 40
  modality image { latent { channels = 3, patch = 2, objective = flow } }
  modality text, speech
  attention { heads = 4, kv_heads = 2, mask { bidirectional = image, sees { image = [text, image] } } }
  ffn { hidden = 24 }
  norm { placement = sublayer_output }
  tower text = text { ffn { kind = moe, experts = 3, top_k = 2, shared_experts = 1 } }
  untie attention, ffn, norm, embedding
}
"""
PLACED = """
model placed {
  width = 32, layers = 2, vocab = 40
  modality text
  modality image { positions { %s }, latent { channels = 3, patch = 2, objective = flow } }
  attention { heads = 4, mask { bidirectional = image }, rope { %s } }
  ffn { hidden = 24 }
  positions { first = 1 }
  untie attention
}
"""
DELIMITED = "mask { bidirectional = image"
HARD = {
    **SPECS,
    "hybrid with delimiters": HYBRID.replace(DELIMITED, f"{DELIMITED}, delimiters = true"),
    "delimiters at one position": (PLACED % ("kind = same, delimiters = true", "theta = 30")).replace(
        DELIMITED, f"{DELIMITED}, delimiters = true"
    ),
    "delimiters in a window": (PLACED % ("kind = centred", "sections = [2, 2]")).replace(
        f"{DELIMITED} }}", f"{DELIMITED}, delimiters = true }}, window = 5"
    ),
    "hybrid": HYBRID,
    "at one position": PLACED % ("kind = same, delimiters = true", "theta = 100"),
    "centred": PLACED % ("kind = centred", "sections = [2, 2]"),
}


def load(folder: Path, text: str, strategy: Strategy = "sorted", *, dense: bool = False) -> Any:
    path = folder / "latents.mot"
    path.write_text(text)
    model = compile_ir(path, strategy=strategy, dense=dense)
    module = instantiate(model, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    return module.eval()


def scheduler_of(model: Any, name: str) -> Any:
    if model.objectives[name].whole:
        return diffusers.DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    return diffusers.FlowMatchEulerDiscreteScheduler(1000)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Rows of different lengths, padded, some with an image, one of which ends with it, or with what delimits it."""

    ids: Tensor
    modality_ids: Tensor
    latents: dict[str, Tensor]


def prompt(model: Any, name: str, begin: int) -> Prompt:
    """Two rows end where latents begin, one after latents; one has latents between words."""
    text, image = model.modalities.index(next(iter(model.vocabularies))), model.modalities.index(name)
    channels, patch = model.latents[name].channels, model.latents[name].patch[0]
    other = model.modalities.index(list(model.vocabularies)[-1])
    words, made = [other, text], [image] * 2  # latents of 1 x 2 patches
    ended = [text, text] * delimited(model)
    rows = [[*words, text], [-1, text, *made, text, text], [*words, *made, *ended], [text, -1, text], [text]]
    length = max(map(len, rows))
    modality_ids = torch.tensor([row + [-1] * (length - len(row)) for row in rows])
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, min(model.vocabularies.values()), modality_ids.shape, generator=generator)
    ids[0, 2] = ids[3, 2] = begin
    latents = torch.randn(2, channels, patch, 2 * patch, generator=generator, dtype=torch.float64)
    return Prompt(ids=ids, modality_ids=modality_ids, latents={name: latents})


def delimited(model: Any) -> bool:
    """Whether tokens around latents see them all, and are seen."""
    return any(mask.delimited for mask in model.masks)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that were denoised together, and the noise they began with."""

    rows: list[int]
    noise: Tensor


def recorded(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    names = type(model).generate.__globals__
    groups: list[Group] = []
    make, denoise = names["make_latents"], names["denoised"]
    asked: list[list[int]] = []

    def spy_make(decoding: Any, name: str, rows: list[int], *rest: Any) -> Tensor:
        asked.append(rows)
        return make(decoding, name, rows, *rest)

    def spy_denoise(model: Any, noise: dict[str, Tensor], *rest: Any) -> dict[str, Tensor]:
        groups.append(Group(rows=asked[-1], noise=next(iter(noise.values()))))
        return denoise(model, noise, *rest)

    monkeypatch.setitem(names, "make_latents", spy_make)
    monkeypatch.setitem(names, "denoised", spy_denoise)
    return groups


def denoised_plainly(model: Any, name: str, ids: Tensor, of: Tensor, before: list[Tensor], noise: Tensor) -> Tensor:
    """The last latent of a row [1, S], by the whole sequence at each step; those before it are clean."""
    scheduler, x = scheduler_of(model, name), noise
    scheduler.set_timesteps(STEPS)
    for time in scheduler.timesteps:
        times = torch.cat([time.new_zeros(len(before)), time[None]])
        whole = torch.cat([*before, x]).double()
        output = model(ids, of, latents={name: whole}, timesteps={name: times})
        x = scheduler.step(output.predictions[name][-1:], time, x).prev_sample
    return x


def assert_as_recomputed(model: Any, name: str, groups: list[Group], given: Prompt, generated: Any, span: Any) -> None:
    """Each token is the likeliest after what stands before it, each latent what denoising makes of its noise."""
    image, patch = model.modalities.index(name), model.latents[name].patch[0]
    count = span["size"][0] // patch * (span["size"][1] // patch)
    latents = iter(generated.latents[name])
    prompts = iter(given.latents[name])
    for row in range(len(given.ids)):
        real = given.modality_ids[row] >= 0
        kept = generated.modality_ids[row] >= 0
        ids = torch.cat([given.ids[row][real], generated.input_ids[row][kept]])[None]
        of = torch.cat([given.modality_ids[row][real], generated.modality_ids[row][kept]])[None]
        start = int(real.sum())
        noises = iter([group.noise[group.rows.index(row)] for group in groups if row in group.rows])
        before = [next(prompts)[None] for _ in range(int((of[:, :start] == image).sum()) // 2)]
        place = start
        drawn = []
        while place < ids.shape[1]:
            end = place
            if of[0, place] == image:
                end = place + count
                assert (of[0, place:end] == image).all()
                assert ids[0, place - 1] == span["begin"] and ids[0, end] == span["end"]
                shown = end + delimited(model)
                expected = denoised_plainly(model, name, ids[:, :shown], of[:, :shown], before, next(noises)[None])
                found = next(latents)[None]
                assert (found - expected).abs().max() <= 1e-12 * expected.abs().max().clamp(min=1)
                before.append(found)
            elif of[0, place - 1] == image:
                assert ids[0, place] == span["end"]
                end = place + 1
            else:
                drawn.append(place)
                end = place + 1
            place = end
        assert next(noises, None) is None
        latent = {name: torch.cat(before)} if before else {}
        times = {name: torch.zeros(len(before), dtype=torch.int64)} if before else {}
        logits = model(ids, of, latents=latent, timesteps=times).logits
        for place in drawn:
            said = logits[model.modalities[of[0, place]]] if isinstance(logits, dict) else logits
            assert ids[0, place] == said[0, place - 1].argmax()
    assert next(latents, None) is None


def check(model: Any, monkeypatch: pytest.MonkeyPatch, name: str = "image") -> Any:
    """A prompt is continued, with latents that begin where the model likes to begin them."""
    patch, how = model.latents[name].patch[0], {"max_new_tokens": NEW, "temperature": 0}
    plain = prompt(model, name, 0)
    said = model.generate(plain.ids[4:], plain.modality_ids[4:], **how).input_ids[0, :8].tolist()
    begin = max(said, key=said.index)  # the last row comes to it by itself
    given = prompt(model, name, begin)
    span = {"begin": begin, "end": (begin + 1) % 20, "size": (patch, 2 * patch)}
    groups = recorded(model, monkeypatch)
    generated = model.generate(
        given.ids,
        given.modality_ids,
        latents=given.latents,
        spans={name: span},
        schedulers={name: scheduler_of(model, name)},
        denoising_steps=STEPS,
        **how,
    )
    assert groups[0].rows[:2] == [0, 3], "rows that begin latents at one time are denoised together"
    assert len(groups) > 1 and len(generated.latents[name]) > 2
    assert_as_recomputed(model, name, groups, given, generated, span)
    return generated


@pytest.mark.parametrize("dense", [False, True], ids=["untied", "dense"])
@pytest.mark.parametrize("name", HARD)
def test_tokens_and_latents_are_as_recomputed(
    name: str, dense: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(load(tmp_path, HARD[name], dense=dense), monkeypatch)


@pytest.mark.parametrize("strategy", ["reference", "blend"])
@pytest.mark.parametrize("name", ["linear", "widths"])
def test_however_towers_are_told_apart(
    name: str, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(load(tmp_path, HARD[name], strategy), monkeypatch)


@pytest.mark.parametrize("name", ["depth", "image"])
def test_each_of_two_continuous_modalities(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(load(tmp_path, HARD["own"]), monkeypatch, name)


def test_each_layer_has_its_own_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = check_spec(SourceFile("hybrid.mot", HYBRID))
    _, model = next(stages(spec))
    layer = model.segments[0].layer
    changes = attending(Mask(kind="causal"), rope=None), attending(Mask(kind="causal", bidirectional=("image",)))
    model = of_layers(model, (layer, *(change(layer) for change in changes)))
    module = instantiate(model, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    check(module.eval(), monkeypatch)


@pytest.mark.parametrize("name", ["transfusion_163m_mot", "transfusion_7b_mot"])
def test_a_shipped_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = final_ir(reduce(check_spec(PAPER / f"{name}.mot")))
    module = instantiate(model, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    check(module.eval(), monkeypatch)


def test_a_scheduler_draws_its_noise_from_the_seed(tmp_path: Path) -> None:
    """Ancestral sampling: the generator makes the first noise, and then that of each step."""
    model = load(tmp_path, HARD["linear"])
    ids, modality_ids = torch.tensor([[5, 6]]), torch.tensor([[0, 0]])
    how = {"max_new_tokens": 4, "temperature": 0, "seed": 7, "denoising_steps": STEPS}
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    spans = {"image": {"begin": 6, "end": 7, "size": (2, 4)}}
    torch.manual_seed(0)
    generated = model.generate(ids, modality_ids, spans=spans, schedulers={"image": scheduler}, **how)
    torch.manual_seed(1)
    again = model.generate(ids, modality_ids, spans=spans, schedulers={"image": scheduler}, **how)
    assert generated.latents["image"].equal(again.latents["image"])
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1, 3, 2, 4, generator=generator, dtype=torch.float64)
    whole, of = torch.tensor([[5, 6, 0, 0]]), torch.tensor([[0, 0, 1, 1]])
    scheduler.set_timesteps(STEPS)
    for time in scheduler.timesteps:
        output = model(whole, of, latents={"image": x}, timesteps={"image": time[None]})
        x = scheduler.step(output.predictions["image"], time, x, generator=generator).prev_sample
    torch.testing.assert_close(generated.latents["image"], x, rtol=0, atol=1e-12)


def test_what_is_made_goes_on_as_a_prompt(tmp_path: Path) -> None:
    """Of packed documents the last alone is continued, with its own latents."""
    model = load(tmp_path, HARD["linear"])
    first = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ids, modality_ids = torch.tensor([[5, 6]]), torch.tensor([[0, 0]])
    how = {
        "temperature": 0,
        "spans": {"image": {"begin": 6, "end": 7, "size": (2, 4)}},
        "schedulers": {"image": scheduler_of(model, "image")},
        "denoising_steps": STEPS,
    }
    generated = model.generate(ids, modality_ids, max_new_tokens=9, **how)
    some = [
        torch.cat(pair, dim=1)
        for pair in ((ids, generated.input_ids[:, :4]), (modality_ids, generated.modality_ids[:, :4]))
    ]
    latents = generated.latents["image"][:1]
    more = model.generate(*some, latents={"image": latents}, max_new_tokens=5, **how)
    assert more.input_ids.equal(generated.input_ids[:, 4:])
    packed = [
        torch.cat((torch.tensor([before]), part), dim=1)
        for before, part in zip(([0, 0, 9], [1, 1, 0]), some, strict=True)
    ]
    documents = torch.tensor([[4] * 3 + [5] * 6])
    both = torch.cat((first, latents))
    last = model.generate(*packed, document_ids=documents, latents={"image": both}, max_new_tokens=5, **how)
    assert last.input_ids.equal(more.input_ids)


def test_latents_are_not_begun_where_they_do_not_fit(tmp_path: Path) -> None:
    model = load(tmp_path, HARD["linear"])
    how = {
        "temperature": 0,
        "spans": {"image": {"begin": 6, "end": 7, "size": (2, 4)}},
        "schedulers": {"image": scheduler_of(model, "image")},
        "denoising_steps": STEPS,
    }
    ids, modality_ids = torch.tensor([[6], [5]]), torch.tensor([[0], [0]])
    generated = model.generate(ids, modality_ids, max_new_tokens=3, **how)
    assert generated.modality_ids[0].tolist() == [1, 1, 0] and generated.input_ids[0].tolist() == [0, 0, 7]
    assert generated.latents["image"].shape[0] == 1
    generated = model.generate(ids, modality_ids, max_new_tokens=2, **how)
    assert generated.modality_ids[0].tolist() == [-1, -1] and generated.modality_ids[1].tolist() == [0, 0]
    assert generated.latents["image"].shape == (0, 3, 2, 4)
