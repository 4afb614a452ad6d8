"""The gallery's DiT against the one of diffusers: noise predicted by timestep and class, and all gradients."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import motc
from motc.cli import main
from motc.cost.parameters import total_parameters
from motc.driver import compile_ir
from motc.weights import Bijection, bijection_of, parameters_of, read_mapping, tensors_of
from tests.denoisers import Pair
from tests.originals import GALLERY

diffusers = pytest.importorskip("diffusers")

PATH, MAPPING = GALLERY / "dit_xl_2.mot", GALLERY / "mappings" / "dit.yaml"
SMALL = {
    "width": 24,
    "layers": 2,
    "attention.heads": 3,
    "ffn.hidden": 96,
    "modalities.image.latent.sine.base": 4,
    "modalities.image.condition.label.count": 7,
}


def dit(**sizes: Any) -> Any:
    """One of diffusers, whose layers have their embeddings of timesteps and classes in common, as they are trained."""
    theirs = diffusers.DiTTransformer2DModel(norm_eps=1e-6, **sizes)
    for block in theirs.transformer_blocks:
        block.norm1.emb = theirs.transformer_blocks[0].norm1.emb
    return theirs


@pytest.fixture
def both() -> tuple[Any, Any, Bijection]:
    """Theirs, ours with the same parameters, and how these correspond."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "out_channels": 8}
    theirs = dit(**sizes, num_embeds_ada_norm=7).double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours: Any = motc.load(PATH, set=SMALL, dtype=torch.float64)
    tensors = named(theirs)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    bijection = bijection_of(read_mapping(MAPPING), shapes, compile_ir(PATH, SMALL))
    ours.load_state_dict({name: each.clone() for name, each in parameters_of(bijection, tensors).items()})
    return theirs, ours, bijection


def named(theirs: Any, gradients: bool = False) -> dict[str, Tensor]:
    """Its tensors under all their names, or their gradients."""
    each = theirs.named_parameters(remove_duplicate=False)
    return {name: parameter.grad if gradients else parameter.detach() for name, parameter in each}


@pytest.mark.parametrize("side", [8, 12])
def test_predictions_and_all_gradients(both: tuple[Any, Any, Bijection], side: int) -> None:
    theirs, ours, bijection = both
    x = torch.randn(3, 4, side, side, dtype=torch.float64)
    times, labels = torch.tensor([1, 500, 999]), torch.tensor([0, 6, 7])  # the last is none of them
    expected = theirs(x, timestep=times, class_labels=labels).sample
    modality_ids = torch.zeros(3, (side // 2) ** 2, dtype=torch.int64)
    given: dict[str, Any] = {"latents": {"image": x}, "timesteps": {"image": times}}
    out = ours(modality_ids, modality_ids, conditions={"image": {"label": labels}}, **given)
    predicted = out.predictions["image"]
    assert out.logits == {}
    assert (predicted - expected).abs().max() <= 1e-9 * expected.abs().max()
    weights = torch.randn_like(expected)
    (predicted * weights).sum().backward()
    (expected * weights).sum().backward()
    wanted = parameters_of(bijection, named(theirs, gradients=True))
    for name, parameter in ours.named_parameters():
        assert (parameter.grad - wanted[name]).abs().max() <= 1e-9 * max(1.0, wanted[name].abs().max()), name


def test_tensors_come_back(both: tuple[Any, Any, Bijection]) -> None:
    theirs, ours, bijection = both
    back = tensors_of(bijection, ours.state_dict())
    assert all(torch.equal(back[name], tensor) for name, tensor in named(theirs).items())


def test_its_folder_comes_in(both: tuple[Any, Any, Bijection], tmp_path: Path) -> None:
    theirs, ours, bijection = both
    for block in theirs.transformer_blocks:
        block.norm1.emb = deepcopy(block.norm1.emb)
    Pair(theirs, ours, bijection, compile_ir(PATH, SMALL)).assert_its_folder_comes_in(tmp_path)


def test_a_folder_with_another_eps_of_feed_forwards(tmp_path: Path) -> None:
    """As the published one has it, for the class's is 1e-5: a block is two layers."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "out_channels": 8}
    theirs = diffusers.DiTTransformer2DModel(**sizes, num_embeds_ada_norm=7, norm_eps=0.1).double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    for block in theirs.transformer_blocks:
        block.norm1.emb.load_state_dict(theirs.transformer_blocks[0].norm1.emb.state_dict())
    theirs.save_pretrained(tmp_path / "it")
    spec, weights = tmp_path / "it.mot", tmp_path / "it.safetensors"
    assert main(["import", str(tmp_path / "it"), "-o", str(spec), "--weights", str(weights)]) == 0
    ours: Any = motc.load(weights=weights, dtype=torch.float64)
    x, ids = torch.randn(2, 4, 8, 8, dtype=torch.float64), torch.zeros(2, 16, dtype=torch.int64)
    times, labels = torch.tensor([1, 500]), torch.tensor([0, 7])
    given: dict[str, Any] = {"latents": {"image": x}, "timesteps": {"image": times}}
    with torch.no_grad():
        predicted = ours(ids, ids, conditions={"image": {"label": labels}}, **given).predictions["image"]
        expected = theirs(x, timestep=times, class_labels=labels).sample
    assert (predicted - expected).abs().max() <= 1e-9 * expected.abs().max()


def test_packed_images_of_one_row_are_as_in_rows_of_their_own(both: tuple[Any, Any, Bijection]) -> None:
    _, ours, _ = both
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    given: dict[str, Any] = {"latents": {"image": x}, "timesteps": {"image": torch.tensor([1, 500, 999])}}
    given["conditions"] = {"image": {"label": torch.tensor([3, 6, 7])}}
    apart = torch.zeros(3, 16, dtype=torch.int64)
    packed, documents = apart.view(1, -1), torch.arange(3).repeat_interleave(16)[None]
    one = ours(packed, packed, document_ids=documents, **given).predictions["image"]
    torch.testing.assert_close(one, ours(apart, apart, **given).predictions["image"], rtol=0, atol=1e-12)


def test_a_denoising_step_takes_the_loss_of_all(both: tuple[Any, Any, Bijection]) -> None:
    _, ours, _ = both
    x, ids = torch.randn(2, 4, 8, 8, dtype=torch.float64), torch.zeros(2, 16, dtype=torch.int64)
    losses = ours.loss(ids, ids, latents={"image": x}, generator=torch.Generator().manual_seed(0))
    assert losses.total == losses.by_modality["image"] > 0
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_parameters_at_the_published_size() -> None:
    with torch.device("meta"):
        theirs = dit(num_embeds_ada_norm=1000, out_channels=8)
    model = compile_ir(PATH)
    shapes = {name: tuple(tensor.shape) for name, tensor in named(theirs).items()}
    bijection_of(read_mapping(MAPPING), shapes, model)
    total = sum(parameter.numel() for parameter in theirs.parameters())
    row = next(line for line in (GALLERY / "README.md").read_text().splitlines() if line.startswith("| [dit_xl_2]"))
    assert total == total_parameters(model) and f"| {total:,} | {total:,} |" in row
