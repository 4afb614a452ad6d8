"""Sliding windows: by the reference, as transformers counts them, and while generating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import motc
from codegen_templates import mask_window
from codegen_templates.attention import attend
from codegen_templates.cache import Cache, NewTokens, held
from codegen_templates.rows import Rows, fill_rows
from codegen_templates.rows_compact import compact_rows
from codegen_templates.rows_documents import rows_by_document
from codegen_templates.tokens import look_up
from motc.driver import compile_ir
from motc.ir.execution import Strategy
from motc.ir.mask import Mask
from motc.loading import instantiate
from motc.reference.visibility import visibility
from motc.source import SourceFile
from motc.validate.config import reference_mask
from motc.validate.random_parameters import randomise
from tests.building import built_mask
from tests.fuzz.properties import forget_generated, generates_what_it_predicts, obeys_every_law
from tests.originals import agree, as_parameters, renamed, widened
from tests.short_rows import COPIES

transformers = pytest.importorskip("transformers")

SPEC = """
model windows {
  width = 16, layers = 3, vocab = 32
  modality text, image
  attention { heads = 2, kv_heads = 1, window = 4 MASK }
  ffn { hidden = 24 }
  layer 1 { attention { window = none } }
  layer 2 { attention { window = 6 } }
  untie attention, ffn
}
"""
NAMES = ("text", "image")
MASKS = {
    "causal": "",
    "runs": ", mask { bidirectional = image }",
    "together": ", mask { runs = [[text, image]] }",
    "prefix": ", mask { kind = prefix, prefix = image }",
    "full": ", mask = full",
    "blocks": ", mask { kind = blocks, blocks = [image, text] }",
    "directed": ", mask { sees { image = image } }",
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget_generated()


def model_of(mask: str, strategy: Strategy = "sorted", *, dense: bool = False) -> Any:
    return compile_ir(SourceFile("a.mot", SPEC.replace("MASK", MASKS[mask])), strategy=strategy, dense=dense)


def module_of(mask: str, strategy: Strategy = "sorted") -> Any:
    module = instantiate(model_of(mask, strategy), dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(0))
    return module


@pytest.mark.laws
@pytest.mark.parametrize(
    ("mask", "strategy"),
    [(mask, "sorted") for mask in MASKS] + [("runs", "reference"), ("prefix", "blend"), ("causal", "grouped")],
)
def test_windows_by_layer_obey_every_law(mask: str, strategy: Strategy) -> None:
    obeys_every_law(model_of(mask, strategy), model_of(mask, dense=True), seed=2)


def test_rows_that_a_window_covers_need_no_matrix() -> None:
    for mask, has_views in (("causal", False), ("full", False), ("prefix", True), ("directed", True)):
        module = module_of(mask)
        for length, masks in ((4, (False, False, False)), (5, (True, False, False)), (7, (True, False, True))):
            rows = module.layout(torch.tensor([[1, *[0] * (length - 1)]] * 2)).rows.by_mask
            assert tuple(each.mask is not None for each in rows) == masks
            assert tuple(each.views is None for each in rows) == tuple(not has_views or each for each in masks)
    packed = module_of("causal").layout(torch.tensor([[0, 0, 0, 1, 1, 0]]), torch.tensor([[0, 0, 0, 1, 1, 1]]))
    assert [each.mask is not None for each in packed.rows.by_mask] == [False] * 3  # documents have a row each


@pytest.mark.compiled
def test_one_graph_more_where_rows_are_longer_than_the_window() -> None:
    torch.compiler.reset()
    counters.clear()
    module = module_of("causal")
    module.compile(backend="eager")
    graphs = []
    for rows in ([[0, 1, 0], [0, 0, 1]], [[1, 1]], [[0] * 5] * 3, [[0, 1] * 4], [[0] * 21] * 2):
        ids = torch.tensor(rows)
        module(ids, ids)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [5, 5, 6, 7, 7]  # three kinds of layers and the ends; each window that is too short one more
    torch.compiler.reset()


def rows_of(mask: Any, modality_ids: Tensor, document_ids: Tensor | None) -> Rows:
    """The rows of a batch as the strategies that sort have them, or with documents that share a row, as others do."""
    if document_ids is None:
        return rows_by_document(modality_ids, None, (mask,))
    return fill_rows(compact_rows(modality_ids), modality_ids, document_ids, (mask,), (), reads=True)


def seen_in(rows: Rows) -> Tensor:
    """Who sees whom, bool [R, L, L]: which values' changes change what attention finds."""
    zeros, matrix = torch.zeros(*rows.slots.shape, 1, 1, dtype=torch.float64), rows.matrix(torch.float64)
    each = []
    for place in range(rows.slots.shape[1]):
        values = zeros.clone()
        values[:, place] = 1
        each.append(attend(zeros, zeros, values, matrix)[:, :, 0] > 0)
    return torch.stack(each, dim=2)


