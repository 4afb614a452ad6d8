"""What generating refuses: choices, spans and stops that mean nothing, and logits that are no numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import motc

ROOT = Path(__file__).resolve().parent.parent
SPAN = {"begin": 4, "length": 3}


@pytest.fixture(scope="module")
def model() -> Any:
    return motc.load(ROOT / "specs" / "emoji_mot.mot", set={"width": 16, "attention.heads": 2, "layers": 1})


def generate(model: Any, **how: Any) -> Any:
    ids = torch.tensor([[5, 6], [7, 8]])
    return model.generate(ids, ids * 0, **{"max_new_tokens": 2, **how})


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"temperature": float("nan")}, ValueError, "temperature must be a finite number, 0 or more, not nan"),
        ({"temperature": float("inf")}, ValueError, "temperature must be a finite number, 0 or more, not inf"),
        ({"temperature": -0.5}, ValueError, r"0 or more, not -0\.5"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number, not 'hot'"),
        ({"top_p": float("nan")}, ValueError, "top_p must be above 0 and at most 1, not nan"),
        ({"top_p": 1.5}, ValueError, r"at most 1, not 1\.5"),
        ({"top_p": True}, TypeError, "top_p must be a number, not True"),
        ({"max_new_tokens": 2.5}, TypeError, r"max_new_tokens must be a whole number, not 2\.5"),
        ({"max_new_tokens": True}, TypeError, "max_new_tokens must be a whole number, not True"),
        ({"max_new_tokens": -1}, ValueError, "max_new_tokens must be positive, not -1"),
        ({"seed": 1.5}, TypeError, r"seed, unless None or a torch\.Generator, must be a whole number, not 1\.5"),
        ({"seed": "x"}, TypeError, "must be a whole number, not 'x'"),
        ({"seed": True}, TypeError, "must be a whole number, not True"),
        ({"seed": torch.tensor([1, 2])}, TypeError, r"must be a whole number, not tensor\(\[1, 2\]\)"),
        (
            {"seed": 2**64},
            ValueError,
            r"seed must be in -2\*\*63\.\.2\*\*64 - 1, as torch has it, not 18446744073709551616",
        ),
        ({"seed": -(2**63) - 1}, ValueError, "seed must be in"),
        ({"seed": 10**5000}, ValueError, "not a number of 16610 bits"),
        ({"stop": [1]}, TypeError, r"stop must be a dict by the names of modalities, not \[1\]"),
        ({"stop": []}, TypeError, "stop must be a dict"),
        ({"stop": [*range(9999)]}, TypeError, r"names of modalities, not \[0, 1, 2, 3, 4, 5, \.\.\.\]$"),
        ({"temperature": "hot" * 9999}, TypeError, r"must be a number, not 'hot[hot]+\.\.\.[hot]+t'$"),
        ({"stop": {"text": 1}}, TypeError, "stop has for text the tokens after which a row ends, as a list, not 1"),
        ({"stop": {"text": [1.5]}}, TypeError, r"a token of text in stop must be a whole number, not 1\.5"),
        ({"spans": [SPAN]}, TypeError, "spans must be a dict by the names of modalities"),
        ({"spans": {"image": 3}}, TypeError, "the span of image must be a dict of begin, end, length and within"),
        ({"spans": {"image": {**SPAN, "length": 1.5}}}, TypeError, r"length of the span of image .* not 1\.5"),
        ({"spans": {"image": {**SPAN, "length": -2}}}, ValueError, "length of the span of image must be positive"),
        ({"spans": {"image": {**SPAN, "begin": 4.0}}}, TypeError, "begin of the span of image must be a whole number"),
        ({"temperature": torch.ones(2)}, TypeError, r"temperature must be a number, not tensor\(\[1"),
        ({"spans": {"image": {**SPAN, "within": ["x"]}}}, ValueError, r"\['x'\] is no modality of this model's tokens"),
        ({"spans": {"image": {**SPAN, "within": 0}}}, ValueError, "0 is no modality of this model's tokens"),
        ({"document_ids": torch.tensor([[0, 0, 0], [0, 0, 0]])}, ValueError, "document_ids must be"),
    ],
)
def test_choices_that_mean_nothing(how: dict[str, Any], error: type[Exception], said: str, model: Any) -> None:
    with pytest.raises(error, match=said):
        generate(model, **how)


class Elsewhere(torch.Generator):
    """A generator that says it is on another device, as one of a GPU does."""

    device = torch.device("meta")


def test_a_generator_on_another_device_is_told(model: Any) -> None:
    with pytest.raises(ValueError, match="seed is a generator on meta, and must be on cpu as input_ids"):
        generate(model, seed=Elsewhere())


def test_what_seeds_mean(model: Any) -> None:
    """A number has a generator of its own; None is torch's, as users of `torch.manual_seed` expect."""

    def drawn(seed: Any) -> torch.Tensor:
        return torch.cat(
            [generated.input_ids for generated in (generate(model, seed=seed, max_new_tokens=8) for _ in range(2))]
        )

    torch.manual_seed(3)
    followed = drawn(None)
    assert not followed[:2].equal(followed[2:])
    torch.manual_seed(3)
    state = torch.get_rng_state()
    once = drawn(3)
    assert torch.get_rng_state().equal(state)
    assert once[:2].equal(once[2:]) and once.equal(drawn(torch.tensor(3)))
    assert drawn(None).equal(followed) and drawn(torch.Generator().manual_seed(3)).equal(followed)
    assert not drawn(-(2**63)).equal(drawn(2**64 - 1))


