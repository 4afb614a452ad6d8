"""Whatever `check` accepts compiles and trains: of all that a spec can say, every two choices meet in one model.

`make test-pairs` compiles all these models, `make test-compiled` two in which much meets (tests/test_kernels.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.ir.model import Model
from motc.loading import instantiate
from motc.reference import Batch
from motc.schema import check
from motc.source import SourceFile
from motc.syntax import read
from motc.validate.batches import random_batches, random_modalities, with_ids
from motc.validate.outputs import gradients_of, latents_of, random_like, run
from motc.validate.random_parameters import randomise
from motc.validate.report import deviation
from tests.exact import GRADIENTS, OUTPUTS, WIDEST
from tests.pairwise import Case, assert_every_pair_is_there, pairwise

AXES = {
    "norm": ("rms", "layer", "by tower"),
    "qk_norm": ("none", "rms", "layer", "by tower"),
    "placement": ("pre", "post", "sublayer_output", "none"),
    "mask": ("causal", "full", "prefix", "blocks", "bidirectional", "causal sees", "full sees"),
    "ffn": ("swiglu", "geglu", "gelu", "relu2", "by tower"),
    "experts": ("none", "top_k", "expert_choice", "top_k in a tower", "expert_choice in a tower"),
    "latents": ("none", "linear", "unet"),
    "vocab": ("shared", "own", "tied", "untied", "own and tied"),
    "untie": ("nothing", "all", "ffn", "uneven"),
    "rope": ("half", "interleaved", "none"),
    "bias": ("false", "true"),
    "kv_heads": ("2", "1"),
    "width": ("one", "by tower"),
    "strategy": ("sorted", "blend"),
}
NOT_UNTIED = {"norm": ("nothing", "ffn"), "qk_norm": ("nothing", "ffn", "uneven"), "ffn": ("nothing",)}
MASKS = {
    "prefix": "{ kind = prefix, prefix = image }",
    "blocks": "{ kind = blocks, blocks = [[text, speech], image] }",
    "bidirectional": "{ bidirectional = image }",
    "causal sees": "{ sees { text = [text, speech], speech = [text, speech] } }",
    "full sees": "{ kind = full, sees { image = image } }",
}
LATENTS = {
    "none": "",
    "linear": "{ latent { channels = 1, patch = 2, objective = ddpm } }",
    "unet": "{ latent { channels = 1, patch = 2, objective = flow, ends = unet, unet { channels = 4, blocks = 1 } } }",
}
UNTIED = {
    "nothing": "",
    "all": "untie attention, ffn, norm",
    "ffn": "untie ffn",
    "uneven": "untie ffn, norm as {text, speech} {image}\nuntie attention.q, attention.out as {image} {text} {speech}",
}


def allowed(case: Case) -> bool:
    """Whether `check` accepts a model of these choices, or could once the others are made."""
    untie, by_tower = case.get("untie"), case.get("width") == "by tower"
    in_a_tower = case.get("experts", "").endswith("in a tower")
    return not (
        (by_tower and case.get("vocab", "").startswith("own"))
        or (by_tower and untie in ("nothing", "ffn", "uneven"))
        or (case.get("strategy") == "blend" and case.get("experts", "none") != "none")
        or (in_a_tower and untie == "nothing")
        or any(case.get(axis) == "by tower" and untie in tied for axis, tied in NOT_UNTIED.items())
    )


def spec(case: Case) -> str:
    """The `.mot` text of a case: three modalities, one layer, and sizes as small as they can be."""

    def of_all(axis: str, by_tower: str) -> str:
        return by_tower if case[axis] == "by tower" else case[axis]

    vocab = " { vocab = 11 }" if case["vocab"].startswith("own") else ""
    mask = f"mask {MASKS[case['mask']]}" if case["mask"] in MASKS else f"mask = {case['mask']}"
    rope = "rope = none" if case["rope"] == "none" else f"rope {{ pairing = {case['rope']} }}"
    kind, routed = of_all("ffn", "gelu"), case["experts"] in ("top_k", "expert_choice")
    ffn = f"kind = moe, expert = {kind}, experts = 3, routing = {case['experts']}" if routed else f"kind = {kind}"
    of_tower = {
        "top_k in a tower": "kind = moe, experts = 3, top_k = 1, shared_experts = 1",
        "expert_choice in a tower": "kind = moe, experts = 2, routing = expert_choice, capacity_factor = 1.5",
    }.get(case["experts"], "expert = swiglu, hidden = 10" if routed else "kind = relu2, hidden = 10")
    tower = [
        *(["width = 12"] if case["width"] == "by tower" else []),
        *(["norm { kind = rms }"] if case["norm"] == "by tower" else []),
        *(["attention { qk_norm = none }"] if case["qk_norm"] == "by tower" else []),
        *([f"ffn {{ {of_tower} }}"] if case["ffn"] == "by tower" or "in a tower" in case["experts"] else []),
    ]
    return f"""model pairs {{
  width = 8; layers = 1{"" if vocab else "; vocab = 11"}
  modality text{vocab}
  modality image {LATENTS[case["latents"]] or vocab}
  modality speech{vocab}
  attention {{ heads = 2, head_dim = 4, kv_heads = {case["kv_heads"]}, bias = {case["bias"]}
    qk_norm = {of_all("qk_norm", "layer")}
    {mask}; {rope}
  }}
  ffn {{ {ffn}, hidden = 6, bias = {case["bias"]} }}
  norm {{ kind = {of_all("norm", "layer")}, placement = {case["placement"]} }}
  embedding {{ tied = {str(case["vocab"] in ("tied", "own and tied")).lower()} }}
  {f"tower back = image {{ {', '.join(tower)} }}" if tower else ""}
  {UNTIED[case["untie"]]}
  {"untie embedding, head" if case["vocab"] == "untied" else ""}
  {"untie * as {text, speech} {image}" if case["width"] == "by tower" else ""}
}}
"""


CASES = pairwise(AXES, allowed)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def test_every_pair_that_is_allowed_is_in_a_case() -> None:
    assert_every_pair_is_there(CASES, AXES, allowed)


@pytest.mark.pairs
@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_compiled_as_eager(case: Case) -> None:
    """Outputs and gradients, padded and packed, with any share of each modality."""
    strategy: Strategy = "blend" if case["strategy"] == "blend" else "sorted"
    model = final_ir(check(read(SourceFile("pairs.mot", spec(case)))), strategy=strategy)
    generator = torch.Generator().manual_seed(1)
    kinds = random_modalities(3, 2, 20, generator)
    unequal = torch.tensor([0] * 18 + [1, 2]).repeat(2, 1)
    batches = [*random_batches(model, generator), with_ids(model, kinds, generator, document_ids=unequal)]
    assert_compiled_as_eager(model, batches, generator)


def assert_compiled_as_eager(
    model: Model, batches: list[Batch], generator: torch.Generator, backend: Any = "inductor"
) -> None:
    """Outputs and gradients of random parameters, on each batch; no graph is broken."""
    eager, compiled = (instantiate(model, dtype=WIDEST) for _ in range(2))
    randomise(eager, generator)
    compiled.load_state_dict(eager.state_dict())
    compiled.compile(backend=backend)  # type: ignore[no-untyped-call]
    for batch in batches:
        expected, actual = run(eager, batch), run(compiled, batch)
        weights = random_like(expected, generator)
        gradients = [
            gradients_of(outputs, weights, {**dict(module.named_parameters()), **latents_of(batch)})
            for module, outputs in ((eager, expected), (compiled, actual))
        ]
        assert all(deviation(mine, theirs) <= OUTPUTS for mine, theirs in zip(actual, expected, strict=True))
        assert deviation(*gradients[::-1]) <= GRADIENTS
    assert not counters["graph_break"]
