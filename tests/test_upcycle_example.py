"""examples/upcycle: its map makes its model of SmolLM2, the model reads its rows, and its steps lead to a picture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import motc
from motc.driver import check_spec, final_ir
from motc.syntax import read_file
from motc.upcycling.groups import Groups
from motc.upcycling.plan import plan_init
from motc.upcycling.settings import other_settings
from motc.upcycling.statements import read_statements
from tests.originals import GALLERY

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "upcycle"
SMALL = {"width": 48, "attention.head_dim": 64, "vocab": 64, "ffn.hidden": 32, "towers.painter.width": 16}

pytest.importorskip("tokenizers")
pytest.importorskip("PIL")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that others may call so too, here and afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("rows", "draw", "data")
    for name in names:
        sys.modules.pop(name, None)
    yield
    for name in names:
        sys.modules.pop(name, None)


def groups_of(path: Path) -> Groups:
    checked = check_spec(path)
    return Groups(final_ir(checked), checked.spec)


def test_the_map_makes_the_model_of_smollm2() -> None:
    target, dense = groups_of(FOLDER / "smollm2_draws.mot"), groups_of(GALLERY / "smollm2_135m.mot")
    plan = plan_init(target, read_statements(read_file(FOLDER / "smollm2_draws.map")), {"smollm2": dense})
    copied = [start for start in plan.starts if start.statement.verb == "copy"]
    assert len(copied) == len(dense.shapes)
    assert not other_settings(plan, target, {"smollm2": dense})


def test_rows_are_captions_with_their_pictures() -> None:
    from rows import FIRST, LAST, PICTURE, read_emoji, rows
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = (FIRST, LAST, PICTURE, "red", "heart", "star")
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=LAST))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ids, modality_ids = rows(tokenizer, ["red heart", "", "star"])
    assert ids[0, :4].tolist() == [0, 3, 4, 2] and modality_ids[0].tolist() == [0] * 4 + [1] * 64
    assert ids[1, :2].tolist() == [0, 2] and modality_ids[1].tolist() == [0] * 2 + [1] * 64 + [-1] * 2

    emoji = read_emoji()
    assert not set(emoji.training) & set(emoji.held_out) and set(emoji.new) < set(emoji.held_out)
    assert len(emoji.names) == len(emoji.training) + len(emoji.held_out) == len(emoji.pictures)
    model = motc.load(FOLDER / "smollm2_draws.mot", set=SMALL)
    pictures = {"image": emoji.pictures[emoji.training[:3]]}
    losses = model.loss(ids, modality_ids, labels=torch.full_like(ids, -100), latents=pictures)
    assert losses.by_modality["image"].isfinite()


def test_guided_steps_follow_a_straight_line() -> None:
    """Of a velocity that is right everywhere, any number of steps leads to the picture."""
    from draw import Guided

    torch.manual_seed(0)
    picture, scheduler = torch.randn(2, 3, 8, 8), Guided(3.0)
    x = torch.randn(4, 3, 8, 8)
    scheduler.set_timesteps(5)
    noise = x[:2].repeat(2, 1, 1, 1)
    for time in scheduler.timesteps:
        velocity = (noise[:2] - picture).repeat(2, 1, 1, 1)
        x = scheduler.step(velocity, time, x).prev_sample
    torch.testing.assert_close(x, picture.repeat(2, 1, 1, 1))
