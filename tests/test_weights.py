"""Mapping files: what is read, how tensors are cut and put together, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from motc.driver import compile_ir
from motc.ir.names import correction_shapes, parameter_shapes
from motc.loading import instantiate
from motc.source import SourceFile, SpecError
from motc.weights import Bijection, bijection_of, parameters_of, read_mapping, tensors_of
from motc.weights.mapping import pattern_of

SPEC = """
model small {
  width = 6
  layers = 2
  vocab = 11
  modality text
  attention { heads = 3, head_dim = 2, bias = true, out_bias = false }
  ffn { %s, hidden = 5 }
  embedding { tied = %s }
}
"""
TWO_ROUTERS = """
model two_routers {
  width = 6
  layers = 1
  vocab = 11
  modality text, image
  attention { heads = 3, head_dim = 2 }
  ffn { kind = moe, experts = 3, hidden = 5, correction = true }
  tower seen = image { ffn { experts = 2, hidden = 4 } }
  untie ffn
}
"""
TWO_ROUTERS_MAPPING = """
tensors:
  embedding: embedding
  final_norm: final_norm
  head: head
  layers.*.attention.norm: layers.*.attention.norm
  layers.*.attention.q: layers.*.attention.q
  layers.*.attention.k: layers.*.attention.k
  layers.*.attention.v: layers.*.attention.v
  layers.*.attention.out: layers.*.attention.out
  layers.*.ffn.norm: layers.*.ffn.norm
  router.*.weight: {transposed: layers.*.ffn.router.text.weight}
  router.*.weight_1: {transposed: layers.*.ffn.router.seen.weight}
  corrections.*: {rows: [layers.*.ffn.router.text.correction, layers.*.ffn.router.seen.correction]}
  expert.*.*.gate: {experts: [layers.*.ffn.gate.text, layers.*.ffn.gate.seen]}
  expert.*.*.up: {experts: [layers.*.ffn.up.text, layers.*.ffn.up.seen]}
  expert.*.*.down: {experts: [layers.*.ffn.down.text, layers.*.ffn.down.seen]}
"""
MAPPING = """
architectures: [Small]
tensors:
  in: embedding
  blocks.*.qkv: {head_rows: [layers.*.attention.q, layers.*.attention.k, layers.*.attention.v]}
  blocks.*.o: layers.*.attention.out
  blocks.*.gate_up.weight: {rows: [layers.*.ffn.gate.weight, layers.*.ffn.up.weight]}
  blocks.*.down: layers.*.ffn.down
  blocks.*.experts.*.gate: {experts: layers.*.ffn.gate}
  blocks.*.experts.*.up: {experts: layers.*.ffn.up}
  blocks.*.experts.*.down: {experts: layers.*.ffn.down}
  blocks.*.router: layers.*.ffn.router
  blocks.*.norm_a: layers.*.attention.norm
  blocks.*.norm_f: layers.*.ffn.norm
  norm: final_norm
  out: head