CUT = {
    "causal": Mask(kind="causal", window=4),
    "odd": Mask(kind="causal", window=7),
    "directed": Mask(kind="causal", window=4, sees=(("image", ("image",)),)),
    "runs": Mask(kind="causal", window=6, bidirectional=("image",)),
    "full": Mask(kind="full", window=4),
    "blocks": Mask(kind="blocks", window=5, blocks=(("image",), ("text",))),
    "absent": Mask(kind="causal", window=4, absent=("image",)),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CUT)
def test_chunks_of_a_window_say_what_its_mask_says(name: str, packed: bool) -> None:
    modality_ids = torch.tensor([[0, 0, 1, 0, 1, 1, 1, 0] * 3, [0, 1] * 9 + [-1] * 6, [0] * 11 + [1, 1] + [0] * 11])
    documents = torch.tensor([[0] * 3 + [1] * 21, [0] * 24, [0] * 11 + [1] * 2 + [2] * 11]) if packed else None
    rows = rows_of(built_mask(CUT[name], NAMES), modality_ids, documents)
    assert rows.chunks is not None
    placed = look_up(modality_ids.flatten(), rows.slots, -1)
    expected = visibility(reference_mask(CUT[name]), NAMES, placed, documents)
    asked = (placed == 0) if name == "absent" else (placed >= 0)  # what others find is read by none
    assert torch.equal(seen_in(rows) & asked[..., None], expected & asked[..., None])


def test_where_tokens_see_others_far_away_there_are_no_chunks() -> None:
    alone, together = torch.tensor([[0, 0, 1, 1, 1, 0] * 5]), torch.tensor([[0, 1, 1, 1, 1, 0] * 5])
    runs = built_mask(Mask(kind="causal", window=4, bidirectional=("image",)), NAMES)
    assert rows_of(runs, alone, None).chunks is not None and rows_of(runs, together, None).chunks is None
    prefix = built_mask(Mask(kind="prefix", prefix=("image",), window=4), NAMES)
    assert rows_of(prefix, alone, None).chunks is None
    full = built_mask(Mask(kind="full", window=4), NAMES)
    assert [rows_of(full, alone[:, :length], None).chunks is None for length in (4, 5, 13, 14)] == [True] * 3 + [False]


