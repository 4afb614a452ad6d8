"""`motc export` to programs: of torch.export, compiled ahead of time, and ONNX; loaded and asked what the model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import motc
from motc.cli import main
from motc.driver import check_spec, final_ir, spec_text
from motc.exporting import program
from motc.exporting.deviation import NotTheSame, deviation
from motc.exporting.program import Kind, write_program
from motc.source import SourceFile
from tests.building import draw_parameters

pytestmark = pytest.mark.compiled

SPEC = """
model small {
  width = 16, layers = 1
  modality text { vocab = 11 }, image { vocab = 7 }
  attention { heads = 2 }
  ffn { hidden = 24 }
  untie attention, ffn, norm
}
"""


def given(spec: str = SPEC) -> tuple[Any, Any]:
    """A final IR, and its network with random weights."""
    checked = check_spec(SourceFile("small.mot", spec))
    network: Any = motc.load(spec_text(checked))
    draw_parameters(network)
    return final_ir(checked), network


def test_a_program_without_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network: Any = given()[1]
    (tmp_path / "small.mot").write_text(SPEC)
    motc.save(network, tmp_path / "w.safetensors")
    paths = [str(tmp_path / "small.mot"), str(tmp_path / "w.safetensors"), str(tmp_path / "out")]
    assert main(["export", *paths, "--to", "pt2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] and said["batches"] == 8 and said["logits"] < 1e-5
    kinds = torch.tensor([[0, 1, 1, 0, -1, -1, -1, -1, -1, -1], [-1, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
    loaded: Any = torch.export.load(tmp_path / "out" / "program.pt2").module()
    answers = loaded(kinds.clamp(min=0), kinds)
    described = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert answers.keys() == described["outputs"].keys() == {"logits_text", "logits_image"}
    assert described["modality_ids"] == {"text": 0, "image": 1, "padding": -1}
    expected = network.eval()(kinds.clamp(min=0), kinds).logits
    torch.testing.assert_close(answers["logits_image"], expected["image"], rtol=0, atol=1e-6)
    assert main(["export", *paths, "--to", "pt2", "--as", "llama"]) == 2
    assert "it is for --to hf" in capsys.readouterr().err


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, network = given()
    compared = write_program(model, network, tmp_path / "out", "onnx")
    assert compared.batches == 8 and compared.logits < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "out" / "program.onnx")
    assert [each.name for each in session.get_inputs()] == ["input_ids", "modality_ids"]
    assert [each.name for each in session.get_outputs()] == ["logits_text", "logits_image"]


CONTINUOUS = SPEC.replace(
    "image { vocab = 7 }",
    "vit { features { size = 5 }, positions { kind = grid } }, image { latent { channels = 3, patch = 2 } }",
).replace("heads = 2", "heads = 2, mask { kind = causal, bidirectional = image }, rope { axes = [4, 4] }")


CONDITIONED = CONTINUOUS.replace(
    "patch = 2 } }", "patch = 2 }, condition { label { count = 4 }, number { size = 6 }, vector { size = 5 } } }"
).replace("untie", "norm { adaptive = image }\n untie")


def test_features_and_latents_go_in_as_the_model_takes_them(tmp_path: Path) -> None:
    """Any number of them, none too, where tokens are sorted by modality."""
    model, network = given(CONTINUOUS)
    compared = write_program(model, network, tmp_path / "out", "pt2")
    assert compared.batches > 8 and compared.logits < 1e-5
    said = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert {name: each["shape"] for name, each in said["inputs"].items()} == {
        "input_ids": ["rows", "columns"],
        "modality_ids": ["rows", "columns"],
        "position_ids": ["rows", "columns", 2],
        "features_vit": ["tokens_vit", 5],
        "latents_image": ["spans_image", 3, "2 * height_image", "2 * width_image"],
        "timesteps_image": ["spans_image"],
    }
    assert said["outputs"]["predictions_image"]["shape"] == said["inputs"]["latents_image"]["shape"]
    loaded: Any = torch.export.load(tmp_path / "out" / "program.pt2").module()
    kinds = torch.tensor([[0, *[2] * 6, 1]])
    positions = torch.arange(8)[:, None].expand(1, 8, 2)
    latents = {"latents": {"image": torch.randn(1, 3, 4, 6)}, "timesteps": {"image": torch.tensor([300])}}
    more: dict[str, Any] = {"position_ids": positions, "features": {"vit": torch.randn(1, 5)}, **latents}
    expected, answers = network.eval()(kinds * 0 + 1, kinds, **more), loaded(kinds * 0 + 1, kinds, **more)
    torch.testing.assert_close(answers["logits_text"], expected.logits["text"], rtol=0, atol=1e-6)
    torch.testing.assert_close(answers["predictions_image"], expected.predictions["image"], rtol=0, atol=1e-6)
    with pytest.raises(AssertionError, match="Guard failed"):
        loaded(kinds, kinds, **{**more, "latents": {"image": torch.randn(1, 3, 2, 12)}})  # of one row of patches


def test_onnx_of_features_latents_and_conditions(tmp_path: Path) -> None:
    """Runs that see all of themselves take a search and largest numbers so far, which torch has no ONNX for."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert write_program(*given(CONDITIONED), tmp_path / "out", "onnx").logits < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "out" / "program.onnx")
    said = json.loads((tmp_path / "out" / "signature.json").read_text())
    assert [each.name for each in session.get_inputs()] == [*said["inputs"]]


