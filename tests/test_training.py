"""Parameters by selectors: which they are, in groups, in another dtype, and which of them a step moves."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import motc
from motc.driver import final_ir, generate_package, spec_text
from motc.schema import check
from motc.source import SourceFile, SpecError
from motc.syntax import read
from tests.test_autocast import TIED, TWO, UNLIKE, WIDTHS
from tests.test_generate import MIXED
from tests.test_latents import LINEAR

IDS = torch.randint(0, 17, (2, 12), generator=torch.Generator().manual_seed(0))
BOTH = torch.tensor([[0] * 6 + [1] * 6, [1] * 4 + [0] * 8])
TOWERS = """
model towers {
  width = 32, layers = 4
  modality text { vocab = 40 }, act { vocab = 24 }, vit { features { size = 8 } }
  tower und = text, vit
  attention { heads = 4, bias = true }
  ffn { hidden = 48 }
  untie ffn, norm
  untie attention.q as {text} {vit, act} in layers 2..3
}
"""


def values(model: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def moved(model: Any, before: dict[str, Tensor]) -> set[str]:
    return {name for name, x in model.named_parameters() if not torch.equal(x, before[name])}


def test_a_selection_is_a_table_and_its_parameters() -> None:
    model = motc.load(TWO)
    selection = motc.parameters(model, "norm, image.attention.q in layer 1", "text.head")
    assert repr(selection) == (
        "norm, image.attention.q in layer 1, text.head: 6 of 62 parameters, 2,432 of 39,808 numbers\n"
        "  group           copies       layers  parameters\n"
        "  attention.norm  text, image  1       2 of 4\n"
        "  attention.q     image        1       1 of 4\n"
        "  ffn.norm        text, image  1       2 of 4\n"
        "  head            text         -       1 of 2"
    )
    parameters = dict(model.named_parameters())
    assert [*selection] == [parameters[name] for name in selection.names]
    torch.optim.SGD(selection, lr=0.1)


WEIGHT_AND_BIAS = ("weight", "bias")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("und.ffn.up in layers 0", ["layers.0.ffn.up.und.weight"]),
        ("und.embedding", ["embedding.text.weight"]),  # what a modality has to itself its tower has, too
        ("text.attention", [f"layers.{n}.attention.q.text.{each}" for n in (2, 3) for each in WEIGHT_AND_BIAS]),
        ("vit", ["features.vit.out.weight", "features.vit.out.bias"]),
        (
            "act_vit.attention.q in layers 0..3 step 2",
            [f"layers.2.attention.q.act_vit.{each}" for each in WEIGHT_AND_BIAS],
        ),
        ("attention.q.bias in layers 0..1", ["layers.0.attention.q.bias", "layers.1.attention.q.bias"]),
        ("final_norm", ["final_norm.text.weight", "final_norm.act.weight"]),
    ],
)
def test_what_selectors_mean(selector: str, names: list[str]) -> None:
    model = motc.load(TOWERS, device="meta")
    assert motc.parameters(model, selector).names == names
    assert motc.parameters(AveragedModel(model), selector).names == names  # whatever wraps it


def test_all_is_all_and_towers_and_what_they_share_are_too() -> None:
    model = motc.load(TOWERS, device="meta")
    every = [name for name, _ in model.named_parameters()]
    assert sorted(motc.parameters(model, "*").names) == sorted(every)
    apart = {name for tower in ("und", "act") for name in motc.parameters(model, f"{tower}.*").names}
    shared = {
        name for name in every if ".attention." in name and ".attention.norm." not in name and ".text." not in name
    }
    assert sorted(apart | shared) == sorted(every)
    assert not apart & shared


@pytest.mark.parametrize(
    ("selectors", "told"),
    [
        (["un.*"], "`un.*` names no group and no tower; did you mean `und.*`?"),
        (["und.atention"], "`und.atention` names no group; did you mean `und.attention`?"),
        (["moe"], "`moe` names no group and no tower; towers: text, act, "),
        (["attention.q_norm"], "`attention.q_norm` matches nothing: this model has no attention.q_norm; its groups: "),
        (["text.ffn"], "ffn.gate is shared by text, vit; `und.ffn.gate` means that copy"),
        (["act.attention.k"], "attention.k is shared by text, act, vit; `attention.k` means that copy"),
        (["text.ffn, *"], "`text.ffn` matches nothing"),
        (["ffn in layers 3..4"], "`ffn in layers 3..4`: the model has layers 0..3"),
        (["ffn in layers 2..1"], "`ffn in layers 2..1`: the range 2..1 is reversed; write 1..2"),
        (["head in layers 1"], "`head` matches nothing: head is outside the layers; leave `in layers` out"),
        (["text.attention in layers 0..1"], "`text.attention` matches nothing in these layers"),
        (["ffn.bias"], "`ffn.bias` matches nothing: there is no bias"),
        (["ffn, "], "`ffn, ` is no selector"),
        ([], "a selector is missing"),
    ],
)
def test_what_matches_nothing_is_told(selectors: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        motc.parameters(motc.load(TOWERS, device="meta"), *selectors)


def test_what_motc_has_not_made_is_told() -> None:
    with pytest.raises(TypeError, match="Linear is no model that motc generated"):
        motc.parameters(nn.Linear(2, 2), "*")


def test_a_package_that_was_built_is_selected_from_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check(read(SourceFile("two.mot", TWO)))
    (tmp_path / "two_built").mkdir()
    for name, text in generate_package(final_ir(checked), spec_text(checked)).items():
        (tmp_path / "two_built" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    model = importlib.import_module("two_built").Two()
    assert motc.freeze(model, "text.*").names == motc.parameters(motc.load(TWO, device="meta"), "text.*").names
    assert not model.layers[0].attention.q["text"].weight.requires_grad


def test_groups_have_what_was_said_last_and_frozen_parameters_are_in_none() -> None:
    model = motc.load(TWO)
    motc.freeze(model, "text.attention")
    settings = {"image.*": {"lr": 1e-3}, "*norm": {"weight_decay": 0.0}, "image.head": {"lr": 5e-4}}
    groups = motc.optimizer_groups(model, settings, lr=1e-4, weight_decay=0.1)
    assert str(groups) == (
        "group                 settings                     parameters          numbers\n"
        "all others            lr 0.0001, weight_decay 0.1  14 of 22, 8 frozen  12,032\n"
        "image.*               lr 0.001, weight_decay 0.1   21 of 21            18,432\n"
        "*norm                 lr 0.0001, weight_decay 0.0  5 of 9, 4 frozen    160\n"
        "image.* + *norm       lr 0.001, weight_decay 0.0   9 of 9              192\n"
        "image.* + image.head  lr 0.0005, weight_decay 0.1  1 of 1              768"
    )
    optimizer = torch.optim.AdamW(groups)
    by_name = {group["name"]: group for group in optimizer.param_groups}
    assert by_name["image.* + image.head"]["lr"] == 5e-4
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def test_groups_that_cannot_be_are_told() -> None:
    model = motc.load(TWO)
    with pytest.raises(ValueError, match=r"did you mean `image.\*`"):
        motc.optimizer_groups(model, {"imag.*": {"lr": 1e-3}})
    with pytest.raises(TypeError, match=r"the settings of `image.\*` are 0.001"):
        motc.optimizer_groups(model, {"image.*": 1e-3})  # type: ignore[dict-item]
    motc.freeze(model, "*")
    with pytest.raises(ValueError, match="all are frozen"):
        motc.optimizer_groups(model)


def test_what_stands_around_a_model_is_in_a_group() -> None:
    whole = nn.ModuleDict({"encoder": nn.Linear(3, 3), "model": motc.load(TWO)})
    groups = motc.optimizer_groups(whole, {"image.*": {"lr": 1.0}}, lr=2.0)
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("all others", 2.0),
        ("image.*", 1.0),
        ("outside the model", 2.0),
    ]


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_an_absent_tower_is_not_moved(optimizer: Any) -> None:
    def train(skips: bool) -> tuple[Any, set[str], set[str]]:
        model: Any = motc.load(MIXED)
        more = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
        steps = optimizer(model.parameters(), lr=0.1, weight_decay=0.1, **more)
        if skips:
            assert motc.skip_absent(steps, model) is steps
        all_three = torch.tensor([[0, 0, 1, 1, 2, 2] * 2] * 2)
        sets = []
        for modality_ids in (all_three, all_three.clamp(max=1), all_three.clamp(max=1)):
            before = values(model)
            model.loss(IDS, modality_ids).total.backward()
            model.loss(IDS, modality_ids).total.backward()
            steps.step()
            steps.zero_grad()
            sets.append(moved(model, before))
        return model, sets[1], sets[2]

    every = {name for name, _ in motc.load(MIXED).named_parameters()}
    _, *without = train(False)
    assert without == [every, every]
    model, *others = train(True)
    # Speech and text have a feed-forward together; image's and text's attention is not speech's.
    assert others == [every - set(motc.parameters(model, "speech.*").names)] * 2


def test_nan_is_a_gradient() -> None:
    model: Any = motc.load(TWO)
    optimizer = motc.skip_absent(torch.optim.SGD(model.parameters(), lr=1.0), model)
    model.loss(IDS, BOTH * 0).total.backward()
    for parameter in motc.parameters(model, "image.*"):
        parameter.grad = torch.full_like(parameter, torch.nan)
    optimizer.step()
    assert all(parameter.isnan().all() for parameter in motc.parameters(model, "image.*"))


@pytest.mark.parametrize("strategy", ["sorted", "grouped", "blend", "reference"])
@pytest.mark.parametrize("spec", [TWO, WIDTHS, UNLIKE, LINEAR], ids=["two", "widths", "unlike", "linear"])
def test_a_tower_in_bfloat16_is_near_the_whole_in_float32(spec: str, strategy: Any) -> None:
    try:
        exact: Any = motc.load(spec, strategy=strategy)
    except SpecError:
        pytest.skip("this strategy does not run it")
    tower = "vlm.*" if spec is WIDTHS else "und.*" if spec is UNLIKE else "text.*"
    cast: Any = motc.load(spec, strategy=strategy)
    selection = motc.cast(cast, tower, dtype="bfloat16")
    assert str(selection).startswith(f"bfloat16: {tower}: {len(selection)} of ")
    latents = {"image": torch.ones(2, 3, 4, 6)} if spec is LINEAR else None
    given = {} if latents is None else {"latents": latents, "timesteps": {"image": torch.tensor([5, 600])}}
    given |= {} if latents is None else {"noise": {"image": -torch.ones(2, 3, 4, 6)}}
    modality_ids = torch.tensor([[0] * 6 + [1] * 6] * 2)
    losses = [model.loss(IDS, modality_ids, **given).total for model in (exact, cast)]
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert 0 < (losses[0] - losses[1]).abs() < 5e-3
    losses[1].backward()
    for name, parameter in cast.named_parameters():
        assert parameter.grad.dtype == parameter.dtype == (torch.bfloat16 if name in selection.names else torch.float32)


def test_a_table_that_is_the_heads_too_is_not_cast() -> None:
    model: Any = motc.load(TIED)
    assert {x.dtype for x in motc.cast(model, "text.*, ffn", dtype=torch.bfloat16)} == {torch.bfloat16}
    assert model.embedding["text"].weight.dtype == torch.float32
    model.loss(IDS, BOTH).total.backward()
    with pytest.raises(ValueError, match="the embedding alone, whose table is the head's too"):
        motc.cast(model, "embedding", dtype="bfloat16")


def test_half_a_map_is_not_cast() -> None:
    with pytest.raises(ValueError, match=r"ffn.gate.text.bias would be left in another dtype"):
        motc.cast(motc.load(TWO), "ffn.gate.weight", dtype="bfloat16")


def test_adapters_of_a_tower_leave_all_else_as_it_is() -> None:
    pytest.importorskip("peft")
    model: Any = motc.load(TWO)
    before, logits = values(model), model(IDS, BOTH).logits
    lora = motc.lora(model, "image.attention, image.norm", rank=4)
    first, *_ = str(lora).splitlines()
    assert first == "rank 4, alpha 16, beside image.attention, image.norm: 8 of 78 parameters, 8,192 of 41,856 numbers"
    assert "trained: 16 of 78 parameters, 2,048 of 41,856 numbers" in str(lora).splitlines()
    for name, x in model(IDS, BOTH).logits.items():
        assert torch.equal(x, logits[name])  # B starts at 0
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model.loss(IDS, BOTH).total.backward()
        optimizer.step()
    now = {name.replace(".base_layer", ""): x for name, x in model.named_parameters()}
    assert all(torch.equal(now[name], x) for name, x in before.items())
    assert all(x.grad is None for name, x in now.items() if name in before)
    assert all(x.any() for x in lora.adapters)
    trained = model(IDS, BOTH).logits
    assert not torch.equal(trained["image"], logits["image"])
    assert lora.model.merge_and_unload() is model
    assert model.state_dict().keys() == before.keys()
    torch.testing.assert_close(model(IDS, BOTH).logits, trained)


def test_adapters_that_cannot_be_are_told() -> None:
    pytest.importorskip("peft")
    model = motc.load(MIXED)
    with pytest.raises(ValueError, match=r"`norm` has no linear maps, which adapters stand beside: attention.norm"):
        motc.lora(model, "norm")
    with pytest.raises(ValueError, match=r"`pair.ffn.up` has no linear maps"):  # experts
        motc.lora(model, "pair.ffn.up")
    motc.lora(model, "attention")
    with pytest.raises(ValueError, match="the model has adapters already"):
        motc.lora(model, "attention")
