"""The gallery's specs against the models they are of, which nobody here wrote.

Each spec is made small by overrides, so it is the shipped one that is compared. Weights go through its mapping file.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motc.cost.parameters import total_parameters
from motc.driver import compile_ir, final_ir
from motc.loading import instantiate
from motc.weights import bijection_of, parameters_of, read_mapping, tensors_of
from tests.originals import GALLERY, ORIGINALS, Original, as_parameters, widened

pytest.importorskip("transformers", minversion="5.0")

README = (GALLERY / "README.md").read_text(encoding="utf-8")
LENGTH = 11
EACH = pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.spec)


class Pair:
    """An original made small, and its spec made small, with the same random weights."""

    def __init__(self, original: Original, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.original, self.dtype = original, dtype
        self.theirs = original.made(small=True)
        as_parameters(self.theirs, dtype)
        for parameter in self.theirs.parameters():
            nn.init.normal_(parameter, std=0.3)
        self.model = final_ir(original.checked)
        self.ours: Any = instantiate(self.model, dtype=dtype)
        tensors = self.named({name: parameter.detach() for name, parameter in self.theirs.named_parameters()})
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.bijection = bijection_of(original.weights, shapes, self.model)
        parameters = parameters_of(self.bijection, tensors)
        self.ours.load_state_dict(parameters)
        back = tensors_of(self.bijection, parameters)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in back.items())

    def named(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.original.tensors(self.theirs, values)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Token ids and modality ids [2, LENGTH]."""
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, self.model.vocab or 0, (2, LENGTH), generator=generator)
        return ids, torch.randint(0, len(self.model.names), (2, LENGTH), generator=generator)

    def expected(self, ids: Tensor, **given: Any) -> Tensor:
        with widened(self.dtype):
            logits: Tensor = self.theirs(ids, use_cache=False, **given).logits
        return logits


@cache
def pair(original: Original, dtype: torch.dtype = torch.float64) -> Pair:
    return Pair(original, dtype)


def close(got: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """That both are the same, relative to the largest number."""
    scale = expected.abs().max()
    assert scale > 0, name
    torch.testing.assert_close(
        got / scale, expected / scale, rtol=tolerance, atol=tolerance, msg=lambda why: f"{name} {why}"
    )


@EACH
def test_parameters_at_the_published_size(original: Original) -> None:
    """Every tensor of the original that the mapping does not leave out, by name and shape, without allocating any."""
    with torch.device("meta"):
        theirs = original.made(small=False)
    tensors = original.tensors(theirs, dict(theirs.named_parameters()))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    model = compile_ir(original.path)
    bijection = bijection_of(original.weights, shapes, model)
    numbers = sum(torch.Size(shapes[name]).numel() for move in bijection.moves for name in move.tensors)
    assert numbers == total_parameters(model)
    row = next(line for line in README.splitlines() if line.startswith(f"| [{original.spec}]"))
    assert f"| {numbers:,} | {sum(each.numel() for each in theirs.parameters()):,} |" in row


def test_every_spec_of_the_gallery_is_compared() -> None:
    assert sorted(original.spec for original in ORIGINALS) == sorted(path.stem for path in GALLERY.glob("*.mot"))
    for original in ORIGINALS:
        assert original.architecture in original.weights.architectures
    architectures = [name for path in (GALLERY / "mappings").iterdir() for name in read_mapping(path).architectures]
    assert len(set(architectures)) == len(architectures)  # a checkpoint's class says which mapping is its


@EACH
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_logits_and_gradients(original: Original, dtype: torch.dtype, tolerance: float) -> None:
    both = pair(original, dtype)
    ids, modality_ids = both.batch()
    expected, got = both.expected(ids), both.ours(ids, modality_ids).logits
    said = expected > torch.finfo(dtype).min  # Chameleon never says a token of an image
    close(got[said], expected[said], tolerance)
    weights = torch.randn_like(got)
    (expected[said] * weights[said]).sum().backward()
    (got[said] * weights[said]).sum().backward()
    theirs = {name: p.grad for name, p in both.theirs.named_parameters() if p.grad is not None}
    gradients = parameters_of(both.bijection, both.named(theirs))
    for name, parameter in both.ours.named_parameters():
        close(parameter.grad, gradients[name], tolerance, name)
    both.theirs.zero_grad()
    both.ours.zero_grad()


@EACH
@torch.no_grad()
def test_padding(original: Original) -> None:
    both = pair(original)
    ids, modality_ids = both.batch()
    real = torch.arange(LENGTH) < torch.tensor([[LENGTH], [LENGTH - 4]])
    expected = both.expected(ids, attention_mask=real.long())
    got = both.ours(ids, modality_ids.where(real, -1)).logits
    said = real[..., None] & (expected > torch.finfo(both.dtype).min)
    close(got[said], expected[said], 1e-9)


@EACH
@torch.no_grad()
def test_packed_documents(original: Original) -> None:
    """Two documents in a row, which transformers knows by positions that start again."""
    both = pair(original)
    ids, modality_ids = both.batch()
    document_ids = (torch.arange(LENGTH) >= 4).long().expand(2, -1)
    positions = torch.cat([torch.arange(4), torch.arange(LENGTH - 4)]).expand(2, -1)
    expected = both.expected(ids, position_ids=positions)
    got = both.ours(ids, modality_ids, document_ids=document_ids).logits
    said = expected > torch.finfo(both.dtype).min
    close(got[said], expected[said], 1e-9)


@EACH
@torch.no_grad()
def test_greedy_decoding(original: Original) -> None:
    """Prompts of unequal lengths, padded on the left as transformers wants it."""
    both = pair(original)
    ids, _ = both.batch()
    text = torch.zeros_like(ids)
    real = torch.arange(LENGTH) >= torch.tensor([[0], [3]])
    choices = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None, "max_new_tokens": 6}
    with widened(both.dtype):
        expected = both.theirs.generate(ids, attention_mask=real.long(), **choices)[:, LENGTH:]
    got = both.ours.generate(ids, text.where(real, -1), max_new_tokens=6, temperature=0).input_ids
    assert got.tolist() == expected.tolist()