tied: {out: in}
left_out: [eye, blocks.*.rotary]
"""
FUSED = MAPPING.replace("gate_up.weight: {rows:", "both.weight: {expert_rows:").replace(
    "blocks.*.down:", "blocks.*.last:"
)
GROUPED = """
model grouped {
  width = 6
  layers = 1
  vocab = 11
  modality text
  attention { heads = 4, kv_heads = 2, head_dim = 3, rope = none }
  ffn { hidden = 5 }
}
"""
FUSED = FUSED.replace(
    "blocks.*.router", "blocks.*.corrections: {stacked: [layers.*.ffn.router.correction]}\n  blocks.*.router"
)


def model(ffn: str = "kind = swiglu", tied: bool = False) -> Any:
    return compile_ir(SourceFile("small.mot", SPEC % (ffn, str(tied).lower())))


def tensors(experts: int = 0) -> dict[str, Tensor]:
    """Those of a checkpoint of the small model, each with numbers of its own."""
    shapes: dict[str, tuple[int, ...]] = {"in.weight": (11, 6), "norm.weight": (6,), "out.weight": (11, 6)}
    for layer in range(2):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.qkv.weight": (18, 6), f"{block}.qkv.bias": (18,), f"{block}.o.weight": (6, 6)}
        shapes |= {f"{block}.norm_a.weight": (6,), f"{block}.norm_f.weight": (6,)}
        for expert in range(experts):
            shapes |= {f"{block}.experts.{expert}.{name}.weight": (5, 6) for name in ("gate", "up")}
            shapes[f"{block}.experts.{expert}.down.weight"] = (6, 5)
        mixed = {f"{block}.router.weight": (experts, 6)}
        shapes |= mixed if experts else {f"{block}.gate_up.weight": (10, 6), f"{block}.down.weight": (6, 5)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def bijection(folder: Path, given: dict[str, Tensor], of: Any, text: str = MAPPING) -> Bijection:
    path = folder / "small.yaml"
    path.write_text(text)
    return bijection_of(read_mapping(path), {name: tuple(tensor.shape) for name, tensor in given.items()}, of)


@pytest.mark.parametrize("experts", [0, 12])
def test_there_and_back(tmp_path: Path, experts: int) -> None:
    """Twelve experts: number 10 comes after 9, not after 1."""
    given, of = tensors(experts), model(f"kind = moe, experts = {experts}" if experts else "kind = swiglu")
    parameters = parameters_of(both := bijection(tmp_path, given, of), given)
    assert {name: tuple(each.shape) for name, each in parameters.items()} == parameter_shapes(of)
    back = tensors_of(both, parameters)
    assert back.keys() == given.keys()
    assert all(torch.equal(back[name], given[name]) for name in given)
    if experts:
        assert torch.equal(parameters["layers.1.ffn.up.weight"][10], given["blocks.1.experts.10.up.weight"])
    else:
        assert torch.equal(parameters["layers.1.ffn.up.weight"], given["blocks.1.gate_up.weight"][5:])
    heads = given["blocks.0.qkv.bias"].view(3, 3, 2)  # head, what it is, its numbers
    for index, name in enumerate("qkv"):
        assert torch.equal(parameters[f"layers.0.attention.{name}.bias"], heads[:, index].flatten())


def test_transposed_routers_and_experts_of_two_parameters_in_one_count(tmp_path: Path) -> None:
    of = compile_ir(SourceFile("two_routers.mot", TWO_ROUTERS))
    same = {name: shape for name, shape in parameter_shapes(of).items() if "ffn" not in name or "norm" in name}
    shapes = same | {"router.0.weight": (6, 3), "router.0.weight_1": (6, 2), "corrections.0": (5,)}
    for expert in range(5):
        hidden = 5 if expert < 3 else 4
        shapes |= {f"expert.0.{expert}.{name}.weight": (hidden, 6) for name in ("gate", "up")}
        shapes[f"expert.0.{expert}.down.weight"] = (6, hidden)
    given = {name: torch.randn(shape) for name, shape in shapes.items()}
    parameters = parameters_of(both := bijection(tmp_path, given, of, TWO_ROUTERS_MAPPING), given)
    network = instantiate(of)
    network.load_state_dict(parameters)
    assert torch.equal(network.get_buffer("layers.0.ffn.router.seen.correction"), given["corrections.0"][3:])
    assert torch.equal(parameters["layers.0.ffn.router.text.weight"], given["router.0.weight"].T)
    assert torch.equal(parameters["layers.0.ffn.up.seen.weight"][1], given["expert.0.4.up.weight"])
    back = tensors_of(both, parameters)
    assert back.keys() == given.keys()
    assert all(torch.equal(back[name], given[name]) for name in given)
    del given["expert.0.4.up.weight"]
    with pytest.raises(ValueError, match=r": an expert is missing: expert\.0\.4\.up\.weight$"):
        bijection(tmp_path, given, of, TWO_ROUTERS_MAPPING)


def test_stacked_tensors(tmp_path: Path) -> None:
    of = compile_ir(SourceFile("two_routers.mot", TWO_ROUTERS.replace("experts = 2, hidden", "experts = 3, hidden")))
    text = TWO_ROUTERS_MAPPING.replace("corrections.*: {rows", "corrections.*: {stacked")
    shapes = parameter_shapes(of) | {"router.0.weight": (6, 3), "router.0.weight_1": (6, 3), "corrections.0": (2, 3)}
    for expert in range(6):
        hidden = 5 if expert < 3 else 4
        shapes |= {f"expert.0.{expert}.{name}.weight": (hidden, 6) for name in ("gate", "up")}
        shapes[f"expert.0.{expert}.down.weight"] = (6, hidden)
    given = {name: torch.randn(shape) for name, shape in shapes.items() if "ffn" not in name or "norm" in name}
    parameters = parameters_of(both := bijection(tmp_path, given, of, text), given)
    assert torch.equal(parameters["layers.0.ffn.router.seen.correction"], given["corrections.0"][1])
    assert all(torch.equal(each, given[name]) for name, each in tensors_of(both, parameters).items())


def test_rows_of_each_expert_and_a_dimension_of_one(tmp_path: Path) -> None:
    """GraniteMoe's experts, whose gate and up are one tensor, and ERNIE's corrections, of which there is one row."""
    of = model("kind = moe, experts = 3, correction = true")
    given = {name: each for name, each in tensors(3).items() if "experts" not in name}
    for block in ("blocks.0", "blocks.1"):
        given |= {f"{block}.both.weight": torch.randn(3, 10, 6), f"{block}.last.weight": torch.randn(3, 6, 5)}
        given[f"{block}.corrections"] = torch.randn(1, 3)
    both = bijection(tmp_path, given, of, FUSED)
    parameters = parameters_of(both, given)
    assert {name: tuple(each.shape) for name, each in parameters.items()} == parameter_shapes(of) | correction_shapes(
        of
    )
    assert torch.equal(parameters["layers.1.ffn.up.weight"][2], given["blocks.1.both.weight"][2, 5:])
    assert torch.equal(parameters["layers.0.ffn.router.correction"], given["blocks.0.corrections"][0])
    assert all(torch.equal(each, given[name]) for name, each in tensors_of(both, parameters).items())
    with pytest.raises(ValueError, match=r"blocks.0.both.weight \[3, 9, 6\] should be layers.0.ffn.gate.weight"):
        bijection(tmp_path, given | {"blocks.0.both.weight": torch.ones(3, 9, 6)}, of, FUSED)


def test_rows_in_turns_and_in_any_form_transposed(tmp_path: Path) -> None:
    """gpt-oss's experts, whose gates and ups lie in turns and from in to out, and GPT-2's maps with their biases."""
    of = model("kind = moe, experts = 3, correction = true")
    said = FUSED.replace("expert_rows: [", "transposed: {expert_turns: [").replace("up.weight]}", "up.weight]}}")
    said = said.replace("blocks.*.o: layers.*.attention.out", "blocks.*.o: {transposed: layers.*.attention.out}")
    assert said.count("transposed: ") == 2
    given = {name: each for name, each in tensors(3).items() if "experts" not in name}
    for block in ("blocks.0", "blocks.1"):
        given |= {f"{block}.both.weight": torch.randn(3, 6, 10), f"{block}.last.weight": torch.randn(3, 6, 5)}
        given[f"{block}.corrections"] = torch.randn(1, 3)
    both = bijection(tmp_path, given, of, said)
    parameters = parameters_of(both, given)
    assert torch.equal(parameters["layers.1.ffn.up.weight"][2], given["blocks.1.both.weight"][2, :, 1::2].T)
    assert torch.equal(parameters["layers.0.attention.out.weight"], given["blocks.0.o.weight"].T)
    assert all(torch.equal(each, given[name]) for name, each in tensors_of(both, parameters).items())
    with pytest.raises(ValueError, match=r"blocks.0.both.weight \[3, 9, 6\] transposed should be layers.0.ffn.gate"):
        bijection(tmp_path, given | {"blocks.0.both.weight": torch.ones(3, 6, 9)}, of, said)


def test_heads_that_share_keys_and_values(tmp_path: Path) -> None:
    """Falcon's: for each head of keys and values the queries that share it, and then its own."""
    of = compile_ir(SourceFile("grouped.mot", GROUPED))
    groups = [f"layers.*.attention.{each}" for each in "qkv"]
    shapes = parameter_shapes(of)
    others = [name for name in shapes if pattern_of(name)[0].removesuffix(".weight") not in groups]
    same = "".join(f"  {pattern_of(name)[0]}: {pattern_of(name)[0]}\n" for name in others)
    said = f"tensors:\n{same}  qkv.*: {{head_rows: [{', '.join(groups)}]}}\n"
    given = {name: torch.randn(shapes[name]) for name in others} | {"qkv.0.weight": torch.randn(2 * (2 + 1 + 1) * 3, 6)}
    both = bijection(tmp_path, given, of, said)
    parameters, heads = parameters_of(both, given), given["qkv.0.weight"].view(2, 4, 3, 6)
    assert torch.equal(parameters["layers.0.attention.q.weight"], heads[:, :2].flatten(0, 2))
    assert torch.equal(parameters["layers.0.attention.v.weight"], heads[:, 3].flatten(0, 1))
    assert all(torch.equal(each, given[name]) for name, each in tensors_of(both, parameters).items())


