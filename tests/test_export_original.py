"""`motc export --as`: models as the classes of transformers that they are, and what is none is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import motc
from motc.cli import main
from motc.driver import check_spec, final_ir, spec_text
from motc.exporting import hub_folder
from motc.exporting.hub_folder import Written, write_original
from motc.exporting.original import CLASSES, original
from motc.importing.architectures import BY_NAME, DENOISERS
from motc.ir.names import saved_shapes
from motc.source import SourceFile, SpecError
from tests.originals import FEW_EXPERTS, GALLERY, YARN, Original, small_original
from tests.published import ITS_LANGUAGE_MODEL, ORIGINALS
from tests.test_further_classes import CASES as FURTHER

transformers = pytest.importorskip("transformers", minversion="5.0")

GEMMA = {"head_dim": 16, "hidden_size": 64}

FOLDERS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "mistral": {"sliding_window": 3},
    "qwen2": {"rope_parameters": {**YARN, "rope_theta": 1e4}},
    "qwen3": {"head_dim": 8},
    "smollm3": {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 3},
    "gemma": GEMMA,
    "gemma2": {**GEMMA, "sliding_window": 3},
    "gemma3_text": {
        **GEMMA, "sliding_window": 3, "rope_theta": 500.0, "rope_local_base_freq": 50.0, "sliding_window_pattern": 2,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "cohere": {"use_qk_norm": True, "logit_scale": 0.5},
    "phi3": {"partial_rotary_factor": 0.5},
    "gpt_neox": {"rotary_pct": 0.5, "use_parallel_residual": False, "num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {**FEW_EXPERTS, "head_dim": 8, "norm_topk_prob": True, "mlp_only_layers": [1]},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 3},
}  # fmt: skip


def tensors_in(folder: Path) -> dict[str, Tensor]:
    return {name: each for path in folder.glob("*.safetensors") for name, each in load_file(path).items()}


def unasked(*_: Any) -> Written:
    return Written(batches=0, logits=0.0, loss=0.0, generates=False)


@pytest.mark.parametrize("kind", FOLDERS)
def test_there_and_back(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported and exported, the tensors are the same bit for bit, and the class gives the same logits."""
    theirs = small_original(CLASSES[kind], num_hidden_layers=3, **FOLDERS[kind]).eval()
    given, back = tmp_path / "given", tmp_path / "back"
    theirs.save_pretrained(given)
    spec, weights = tmp_path / "it.mot", tmp_path / "it.safetensors"
    assert main(["import", str(given), "-o", str(spec), "--weights", str(weights)]) == 0
    monkeypatch.setattr(hub_folder, "ask", unasked)
    (given / "tokenizer.json").write_text("{}")
    command = ["export", str(spec), str(weights), "--to", "hf", str(back), "--as", kind, "--tokenizer", str(given)]
    assert main(command) == 0
    before, after = tensors_in(given), tensors_in(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    config = json.loads((back / "config.json").read_text())
    assert (config["max_position_embeddings"], config["pad_token_id"]) == (64, 0)
    for file in (given, back):
        generates = json.loads((file / "generation_config.json").read_text())
        assert generates["pad_token_id"] == 0 and generates["transformers_version"] == transformers.__version__
    again = transformers.AutoModelForCausalLM.from_pretrained(back)
    assert type(again) is type(theirs)
    ids = torch.randint(61, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, theirs(ids).logits, rtol=0, atol=1e-6)


@pytest.mark.compiled
def test_the_class_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With capped scores, which it does not have in every implementation, and layers that differ."""
    sizes = {"width": 64, "layers": 2, "vocab": 61, "ffn.hidden": 8, "attention.window": 3}
    heads = {"attention.heads": 4, "attention.kv_heads": 2, "attention.head_dim": 16, "attention.softcap": 2}
    checked = check_spec(GALLERY / "gemma_2_2b.mot", {**sizes, **heads})
    network: Any = motc.load(spec_text(checked))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    network.eval()
    given = (checked, final_ir(checked), spec_text(checked), network)
    written = write_original("gemma2", *given, tmp_path / "right")
    assert written.batches == 3 and written.logits < 1e-5 and written.generates
    kept = hub_folder.tensors_of
    monkeypatch.setattr(hub_folder, "tensors_of", lambda *how: {n: x.flip(0) for n, x in kept(*how).items()})
    with pytest.raises(hub_folder.NotTheSame, match="logits of what was written differ"):
        write_original("gemma2", *given, tmp_path / "wrong")
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


KINDS = {name: kind for kind, name in CLASSES.items()}


@pytest.mark.parametrize("each", ORIGINALS, ids=lambda each: each.spec)
def test_shipped_specs_go_out_as_the_configuration_they_came_from(each: Original) -> None:
    """All of the gallery that have text alone; the others lack the encoder of their class."""
    checked = check_spec(each.path)
    model = final_ir(checked)
    shapes = saved_shapes(model)
    kind = KINDS[each.architecture]
    if BY_NAME[each.architecture].said_of_encoders:
        with pytest.raises(SpecError, match=f"{each.architecture} has an encoder"):
            original(kind, checked, model, shapes, {})
        return
    theirs = original(kind, checked, model, shapes, {})
    assert theirs.configuration["architectures"] == [each.architecture]
    assert {name for move in theirs.bijection.moves for name in move.parameters} == shapes.keys()
    class_ = getattr(transformers, each.architecture).config_class
    published, written = (class_(**config).to_dict() for config in (each.config, theirs.configuration))
    other = {key: written.get(key) for key in published if (published[key] or None) != (written.get(key) or None)}
    same = {"qwen3_moe": "intermediate_size", "mixtral": "head_dim"}.get(kind, "")  # of no layer, and what follows
    assert other.keys() <= {"architectures", "bos_token_id", "eos_token_id", "pad_token_id", same}, other


TWO_WIDTHS = "layers 0 { attention { window = 7 } }"
SCALED = "layers 0..1 { attention { rope { scaling { kind = linear, factor = 2 } } } }"


@pytest.mark.parametrize(
    ("spec", "statement", "message"),
    [
        ("gemma_2_2b", TWO_WIDTHS, "windows of 7 and 4096"),
        ("gemma_3_1b", SCALED, "positions are scaled in layers with a window"),
        ("gemma_3_1b", "layers 5 { attention { rope = none } }", "rotary positions that the class does not have"),
    ],
)
def test_layers_that_differ_as_the_class_cannot_say(spec: str, statement: str, message: str) -> None:
    text = f'model it {{\n extends "{GALLERY / spec}.mot"\n {statement}\n}}'
    checked = check_spec(SourceFile("it.mot", text))
    model = final_ir(checked)
    with pytest.raises(SpecError, match=message):
        original(spec[:7].replace("_", "") + "_text" * (spec[6] == "3"), checked, model, saved_shapes(model), {})


def test_every_class_that_comes_in_can_be_asked_for() -> None:
    """Each goes there and back here, or is refused for its encoder or its parts. Of diffusers is none."""
    known = {name: each for name, each in BY_NAME.items() if each not in DENOISERS}
    assert set(CLASSES.values()) == known.keys()
    goes = {CLASSES[kind] for kind in FOLDERS} | {f"{name}ForCausalLM" for name, _ in FURTHER.values()}
    of_parts = {"MllamaForCausalLM", "PI0ForConditionalGeneration"}
    assert goes == {each.name for each in known.values() if not each.said_of_encoders} - of_parts


def test_the_page_names_every_class() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "exporting.md"
    table = page.read_text(encoding="utf-8").partition("| `--as` |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == sorted(CLASSES)


def test_models_of_several_parts_do_not_go_out() -> None:
    checked = check_spec(GALLERY / "pi0.mot")
    model = final_ir(checked)
    with pytest.raises(SpecError, match="no PI0ForConditionalGeneration: models of several parts are not written"):
        original("pi0", checked, model, saved_shapes(model), {})


def test_layers_that_attend_to_images_do_not_go_out() -> None:
    checked = check_spec(ITS_LANGUAGE_MODEL.path)
    model = final_ir(checked)
    with pytest.raises(SpecError, match="no MllamaForCausalLM: layers that attend to images are not written"):
        original("mllama_text", checked, model, saved_shapes(model), {})


def test_what_is_not_the_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = check_spec(GALLERY / "qwen3_0_6b.mot")
    model = final_ir(checked)
    with pytest.raises(SpecError, match=r"no LlamaForCausalLM: .* attention\.qk_norm: none → rms"):
        original("llama", checked, model, saved_shapes(model), {})
    untied = check_spec(GALLERY.parent / "emoji_mot.mot")
    with pytest.raises(SpecError, match="is no LlamaForCausalLM"):
        original("llama", untied, final_ir(untied), saved_shapes(final_ir(untied)), {})
    arguments = ["export", "a.mot", "w.safetensors", "--to", "hf", str(tmp_path / "out"), "--as", "bert"]
    assert main(arguments) == 2
    assert "'bert' is none of llama, mistral" in capsys.readouterr().err
