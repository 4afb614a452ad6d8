"""The paper's model sizes: its printed millions, and to the parameter by a formula that knows nothing of motc."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import motc
from motc.cost import cost, total_parameters
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash

PAPER = Path(__file__).resolve().parent.parent / "specs" / "paper"
VOCAB = 65536


class Size(NamedTuple):
    """A row of the paper's Tables 1 and 3, with the hidden size that reproduces its name, and the millions it gives."""

    width: int
    layers: int
    heads: int
    hidden: int
    dense: str
    two_ways: str
    three_ways: str


SIZES = {
    "37m": Size(256, 4, 8, 768, "36.96", "40.4", "43.8"),
    "94m": Size(512, 8, 8, 1536, "94.38", "121.7", "148.9"),
    "443m": Size(1024, 24, 16, 2816, "442.55", "750.9", "1059.2"),
    "880m": Size(1536, 24, 24, 4096, "880.88", "1560.4", "2240.0"),
    "1_5b": Size(2048, 24, 16, 5632, "1501.66", "2734.9", "3968.1"),
    "7b": Size(4096, 32, 32, 11008, "7013.14", "13489.4", "19965.7"),
}
SETTINGS = [("chameleon", size, 2) for size in ("37m", "94m", "443m", "1_5b", "7b")]
SETTINGS += [("chameleon_speech", size, 3) for size in ("443m", "880m", "1_5b", "7b")]
SPECS = [
    (f"{setting}_{size}_{kind}", size, ways, kind) for setting, size, ways in SETTINGS for kind in ("dense", "mot")
]


def expected(size: Size, towers: int) -> int:
    """Parameters with everything but the two embeddings `towers` times."""
    attention = 4 * size.width * size.width
    ffn = 3 * size.width * size.hidden
    norms = 2 * size.width
    final_norm = size.width
    return 2 * VOCAB * size.width + towers * (size.layers * (attention + ffn + norms) + final_norm)


def millions(parameters: int, printed: str) -> str:
    """The count, in millions, with as many decimals as `printed` has."""
    return f"{parameters / 1e6:.{len(printed.partition('.')[2])}f}"


def test_every_size_of_the_paper_is_shipped_dense_and_mot() -> None:
    shipped = {path.stem for kind in ("dense", "mot") for path in PAPER.glob(f"chameleon_*_{kind}.mot")}
    assert shipped == {name for name, *_ in SPECS}


@pytest.mark.parametrize("size", SIZES)
def test_the_formula_gives_the_printed_millions(size: str) -> None:
    row = SIZES[size]
    for towers, printed in ((1, row.dense), (2, row.two_ways), (3, row.three_ways)):
        assert millions(expected(row, towers), printed) == printed


@pytest.mark.parametrize(("name", "size", "ways", "kind"), SPECS)
def test_parameters_are_right_to_the_last(name: str, size: str, ways: int, kind: str) -> None:
    row = SIZES[size]
    model = compile_ir(PAPER / f"{name}.mot")
    assert total_parameters(model) == expected(row, 1 if kind == "dense" else ways)
    active = cost(model).active
    assert tuple(active) == ("text", "image", "speech")[:ways]
    assert set(active.values()) == {expected(row, 1)}, "a sparse model is named by what it activates"


@pytest.mark.parametrize(("name", "size", "ways", "kind"), SPECS)
def test_the_shape_is_the_papers(name: str, size: str, ways: int, kind: str) -> None:
    row = SIZES[size]
    model = compile_ir(PAPER / f"{name}.mot")
    (attention,) = model.segments[0].layer.attentions
    assert model.name == name
    assert (model.modalities[0].width, model.layers, attention.heads) == (row.width, row.layers, row.heads)
    assert attention.heads * attention.head_dim == row.width
    assert str(model.segments[0].layer.placements) == "sublayer_output"


@pytest.mark.parametrize(("name", "size", "ways", "kind"), SPECS)
def test_the_module_has_as_many(name: str, size: str, ways: int, kind: str) -> None:
    network = motc.load(PAPER / f"{name}.mot", device="meta")
    parameters = list(network.parameters())
    assert {parameter.device.type for parameter in parameters} == {"meta"}
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert sum(parameter.numel() for parameter in parameters) == expected(SIZES[size], 1 if kind == "dense" else ways)


EXPERTS = {"moe2x": 2, "moe3x": 3, "moe4x": 4}


