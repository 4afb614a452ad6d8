"""As tests/test_compile_pairs.py, of what came later: conditions and norms adaptive by them, roles and times of
latents, towers that read or attend to others or have keys alone, attention of low rank, and values of another size.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from motc.driver import check_spec, final_ir
from motc.ir.execution import Strategy
from motc.schema import check
from motc.source import SourceFile
from motc.syntax import read
from motc.validate.batches import random_batches
from motc.validate.reduce import reduce
from tests.pairwise import Case, assert_every_pair_is_there, pairwise
from tests.test_compile_pairs import assert_compiled_as_eager, fresh

__all__ = ["fresh"]

GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"

LATENTS = {
    "actions": "patch = [1], times = beta",
    "images": "patch = 2, sine { }, times { each = token }",
    "video": "patch = [1, 2, 1], times { each = frame }",
}
READING, CROSSING = ("reads", "cross", "cross gated"), ("cross", "cross gated")
HIDDEN = ("hidden", "hidden with delimiters")
AXES: dict[str, tuple[str, ...]] = {
    "maps": ("own", "shared", "none", "tanh", "shift"),
    "attention": ("joint", "keys", "reads", "cross", "cross gated"),
    "rank": ("full", "small values", "large values", "low", "low queries"),
    "parallel": ("none", "one_norm", "two_norms"),
    "scores": ("plain", "gate and sinks", "softcap", "window"),
    "condition": ("timestep", "vector", "all"),
    "final": ("as layers", "static", "no maps", "none"),
    "noised": ("seen", "hidden", "hidden with delimiters"),
    "ffn": ("swiglu", "moe", "moe in a tower"),
    "untie": ("all", "nothing", "in layers", "widths"),
    "latent": tuple(LATENTS),
    "positions": ("none", "noised_advance"),
    "norm": ("rms", "layer", "layer without weights"),
    "placement": ("pre", "both"),
    "whose": ("all", "image's"),
    "strategy": ("sorted", "blend"),
}
ADAPTIVE = {
    "own": "",
    "shared": ", shared = all, table = true, bias = false",
    "none": ", map = false, table = true, activation = none",
    "tanh": ", parts = [scale, gate], gate = tanh",
    "shift": ", parts = [shift], activation = none",
}
RANKS = {
    "full": "head_dim = 4, kv_heads = 1",
    "small values": "head_dim = 4, value_dim = 2, kv_heads = 1",
    "large values": "head_dim = 4, value_dim = 6",
    "low": "head_dim = 6, value_dim = 3, low_rank { kv = 5, rope_dim = 2 }",
    "low queries": "head_dim = 6, low_rank { kv = 5, q = 3, rope_dim = 2 }",
}
SCORES = {"plain": "", "gate and sinks": "gate = true, sinks = true", "softcap": "softcap = 5", "window": "window = 3"}
CONDITIONS = {
    "timestep": "timestep { size = 4 }",
    "vector": "vector { size = 3 }",
    "all": "timestep { size = 4 }, label { count = 3 }, number { size = 4 }, vector { size = 3 }",
}
FINALS = {
    "as layers": "",
    "static": "final { adaptive = none }",
    "no maps": "final { adaptive { by = image, activation = none, map = false, table = true } }",
    "none": "final = false",
}
NOISED = {
    "seen": "mask = causal",
    "hidden": "mask { bidirectional = image, hide_noised = image }",
    "hidden with delimiters": "mask { bidirectional = image, delimiters = true, hide_noised = image }",
}
CROSS = "tower seen { attention = none, ffn = none }"
IN_A_LAYER = {
    "joint": "",
    "keys": "tower seen { attention = keys, ffn = none }",
    "reads": "tower gen { attention { reads = words } }",
    "cross": f"{CROSS}, tower words {{ attention {{ cross = vit }} }}, tower gen {{ attention {{ cross = vit }} }}",
    "cross gated": f"{CROSS}, tower gen {{ attention {{ cross = vit }} }},"
    " tower words { attention { cross = vit, out_gate = tanh }, ffn { out_gate = tanh } }",
}
UNTIED = {
    "all": "untie attention, ffn, norm",
    "nothing": "",
    "in layers": "untie attention, ffn, norm in layer 0",
    "widths": "untie *",
}


REFUSED: tuple[dict[str, tuple[str, ...]], ...] = (
    {"attention": READING, "rank": ("low", "low queries")},
    {"attention": READING, "noised": HIDDEN},
    {"attention": (*READING, "keys"), "untie": ("nothing",)},
    {"attention": ("keys", *CROSSING), "maps": ("shared",), "whose": ("all",)},
    {"attention": CROSSING, "untie": ("widths",)},
    {"maps": ("shared",), "untie": ("in layers",)},
    {"maps": ("none",), "untie": ("widths",), "whose": ("all",)},
    {"final": ("no maps",), "untie": ("widths",)},
    {"final": ("no maps",), "whose": ("image's",)},
    {"parallel": ("one_norm",), "placement": ("both",)},
    {"scores": ("window",), "noised": HIDDEN},
    {"ffn": ("moe", "moe in a tower"), "strategy": ("blend",)},
    {"ffn": ("moe in a tower",), "untie": ("nothing", "in layers")},
    {"whose": ("image's",), "untie": ("nothing", "in layers")},
)
"""Values of axes that `check` refuses together."""


def allowed(case: Case) -> bool:
    """Whether `check` accepts a model of these choices, or could once the others are made."""
    return not any(all(case.get(axis) in values for axis, values in each.items()) for each in REFUSED)


def spec(case: Case) -> str:
    """The `.mot` text of a case: words, vectors and latents, and one layer, which towers may have each otherwise."""
    routed = "kind = moe, experts = 3, top_k = 1"
    ffn = routed if case["ffn"] == "moe" else "kind = swiglu"
    norm = {"layer without weights": "kind = layer, weight = false"}.get(case["norm"], f"kind = {case['norm']}")
    adaptive = f"adaptive {{ by = image{ADAPTIVE[case['maps']]} }}"
    everyone = case["whose"] == "all"
    gen = [
        *(["width = 12"] if case["untie"] == "widths" else []),
        *([f"ffn {{ {routed} }}"] if case["ffn"] == "moe in a tower" else []),
        *([] if everyone else [f"norm {{ {adaptive} }}"]),
    ]
    placed = ", positions { kind = same, noised_advance = 0 }" if case["positions"] == "noised_advance" else ""
    return f"""model pairs {{
  width = 8; layers = 1; vocab = 11
  modality text
  modality vit {{ features {{ size = 3 }} }}
  modality image {{
    latent {{ channels = 1, objective = flow, time = none, {LATENTS[case["latent"]]} }}
    condition {{ {CONDITIONS[case["condition"]]} }}{placed}
  }}
  attention {{ heads = 2, {RANKS[case["rank"]]}, {SCORES[case["scores"]]}
    {NOISED[case["noised"]]}
  }}
  ffn {{ {ffn}, hidden = 6 }}
  norm {{ {norm}, placement = {case["placement"]}, {adaptive if everyone else ""}
    {FINALS[case["final"]]}
  }}
  parallel = {case["parallel"]}
  tower words = text
  tower seen = vit
  tower gen = image {{ {", ".join(gen)} }}
  layer 0 {{ {IN_A_LAYER[case["attention"]]} }}
  {UNTIED[case["untie"]]}
}}
"""


CASES = pairwise(AXES, allowed)


def test_every_pair_that_is_allowed_is_in_a_case() -> None:
    assert_every_pair_is_there(CASES, AXES, allowed)


@pytest.mark.pairs
@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_compiled_as_eager(case: Case) -> None:
    """Outputs and gradients: documents in rows of their own, and such as share one, so that each attention is made."""
    strategy: Strategy = "blend" if case["strategy"] == "blend" else "sorted"
    model = final_ir(check(read(SourceFile("pairs.mot", spec(case)))), strategy=strategy)
    generator = torch.Generator().manual_seed(1)
    mixed, _, packed, *_, uneven = random_batches(model, generator)
    assert_compiled_as_eager(model, [mixed, packed, uneven], generator)


@pytest.mark.pairs
@pytest.mark.parametrize("name", ["dit_xl_2", "sd3_medium"])
def test_a_published_model_made_small_is_compiled_as_eager(name: str) -> None:
    """Two that are quick to compile, of one stream and of two."""
    model, generator = final_ir(reduce(check_spec(GALLERY / f"{name}.mot"))), torch.Generator().manual_seed(1)
    assert_compiled_as_eager(model, list(random_batches(model, generator)), generator)
