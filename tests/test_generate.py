"""Generating with a cache gives what the whole sequence gives anew, token by token, for all specs that can generate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from motc.driver import check_spec, final_ir
from motc.ir.execution import Strategy
from motc.loading import instantiate
from motc.validate.random_parameters import randomise
from motc.validate.reduce import reduce
from tests.shipped import DIFFERENT
from tests.texts import UNLIKE, WIDTHS

ROOT = Path(__file__).resolve().parent.parent
DECODED = [path for path in DIFFERENT if not any(name in path.stem for name in ("moe", "hybrid", "transfusion"))]
NEW = 9

SEEING = WIDTHS.replace("head_dim = 8 }", "head_dim = 8, mask { sees { text = [text, image] } } }")
TIED = """
model tied {
  width = 32, layers = 3
  modality text { vocab = 57 }, image { vocab = 31 }, speech { vocab = 17 }
  attention { heads = 4, rope = none }
  ffn { hidden = 40, kind = gelu, bias = true }
  norm { placement = sublayer_output }
  embedding { tied = true }
  untie ffn as {text, speech} {image}
  untie ffn as {text} {image, speech} in layer 1
}
"""
PREFIX = """
model prefixed {
  width = 32, layers = 2, vocab = 56
  modality image, text, speech
  attention { heads = 4, kv_heads = 1, rope { pairing = interleaved }, mask { kind = prefix, prefix = image } }
  ffn { hidden = 40 }
  untie ffn.up, attention.v as {text, speech} {image}
}
"""
MIXED = """
model mixed {
  width = 24, layers = 2
  modality text { vocab = 40 }, image { vocab = 24 }, speech { vocab = 20 }
  attention { heads = 4 }
  ffn { hidden = 20, kind = moe, experts = 4, top_k = 2, shared_experts = 2, bias = true }
  tower pair = text, speech { ffn { experts = 3, top_k = 1, shared_experts = 1, balance = 0 } }
  untie attention, ffn, norm
  untie attention as {text, image} {speech}
}
"""
POOLED = """
model pooled {
  width = 24, layers = 2, vocab = 40
  modality text, image, speech
  attention { heads = 4 }
  ffn { hidden = 20, kind = moe, experts = 4, expert = gelu, shared_experts = 1 }
  norm { placement = sublayer_output }
  untie attention
  untie ffn as {text, speech} {image} in layer 1
}
"""
HYBRID = """
model hybrid {
  width = 24, layers = 2, vocab = 40
  modality text, image, speech
  attention { heads = 4, head_dim = 6 }
  ffn { hidden = 20, kind = geglu }
  tower text = text { ffn { kind = moe, experts = 3, top_k = 2, shared_experts = 1 } }
  tower narrow = image { width = 16, ffn { hidden = 12, kind = relu2 } }
  untie *
}
"""
EXPERTS = {"mixed": MIXED, "pooled": POOLED, "hybrid": HYBRID}
HARD = {"widths": SEEING, "unlike": UNLIKE, "tied": TIED, "prefixed": PREFIX}


def load(path: Path, strategy: Strategy = "sorted", *, dense: bool = False) -> Any:
    model = final_ir(reduce(check_spec(path)), strategy=strategy, dense=dense)
    module = instantiate(model, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    return module.eval()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hard.mot"
    path.write_text(text)
    return path


def prompt(model: Any) -> tuple[Tensor, Tensor]:
    """Rows of all lengths, padded at all ends, that start with the first modality and end with each in turn."""
    generator = torch.Generator().manual_seed(2)
    count = len(model.modalities)
    modality_ids = torch.randint(0, count, (5, 8), generator=generator)
    modality_ids[:, :4] = 0
    modality_ids[0, 2:] = -1
    modality_ids[1, :3] = -1
    modality_ids[2, 6:] = -1
    modality_ids[3, 4] = -1
    (mask,) = model.masks
    blocked = mask.bidirectional
    if mask.prefix:
        modality_ids[0, 1] = 1
    for row, index in enumerate([0, 1, 2, 1, 0]):
        last = max(place for place in range(8) if modality_ids[row, place] >= 0)
        wanted = index % count
        if wanted in (*blocked, *mask.prefix):
            wanted = next(i for i in range(count) if i not in (*blocked, *mask.prefix))
        modality_ids[row, last] = wanted
    return torch.randint(0, min(model.vocabularies.values()), (5, 8), generator=generator), modality_ids


def recorded(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The logits that each draw is made from."""
    names = type(model).generate.__globals__
    seen: list[Any] = []
    draw = names["draw"]

    def spy(logits: Any, modalities: Any, active: list[int], **how: Any) -> Any:
        seen.append((logits, list(modalities)))
        return draw(logits, modalities, active, **how)

    monkeypatch.setitem(names, "draw", spy)
    return seen


