"""Positions that follow from a rule for each modality: batches, rows that are generated, and the reference agree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

import motc
from codegen_templates.positions_by_rule import Placing, PositionRule, place_tokens
from motc.driver import final_ir
from motc.reference import ReferenceRule, positions_by_rule
from motc.source import SpecError
from tests.fuzz.properties import checked, differ_alike_both_ways, generates_what_it_predicts, obeys_every_law

RULES = (
    PositionRule(),
    PositionRule("same", advance=1, delimiters=True),
    PositionRule("grid", advance="extent"),
    PositionRule("centred"),
    PositionRule("consecutive", start=3, advance=0),
    PositionRule("same", advance=0),
    PositionRule("grid", start=0, advance="spatial"),
)
GRIDS = {2: (1, 2, 1), 3: (2, 1), 6: (1, 1, 2)}


@pytest.mark.parametrize("seed", range(20))
def test_three_ways_to_place_tokens_agree(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    modality_ids = torch.full((4, 16), -1)
    documents = torch.zeros_like(modality_ids)
    for row in range(4):
        column, number, last = 0, 0, -1
        while column < 14:
            modality = int(torch.randint(-1, len(RULES), (), generator=generator))
            count = 2 if modality in GRIDS else 1
            anew = (modality == last and modality in GRIDS) or int(torch.randint(0, 5, (), generator=generator)) == 0
            number += anew and modality >= 0
            modality_ids[row, column : column + count] = modality
            documents[row, column:] = number
            column, last = column + count, last if modality < 0 else modality
    grids = {m: torch.tensor([grid]) for m, grid in GRIDS.items()}
    batch = place_tokens(modality_ids, documents, RULES, 1, 3, grids)
    rules = [ReferenceRule(**rule._asdict()) for rule in RULES]
    many = {m: [grid] * 99 for m, grid in GRIDS.items()}
    assert torch.equal(batch, positions_by_rule(modality_ids, documents, rules, 1, 3, many))
    for row in range(4):
        before, placing = None, Placing(RULES, 1, 3)
        for column in range(16):
            modality, document = int(modality_ids[row, column]), int(documents[row, column])
            if modality < 0:
                assert batch[row, column].tolist() == [0, 0, 0]
                continue
            placing = Placing(RULES, 1, 3) if document != before else placing
            before = document
            assert placing.next(modality, GRIDS.get(modality, ())) == tuple(batch[row, column].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_what_comes_after_noised_spans_is_where_the_reference_has_it(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rules = (
        PositionRule(),
        PositionRule("same", advance=1, delimiters=True, noised_advance=0),
        PositionRule(noised_advance=2),
    )
    modality_ids = torch.randint(-1, 3, (4, 16), generator=generator)
    documents = (torch.rand(modality_ids.shape, generator=generator) < 0.2).long().cumsum(1)
    clean = {modality: torch.rand(64, generator=generator) < 0.5 for modality in (1, 2)}
    noised = {modality: (~each).tolist() for modality, each in clean.items()}
    expected = positions_by_rule(
        modality_ids, documents, [ReferenceRule(**rule._asdict()) for rule in rules], 0, 1, {}, noised
    )
    assert torch.equal(place_tokens(modality_ids, documents, rules, 0, 1, {}, clean), expected[..., 0])


def test_positions_as_qwen_indexes_them() -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=2)
    theirs = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    theirs.get_vision_position_ids = lambda *given, **named: Qwen2_5_VLModel.get_vision_position_ids(
        theirs, *given, **named
    )
    kinds = [[0] * 2 + [1] * 6 + [0] * 3 + [1] * 2 + [0], [0] * 4 + [1] * 4 + [0] * 6]
    images = torch.tensor([[1, 4, 6], [1, 2, 4], [1, 4, 4]])
    modality_ids = torch.tensor(kinds)
    expected, deltas = Qwen2_5_VLModel.get_rope_index(theirs, modality_ids, modality_ids, image_grid_thw=images)
    ours: Any = motc.load(
        """model qwen {
          width = 32, layers = 1, vocab = 11
          modality text, image { positions { kind = grid } }
          attention { heads = 2, rope { sections = [2, 3, 3] } }
          ffn { hidden = 8 }
        }"""
    )
    merged = images // torch.tensor([1, 2, 2])
    got = ours.positions(modality_ids, grids={"image": merged})
    assert torch.equal(got, expected.permute(1, 2, 0))
    ids = torch.zeros_like(modality_ids)
    with pytest.raises(ValueError, match="follow from the grids of its spans"):
        ours(ids, modality_ids)
    made = ours.generate(ids, modality_ids, position_ids=got, max_new_tokens=2, temperature=0.0)
    ids = torch.cat((ids, made.input_ids), 1)
    places = (torch.tensor([[14], [14]]) + deltas)[..., None].expand(2, 1, 3)
    whole = ours(
        ids[:, :-1], torch.cat((modality_ids, made.modality_ids[:, :1]), 1), position_ids=torch.cat((got, places), 1)
    )
    assert torch.equal(whole.logits[:, -1].argmax(-1), ids[:, -1])
    for wrong in (merged[:2], merged.flip(0)):
        with pytest.raises(ValueError, match="and their grids"):
            ours.positions(modality_ids, grids={"image": wrong})


def test_positions_of_bagel_and_hunyuan_image() -> None:
    """An image and its delimiters at one position; an image's rows and columns around its middle."""
    modality_ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]])
    bagel = (PositionRule(), PositionRule("same", advance=1, delimiters=True))
    assert place_tokens(modality_ids, None, bagel, 0, 1, {}).tolist() == [[0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4]]
    hunyuan = (PositionRule(), PositionRule("centred"))
    twice = torch.tensor([[0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0]])  # the same image noised, and then clean
    noised = (PositionRule(), PositionRule("same", advance=1, delimiters=True, noised_advance=0))
    clean = {1: torch.tensor([False, True])}
    assert place_tokens(twice, None, noised, 0, 1, {}, clean).tolist() == [[0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4]]
    assert place_tokens(twice, None, noised, 0, 1, {}).tolist() == [[0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5]]
    placed = place_tokens(modality_ids, None, hunyuan, 0, 2, {1: torch.tensor([[2, 3]])})[0]
    assert placed[:3].tolist() == [[0, 0], [1, 1], [2, 2]]
    beta_y, beta_x = int(3 + (6 - 2) / 2), int(3 + (6 - 3) / 2)
    assert placed[3:9].tolist() == [[beta_y + y, beta_x + x] for y in range(2) for x in range(3)]
    assert placed[9:].tolist() == [[9, 9], [10, 10], [11, 11]]


