"""What `motc show --plan` counts, in which order tokens are sorted, and what `--strategy` changes."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from motc.cli import main
from motc.driver import compile_ir
from motc.ir.execution import Strategy

ROOT = Path(__file__).resolve().parent.parent
SPEC = str(ROOT / "specs" / "emoji_mot.mot")
THREE = """
model three {{
  width = 16, layers = 1, vocab = 9
  modality text, image, speech
  attention {{ heads = 2{mask} }}
  ffn {{ hidden = 8 }}
  {untie}
}}
"""


def planned(capsys: pytest.CaptureFixture[str], spec: str, *words: str) -> Any:
    """The only kind of layer of `show --plan --json`."""
    assert main(["show", spec, "--plan", "--json", *words]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    return layer


@pytest.mark.parametrize(
    "strategy, gathers, scatters, products",
    [("sorted", 4, 0, 14), ("grouped", 4, 0, 7), ("blend", 0, 0, 14), ("reference", 22, 22, 14)],
)
def test_moves_of_a_layer(
    strategy: str, gathers: int, scatters: int, products: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eleven groups have two copies: q, k, v, out, their norms, gate, up and down, and the norms of both parts."""
    layer = planned(capsys, SPEC, "--strategy", strategy)
    assert layer["naive"] == {"gathers": 22, "scatters": 22, "products": 14}
    assert layer["planned"] == {"gathers": gathers, "scatters": scatters, "products": products}


def test_permutations_and_what_forces_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = [(move["value"], move["forced_by"]) for move in planned(capsys, SPEC)["permutations"]]
    assert [value for value, _ in moved] == ["attention.q", "attention.k", "attention.v", "attention.mix"]
    assert moved[2:] == [("attention.v", ["attention.mix"]), ("attention.mix", ["attention.out"])]
    path = tmp_path / "three.mot"
    path.write_text(THREE.format(mask="", untie="untie ffn"))
    layer = planned(capsys, str(path))
    assert [move["direction"] for move in layer["permutations"]] == ["to sorted order", "to attention's rows"]
    assert layer["naive"] == {"gathers": 9, "scatters": 9, "products": 4 + 9}
    assert layer["planned"] == {"gathers": 2, "scatters": 0, "products": 4 + 9}


def test_it_is_the_order_with_the_fewest_runs(tmp_path: Path) -> None:
    path = tmp_path / "three.mot"
    path.write_text(THREE.format(mask="", untie="untie ffn as {text, speech} {image}"))
    assert compile_ir(path).order == ("text", "speech", "image")

    path.write_text(
        THREE.format(
            mask="",
            untie="untie attention.out as {text} {image, speech}\n"
            "  untie attention.q, attention.k as {text, speech} {image}\n  untie ffn as {image, text} {speech}",
        )
    )
    model = compile_ir(path)
    leaves = model.segments[0].layer.leaves()

    def runs(order: tuple[str, ...]) -> int:
        return sum(len(leaf.runs(order)) for leaf in leaves)

    runs_of = {order: runs(order) for order in permutations(("text", "image", "speech"))}
    assert runs(model.order) == min(runs_of.values()) < max(runs_of.values())


def test_build_and_validate_take_a_strategy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for strategy in ("sorted", "grouped", "blend", "reference"):
        assert main(["build", SPEC, "-o", str(tmp_path / strategy), "--strategy", strategy]) == 0
        texts[strategy] = (tmp_path / strategy / "model.py").read_text()
    assert len(set(texts.values())) == 4
    assert [name for name, text in texts.items() if "GroupedByTower(" in text] == ["grouped"]
    assert [name for name, text in texts.items() if "put_back(" in text] == ["reference"]
    experts = str(ROOT / "specs" / "paper" / "chameleon_443m_moe2x.mot")
    for command in ("build", "show", "validate"):
        assert main([command, experts, "--strategy", "blend"]) == 1
        assert "MOT056" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("untie", "strategy", "embed", "norm", "read"),
    [
        (
            "embedding, head",
            "sorted",
            ["sort", "embedding", "unsort"],
            ["final_norm"],
            ["sort", "head", "unsort", "to_batch"],
        ),
        ("embedding, head", "blend", ["embedding"], ["final_norm"], ["head", "to_batch"]),
        ("embedding, head, attention, ffn", "sorted", ["embedding"], ["final_norm"], ["head", "to_batch"]),
        ("*.norm, final_norm", "sorted", ["embedding"], ["final_norm"], ["to_batch", "head"]),
    ],
)
def test_what_is_outside_the_layers_is_sorted_where_the_stream_is_not(
    untie: str, strategy: Strategy, embed: list[str], norm: list[str], read: list[str], tmp_path: Path
) -> None:
    """With all of a layer untied the stream is sorted already, and norms are one norm for all but for their weights."""
    path = tmp_path / "three.mot"
    path.write_text(THREE.format(mask="", untie=f"untie {untie}"))
    outer = compile_ir(path, strategy=strategy).outer_steps
    assert [[step.name for step in steps] for steps in (outer.embed, outer.norm, outer.read)] == [embed, norm, read]
