"""The gallery's specs against the models they are of, which nobody here wrote.

Each spec is made small by overrides, so it is the shipped one that is compared. Weights go through its mapping file.
"""

from __future__ import annotations

from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from motc.cost.parameters import total_parameters
from motc.driver import compile_ir, final_ir
from motc.ir.names import correction_shapes
from motc.loading import instantiate
from motc.weights import bijection_of, parameters_of, read_mapping, tensors_of
from tests.originals import GALLERY, Original, as_parameters, saved_of, widened
from tests.published import ORIGINALS
from tests.sights import IMAGE, Batch, ernie_vl, qwen_vl, text

pytest.importorskip("transformers", minversion="5.0")

README = (GALLERY / "README.md").read_text(encoding="utf-8")
EACH = pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.spec)


class Pair:
    """An original made small, and its spec made small, with the same random weights."""

    def __init__(self, original: Original, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.original, self.dtype = original, dtype
        self.theirs = original.made(small=True)
        as_parameters(self.theirs, dtype)
        saved = saved_of(self.theirs)
        for each in saved.values():
            nn.init.normal_(each, std=0.3)
        self.model = final_ir(original.checked)
        self.ours: Any = instantiate(self.model, dtype=dtype)
        tensors = self.named({name: each.detach() for name, each in saved.items()})
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.bijection = bijection_of(original.weights, shapes, self.model)
        parameters = parameters_of(self.bijection, tensors)
        self.ours.load_state_dict(parameters)
        back = tensors_of(self.bijection, parameters)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in back.items())

    def named(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.original.tensors(self.theirs, values)

    @cached_property
    def batch(self) -> Batch:
        given = next((modality.projector.given for modality in self.model.feature_modalities()), ())
        with torch.enable_grad():  # whichever test asks first
            return self.original.batch(self.theirs, self.model.vocab or 0, len(self.model.names), given, self.dtype)

    def expected(self, **given: Any) -> Tensor:
        """The original's logits where motc's model has some; Chameleon's are least at tokens that it never says."""
        with widened(self.dtype):
            logits: Tensor = self.theirs(self.batch.ids, use_cache=False, **self.batch.theirs, **given).logits
        return logits

    def said(self, logits: Tensor) -> Tensor:
        """Which of the original's logits motc's model has: not those at features, nor what is never said."""
        read = torch.ones_like(self.batch.ids) if self.batch.features is None else self.batch.modality_ids != IMAGE
        return (logits > torch.finfo(self.dtype).min) & (read > 0)[..., None]


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
    tensors = original.tensors(theirs, saved_of(theirs))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    model = compile_ir(original.path)
    bijection = bijection_of(original.weights, shapes, model)
    numbers = sum(prod(shapes[name]) for move in bijection.moves for name in move.tensors)
    corrections = sum(map(prod, correction_shapes(model).values()))  # which may be parameters there, and are none here
    assert numbers - corrections == total_parameters(model)
    row = next(line for line in README.splitlines() if line.startswith(f"| [{original.spec}]"))
    assert f"| {numbers - corrections:,} | {sum(each.numel() for each in theirs.parameters()):,} |" in row


def test_every_spec_of_the_gallery_is_compared() -> None:
    specs = {path.stem for path in GALLERY.glob("*.mot")}
    here = {original.spec for original in ORIGINALS}
    files = (path for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))
    others = [path.read_text() for path in files if "report" not in path.name]  # which draw some
    assert here < specs and all(any(f'"{spec}' in text for text in others) for spec in specs - here)
    for original in ORIGINALS:
        assert original.architecture in original.weights.architectures
    architectures = [name for path in (GALLERY / "mappings").iterdir() for name in read_mapping(path).architectures]
    assert len(set(architectures)) == len(architectures)  # a checkpoint's class says which mapping is its


@EACH
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_logits_and_gradients(original: Original, dtype: torch.dtype, tolerance: float) -> None:
    both = pair(original, dtype)
    batch = both.batch
    expected, got = both.expected(), both.ours(batch.ids, batch.modality_ids, **batch.ours).logits
    said = both.said(expected)
    close(got[said], expected[said], tolerance)
    weights = torch.randn_like(got)[said]
    features = {} if batch.features is None else {"features": batch.features}
    theirs = {name: each for name, each in both.theirs.named_parameters() if each.requires_grad} | features
    gradients = torch.autograd.grad((expected[said] * weights).sum(), list(theirs.values()), allow_unused=True)
    by_name = {name: each for name, each in zip(theirs, gradients, strict=True) if each is not None}
    seen = {name: by_name.pop(name) for name in features}
    fixed = {name: each for name, each in saved_of(both.theirs).items() if not each.requires_grad}
    wanted = parameters_of(both.bijection, both.named(by_name | fixed)) | seen
    ours = dict(both.ours.named_parameters()) | features
    assert ours.keys() == wanted.keys() - {name for name, _ in both.ours.named_buffers()}
    of_ours = torch.autograd.grad((got[said] * weights).sum(), list(ours.values()))
    for name, gradient in zip(ours, of_ours, strict=True):
        close(gradient, wanted[name], tolerance, name)