def test_short_rows_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where copies cost more than a matrix of whole rows does."""
    monkeypatch.setattr(mask_window, "COPIES", COPIES)
    cut = {(64, 256): False, (64, 512): True, (256, 511): False, (256, 513): True, (512, 514): True}
    for (window, length), is_cut in cut.items():
        mask = built_mask(Mask(kind="causal", window=window), NAMES)
        rows = rows_of(mask, torch.zeros(1, length, dtype=torch.int64), None)
        assert (rows.chunks is not None) == is_cut, (window, length)


def test_numbers_that_are_none_stay_in_their_document() -> None:
    modality_ids, documents = torch.zeros(1, 24, dtype=torch.int64), torch.tensor([[0] * 9 + [1] * 15])
    rows = rows_of(built_mask(CUT["causal"], NAMES), modality_ids, documents)
    values = torch.ones(1, 24, 1, 1, dtype=torch.float64)
    values[0, 7] = torch.nan
    found = attend(torch.zeros_like(values), torch.zeros_like(values), values, rows.matrix(torch.float64))
    assert found.isnan().flatten().nonzero().flatten().tolist() == [7, 8]


def causal_row(mask: Any, known: list[int]) -> list[bool]:
    ids = torch.tensor([known])
    seen = mask.seen_by_next(ids[:, -1:], ids)
    return [True] * len(known) if seen is None else seen[0].tolist()


@pytest.mark.parametrize("window", [2, 3, 4])
def test_the_next_token_sees_what_a_token_at_the_end_sees(window: int) -> None:
    for mask in (Mask(kind="causal", window=window), Mask(kind="causal", sees=(("image", ("image",)),), window=window)):
        for known in ([0], [0, 1], [1, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0, 1]):
            expected = visibility(reference_mask(mask), NAMES, torch.tensor([known]), None)[0, -1].tolist()
            assert causal_row(built_mask(mask, NAMES), known) == expected
    ids = torch.tensor([[0, 1, 0, 1, -1], [0, 1, 0, 1, 1]])  # rows of four and five tokens
    seen = built_mask(Mask(kind="causal", window=2), NAMES).seen_by_next(ids[:, -1:], ids)
    assert seen is not None
    assert (seen & (ids >= 0)).tolist() == [[False, False, True, True, False], [False, False, False, True, True]]


@pytest.mark.parametrize("strategy", ["sorted", "reference", "blend"])
@pytest.mark.parametrize("mask", ["causal", "prefix", "directed"])
def test_generating_is_the_forward_of_all_tokens(mask: str, strategy: Strategy) -> None:
    module = module_of(mask, strategy)
    modality_ids = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [-1, -1, -1, 1, 0]])
    ids = torch.randint(0, 32, modality_ids.shape, generator=torch.Generator().manual_seed(1))
    generates_what_it_predicts(module, ids, modality_ids, count=7)


def test_a_layer_with_a_window_keeps_the_last_tokens_alone() -> None:
    cache = Cache(2, 9, [None, 4])
    cache.lengths = torch.tensor([6, 3])
    numbers = torch.arange(1, 7)[None, None, :, None].expand(2, 1, 6, 1).double()  # the token at p is p + 1
    for layer in cache.layers:
        assert all(torch.equal(prompt, numbers) for prompt in layer.extended(numbers, -numbers.neg()))
    cache.step = NewTokens(torch.tensor([[0], [1]]), torch.tensor([[6], [3]]), 7)
    new = torch.tensor([7.0, 4.0], dtype=torch.float64)[:, None, None, None]
    whole, last = (layer.extended(new, new) for layer in cache.layers)
    assert whole[0].shape[2] == 7 and last[0].shape[2] == 4
    for keys in last:
        assert keys[:, 0, :, 0].tolist() == [[5, 6, 7, 4], [1, 2, 3, 4]]
    assert held(torch.tensor([7, 4, 2]), 4).tolist() == [[4, 5, 6, 3], [0, 1, 2, 3], [0, 1, -2, -1]]


def test_what_is_in_runs_with_others_is_not_generated() -> None:
    module = module_of("together")
    with pytest.raises(ValueError, match="see later ones of their run"):
        module.generate(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), max_new_tokens=1)


def mistral(window: int) -> Any:
    return transformers.MistralForCausalLM(
        transformers.MistralConfig(**SIZES, sliding_window=window, head_dim=8, rope_theta=1e4)
    )


def qwen2(window: int) -> Any:
    return transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=window, max_window_layers=1)
    )


SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
}
DENSE = """
model small {
  width = 32, layers = 3, vocab = 61
  modality text
  attention { heads = 4, kv_heads = 2, SAID }
  ffn { hidden = 48 }
  norm { eps = 1e-6 }
  LAYERS
}
"""
ORIGINALS = {
    "mistral": (mistral, "window = 4", ""),
    "qwen2": (qwen2, "bias = true, out_bias = false", "layers 1..2 { attention { window = 4 } }"),
}


def pair_of(name: str) -> tuple[Any, Any]:
    """An original and ours, with the same weights."""
    made, said, layers = ORIGINALS[name]
    torch.manual_seed(0)
    theirs = made(4).eval()
    as_parameters(theirs, torch.float64)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours: Any = motc.load(DENSE.replace("SAID", said).replace("LAYERS", layers), dtype=torch.float64)
    ours.load_state_dict(renamed(dict(theirs.named_parameters())))  # the names are the same, or this raises
    return theirs, ours


@pytest.mark.parametrize("name", ORIGINALS)
def test_windows_are_as_transformers_counts_them(name: str) -> None:
    theirs, ours = pair_of(name)
    ids = torch.randint(0, 61, (3, 11))
    real = torch.ones_like(ids)
    real[0, :3], real[1, 7:] = 0, 0  # padding before and after
    modality_ids = torch.where(real > 0, 0, -1)
    with widened(torch.float64):
        positions = (real.cumsum(1) - 1).clamp(min=0)
        expected = theirs(ids, attention_mask=real, position_ids=positions, use_cache=False).logits
    got = ours(ids, modality_ids, position_ids=positions).logits
    keep = real.bool()[..., None]
    agree(theirs, ours, expected * keep, got * keep)


@pytest.mark.parametrize("name", ORIGINALS)
def test_greedy_decoding_is_that_of_transformers(name: str) -> None:
    theirs, ours = pair_of(name)
    ids = torch.randint(0, 61, (2, 6))
    choices = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with widened(torch.float64):
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **choices)[:, 6:]
    got = ours.generate(ids, torch.zeros_like(ids), max_new_tokens=9, temperature=0.0).input_ids
    assert got.tolist() == expected.tolist()


def test_a_span_of_an_image_in_a_sliding_layer_is_as_gemma_3_has_it() -> None:
    from transformers.models.gemma3 import modeling_gemma3 as gemma

    config = transformers.Gemma3TextConfig(sliding_window=3, attn_implementation="eager")
    modality_ids = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1]])
    spans, embeds = gemma.get_block_sequence_ids_for_mask(modality_ids), torch.zeros(*modality_ids.shape, 4)
    theirs = gemma.create_masks_for_vision_model(config, embeds, None, None, None, spans)
    for key, window in (("full_attention", None), ("sliding_attention", 3)):
        mask = Mask(kind="causal", bidirectional=("image",), window=window)
        ours = visibility(reference_mask(mask), NAMES, modality_ids, None)
        assert torch.equal(theirs[key][:, 0] == 0, ours)
