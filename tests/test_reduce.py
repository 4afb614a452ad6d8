"""A reduced spec has the structure of the whole one, at a size that validates in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from motc.cost import total_parameters
from motc.driver import check_spec, final_ir
from motc.ir.model import Model
from motc.schema import Checked
from motc.source import SourceFile
from motc.validate.reduce import reduce

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").rglob("*.mot"))


def lowered(checked: Checked, *, dense: bool = False) -> Model:
    return final_ir(checked, dense=dense)


def structure(model: Model) -> object:
    """What reducing must keep: names and partitions of every leaf, in the first two segments of each kind."""
    first = [s for i, s in enumerate(model.segments) if [e.layer for e in model.segments[:i]].count(s.layer) < 2]
    layers = [[(leaf.path, [(b.name, b.modalities) for b in leaf.blocks]) for leaf in s.layer.leaves()] for s in first]
    ends = [(leaf.path, [(b.name, b.modalities) for b in leaf.blocks]) for leaf in model.outer_leaves()]
    return [m.name for m in model.modalities], model.towers, model.order, layers, ends


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_shipped_spec_keeps_its_structure(path: Path) -> None:
    checked = check_spec(path)
    small = reduce(checked)
    for dense in (False, True):
        assert structure(lowered(small, dense=dense)) == structure(lowered(checked, dense=dense))
        assert total_parameters(lowered(small, dense=dense)) < 300_000


def test_layers_are_merged_and_towers_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "towers.mot"
    path.write_text(
        """model towers {
          width = 2048, layers = 18, vocab = 257152
          modality image, text, state, action
          attention { heads = 8, kv_heads = 1, head_dim = 256 }
          ffn { kind = geglu, hidden = 16384 }
          tower vlm = image, text
          tower expert = state, action { width = 1024, ffn { hidden = 4096 } }
          untie attention, ffn, norm, embedding, head
          untie ffn.norm as {image} {text} {state} {action} in layers 3..9
        }""",
        encoding="utf-8",
    )
    checked = check_spec(path)
    small = reduce(checked)
    model = lowered(small)
    assert structure(model) == structure(lowered(checked))
    assert [(segment.first, segment.last) for segment in model.segments] == [(0, 0), (1, 1), (2, 2)]
    (attention,) = model.segments[0].layer.attentions
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (2, 1, 8)
    assert len({modality.width for modality in model.modalities}) == 2
    assert total_parameters(model) < 20_000


def test_a_small_spec_is_not_made_larger(tmp_path: Path) -> None:
    path = tmp_path / "tiny.mot"
    path.write_text(
        "model tiny { width = 4, layers = 1, vocab = 3, modality a, b; attention { heads = 2 }, ffn { hidden = 5 } }"
    )
    checked = check_spec(path)
    assert total_parameters(lowered(reduce(checked))) == total_parameters(lowered(checked))


def test_experts_become_few_and_towers_keep_as_many_as_each_other_or_not(tmp_path: Path) -> None:
    path = tmp_path / "experts.mot"
    path.write_text(
        """model experts {
          width = 2048, layers = 18, vocab = 257152
          modality text, image, audio
          attention { heads = 8 }
          ffn { kind = moe, experts = 64, top_k = 8 }
          tower seen = image { ffn { experts = 128, top_k = 4 } }
          tower heard = audio { ffn { experts = 64 } }
          untie attention, ffn, norm
        }""",
        encoding="utf-8",
    )
    mixtures = dict(lowered(reduce(check_spec(path))).mixtures)
    assert {name: (moe.experts, moe.per_token) for name, moe in mixtures.items()} == {
        "text": (6, 2),
        "image": (8, 2),
        "audio": (6, 2),
    }


def test_what_is_not_said_stays_unsaid() -> None:
    """Positions that nothing looks at are refused if they are said."""
    text = "model m { width = 64; layers = 2; vocab = 9; modality text; attention { heads = 4, rope = none } }"
    small = reduce(check_spec(SourceFile("m.mot", text)))
    assert "first" not in small.spec.positions.model_fields_set
