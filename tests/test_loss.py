"""What the loss counts: labels and weights that are given, alone and through `forward`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F

import motc
from tests.exact import GRADIENTS, WIDEST

SHARED = """
model shared {
  width = 16, layers = 1, vocab = 11
  modality text, image
  attention { heads = 2 }
  ffn { hidden = 12 }
  untie ffn, head
}
"""
OWN = SHARED.replace("vocab = 11", "").replace("text, image", "text { vocab = 11 }, image { vocab = 7 }")
OWN = OWN.replace(", head", "")
LATENT = """
model beside_latents {
  width = 16, layers = 1, vocab = 11
  modality text
  modality image { latent { channels = 2, patch = 1, objective = flow, weight = 5 } }
  attention { heads = 2, mask { bidirectional = image } }
  ffn { hidden = 12 }
}
"""
IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
MODALITIES = torch.tensor([[0, 0, 1, 1, 0, 0], [1, 0, 0, 1, -1, -1]])


def load(tmp_path: Path, text: str, **kwargs: Any) -> Any:
    path = tmp_path / "spec.mot"
    path.write_text(text)
    return motc.load(path, **{"dtype": torch.float64, **kwargs})


def plain(model: Any, labels: Tensor, weights: Tensor) -> tuple[dict[str, float], float]:
    """Each modality's mean and the total's, token by token."""
    logits = model(IDS, MODALITIES).logits
    sums, totals = [0.0, 0.0], [0.0, 0.0]
    for row in range(2):
        for place in range(5):
            kind = int(MODALITIES[row, place + 1])
            if kind >= 0 and MODALITIES[row, place] >= 0 and labels[row, place + 1] != -100:
                said = logits if isinstance(logits, Tensor) else logits[model.modalities[kind]]
                loss = F.cross_entropy(said[row, place], labels[row, place + 1])
                sums[kind] += float(weights[row, place + 1]) * loss.item()
                totals[kind] += float(weights[row, place + 1])
    means = {name: sums[i] / totals[i] if totals[i] else 0.0 for i, name in enumerate(model.modalities)}
    return means, sum(sums) / sum(totals)


@pytest.mark.parametrize("spec", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("strategy", ["sorted", "blend"])
def test_labels_and_weights_token_by_token(spec: str, strategy: str, tmp_path: Path) -> None:
    model = load(tmp_path, spec, strategy=strategy)
    labels = torch.tensor([[-100, 3, -100, 6, 0, 2], [5, -100, 1, 0, 10**6, -5]])
    weights = torch.tensor([[1, 2, 3, 0.5, 0, 1.25], [1, 1, 0.25, 4, -1, torch.inf]], dtype=torch.float64)
    for given, counted in ((weights, weights), (None, torch.ones(2, 6))):
        losses = model.loss(IDS, MODALITIES, labels=labels, weights=given)
        by_modality, total = plain(model, labels, counted)
        assert losses.total.item() == pytest.approx(total, rel=1e-12)
        assert {name: loss.item() for name, loss in losses.by_modality.items()} == pytest.approx(by_modality, rel=1e-12)
    assert model.loss(IDS, MODALITIES, labels=labels, weights=weights).weight.item() == 2 + 0.5 + 1.25 + 0.25 + 4
    assert model.loss(IDS, MODALITIES).weight.item() == 5 + 3


@pytest.mark.parametrize("spec", [SHARED, OWN], ids=["shared", "own"])
def test_labels_and_weights_that_say_nothing_change_no_bit(spec: str, tmp_path: Path) -> None:
    model = load(tmp_path, spec, dtype=torch.float32)
    as_ever = model.loss(IDS, MODALITIES)
    for how in ({"labels": IDS.clone()}, {"weights": torch.ones(2, 6)}, {"weights": torch.ones(2, 6).half()}):
        losses = model.loss(IDS, MODALITIES, **how)
        assert torch.equal(losses.total, as_ever.total)
        assert all(torch.equal(losses.by_modality[name], as_ever.by_modality[name]) for name in model.modalities)


@pytest.mark.parametrize("spec", [SHARED, OWN, LATENT], ids=["shared", "own", "latents"])
def test_without_any_weight_the_loss_is_0_and_reaches_every_parameter(spec: str, tmp_path: Path) -> None:
    model = load(tmp_path, spec)
    modalities = MODALITIES.clamp(max=0) if spec == LATENT else MODALITIES
    for how in ({"labels": torch.full_like(IDS, -100)}, {"weights": torch.zeros(2, 6)}):
        model.zero_grad()
        losses = model.loss(IDS, modalities, **how)
        losses.total.backward()
        assert (losses.total.item(), losses.weight.item(), losses.by_modality["text"].item()) == (0, 0, 0)
        assert not any(p.grad is None or p.grad.any() for p in model.parameters())


def test_forward_with_labels_is_the_loss(tmp_path: Path) -> None:
    model = load(tmp_path, OWN)
    labels, weights = IDS.masked_fill(IDS < 3, -100), torch.rand(2, 6)
    output = model(IDS, MODALITIES, labels=labels, weights=weights)
    expected = model.loss(IDS, MODALITIES, labels=labels, weights=weights)
    assert torch.equal(output.total, expected.total)
    assert type(model(IDS, MODALITIES)).__name__ == "ModelOutput"
    with pytest.raises(ValueError, match="weights go with labels"):
        model(IDS, MODALITIES, weights=weights)


def test_forward_with_labels_noises_clean_latents(tmp_path: Path) -> None:
    model = load(tmp_path, LATENT)
    modalities = torch.tensor([[0, 1, 1, 1, 1, 0]])
    given = {"latents": {"image": torch.randn(1, 2, 2, 2)}, "timesteps": {"image": torch.tensor([300.0])}}
    noise = {"image": torch.randn(1, 2, 2, 2)}
    labels = torch.full((1, 6), 10**6).masked_fill(modalities == 0, 3)  # those of latents are not read
    output = model(IDS[:1], modalities, labels=labels, noise=noise, **given)
    expected = model.loss(IDS[:1], modalities, labels=labels, noise=noise, **given)
    assert torch.equal(output.total, expected.total)
    assert output.total.item() == pytest.approx(5 * output.by_modality["image"].item())
    for how in ({"noise": noise}, {"generator": torch.Generator()}, {"weights": torch.ones(1, 6)}):
        with pytest.raises(ValueError, match="weights, noise and generator go with labels"):
            model(IDS[:1], modalities, **how, **given)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"labels": IDS.where(MODALITIES != 0, 11)},
            "labels have 11 in row 0, column 0, and text has a vocabulary of 11",
        ),
        ({"labels": IDS - 2}, "labels have -1 in row 0, column 0, and text has"),
        (
            {"labels": IDS.where(MODALITIES != 1, 7)},
            "labels have 7 in row 0, column 2, and image has a vocabulary of 7",
        ),
        ({"labels": IDS[:, 1:]}, r"labels must be \[B, S\] as modality_ids, \[2, 6\], not \[2, 5\]"),
        ({"labels": IDS.int()}, "labels must be int64, not torch.int32"),
        ({"labels": [1, 2]}, "labels must be a tensor, int64"),
        ({"weights": torch.ones(2)}, r"as modality_ids, \[2, 6\], not torch.float32 \[2\]"),
        (
            {"weights": IDS},
            r"weights must be floating-point \[B, S\] as modality_ids, \[2, 6\], not torch.int64 \[2, 6\]",
        ),
        ({"weights": 0.5}, "weights must be a tensor, floating-point"),
        ({"weights": -torch.ones(2, 6)}, "weights must be finite and not negative, not -1.0 in row 0, column 0"),
        ({"weights": torch.full((2, 6), torch.nan)}, "not nan"),
        ({"weights": torch.full((2, 6), torch.inf)}, "not inf"),
    ],
)
def test_labels_and_weights_that_do_not_fit_are_told(how: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = load(tmp_path, OWN)
    with pytest.raises((ValueError, TypeError), match=said):
        model.loss(IDS, MODALITIES, **how)


@pytest.mark.compiled
def test_weights_take_one_more_graph_whatever_the_ratio(tmp_path: Path) -> None:
    torch._dynamo.reset()
    counters.clear()
    compiled, eager = (load(tmp_path, OWN, dtype=WIDEST) for _ in range(2))
    compiled.compile(backend="eager")
    for modalities in (MODALITIES, torch.zeros(3, 9).long(), torch.ones(2, 5).long(), torch.tensor([[0, 1, -1]])):
        ids, weights = torch.arange(modalities.numel()).view_as(modalities) % 7, torch.rand(modalities.shape)
        for model in (compiled, eager):
            model.zero_grad()
            model.loss(ids, modalities, weights=weights).total.backward()
        for mine, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=GRADIENTS / 10, atol=GRADIENTS / 1e4)
        assert counters["stats"]["unique_graphs"] == 3  # a layer, what embeds, what scores
    compiled.loss(ids, modalities)
    assert counters["stats"]["unique_graphs"] == 4
    torch._dynamo.reset()