@pytest.mark.parametrize("kind", EXPERTS)
def test_experts_count_as_their_number_says_and_cost_as_one(kind: str) -> None:
    row, count = SIZES["443m"], EXPERTS[kind]
    model = compile_ir(PAPER / f"chameleon_443m_{kind}.mot")
    router = row.layers * row.width * count
    experts = row.layers * 3 * row.width * row.hidden
    assert total_parameters(model) == expected(row, 1) + (count - 1) * experts + router
    costs = cost(model)
    assert set(costs.active.values()) == {expected(row, 1) + router}
    dense = cost(compile_ir(PAPER / "chameleon_443m_dense.mot")).flops_per_token
    assert costs.flops_per_token == {name: flops + 2 * router for name, flops in dense.items()}
    network = motc.load(PAPER / f"chameleon_443m_{kind}.mot", device="meta")
    assert sum(parameter.numel() for parameter in network.parameters()) == total_parameters(model)


@pytest.mark.parametrize(("name", "vocab", "printed"), [("443m", VOCAB, "442.55"), ("373m", 32000, "373.87")])
def test_the_hybrid_has_experts_for_text_alone(name: str, vocab: int, printed: str) -> None:
    row = SIZES["443m"]
    path = PAPER / f"chameleon_{name}_hybrid.mot"
    model = compile_ir(path)
    without_ends = expected(row, 1) - 2 * VOCAB * row.width
    dense = without_ends + 2 * vocab * row.width
    router = row.layers * row.width * 4
    assert millions(dense, printed) == printed
    assert total_parameters(model) == dense + without_ends + 3 * row.layers * 3 * row.width * row.hidden + router
    assert cost(model).active == {"text": dense + router, "image": dense}
    twin = compile_ir(path, dense=True)
    assert total_parameters(twin) == dense and not twin.routings
    assert {name for name, _ in model.mixtures} == {"text"}
    if vocab == VOCAB:
        assert semantic_hash(twin) == semantic_hash(compile_ir(PAPER / "chameleon_443m_dense.mot"))


@pytest.mark.parametrize(("setting", "size", "ways"), SETTINGS)
def test_the_derived_twin_is_the_dense_spec(setting: str, size: str, ways: int) -> None:
    sparse, dense = (PAPER / f"{setting}_{size}_{kind}.mot" for kind in ("mot", "dense"))
    assert semantic_hash(compile_ir(sparse, dense=True)) == semantic_hash(compile_ir(dense))
    assert semantic_hash(compile_ir(sparse)) != semantic_hash(compile_ir(dense))


@pytest.mark.parametrize(("setting", "size", "ways"), SETTINGS)
def test_a_token_costs_what_it_costs_in_the_twin(setting: str, size: str, ways: int) -> None:
    sparse, dense = (compile_ir(PAPER / f"{setting}_{size}_{kind}.mot") for kind in ("mot", "dense"))
    assert cost(sparse).flops_per_token == cost(dense).flops_per_token


def test_each_step_of_the_component_ablation_adds_what_it_unties() -> None:
    row = SIZES["880m"]
    ffn, projection = 3 * row.width * row.hidden, row.width * row.width
    extra = 2 * row.layers  # two more copies in each layer, for three modalities
    steps = {
        "dense": expected(row, 1),
        "ffn_only": expected(row, 1) + extra * ffn,
        "ffn_qkv": expected(row, 1) + extra * (ffn + 3 * projection),
        "mot": expected(row, 1) + extra * (ffn + 4 * projection + 2 * row.width) + 2 * row.width,
    }
    models = {name: compile_ir(PAPER / f"chameleon_speech_880m_{name}.mot") for name in steps}
    assert {name: total_parameters(model) for name, model in models.items()} == steps
    dense = cost(models["dense"])
    for model in models.values():
        assert set(cost(model).active.values()) == {expected(row, 1)}
        assert cost(model).flops_per_token == dense.flops_per_token


@pytest.mark.parametrize("alone", ["text", "image", "speech"])
def test_leave_one_out_has_two_towers(alone: str) -> None:
    row = SIZES["443m"]
    model = compile_ir(PAPER / f"chameleon_speech_443m_{alone}_alone.mot")
    costs = cost(model)
    assert costs.parameters == expected(row, 2)
    assert set(costs.active.values()) == {expected(row, 1)}
    others = tuple(name for name in ("text", "image", "speech") if name != alone)
    assert model.final_norm is not None
    for leaf in (*model.segments[0].layer.leaves(), model.final_norm):
        assert set(leaf.partition()) == {(alone,), others}, leaf.path


ABLATIONS = [f"chameleon_speech_880m_{step}" for step in ("ffn_only", "ffn_qkv")]
ABLATIONS += [f"chameleon_speech_443m_{modality}_alone" for modality in ("text", "image", "speech")]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_has_its_file_s_name_and_the_dense_spec_as_twin(name: str) -> None:
    size = name.split("_")[2]
    assert compile_ir(PAPER / f"{name}.mot").name == name
    dense = compile_ir(PAPER / f"chameleon_speech_{size}_dense.mot")
    assert semantic_hash(compile_ir(PAPER / f"{name}.mot", dense=True)) == semantic_hash(dense)
