"""Which targets a spec has count, and how much: those that a token can see, and weights of modalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from codegen_templates.seen import in_prefix, neighbours
from motc.diff import diff
from motc.driver import check_spec, final_ir, generate
from motc.ir.identity import semantic_hash
from motc.ir.layer import Layer
from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.loading import import_source, instantiate
from motc.lower import warnings
from motc.lower.resolved import resolved
from motc.plan.seen import seen_targets
from motc.reference.visibility import visibility
from motc.schema import check
from motc.source import Diagnostic, SourceFile, SpecError
from motc.syntax import read
from motc.validate import validate
from motc.validate.config import reference_mask

ROOT = Path(__file__).resolve().parent.parent
SPEC = """model told {{
  width = 16, layers = 1, vocab = 9
  modality {modalities}
  attention {{ heads = 2, {mask} }}
  ffn {{ hidden = 12 }}
  untie ffn
}}
"""
LATENT = "image { latent { channels = 2, patch = 1, weight = 5 } }"
NAMES = ("text", "image", "act")
MASKS = [
    Mask(kind="causal"),
    Mask(kind="full"),
    Mask(kind="causal", bidirectional=("image", "act")),
    Mask(kind="prefix", prefix=("text", "act")),
    Mask(kind="prefix", prefix=("image",), bidirectional=("text",)),
    Mask(kind="prefix", prefix=("text", "image"), sees=(("text", ("text", "act")),)),
    Mask(kind="blocks", blocks=(("text", "act"), ("image",))),
    Mask(kind="blocks", blocks=(("act",), ("image",), ("text",)), sees=(("image", ("image", "text")),)),
    Mask(kind="full", sees=(("image", ("image",)), ("act", ("text", "act")))),
]


def source(mask: str = "mask = causal", modalities: str = "text, image, act") -> SourceFile:
    return SourceFile("told.mot", SPEC.format(mask=mask, modalities=modalities))


def lowered(file: SourceFile, dense: bool = False) -> Model:
    return final_ir(check(read(file)), dense=dense)


def warned(file: SourceFile) -> tuple[Diagnostic, ...]:
    checked = check(read(file))
    model = final_ir(checked)
    return warnings(checked, model)


def rows(seed: int) -> tuple[Tensor, Tensor]:
    """Modality ids with padding, and documents, which go on behind padding of any document id."""
    generator = torch.Generator().manual_seed(seed)
    modality_ids = torch.randint(-1, 3, (4, 16), generator=generator)
    modality_ids[0] = modality_ids[0].clamp(min=0)
    documents = torch.randint(0, 3, (4, 16), generator=generator).sort(1, descending=True).values
    return modality_ids, torch.where(modality_ids < 0, torch.randint(0, 3, (4, 16), generator=generator), documents)


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_two_neighbours_say_what_the_whole_visibility_says(mask: Mask, packed: bool) -> None:
    mask, shown = mask.simplified(NAMES), 0
    often = [[mask.sees_next(before, after) for after in NAMES] for before in NAMES]
    always, sometimes = (
        tuple(tuple(each == word for each in row) for row in often) for word in ("always", "sometimes")
    )
    for seed in range(8):
        modality_ids, document_ids = rows(seed)
        documents = document_ids if packed else None
        seen = neighbours(modality_ids, always)
        within = in_prefix(modality_ids, documents, tuple(NAMES.index(name) for name in mask.prefix))
        seen = (seen | (neighbours(modality_ids, sometimes) & within))[:, 1:]
        visible = visibility(reference_mask(mask), NAMES, modality_ids, documents)
        pairs = (modality_ids[:, 1:] >= 0) & (modality_ids[:, :-1] >= 0)
        if packed:
            pairs &= document_ids[:, 1:] == document_ids[:, :-1]
        expected = visible.diagonal(offset=1, dim1=1, dim2=2) & pairs
        assert torch.equal(seen & pairs, expected)
        shown += int(expected.sum())
    assert (shown > 0) == any(word != "never" for row in often for word in row)


@pytest.mark.laws
@pytest.mark.parametrize(
    "mask",
    [
        "mask { kind = prefix, prefix = [text, act], bidirectional = act }",
        "mask { kind = prefix, prefix = [text, act] }",
        "mask { kind = blocks, blocks = [act, [text, image]], sees { text = text } }",
        "mask = full",
    ],
)
def test_a_model_that_leaves_out_and_weighs_obeys_the_laws(mask: str) -> None:
    file = source(mask, "text { weight = 0.25 }, image { weight = 0 }, act { seen_targets = true }")
    sparse, dense = lowered(file), lowered(file, dense=True)
    report = validate(sparse, dense, *(instantiate(model, dtype=torch.float64) for model in (sparse, dense)))
    assert report.ok, report


@pytest.mark.laws
@pytest.mark.parametrize("planted", ["return labels", "return labels.masked_fill(seen.roll(1, 1), -100)"])
def test_the_laws_find_seen_targets_that_count(planted: str) -> None:
    sparse, dense = (lowered(source("mask { bidirectional = image }"), dense=dense) for dense in (False, True))
    right = "return labels.masked_fill(seen, -100)"
    text = generate(sparse)
    assert right in text
    broken = import_source(text.replace(right, planted)).Told().double()
    report = validate(sparse, dense, broken, instantiate(dense, dtype=torch.float64))
    failed = {law.name for law in report.laws if not law.ok}
    assert {"reference outputs", "reference gradients"} <= failed


def test_what_is_left_out_token_by_token(tmp_path: Path) -> None:
    """A prefix, a run that sees itself, and what comes after: counted by hand."""
    path = tmp_path / "told.mot"
    path.write_text(source("mask { kind = prefix, prefix = text, bidirectional = image }").text)
    model: Any = motc.load(path)
    modality_ids = torch.tensor([[0, 0, 1, 1, 0, 0, 2, -1], [0, 1, 1, 0, 0, 0, 0, 2]])
    documents = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 2, 2]])
    ids = torch.zeros_like(modality_ids)
    # of row 0: 0 1 1 0 0 2, the first seen in the prefix, the third in a run; of row 1: 1, and 2 in document 2
    loss = model.loss(ids, modality_ids, document_ids=documents)
    assert loss.weight.item() == 4 + 2
    assert {name: weight.item() for name, weight in loss.weights.items()} == {"text": 2, "image": 2, "act": 2}


@pytest.mark.parametrize(
    ("mask", "modalities", "said", "under"),
    [
        ("mask = full", "text, image", "all targets of text, image: nothing is trained by cross-entropy", "full"),
        ("mask { kind = full }", "text", "all targets of text: nothing is trained by cross-entropy", "full"),
        ("mask { bidirectional = [act, image] }", "text, image, act", "such targets of image, act", "[act, image]"),
        ("mask { bidirectional = text }", f"text, {LATENT}", "all targets of text: nothing is trained", "text"),
        ("mask { kind = prefix, prefix = image }", "text, image", "such targets of image", "image"),
        ("mask { kind = prefix, prefix = [image, text] }", "image, text", "all targets of image", "[image, text]"),
        ("mask { kind = blocks, blocks = [[text], image] }", "text, image", "text, image", "[[text], image]"),
        ("mask { kind = blocks, blocks = [image, text], sees { text = text } }", "text, image", "such targets of text",
         "[image, text]"),
    ],
)  # fmt: skip
def test_check_warns_of_targets_that_can_be_seen(mask: str, modalities: str, said: str, under: str) -> None:
    (diagnostic,) = warned(source(mask, modalities))
    assert (diagnostic.code, diagnostic.severity) == ("MOT064", "warning")
    assert said in diagnostic.message
    assert diagnostic.span is not None
    assert diagnostic.span.source.text[diagnostic.span.start : diagnostic.span.end] == under
    assert diagnostic.help is not None and "seen_targets = false" in diagnostic.help


@pytest.mark.parametrize(
    ("mask", "modalities"),
    [
        ("mask = causal", "text, image"),
        ("mask { bidirectional = image }", f"text, {LATENT}"),
        ("mask { kind = prefix, prefix = image, bidirectional = image }", f"text, {LATENT}"),
        ("mask { kind = full, sees { text = text, image = image } }", f"text {{ seen_targets = true }}, {LATENT}"),
        ("mask { bidirectional = image }", "text, image { seen_targets = false }"),
        ("mask { bidirectional = image }", "text, image { seen_targets = true }"),
    ],
)
def test_it_is_silent_where_none_can_be_seen_or_the_spec_says_how_it_is_meant(mask: str, modalities: str) -> None:
    assert warned(source(mask, modalities)) == ()


@pytest.mark.parametrize("path", sorted(ROOT.rglob("specs/**/transfusion*.mot")), ids=lambda path: path.stem)
def test_the_shipped_specs_of_latents_do_not_warn(path: Path) -> None:
    checked = check_spec(path)
    model = final_ir(checked)
    assert warnings(checked, model) == ()


def test_seen_targets_that_count_are_what_a_full_mask_always_meant() -> None:
    counted = "text { seen_targets = true }, image { seen_targets = true }"
    spec = "model f {{ width = 16, layers = 1, vocab = 9\n modality {}\n attention {{ heads = 2, mask = full }} }}"
    models = [lowered(SourceFile("f.mot", spec.format(modalities))) for modalities in (counted, "text, image")]
    assert semantic_hash(models[0]) == "1-9130e0c5e15baccd"
    assert semantic_hash(models[1]) != semantic_hash(models[0])
    assert "neighbours" not in generate(models[0]) and "neighbours" in generate(models[1])


def test_what_says_nothing_changes_no_byte() -> None:
    said = "text { weight = 1, seen_targets = true }, image { weight = 1.0, seen_targets = false }, act"
    assert generate(lowered(source(modalities=said))) == generate(lowered(source()))


def losses(modalities: str, tmp_path: Path, mask: str = "mask = causal") -> Any:
    path = tmp_path / "told.mot"
    path.write_text(source(mask, modalities).text)
    model: Any = motc.load(path, dtype=torch.float64)
    modality_ids = torch.tensor([[0, 1, 1, 2, 0, 0], [2, 2, 1, 0, 1, -1]])
    loss = model.loss(torch.arange(12).view(2, 6) % 9, modality_ids)
    loss.total.backward()
    return loss, {name: x.grad for name, x in model.named_parameters()}


def test_the_total_is_the_weighted_mean_over_all_targets(tmp_path: Path) -> None:
    loss, _ = losses("text { weight = 0.5 }, image { weight = 0 }, act { weight = 3 }", tmp_path)
    as_ever, _ = losses("text, image, act", tmp_path)
    counts = {"text": 3, "image": 4, "act": 2}
    assert loss.weight.item() == 0.5 * 3 + 3 * 2
    expected = (0.5 * 3 * as_ever.by_modality["text"] + 3 * 2 * as_ever.by_modality["act"]) / 7.5
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert all(torch.equal(loss.by_modality[name], as_ever.by_modality[name]) for name in counts)
    mean = sum(counts[name] * as_ever.by_modality[name] for name in counts) / 9
    assert as_ever.total.item() == pytest.approx(mean.item(), rel=1e-12)


def test_a_weight_of_0_is_as_no_label(tmp_path: Path) -> None:
    loss, gradients = losses("text, image { weight = 0 }, act", tmp_path)
    path = tmp_path / "plain.mot"
    path.write_text(source().text)
    model: Any = motc.load(path, dtype=torch.float64)
    modality_ids = torch.tensor([[0, 1, 1, 2, 0, 0], [2, 2, 1, 0, 1, -1]])
    ids = torch.arange(12).view(2, 6) % 9
    expected = model.loss(ids, modality_ids, labels=ids.masked_fill(modality_ids == 1, -100))
    expected.total.backward()
    assert loss.total.item() == pytest.approx(expected.total.item(), rel=1e-12)
    for name, x in model.named_parameters():
        torch.testing.assert_close(gradients[name], x.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("modalities", "code", "said", "under"),
    [
        ("text, image { weight = 2, latent { channels = 1, patch = 1 } }", "MOT065", "`image` is continuous", "weight"),
        ("text, image { seen_targets = true, latent { channels = 1, patch = 1 } }", "MOT065", "`seen_targets` is about",
         "seen_targets"),
        ("text { weight = 2 }", "MOT066", "all of them are of text", "2"),
        (f"text {{ weight = 0.5 }}, {LATENT}", "MOT066", "all of them are of text", "0.5"),
        ("text { weight = 0 }, image { weight = 0.0 }", "MOT066", "nothing would be trained", "0"),
        ("text { weight = -1 }, image", "MOT023", "`modalities.text.weight` should be", "-1"),
        ("text { seen_targets = 1 }, image", "MOT023", "`modalities.text.seen_targets` should be", "1"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_told(modalities: str, code: str, said: str, under: str) -> None:
    with pytest.raises(SpecError) as caught:
        lowered(source(modalities=modalities))
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, said in diagnostic.message) == (code, True), diagnostic
    assert diagnostic.span is not None
    assert diagnostic.span.source.text[diagnostic.span.start : diagnostic.span.end] == under


def test_beside_latents_tokens_may_have_weight_0(tmp_path: Path) -> None:
    path = tmp_path / "told.mot"
    path.write_text(source("mask { bidirectional = image }", f"text {{ weight = 0 }}, {LATENT}").text)
    model: Any = motc.load(path)
    modality_ids = torch.tensor([[0, 0, 1, 1, 0, 0]])
    latents = {"image": torch.randn(1, 2, 1, 2)}
    losses = model.loss(torch.ones(1, 6).long(), modality_ids, latents=latents)
    losses.total.backward()
    assert losses.by_modality["text"].item() > 0
    assert losses.total.item() == pytest.approx(5 * losses.by_modality["image"].item())
    assert not model.head.weight.grad.any()


def test_diff_and_resolved_name_both(tmp_path: Path) -> None:
    plain = lowered(source("mask = full"))
    other = source("mask = full", "text { weight = 2, seen_targets = true }, image, act")
    edits = [edit.describe() for edit in diff(plain, lowered(other))]
    assert edits == [
        "weight of text: 1 → 2, ±0 parameters, ±0 FLOPs a token",
        "seen_targets of text: false → true, ±0 parameters, ±0 FLOPs a token",
    ]
    assert [edit.subject for edit in diff(plain, lowered(source()))] == ["attention.mask"]
    values = {key: (value, origin) for key, value, origin in resolved(check(read(other)))}
    assert values["modalities.text.weight"] == (2, "told.mot:3")
    assert values["modalities.image.weight"] == (1, "default")
    assert values["modalities.image.seen_targets"] == (False, "default")


def test_layers_are_looked_through_once_whatever_the_number_of_modalities(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = Model.kinds.func
    asked: list[Model] = []

    def counted(model: Model) -> tuple[tuple[Layer, int], ...]:
        asked.append(model)
        return kinds(model)

    monkeypatch.setattr(Model, "kinds", property(counted))

    def asks(modalities: int) -> int:
        names = ", ".join(f"m{number}" for number in range(modalities))
        text = f"model a {{ width = 16, layers = 2, vocab = 9\n modality {names}\n attention {{ heads = 2 }} }}"
        checked = check(read(SourceFile("a.mot", text)))
        model = final_ir(checked)
        asked.clear()
        assert warnings(checked, model) == ()
        assert seen_targets(model) == ((), ())
        return len(asked)

    assert asks(64) == asks(2)


def test_prefixes_of_layers_with_other_windows_are_looked_for_once() -> None:
    text = """model a { width = 16, layers = 4, vocab = 9
      modality question { seen_targets = false }, answer
      attention { heads = 2, mask { kind = prefix, prefix = question } }
      layers 0..3 step 2 { attention { window = 8 } }
    }"""
    model = lowered(SourceFile("a.mot", text))
    assert len(model.masks) == 2
    assert seen_targets(model) == ((), ((("question",), ((True, False), (False, False))),))
