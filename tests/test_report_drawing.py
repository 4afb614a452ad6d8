"""The drawing of a model, as data: what is in it, and where it stands."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import pytest
import torch

from motc.cli import main
from motc.driver import compile_ir
from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.reference.visibility import visibility
from motc.report import drawn, drawn_diff, standalone
from motc.report.build import scene
from motc.report.mask_picture import WINDOW, document, mask_picture
from motc.report.scene import Row, Scene
from motc.report.shapes import Circle, Drawing, Group, Rect, Text, flat, text_width
from motc.report.shapes import Path as Line
from motc.source import SourceFile
from motc.validate.config import reference_mask
from tests.shipped import SHIPPED

ROOT = Path(__file__).resolve().parent.parent
SPECS = {path.stem: path for path in SHIPPED}
REAL = [
    "emoji_mot",
    "ernie_4_5_vl_28b_a3b",
    "pi0_5",
    "smolvla",
    "llama_3_2_vision_11b",
    "dit_xl_2",
    "gpt_oss_20b",
    "flux_1_dev",
]
SIZES = {"title": 19, "subtitle": 12, "name": 11.5, "panel-name": 12.5, "meeting-name": 12, "pill-name": 13.5}

BASE = "model m { width = 16, layers = 2, vocab = 9\n modality text, image\n attention { heads = 2 }\n"
EIGHT = """model eight {
  width = 64, layers = 12, vocab = 300
  modality text, code, speech, action
  modality image, video { latent { channels = 4, patch = 2, objective = flow } }
  modality vit, state { features { size = 24 } }
  attention { heads = 4, kv_heads = 2, qk_norm = rms, mask { kind = causal, bidirectional = [image, video] } }
  tower language = text, code
  tower vision = image, video, vit
  untie ffn, norm, attention.q
  untie attention.k as {text, code, vit, speech} {image, video} {state, action}
  layers 10..11 { attention { window = 16 } }
}
"""
SIXTY = """model sixty {
  width = 64, layers = 60, vocab = 300
  modality text, image
  attention { heads = 4 }
  untie ffn in layers 10..19
  untie attention in layers 20..29
  untie * in layers 30..39
  layers 40..58 step 2 { ffn { kind = moe, experts = 160, top_k = 6 } }
  layer 59 { attention { window = 8 } }
}
"""


def model_of(text: str) -> Model:
    return compile_ir(SourceFile("spec.mot", text))


def groups(drawing: Drawing) -> list[Group]:
    return [shape for shape in drawing.shapes if isinstance(shape, Group)]


def boxes(drawing: Drawing) -> dict[str, list[Rect]]:
    """The rectangles of each copy that is drawn, by its key."""
    copies = [group for group in groups(drawing) if group.key and "again" not in group.look]
    return {
        group.key: [each for each in flat(group.shapes) if isinstance(each, Rect) and "box" in each.look.split()]
        for group in copies
    }


@pytest.mark.parametrize("name", REAL)
def test_every_copy_of_every_group_is_drawn_once(name: str) -> None:
    model = compile_ir(SPECS[name])
    wanted = [f"outside/{leaf.path}/{block.name or 'all'}" for leaf in model.outer_leaves() for block in leaf.blocks]
    for letter, (layer, _) in zip("ABCDEFGH", model.kinds, strict=False):
        wanted += [f"{letter}/{leaf.path}/{b.name or 'all'}" for leaf in layer.leaves() for b in leaf.blocks]
    assert sorted(cell.key for cell in scene(model).cells() if not cell.again) == sorted(wanted)
    assert sorted(boxes(drawn(model))) == sorted(wanted)


def in_bounds(drawing: Drawing) -> None:
    for shape in flat(drawing.shapes):
        match shape:
            case Rect(x, y, width, height):
                corners = [(x, y), (x + width, y + height)]
            case Circle(x, y, radius):
                corners = [(x - radius, y - radius), (x + radius, y + radius)]
            case Line(points):
                corners = list(points)
            case Text(x, y, text, look, anchor):
                wide = text_width(text, SIZES.get(look, 10)) * {"start": 1, "middle": 0.5, "end": 1}[anchor]
                corners = [(x - (wide if anchor != "start" else 0), y), (x + (wide if anchor != "end" else 0), y)]
        for x, y in corners:
            assert 0 <= x <= drawing.width and 0 <= y <= drawing.height, (shape, drawing.width)


def no_overlaps(drawing: Drawing) -> None:
    each = [(key, rect) for key, rects in boxes(drawing).items() for rect in rects]
    for (key, one), (other_key, other) in combinations(each, 2):
        apart = (
            one.x + one.width <= other.x
            or other.x + other.width <= one.x
            or one.y + one.height <= other.y
            or other.y + other.height <= one.y
        )
        assert apart or key == other_key, (key, other_key)


@pytest.mark.parametrize("text", [EIGHT, SIXTY], ids=["eight", "sixty"])
def test_nothing_stands_outside_or_over_another(text: str) -> None:
    drawing = drawn(model_of(text))
    in_bounds(drawing)
    no_overlaps(drawing)


@pytest.mark.parametrize("name", REAL)
def test_nothing_stands_outside_or_over_another_in_real_models(name: str) -> None:
    drawing = drawn(compile_ir(SPECS[name]))
    in_bounds(drawing)
    no_overlaps(drawing)


@pytest.mark.parametrize("name", ["emoji_mot", "ernie_4_5_vl_28b_a3b"])
def test_a_box_stands_over_the_columns_of_its_modalities_alone(name: str) -> None:
    model = compile_ir(SPECS[name])
    drawing = drawn(model)
    pills = {}
    for group in groups(drawing):
        if "pill-group" in group.look:
            pills[group.told.partition(":")[0]] = next(each for each in flat([group]) if isinstance(each, Rect))
    for cell in scene(model).cells():
        alone = len(boxes(drawing)[cell.key]) == 1
        first = boxes(drawing)[cell.key][0]
        for column, pill in pills.items():
            within = first.x < pill.x + pill.width and pill.x < first.x + first.width
            if within:
                assert column in cell.modalities
        if alone and len(cell.modalities) == 1:
            assert pills[cell.modalities[0]].x <= first.x


def test_boxes_without_a_frame_are_not_split_over_columns() -> None:
    """Half of a box over two columns would seem to be one modality's."""
    for row in (row for panel in scene(model_of(EIGHT)).panels for frame in panel.frames for row in frame.rows):
        if isinstance(row, Row) and row.is_thin:
            blocks = [cell.modalities for cell in row.cells]
            assert len(blocks) == len(set(blocks)) or all(len(block) == 1 for block in blocks)