def assert_as_recomputed(model: Any, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Any:
    ids, modality_ids = prompt(model)
    seen = recorded(model, monkeypatch)
    generated = model.generate(ids, modality_ids, max_new_tokens=NEW, temperature=0, **how)
    assert generated.input_ids.shape == (5, NEW) == (5, len(seen))
    for row in range(5):
        real = modality_ids[row] >= 0
        length = int(real.sum())
        whole = torch.cat([ids[row][real], generated.input_ids[row]])[None]
        of = torch.cat([modality_ids[row][real], generated.modality_ids[row]])[None]
        logits = model(whole, of).logits
        for step, (kept, modalities) in enumerate(seen):
            expected, actual = logits, kept
            if isinstance(logits, dict):
                expected, actual = logits[modalities[row]], kept[modalities[row]]
            expected = expected[0, length + step - 1]
            assert (actual[row] - expected).abs().max() <= 1e-12 * expected.abs().max().clamp(min=1)
            assert generated.input_ids[row, step] == expected.argmax()
    return generated


@pytest.mark.parametrize("dense", [False, True], ids=["untied", "dense"])
@pytest.mark.parametrize("path", DECODED, ids=lambda path: path.stem)
def test_a_shipped_spec(path: Path, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_recomputed(load(path, dense=dense), monkeypatch)


@pytest.mark.parametrize("strategy", ["sorted", "reference", "blend"])
@pytest.mark.parametrize("name", HARD)
def test_a_hard_spec(name: str, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_recomputed(load(written(tmp_path, HARD[name]), strategy), monkeypatch)


@pytest.mark.parametrize("strategy", ["sorted", "reference"])
@pytest.mark.parametrize("name", EXPERTS)
def test_experts_that_are_chosen_by_tokens(
    name: str, strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_as_recomputed(load(written(tmp_path, EXPERTS[name]), strategy), monkeypatch)


def test_modalities_switch_where_spans_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever token text draws first begins an image of 3 tokens, and it goes on in text."""
    model = load(ROOT / "specs" / "emoji_mot.mot")
    ids, modality_ids = prompt(model)
    drawn = model.generate(ids, modality_ids, max_new_tokens=1, temperature=0)
    row = int(drawn.modality_ids[:, 0].tolist().index(0))
    begin = int(drawn.input_ids[row, 0])
    generated = assert_as_recomputed(model, monkeypatch, spans={"image": {"begin": begin, "length": 3}})
    assert generated.modality_ids[row, :5].tolist() == [0, 1, 1, 1, 0]
    assert len(set(generated.modality_ids[:, 1].tolist())) == 2, "rows are at different modalities in one step"


def test_a_shared_vocabulary_ends_a_span_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(ROOT / "specs" / "paper" / "chameleon_37m_mot.mot")
    ids, modality_ids = torch.tensor([[3, 4]]), torch.tensor([[0, 0]])
    spans = {"image": {"begin": 4, "length": 100}}
    plain = model.generate(ids, modality_ids, max_new_tokens=8, temperature=0, spans=spans)
    assert plain.modality_ids.tolist() == [[1] * 8]
    end = int(plain.input_ids[0, 2])
    place = plain.input_ids[0].tolist().index(end)
    ended = model.generate(
        ids, modality_ids, max_new_tokens=8, temperature=0, spans={"image": {"begin": 4, "end": end, "length": 100}}
    )
    assert ended.input_ids[0, : place + 1].equal(plain.input_ids[0, : place + 1])
    assert ended.modality_ids[0, : place + 2].tolist() == [1] * place + [0, 0 if end != 4 else 1]


def test_a_prompt_within_a_span_is_continued() -> None:
    model = load(ROOT / "specs" / "emoji_mot.mot")
    generated = model.generate(
        torch.tensor([[5, 1, 1]]),
        torch.tensor([[0, 1, 1]]),
        max_new_tokens=4,
        temperature=0,
        spans={"image": {"begin": 5, "length": 4}},
    )
    assert generated.modality_ids.tolist() == [[1, 1, 0, generated.modality_ids[0, 3]]]


def test_a_row_ends_at_a_stop_token_and_the_others_do_not_notice() -> None:
    model = load(ROOT / "specs" / "emoji_mot.mot")
    ids, modality_ids = prompt(model)
    plain = model.generate(ids, modality_ids, max_new_tokens=NEW, temperature=0)
    name, token = model.modalities[int(plain.modality_ids[1, 2])], int(plain.input_ids[1, 2])
    generated = model.generate(ids, modality_ids, max_new_tokens=NEW, temperature=0, stop={name: [token]})
    for row in range(5):
        stops = [
            place
            for place in range(NEW)
            if plain.input_ids[row, place] == token and model.modalities[plain.modality_ids[row, place]] == name
        ]
        end = stops[0] + 1 if stops else NEW
        kept = generated.modality_ids[row] >= 0
        assert kept.sum() == min(end, kept.numel())
        assert generated.input_ids[row][kept].equal(plain.input_ids[row, : int(kept.sum())])
    assert (generated.modality_ids[1] >= 0).sum() <= 3


def test_only_the_last_document_of_a_row_is_continued() -> None:
    model = load(ROOT / "specs" / "emoji_mot.mot")
    ids, modality_ids = torch.tensor([[9, 8, 7, 3, 2, 0]]), torch.tensor([[0, 1, 1, 0, 1, -1]])
    documents = torch.tensor([[4, 4, 4, 6, 6, 6]])
    packed = model.generate(ids, modality_ids, document_ids=documents, max_new_tokens=5, temperature=0)
    alone = model.generate(ids[:, 3:5], modality_ids[:, 3:5], max_new_tokens=5, temperature=0)
    assert packed.input_ids.equal(alone.input_ids)


def test_drawing_follows_the_seed_and_top_p() -> None:
    model = load(ROOT / "specs" / "emoji_mot.mot")
    ids, modality_ids = prompt(model)

    def drawn(**how: Any) -> Tensor:
        return model.generate(ids, modality_ids, max_new_tokens=NEW, **how).input_ids

    assert drawn(seed=3).equal(drawn(seed=torch.Generator().manual_seed(3)))
    assert not drawn(seed=3).equal(drawn(seed=4))
    greedy = drawn(temperature=0)
    assert drawn(top_p=1e-9).equal(greedy) and drawn(temperature=1e-6).equal(greedy)


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    sample = type(load(ROOT / "specs" / "emoji_mot.mot")).generate.__globals__["sample"]
    logits = torch.tensor([0.1, 0.5, 0.25, 0.15]).log().expand(4000, 4)
    drawn = torch.tensor(sample(logits, 1.0, 0.7, torch.Generator().manual_seed(0)))
    shares = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.0, 2 / 3, 1 / 3, 0.0]), atol=0.03, rtol=0)
    assert not shares[[0, 3]].any()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"spans": {"image": {"begin": 4000, "length": 3}}}, "text has no token 4000"),
        ({"spans": {"picture": {"begin": 4, "length": 3}}}, "'picture' is no modality"),
        ({"spans": {"image": {"begin": 4}}}, "needs an end or a length"),
        ({"spans": {"image": {"begin": 4, "end": 5}}}, "vocabulary of its own"),
        ({"spans": {"image": {"start": 4, "length": 3}}}, "not start"),
        ({"spans": {"image": {"begin": 4, "length": 0}}}, "must be positive"),
        ({"stop": {"text": [-1]}}, "text has no token -1"),
        ({"stop": {"sound": [1]}}, "'sound' is no modality"),
        ({"top_p": 0.0}, "top_p"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_bad_arguments_are_told(how: dict[str, Any], said: str) -> None:
    model = load(ROOT / "specs" / "emoji_mot.mot")
    with pytest.raises(ValueError, match=said):
        model.generate(*prompt(model), **{"max_new_tokens": 2, **how})


def test_an_empty_prompt_is_told() -> None:
    model = load(ROOT / "specs" / "emoji_mot.mot")
    with pytest.raises(ValueError, match="not padding"):
        model.generate(torch.zeros(2, 3).long(), torch.tensor([[0, 0, 0], [-1, -1, -1]]), max_new_tokens=2)


def test_modalities_that_earlier_tokens_would_see_are_refused(tmp_path: Path) -> None:
    ids = torch.ones(1, 2, dtype=torch.int64)
    model = load(written(tmp_path, UNLIKE))
    with pytest.raises(ValueError, match="cannot be generated one by one"):
        model.generate(ids, ids, max_new_tokens=2)
    model = load(written(tmp_path, PREFIX))
    with pytest.raises(ValueError, match="only a prompt can have it"):
        model.generate(ids, ids * 0, max_new_tokens=2)


@pytest.mark.parametrize(
    "old, new",
    [
        ("rope = none", "mask = full"),
        ("hidden = 40, kind = gelu", "hidden = 40, kind = moe, experts = 2, expert = gelu, routing = expert_choice"),
    ],
    ids=["full", "experts"],
)
def test_what_cannot_go_on_token_by_token_has_no_generate(tmp_path: Path, old: str, new: str) -> None:
    text = TIED.replace(old, new)
    assert hasattr(load(written(tmp_path, TIED)), "generate")
    assert not hasattr(load(written(tmp_path, text)), "generate")


@pytest.mark.parametrize("text", [MIXED, POOLED, TIED], ids=["mixed", "pooled", "tied"])
def test_a_step_of_one_modality_is_not_laid_out(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(written(tmp_path, text))
    calls, layout = [0], type(model).layout

    def counted(*given: Any) -> Any:
        calls[0] += 1
        return layout(*given)

    monkeypatch.setattr(type(model), "layout", counted)
    model.generate(torch.ones(2, 3, dtype=torch.int64), torch.full((2, 3), 1), max_new_tokens=4, temperature=0)
    assert calls[0] == 2, "of the prompt, and of its last tokens"


@pytest.mark.parametrize("text", [MIXED, PREFIX, SEEING], ids=["mixed", "prefixed", "widths"])
def test_of_a_prompt_only_the_last_tokens_go_through_the_head(text: str, tmp_path: Path) -> None:
    model = load(written(tmp_path, text))
    heads = [module for module in model.head.modules() if isinstance(module, torch.nn.Linear)]
    rows = [0]
    for head in heads:
        head.register_forward_hook(lambda module, given, made: rows.append(made.shape[:-1].numel()))
    ids, modality_ids = prompt(model)
    model.generate(ids, modality_ids, max_new_tokens=1, temperature=0)
    assert 5 <= sum(rows) <= 5 * len(heads)


class Operations(TorchDispatchMode):
    """The operations that run, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["emoji_mot", "paper/chameleon_37m_mot"])
def test_a_step_of_one_tower_runs_what_the_dense_twin_runs(name: str, batch: int) -> None:
    found = []
    for dense in (False, True):
        model = load(ROOT / "specs" / f"{name}.mot", dense=dense)
        counts = []
        for new in (2, 4):  # the prompt and a step, and two steps more
            with Operations() as operations:
                ids = torch.ones(batch, 3, dtype=torch.int64)
                model.generate(ids, ids, max_new_tokens=new, temperature=0)
            counts.append(operations.names)
        more = Counter(counts[1])
        more.subtract(Counter(counts[0]))
        found.append(more)
    assert found[0] == found[1] and found[0].total() > 0