def test_capped_scores_go_out_for_any_number_of_columns(tmp_path: Path) -> None:
    """In windows, too; they are plain products, of a single query as well."""
    model, network = given(SPEC.replace("heads = 2", "heads = 2, softcap = 5, window = 3"))
    assert write_program(model, network, tmp_path / "out", "pt2").logits < 1e-5


def test_what_is_not_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, network = given()
    monkeypatch.setattr(program, "exported", lambda *_: None)
    monkeypatch.setattr(program, "_written", lambda *_: wrong)

    def wrong(batch: Any) -> Any:
        logits = network(**batch).logits
        return {f"logits_{name}": 2 * each for name, each in logits.items()}

    for kind in ("pt2", "aoti"):
        of_kind: Kind = kind
        with pytest.raises(NotTheSame, match=r"\.pt2 is off by 1\.0e\+00 of the largest"):
            write_program(model, network, tmp_path / "out", of_kind)
    assert list(tmp_path.iterdir()) == []


def test_deviations() -> None:
    numbers = torch.tensor([1.0, -4.0, float("nan")])
    assert deviation(numbers, numbers) == 0
    assert deviation(numbers + 1, numbers) == 0.25
    assert deviation(numbers.nan_to_num(), numbers) == deviation(numbers[:2], numbers) == float("inf")


def adaptive(condition: str) -> str:
    """The spec with images whose spans have a condition, which norms are adaptive by."""
    image = f"image {{ latent {{ channels = 3, patch = 2 }}, condition {{ {condition} }} }}"
    return SPEC.replace("image { vocab = 7 }", image).replace("untie", "norm { adaptive = image }\n untie")


CONDITION = "label { count = 4 }, number { size = 6, max_period = 90 }, vector { size = 5 }"


@pytest.mark.pairs
def test_compiled_ahead_of_time(tmp_path: Path) -> None:
    compared = write_program(*given(adaptive(CONDITION)), tmp_path / "out", "aoti")
    assert compared.batches > 8 and compared.logits < 1e-5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compiled.pt2", "signature.json"]


def test_conditions_go_in_as_the_model_takes_them(tmp_path: Path) -> None:
    """Of spans any number, none too."""
    assert write_program(*given(adaptive(CONDITION)), tmp_path / "out", "pt2").logits < 1e-5
    said = json.loads((tmp_path / "out" / "signature.json").read_text())["inputs"]
    assert {name: each["shape"] for name, each in said.items() if name.startswith("conditions")} == {
        "conditions_image_label": ["spans_image"],
        "conditions_image_number": ["spans_image"],
        "conditions_image_vector": ["spans_image", 5],
    }
    loaded: Any = torch.export.load(tmp_path / "out" / "program.pt2").module()
    kinds, at = torch.tensor([[0, *[1] * 6]]), torch.tensor([300])
    of = {"latents": {"image": torch.randn(1, 3, 4, 6)}, "timesteps": {"image": at}}
    others = {"number": at.float(), "vector": torch.ones(1, 5)}
    one, other = (
        loaded(kinds * 0, kinds, **of, conditions={"image": {"label": torch.tensor([label]), **others}})
        for label in (1, 2)
    )
    assert not torch.equal(one["predictions_image"], other["predictions_image"])


def test_conditions_of_timesteps_alone_go_out(tmp_path: Path) -> None:
    """Of spans any number, none too, each at a time of its own."""
    assert write_program(*given(adaptive("timestep { size = 8 }")), tmp_path / "out", "pt2").logits < 1e-5