SPEC = """
model ruled {
  width = 16, layers = 1, vocab = 9
  modality text, image { %s }
  attention { heads = 2, mask { bidirectional = image }, rope { %s } }
  ffn { hidden = 12 }
  %s
  untie attention.q
}
"""
LATENT = "latent { channels = 2, patch = 1 }, "
CASES = [
    (f"{LATENT} positions {{ kind = same, delimiters = true }}", "", ""),
    (f"{LATENT} positions {{ kind = grid }}", "sections = [2, 1, 1]", "positions { first = 2 }"),
    (f"{LATENT} positions {{ kind = centred }}", "axes = [4, 4]", ""),
    (f"{LATENT} positions {{ start = 7, advance = 0 }}", "", ""),
    ("positions { kind = grid }", "sections = [2, 2]", ""),
    ("positions { kind = same, advance = 0 }", "scaling { kind = dynamic, factor = 2, original_length = 4 }", ""),
]


@pytest.mark.laws
@pytest.mark.parametrize("case", CASES)
def test_every_law_holds(case: tuple[str, str, str]) -> None:
    spec = checked(SPEC % case)
    model = final_ir(spec)
    obeys_every_law(model, final_ir(spec, dense=True), seed=3)
    differ_alike_both_ways(model, final_ir(checked(SPEC % ("", "", ""))))


@pytest.mark.parametrize(
    "rule", ["kind = same, delimiters = true", "start = 5, advance = 1", "kind = same, advance = 0"]
)
def test_generating_is_the_forward_of_all_tokens(rule: str) -> None:
    text = SPEC.replace("mask { bidirectional = image }, ", "") % (
        f"positions {{ {rule} }}",
        "",
        "positions { first = 1 }",
    )
    model: Any = motc.load(text, dtype=torch.float64)
    ids = torch.randint(0, 9, (3, 5), generator=torch.Generator().manual_seed(0))
    modality_ids = torch.tensor([[0, 1, 1, 0, 0], [0, 1, -1, 1, 1], [-1, 0, 0, 0, 0]])
    first = int(model.generate(ids, modality_ids, max_new_tokens=1, temperature=0.0).input_ids[0, 0])
    spans = {"image": {"begin": first, "length": 3}}
    generated = generates_what_it_predicts(model, ids, modality_ids, count=9, spans=spans)
    assert generated.modality_ids[0, :5].tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("said", "rope", "what"),
    [
        ("positions { kind = same, advance = extent }", "", "is of a grid"),
        ("positions { delimiters = true }", "", "delimiters share the position"),
        ("positions { noised_advance = 0 }", "", "spans are noised of modalities with latents alone"),
        (f"{LATENT} positions {{ kind = grid }}", "", "a grid of 2 axes"),
        ("positions { kind = grid }", "", "a grid of 2 axes has no place in positions on 1"),
        ("features { size = 3 }, positions { kind = centred }", "", "a grid of 2 axes"),
        (f"{LATENT.replace('1 }', '[1, 1, 1] }')} positions {{ kind = grid }}", "axes = [4, 4]", "a grid of 3 axes"),
    ],
)
def test_rules_that_do_not_go_together_are_told(said: str, rope: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        motc.load(SPEC % (said, rope, ""))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "MOT082"
    assert what in diagnostic.message


def test_rules_are_for_models_that_look_at_positions() -> None:
    with pytest.raises(SpecError, match="say nothing"):
        motc.load((SPEC % ("positions { kind = same }", "", "")).replace("rope {  }", "rope = none"))


def test_a_benchmark_of_grids_takes_positions_one_after_the_other() -> None:
    from motc.bench.portable.batches import DrawnBatch
    from motc.bench.portable.sides import Side

    ruled = ("positions { kind = grid }", "sections = [2, 2]", "")
    model: Any = motc.load(SPEC.replace("mask { bidirectional = image }, ", "") % ruled)
    modality_ids = torch.tensor([[0, 1, 1, 0]])
    ids = torch.zeros_like(modality_ids)
    outputs = Side(model, "cpu").outputs(DrawnBatch(input_ids=ids, modality_ids=modality_ids))
    expected = model(ids, modality_ids, position_ids=torch.arange(4)).logits
    assert torch.equal(outputs["logits"], expected)