def circles(drawing: Drawing, look: str) -> list[tuple[float, float]]:
    return [(each.x, each.y) for each in drawing.shapes if isinstance(each, Circle) and look in each.look.split()]


@pytest.mark.parametrize("parallel", ["two_norms", "one_norm"])
def test_sublayers_in_parallel_stand_side_by_side(parallel: str) -> None:
    drawing = drawn(model_of(f"{BASE} untie ffn\n parallel = {parallel} }}"))
    found = boxes(drawing)
    paths = ("attention.out/all", "attention.v/all", "ffn.up/text", "ffn.down/text")
    out, v, up, down = (found[f"A/{path}"] for path in paths)
    assert max(box.x + box.width for box in out) < min(box.x for box in up)
    assert out[0].y == down[0].y  # both begin below one edge
    sums = circles(drawing, "plus")
    assert len(sums) == 4 and len({x for x, _ in sums}) == 2  # of each modality both, in its stream
    joints = circles(drawing, "joint")
    assert len(joints) == 2
    normed = parallel == "one_norm"  # read between the norm and what else reads it
    (norm,) = found["A/attention.norm/all"]
    assert all((v[0].y + v[0].height < y < norm.y) if normed else (y > norm.y + norm.height) for _, y in joints)


def test_runs_are_all_layers_in_order() -> None:
    drawn_scene = scene(model_of(SIXTY))
    covered = [layer for run in drawn_scene.runs for layer in range(run.first, run.last + 1)]
    assert covered == list(range(60))
    assert [panel.letter for panel in drawn_scene.panels] == list("ABCDEF")
    assert [panel.where for panel in drawn_scene.panels][4] == "40..58 step 2"
    assert sum(panel.count for panel in drawn_scene.panels) == 60
    assert drawn_scene.panels[5].differs == ("attention.window: none → 8",)