def test_whole_numbers_may_be_a_tensor_s(model: Any) -> None:
    """A set of tensors would hold what no token equals, and no row would ever stop."""
    plain = generate(model, temperature=0)
    first = plain.input_ids[:, 0]
    generated = generate(model, temperature=0, stop={"text": first}, max_new_tokens=torch.tensor(2))
    assert generated.input_ids.equal(plain.input_ids[:, :1])


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_give_no_token(temperature: float, value: float, model: Any) -> None:
    head = model.head["text"] if isinstance(model.head, torch.nn.ModuleDict) else model.head
    kept = head.weight.detach().clone()
    try:
        torch.nn.init.constant_(head.weight, value)
        with pytest.raises(ValueError, match="logits are NaN or infinite: no token can be drawn"):
            generate(model, temperature=temperature)
    finally:
        head.weight.data.copy_(kept)


def test_any_finite_temperature_draws(model: Any) -> None:
    """Logits over a temperature too small for float32 would be infinite, and their softmax NaN."""
    greedy = generate(model, temperature=0).input_ids
    for temperature in (1e-40, 1e-320):
        assert generate(model, temperature=temperature).input_ids.equal(greedy)


def test_the_smallest_share_of_probabilities_keeps_the_likeliest_token(model: Any) -> None:
    assert generate(model, top_p=1e-300, temperature=1.0).input_ids.equal(generate(model, temperature=0).input_ids)


def test_a_cache_is_what_generate_makes(model: Any) -> None:
    ids = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(TypeError, match="cache must be a Cache, not 3"):
        model(ids, ids, cache=3)
    with pytest.raises(ValueError, match="with a cache goes the layout of the step, which generate makes"):
        model(ids, ids, cache=sys.modules[type(model).__module__].Cache(1, 8))


def test_a_model_may_lose_layers() -> None:
    """As for a trial of what the last ones do."""
    model: Any = motc.load(ROOT / "specs" / "emoji_mot.mot", set={"width": 16, "attention.heads": 2, "layers": 2})
    model.layers = model.layers[:1]
    assert generate(model).input_ids.shape == (2, 2)
    assert model.loss(torch.tensor([[5, 6]]), torch.tensor([[0, 0]])).total.isfinite()
