"""`motc match` with continuous modalities: folders with latents, their noise, and a pair of specs trained on them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from motc.driver import compile_ir
from motc.loading import instantiate
from motc.match import MatchError, Settings, read_data
from motc.match.batches import held_out_batches, make_batch
from motc.match.data import Data
from motc.match.fit import check_fit, check_objectives
from motc.match.race import System, race

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / "examples" / "emoji" / "specs"
TEXT, IMAGE = 0, 1
SIZE = {"channels": 1, "height": 4, "width": 8, "tokens": 8}
SETTINGS = Settings(steps=5, seeds=1, batch=4, eval_every=2, learning_rate=1e-2, device="cpu", threads=1)

SMALL = """model small {
  width = 16
  layers = 1
  modality text { vocab = 8 }
  modality image { latent { channels = 1, patch = 2, objective = ddpm, weight = 5 } }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 16 }
  untie ffn
}
"""

SAMPLES = ((IMAGE, TEXT, TEXT, TEXT), (TEXT, TEXT), (TEXT, IMAGE, TEXT, IMAGE))  # IMAGE: all tokens of one


def write(path: Path, count: int, *, seed: int) -> None:
    """A shard of random samples of the three kinds in turn."""
    generator = torch.Generator().manual_seed(seed)
    kinds = [
        [kind for part in SAMPLES[number % 3] for kind in ([IMAGE] * SIZE["tokens"] if part == IMAGE else [part])]
        for number in range(count)
    ]
    modality_ids = torch.tensor([kind for sample in kinds for kind in sample])
    images = sum(part == IMAGE for number in range(count) for part in SAMPLES[number % 3])
    tensors = {
        "input_ids": torch.randint(0, 8, modality_ids.shape, generator=generator),
        "modality_ids": modality_ids,
        "lengths": torch.tensor([len(sample) for sample in kinds]),
        "latents.image": torch.randint(0, 256, (images, 1, 4, 8), generator=generator, dtype=torch.uint8),
    }
    save_file(tensors, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with latents, training samples in two shards, and a spec that fits it."""
    (tmp_path / "small.mot").write_text(SMALL)
    data = tmp_path / "data"
    data.mkdir()
    described = {"format": 1, "modalities": ["text", "image"], "vocab": {"text": 8}, "latents": {"image": SIZE}}
    (data / "data.json").write_text(json.dumps(described))
    write(data / "training-00000.safetensors", 5, seed=0)
    write(data / "training-00001.safetensors", 4, seed=1)
    write(data / "held_out-00000.safetensors", 5, seed=2)
    return tmp_path


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*args: object, **kwargs: object) -> torch.nn.Module:
        network = instantiate(*args, **kwargs)  # type: ignore[arg-type]
        network.compile = lambda: None  # type: ignore[method-assign]
        return network

    monkeypatch.setattr("motc.match.race.instantiate", make)


def test_a_sample_has_its_own_images_across_shards(folder: Path) -> None:
    data = read_data(folder / "data")
    shards = [load_file(folder / "data" / f"training-0000{number}.safetensors")["latents.image"] for number in (0, 1)]
    assert len(data.training) == 9
    for number, expected in (
        (0, shards[0][:1]),
        (1, shards[0][:0]),
        (2, shards[0][1:3]),
        (3, shards[0][3:]),
        (5, shards[1][:1]),
        (7, shards[1][1:3]),
    ):
        assert data.training[number][2].equal(expected)


def double(x: torch.Tensor) -> torch.Tensor:
    return x.double() / 127.5 - 1


@pytest.mark.usefixtures("uncompiled")
def test_bytes_become_numbers_and_what_has_a_loss_is_counted(folder: Path) -> None:
    data = read_data(folder / "data")
    rows = [data.training[0], data.training[2], data.training[1]]
    system = System("small", compile_ir(folder / "small.mot"), SETTINGS, 0)
    batch = make_batch(rows, {"small": system.network.layout}, ("image",))
    images = torch.cat([rows[0][2], rows[1][2]])
    assert batch.latents["image"].dtype == torch.float32
    torch.testing.assert_close(batch.latents["image"].double(), double(images), rtol=0, atol=1e-6)
    # Text: a row's first token is no target, and neither is what comes after an image: 2 + 0 + 1.
    weights = system.losses_of(batch, "").weights
    assert [weights["text"].item(), weights["image"].item()] == [3, images.numel()]