def test_thousands_of_layers_and_kinds_stay_small() -> None:
    lines = "\n".join(f"  layer {index} {{ ffn {{ hidden = {index + 8} }} }}" for index in range(60))
    model = model_of(
        f"model deep {{ width = 16, layers = 600, vocab = 9\n  modality text\n attention {{ heads = 2 }}\n{lines}\n}}"
    )
    assert len(standalone(drawn(model))) < 1_000_000


MASKS = {
    "causal": Mask(kind="causal"),
    "full": Mask(kind="full"),
    "prefix": Mask(kind="prefix", prefix=("a", "b")),
    "blocks": Mask(kind="blocks", blocks=(("a", "c"), ("b",))),
    "window": Mask(kind="causal", window=WINDOW),
    "window both ways": Mask(kind="full", window=2),
    "bidirectional": Mask(kind="causal", bidirectional=("b",)),
    "runs": Mask(kind="causal", runs=(("b", "c"),), delimiters=True),
    "sees": Mask(kind="causal", sees=(("b", ("b",)), ("c", ("a", "c")))),
    "absent": Mask(kind="prefix", prefix=("a",), absent=("b",)),
    "reads": Mask(kind="prefix", prefix=("a",), reads=(("c", ("a", "b")),)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_drawn_as_the_reference_defines_it(name: str) -> None:
    names = ("a", "b", "c")
    picture = mask_picture(MASKS[name], names)
    ids = torch.tensor([[names.index(token) for token in document(names)]])
    assert torch.tensor(picture.sees).equal(visibility(reference_mask(MASKS[name]), names, ids, None)[0])


def statuses(drawn_scene: Scene) -> dict[str, str]:
    return {cell.key: cell.status for cell in drawn_scene.cells() if not cell.again}


def test_untying_changes_what_it_unties() -> None:
    path = SPECS["emoji_mot"]
    became = statuses(scene(compile_ir(path), compile_ir(path, dense=True)))
    assert {status for key, status in became.items() if "embedding" in key or "head" in key} == {"same"}
    assert {status for key, status in became.items() if "embedding" not in key and "head" not in key} == {"changed"}
    same = scene(compile_ir(path), compile_ir(path))
    assert set(statuses(same).values()) == {"same"}
    assert {frame.status for panel in same.panels for frame in panel.frames} == {"same"}


@pytest.mark.parametrize(
    "change, expected",
    [
        ("untie ffn", {"A/ffn.up/text": "changed", "A/attention.q/all": "same"}),
        (
            "layers 0..1 { attention { qk_norm = rms } }",
            {"A/attention.q_norm/all": "added", "A/attention.q/all": "same"},
        ),
        ("ffn { kind = gelu }", {"A/-ffn.gate/all": "removed", "A/attention.q/all": "same"}),
        ("ffn { hidden = 24 }", {"A/ffn.up/all": "changed", "A/ffn.norm/all": "same"}),
        ("modality speech", {"A/ffn.up/all": "same"}),
        (
            "modality speech; untie ffn as {text, image} {speech}",
            {"A/ffn.up/text_image": "same", "A/ffn.up/speech": "added"},
        ),
        ("layer 1 { ffn { hidden = 24 } }", {"A/ffn.up/all": "same", "B/ffn.up/all": "changed"}),
    ],
)
def test_what_became_of_groups(change: str, expected: dict[str, str]) -> None:
    change = change.replace("; ", "\n")
    found = statuses(scene(model_of(f"{BASE}{change}\n}}"), model_of(f"{BASE}}}")))
    assert {key: found.get(key) for key in expected} == expected
    reverse = statuses(scene(model_of(f"{BASE}}}"), model_of(f"{BASE}{change}\n}}")))
    opposite = {"added": "removed", "removed": "added", "changed": "changed", "same": "same"}
    assert {key.replace("/-", "/"): status for key, status in reverse.items()}.items() >= {
        key.replace("/-", "/"): opposite[status] for key, status in expected.items() if "/text" not in key
    }.items()


def test_layers_and_modalities_that_come_and_go() -> None:
    more = model_of(BASE.replace("layers = 2", "layers = 5").replace("text, image", "text, image, speech") + "}")
    less = model_of(f"{BASE}}}")
    for before, after, became in ((less, more, "added"), (more, less, "removed")):
        drawn_scene = scene(after, before)
        assert [(panel.where, panel.status) for panel in drawn_scene.panels] == [("0..1", "same"), ("2..4", became)]
        assert [(column.name, column.status) for column in drawn_scene.columns][-1] == ("speech", became)
        in_bounds(drawn_diff(before, after))
        no_overlaps(drawn_diff(before, after))


def test_a_renamed_modality_is_the_same_one() -> None:
    became = scene(model_of(BASE.replace("image", "picture") + "}"), model_of(f"{BASE}}}"))
    assert set(statuses(became).values()) == {"same"}
    assert [column.name for column in became.columns] == ["text", "picture"]


@pytest.mark.parametrize("name", ["emoji_mot", "pi0"])
def test_the_svg_is_well_formed_and_asks_for_nothing(name: str) -> None:
    text = standalone(drawn(compile_ir(SPECS[name])))
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert text.count("http") == 1 and "url(" not in text and "var(" not in text and "@import" not in text
    assert all(group.find("{*}title") is not None for group in root.iter("{http://www.w3.org/2000/svg}g"))


def test_the_picture_in_the_readme_is_what_the_command_writes() -> None:
    assert (ROOT / "docs" / "emoji_mot.svg").read_text(encoding="utf-8") == standalone(
        drawn(compile_ir(SPECS["emoji_mot"]))
    )


def test_the_picture_of_a_diff_is_what_the_command_writes(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how_to_read_a_diff.md").read_text(encoding="utf-8")
    old, new = re.findall(r"```mot\n(.*?)```", page, re.DOTALL)
    for name, text in (("old.mot", old), ("new.mot", new)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    drawing = tmp_path / "diff.svg"
    assert main(["diff", str(tmp_path / "old.mot"), str(tmp_path / "new.mot"), "--svg", str(drawing)]) == 2
    assert drawing.read_text() == (ROOT / "docs" / "how_to_read_a_diff.svg").read_text()


def test_show_and_diff_write_drawings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "emoji.svg"
    assert main(["show", str(SPECS["emoji_mot"]), "--svg", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    first = out.read_text()
    assert ElementTree.fromstring(first) is not None
    assert main(["show", str(SPECS["emoji_mot"]), "--svg", str(out)]) == 0
    assert out.read_text() == first
    capsys.readouterr()
    assert main(["diff", str(SPECS["emoji_mot"]), "--dense", "--svg", str(tmp_path / "diff.svg")]) == 2
    assert "~ ffn: {text image}" in capsys.readouterr().out
    assert "was shared by text, image" in (tmp_path / "diff.svg").read_text()


def test_a_drawing_to_where_none_can_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file" / "a.svg"):
        assert main(["show", str(SPECS["emoji_mot"]), "--svg", str(target)]) == 1
        told = capsys.readouterr()
        assert told.out == "" and str(target) in told.err
    assert main(["show", str(SPECS["emoji_mot"]), "--svg", "/dev/stdout"]) == 0