def test_what_is_left_out_is_not_looked_at(tmp_path: Path) -> None:
    given = tensors()
    more = {"eye.0.weight": torch.ones(3), "blocks.1.rotary.frequencies": torch.ones(3)}
    both = bijection(tmp_path, given | more, model())
    assert both.unread == tuple(more)
    assert replace(both, unread=()) == bijection(tmp_path, given, model())


def test_what_the_other_has_not_may_be_zeros(tmp_path: Path) -> None:
    given = tensors()
    head = given.pop("out.weight")
    text = MAPPING.replace("  out: head\ntied: {out: in}", "zeros: [head]")
    both = bijection(tmp_path, given, model(), text)
    parameters = parameters_of(both, given)
    assert parameters.keys() == parameter_shapes(model()).keys()
    assert parameters["head.weight"].shape == head.shape and not parameters["head.weight"].any()
    assert tensors_of(both, parameters).keys() == given.keys()
    with pytest.raises(ValueError, match=r"several tensors for the parameter head\.weight"):
        bijection(tmp_path, given | {"out.weight": head}, model(), MAPPING + "zeros: [head]\n")


SIDE_BY_SIDE = """
model side_by_side {
  width = 6, layers = 3, vocab = 4
  modality text, image
  attention { heads = 2, head_dim = 2, rope = none }
  ffn { kind = gelu, hidden = 5, bias = true }
  layer 2 { tower text { attention = keys } }
  untie attention.q, attention.out
}
"""