def test_latents_that_are_numbers_already_stay_what_they_are(folder: Path) -> None:
    before = read_data(folder / "data")
    for path in (folder / "data").glob("*.safetensors"):
        tensors = load_file(path)
        save_file({**tensors, "latents.image": double(tensors["latents.image"])}, path)
    data = read_data(folder / "data")
    rows = [[each.training[number] for number in range(9)] for each in (before, data)]
    first, second = (make_batch(row, {}, ("image",)).latents["image"] for row in rows)
    assert second.dtype == torch.float32
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def change(**changed: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def break_it(data: Path) -> None:
        path = data / "training-00001.safetensors"
        tensors = load_file(path)
        save_file({key: changed.get(key.replace(".", "_"), lambda x: x)(x) for key, x in tensors.items()}, path)

    return break_it


def describe(**changed: object) -> Callable[[Path], None]:
    def break_it(data: Path) -> None:
        path = data / "data.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    return break_it


def infinite(x: torch.Tensor) -> torch.Tensor:
    return torch.full_like(x, math.inf, dtype=torch.float32)


@pytest.mark.parametrize(
    "break_it, said",
    [
        (describe(latents={"sound": SIZE}), "latents has sizes for some of text, image"),
        (describe(latents={"image": {"channels": 1}}), "a number for each of channels, height, tokens, width"),
        (describe(latents={"image": {**SIZE, "tokens": 0}}), "a number for each of"),
        (describe(latents={"image": {**SIZE, "channels": True}}), "a number for each of"),
        (describe(vocab={"text": 8, "image": 8}), "vocab is a number, or has one for each of text"),
        (describe(latents={"image": {**SIZE, "tokens": 4}}), "another number of tokens than the 4"),
        (describe(latents={"image": {**SIZE, "height": 8}}), r"\[4, 1, 4, 8\]; data.json says \[1, 8, 8\]"),
        (change(latents_image=lambda x: x[:-1]), "4 spans of image tokens, and latents for 3"),
        (change(latents_image=lambda x: x.int()), "may be uint8 or floating-point"),
        (change(latents_image=infinite), "infinite or NaN"),
        (change(latents_image=lambda x: torch.full(x.shape, 1e300, dtype=torch.float64)), "infinite or NaN in float32"),
        (change(latents_image=lambda x: x.float()), "torch.uint8 and torch.float32 in training-"),
        (change(modality_ids=lambda x: x.clone().index_fill_(0, torch.tensor([7]), TEXT)), "another number of tokens"),
    ],
)
def test_a_folder_whose_latents_are_wrong_is_told(folder: Path, break_it: Callable[[Path], None], said: str) -> None:
    break_it(folder / "data")
    with pytest.raises(MatchError, match=said):
        read_data(folder / "data")


def test_two_images_in_a_row_are_told_for_they_are_one_span(folder: Path) -> None:
    path = folder / "data" / "held_out-00000.safetensors"
    kinds = torch.tensor([TEXT, *[IMAGE] * 16])
    tensors = {"input_ids": kinds * 0, "modality_ids": kinds, "lengths": torch.tensor([17])}
    save_file({**tensors, "latents.image": torch.zeros(2, 1, 4, 8)}, path)
    with pytest.raises(MatchError, match="1 spans of image tokens, and latents for 2"):
        read_data(folder / "data")


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("patch = 2", "patch = 4", "small makes 2 tokens of 4 x 8 latents of image, its patch being 4; the data has 8"),
        ("patch = 2", "patch = 3", "small has patches of 3 x 3; the data has 4 x 8 latents of image, which are no mul"),
        ("channels = 1", "channels = 3", "small has 3 channels for image; the data has 1"),
        (
            "{ latent { channels = 1, patch = 2, objective = ddpm, weight = 5 } }",
            "{ vocab = 8 }",
            "small has token ids",
        ),
        (
            "{ latent { channels = 1, patch = 2, objective = ddpm, weight = 5 } }",
            "{ features { size = 2 } }",
            "small has features for image, which no data folder holds",
        ),
        ("patch = 2", "patch = [2]", "small has latents that are no images for image; the data has images"),
        ("vocab = 8", "vocab = 7", "small has 7 rows for text; the data has 8 ids"),
    ],
)
def test_a_spec_that_does_not_fit_is_told(folder: Path, old: str, new: str, said: str) -> None:
    assert old in SMALL
    text = SMALL.replace(old, new)
    (folder / "small.mot").write_text(
        text if "latent" in text else text.replace(", mask { bidirectional = image }", "")
    )
    with pytest.raises(MatchError, match=said):
        check_fit(read_data(folder / "data"), compile_ir(folder / "small.mot"), "small")


def test_objectives_that_do_not_compare_are_told(folder: Path) -> None:
    (folder / "flow.mot").write_text(SMALL.replace("ddpm", "flow"))
    models = {name: compile_ir(folder / f"{name}.mot") for name in ("small", "flow")}
    with pytest.raises(MatchError, match=r"ddpm \(small\) and flow \(flow\): their losses do not compare"):
        check_objectives(models)


def test_systems_with_other_targets_are_told(folder: Path) -> None:
    (folder / "other.mot").write_text(SMALL.replace("bidirectional = image", "bidirectional = [image, text]"))
    models = {name: compile_ir(folder / f"{name}.mot") for name in ("small", "other")}
    with pytest.raises(MatchError, match="small and other leave out other targets that can be seen"):
        check_objectives(models)