WITH_GRIDS = [each for each in ORIGINALS if each.batch in (ernie_vl, qwen_vl)]


@pytest.mark.parametrize("original", WITH_GRIDS, ids=lambda original: original.spec)
def test_positions_of_images(original: Original) -> None:
    both = pair(original)
    positions = both.ours.positions(both.batch.modality_ids, grids={"image": both.batch.grids})
    assert torch.equal(positions, both.batch.ours["position_ids"])


@EACH
@torch.no_grad()
def test_padding(original: Original) -> None:
    both = pair(original)
    batch = both.batch
    length = batch.ids.shape[1]
    real = torch.arange(length) < torch.tensor([[length], [length - 2]])
    expected = both.expected(attention_mask=real.long())
    got = both.ours(batch.ids, batch.modality_ids.where(real, -1), **batch.ours).logits
    said = both.said(expected) & real[..., None]
    close(got[said], expected[said], 1e-9)


@pytest.mark.parametrize(
    "original",
    [each for each in ORIGINALS if each.batch is text and each.spec != "gpt_oss_20b"],  # whose class has one mask
    ids=lambda original: original.spec,
)
@torch.no_grad()
def test_packed_documents(original: Original) -> None:
    """Two documents in a row, which transformers knows by positions that start again."""
    both = pair(original)
    ids, modality_ids = both.batch.ids, both.batch.modality_ids
    length = ids.shape[1]
    document_ids = (torch.arange(length) >= 4).long().expand(2, -1)
    positions = torch.cat([torch.arange(4), torch.arange(length - 4)]).expand(2, -1)
    expected = both.expected(position_ids=positions)
    got = both.ours(ids, modality_ids, document_ids=document_ids).logits
    said = both.said(expected)
    close(got[said], expected[said], 1e-9)


@pytest.mark.parametrize(
    "original", [each for each in ORIGINALS if each.batch is not text], ids=lambda original: original.spec
)
def test_packed_documents_with_images(original: Original) -> None:
    """Two documents with an image each in a row, beside each of them alone in the original."""
    both = pair(original)
    batch, features = both.batch, both.batch.features
    assert features is not None
    count, length = batch.ids.shape
    packed = {name: value.flatten(0, 1)[None] for name, value in batch.ours.items() if name != "features"}
    packed["document_ids"] = torch.arange(count).repeat_interleave(length)[None]
    if batch.grids is not None:
        row = batch.modality_ids.view(1, -1)
        placed = both.ours.positions(row, document_ids=packed["document_ids"], grids={"image": batch.grids})
        assert torch.equal(placed, packed["position_ids"])
    given = packed | {"features": batch.ours["features"]}
    got = both.ours(batch.ids.view(1, -1), batch.modality_ids.view(1, -1), **given).logits.view(count, length, -1)
    expected = both.expected()
    said = both.said(expected)
    close(got[said], expected[said], 1e-9)
    weights = torch.randn_like(got)[said]
    gradients = [torch.autograd.grad((logits[said] * weights).sum(), [features])[0] for logits in (got, expected)]
    close(gradients[0], gradients[1], 1e-9)


@EACH
@torch.no_grad()
def test_greedy_decoding(original: Original) -> None:
    """Prompts of text of unequal lengths, padded on the left as transformers wants it; with images of equal ones."""
    both = pair(original)
    batch = both.batch
    ids, modality_ids, length = batch.ids, batch.modality_ids, batch.ids.shape[1]
    real = torch.ones_like(ids, dtype=torch.bool)
    if batch.features is None:
        modality_ids, real = torch.zeros_like(ids), torch.arange(length) >= torch.tensor([[0], [3]])
    choices = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None, "max_new_tokens": 6, **batch.prompt}
    with widened(both.dtype):
        expected = both.theirs.generate(ids, attention_mask=real.long(), **choices)[:, length:]
    got = both.ours.generate(ids, modality_ids.where(real, -1), max_new_tokens=6, temperature=0, **batch.ours).input_ids
    assert got.tolist() == expected.tolist()