def test_columns_numbers_that_go_on_and_what_nothing_reads(tmp_path: Path) -> None:
    """FLUX's single blocks behind its double ones, of one output map each, and SD3's queries of words at the end."""
    of = compile_ir(SourceFile("side_by_side.mot", SIDE_BY_SIDE))
    shapes = parameter_shapes(of)
    ends = ("attention.out.image", "ffn.down")
    groups = {pattern_of(name)[0].rpartition(".")[0] for name in shapes}
    same = {each: each.replace("layers", "double") for each in groups if not each.endswith((*ends, "q.text"))}
    said = "tensors:\n" + "".join(f"  {theirs}: {each}\n" for each, theirs in same.items())
    later = {name.replace("layers", "single"): name.replace("*", "*+2") for name in groups if name.startswith("layers")}
    said += "".join(f"  {theirs}: {ours}\n" for theirs, ours in later.items() if not theirs.endswith(ends))
    for blocks, number in (("double", "*"), ("single", "*+2")):
        said += f"  {blocks}.*.both: {{columns: [layers.{number}.attention.out.image, layers.{number}.ffn.down]}}\n"
    said += "  double.*.attention.q.text: layers.*.attention.q.text\n"
    said += "otherwise: {single.*.attention.q.text: none}\n"
    given = {}
    for name, shape in shapes.items():
        theirs = name.replace("layers.2", "single.0").replace("layers", "double")
        if not any(end in name for end in ends):
            given[theirs] = torch.randn(shape)
    for block in ("double.0", "double.1", "single.0"):
        given |= {f"{block}.both.weight": torch.randn(6, 4 + 5), f"{block}.both.bias": torch.randn(6)}
    given["single.0.attention.q.text.weight"] = torch.randn(4, 6)
    both = bijection(tmp_path, given, of, said)
    parameters = parameters_of(both, given)
    assert {name: tuple(each.shape) for name, each in parameters.items()} == shapes
    assert torch.equal(parameters["layers.2.ffn.down.weight"], given["single.0.both.weight"][:, 4:])
    assert torch.equal(parameters["layers.2.ffn.down.bias"], given["single.0.both.bias"])
    back = tensors_of(both, parameters)
    assert given.keys() - back.keys() == {"single.0.attention.q.text.weight"}
    assert all(torch.equal(each, given[name]) for name, each in back.items())
    with pytest.raises(
        ValueError, match=r"double.0.both.weight \[6, 8\] should be layers.0.attention.out.image.weight"
    ):
        bijection(tmp_path, given | {"double.0.both.weight": torch.ones(6, 8)}, of, said)