def drawn(system: System, data: Data, monkeypatch: pytest.MonkeyPatch, *, evaluate: bool) -> list[torch.Tensor]:
    """The noise and timesteps of one step, or of all held-out batches."""
    seen: list[torch.Tensor] = []
    noise_latents = type(system.network).loss.__globals__["noise_latents"]

    def watched(*args: object) -> object:
        noised = noise_latents(*args)
        seen.extend([noised[1]["image"], noised[2]["image"].target])  # ddpm: what is to be predicted is the noise
        return noised

    layouts = {system.name: system.network.layout}
    batches = list(held_out_batches(data, layouts, batch=4))
    with monkeypatch.context() as patched:
        patched.setitem(type(system.network).loss.__globals__, "noise_latents", watched)
        system.evaluate(batches) if evaluate else system.step(batches[0], timed=False)
    return seen


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(one.equal(other) for one, other in zip(first, second, strict=True))


@pytest.mark.usefixtures("uncompiled")
def test_noise_follows_from_seed_and_step_and_is_the_systems_own_in_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data(folder / "data")
    dense = System("dense", compile_ir(folder / "small.mot", dense=True), SETTINGS, 0)
    small = System("small", compile_ir(folder / "small.mot"), SETTINGS, 0)
    other = System("small", compile_ir(folder / "small.mot"), SETTINGS, 1)
    steps = {
        system: [drawn(system, data, monkeypatch, evaluate=False) for _ in range(2)] for system in (dense, small, other)
    }
    assert same(steps[dense][0], steps[small][0])
    assert same(steps[dense][1], steps[small][1])
    assert not same(steps[small][0], steps[small][1])
    assert not same(steps[small][0], steps[other][0])
    held_out = [drawn(system, data, monkeypatch, evaluate=True) for system in (dense, small, small, other)]
    assert all(same(held_out[0], found) for found in held_out[1:])
    assert len(held_out[0]) == 4  # two batches
    assert not held_out[0][1][:1].equal(held_out[0][3][:1])


@pytest.mark.usefixtures("uncompiled")
def test_held_out_losses_weigh_every_image_and_every_target_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read_data(folder / "data")
    system = System("small", compile_ir(folder / "small.mot"), SETTINGS, 0)
    generator_type = type(system.network)
    batches = list(held_out_batches(data, {"small": system.network.layout}, batch=4))
    weights = [system.losses_of(batch, "").weights for batch in batches]
    size = data.described.latents["image"]
    numbers = size.channels * size.height * size.width
    assert [[each["text"].item(), each["image"].item()] for each in weights] == [[5, 4 * numbers], [1, 0]]
    system.evaluate(batches)
    alone: list[torch.Tensor] = []
    aims: list[torch.Tensor] = []
    denoising = generator_type.loss.__globals__["denoising_losses"]

    def watched(predictions: dict[str, torch.Tensor], targets: dict[str, Any]) -> object:
        alone.append(predictions["image"])
        aims.append(targets["image"].target)
        return denoising(predictions, targets)

    monkeypatch.setitem(generator_type.loss.__globals__, "denoising_losses", watched)
    system.evaluate(batches)
    mean = (torch.cat(alone) - torch.cat(aims)).double().square().mean()
    torch.testing.assert_close(system.held_out[0][IMAGE], mean, rtol=1e-6, atol=0)
    assert system.held_out[0].equal(system.held_out[1])


@pytest.mark.usefixtures("uncompiled")
def test_a_run_that_was_stopped_goes_on_bit_for_bit(folder: Path) -> None:
    models = {"dense": compile_ir(folder / "small.mot", dense=True), "small": compile_ir(folder / "small.mot")}
    data = read_data(folder / "data")
    race(models, data, SETTINGS, 0, folder / "whole", lambda *_: None)

    def stop(done: float, _: str) -> None:
        if done > 2.5 / 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(models, data, SETTINGS, 0, folder / "parts", stop)
    assert len(load_file(folder / "parts")["small/losses"]) == 2
    race(models, data, SETTINGS, 0, folder / "parts", lambda *_: None)
    whole, parts = load_file(folder / "whole"), load_file(folder / "parts")
    assert [name for name, x in whole.items() if not name.endswith("/seconds") and not x.equal(parts[name])] == []


@pytest.mark.usefixtures("uncompiled")
def test_a_batch_without_an_image_has_no_loss_of_images(folder: Path) -> None:
    data = read_data(folder / "data")
    system = System("small", compile_ir(folder / "small.mot"), SETTINGS, 0)
    layouts = {"small": system.network.layout}
    system.step(make_batch([data.training[1]], layouts, ("image",)), timed=False)
    assert system.losses[0].isnan().tolist() == [False, True]


def test_the_transfusion_specs_are_a_pair_for_32_by_32_pixels_in_64_tokens(folder: Path) -> None:
    data = read_data(folder / "data")
    size = replace(data.described.latents["image"], channels=3, height=32, width=32, tokens=64)
    described = replace(data.described, vocab={"text": 259}, latents={"image": size})
    models = {name: compile_ir(SPECS / f"{name}.mot") for name in ("transfusion_dense", "transfusion_mot")}
    for name, model in models.items():
        check_fit(replace(data, described=described), model, name)
    check_objectives(models)
    (image,) = models["transfusion_mot"].latent_modalities()
    assert (image.objective, image.weight) == ("ddpm", 5)