def test_a_tied_head_may_be_there_or_not(tmp_path: Path) -> None:
    given, of = tensors(), model(tied=True)
    given["out.weight"] = given["in.weight"].clone()
    both = bijection(tmp_path, given, of)
    assert parameters_of(both, given).keys() == parameter_shapes(of).keys()
    assert tensors_of(both, parameters_of(both, given)).keys() == given.keys()
    with pytest.raises(ValueError, match=r"^out.weight is not what in.weight is, and the model ties them$"):
        parameters_of(both, given | {"out.weight": given["in.weight"] + 1})
    del given["out.weight"]
    assert parameters_of(bijection(tmp_path, given, of), given).keys() == parameter_shapes(of).keys()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eyes.weight": (2,)}, "no place for the tensor eyes.weight"),
        ({"out.weight": None}, "no tensor for the parameter head.weight; missing out.weight"),
        ({"o": (2,)}, "no place for the tensor o"),
        (
            {"blocks.0.o.bias": (6,)},
            "blocks.0.o.bias would be layers.0.attention.out.bias, of which the model has none",
        ),
        (
            {"blocks.2.o.weight": (6, 6)},
            "blocks.2.o.weight would be layers.2.attention.out.weight, of which the model has none",
        ),
        ({"norm.weight": (7,)}, "norm.weight [7] should be final_norm.weight [6]"),
        (
            {"blocks.0.qkv.bias": (17,)},
            "blocks.0.qkv.bias [17] should be layers.0.attention.q.bias, layers.0.attention.k.bias, "
            "layers.0.attention.v.bias [6]",
        ),
        ({"blocks.0.gate_up.weight": (10, 5)}, "blocks.0.gate_up.weight [10, 5] should be layers.0.ffn.gate.weight"),
        (
            {"blocks.0.experts.1.up.weight": (5, 6)},
            "blocks.0.experts.1.up.weight would be experts of layers.0.ffn.up.weight, which has none",
        ),
        ({"blocks.0.experts.0.down.weight": (6, 5)}, "several tensors for the parameter layers.0.ffn.down.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    given: Any = tensors() | {name: torch.zeros(shape) for name, shape in change.items() if shape is not None}
    for name, shape in change.items():
        if shape is None:
            del given[name]
    with pytest.raises(ValueError, match=f"^small.yaml does not fit small: .*{re.escape(message)}"):
        bijection(tmp_path, given, model())


def test_experts_that_do_not_fit_are_named(tmp_path: Path) -> None:
    given, of = tensors(12), model("kind = moe, experts = 12")
    given["blocks.0.experts.12.up.weight"] = given["blocks.0.experts.11.up.weight"]
    given["blocks.0.experts.7.down.weight"] = torch.zeros(6, 4)
    del given["blocks.1.experts.11.gate.weight"], given["blocks.1.experts.0.gate.weight"]
    with pytest.raises(ValueError, match="experts") as error:
        bijection(tmp_path, given, of)
    assert str(error.value).partition(": ")[2].split("; ") == [
        "beyond the experts of layers.0.ffn.up.weight: blocks.0.experts.12.up.weight",
        "blocks.0.experts.7.down.weight [6, 4] should be [6, 5] each, for layers.0.ffn.down.weight",
        "an expert is missing: blocks.1.experts.0.gate.weight, blocks.1.experts.11.gate.weight",
    ]


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"blocks.7.z and 12 more;"):
        bijection(tmp_path, {f"blocks.{layer}.z": torch.ones(1) for layer in range(20)}, model())


@pytest.mark.parametrize(
    "text, message",
    [
        ("tensor: {a: b}", "unknown section `tensor`"),
        ("architectures: [A]", "no tensors are mapped"),
        ("tensors: [a]", "`tensors` is a mapping of names"),
        ("tensors: {a: {lines: [b, c]}}", "a tensor's form is one word"),
        ("tensors: {a: {rows: [b], experts: c}}", "a tensor's form is one word"),
        ("tensors: {a: {rows: b}}", "1 parameters for `rows`"),
        ("tensors: {a: {expert_rows: [b]}}", "1 parameters for `expert_rows`"),
        ("tensors: {a: {experts: []}}", "0 parameters for `experts`"),
        ("tensors: {a: [b, c]}", "2 parameters for `same`"),
        ("tensors: {a: {transposed: [b, c]}}", "2 parameters for `same`"),
        ("tensors: {a.*: b}", "`b` has not as many numbers as `a.*` gives"),
        ("tensors: {a.*.c: {experts: b.*}}", "`b.*` has not as many numbers as `a.*.c` gives"),
        ("tensors: {a: b.3}", "`b.3` is no name"),
        ("tensors: {a..b: b}", "`a..b` is no name"),
        ("tensors: {a: 3}", "a name is missing here"),
        ("tensors: {a: b}\ntied: {c: a}", "`c` is tied and not among `tensors`"),
        ("tensors: {a: b}\nwithout: {c: d}", "`c` is not among `tensors`"),
        ("tensors: {a: b}\notherwise: {c: none}", "`c` is otherwise and not among `tensors`"),
        ("tensors: {a: b}\nleft_out: a", "a list of names is missing here"),
        ("tensors: {a: b}\nleft_out: [a]", "`a` is mapped and left out"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as error:
        read_mapping(path)
    (diagnostic,) = error.value.diagnostics
    assert (diagnostic.code, diagnostic.message) == ("MOT090", message)
