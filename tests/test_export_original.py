"""`motc export --as`: models as the classes of transformers that they are, and what is none is refused."""

from __future__ import annotations

import json
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
from motc.importing.architectures import BY_NAME
from motc.ir.names import correction_shapes, parameter_shapes
from motc.source import SourceFile, SpecError
from tests.originals import FEW_EXPERTS, GALLERY, YARN, small_original

transformers = pytest.importorskip("transformers", minversion="5.0")

FOLDERS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "mistral": {"sliding_window": 3},
    "qwen2": {"rope_parameters": {**YARN, "rope_theta": 1e4}},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 16, "hidden_size": 64},
    "cohere": {"use_qk_norm": True, "logit_scale": 0.5},
    "phi3": {"partial_rotary_factor": 0.5},
    "gpt_neox": {"rotary_pct": 0.5, "use_parallel_residual": False, "num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {**FEW_EXPERTS, "head_dim": 8, "norm_topk_prob": True},
}


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
    again = transformers.AutoModelForCausalLM.from_pretrained(back)
    assert type(again) is type(theirs)
    ids = torch.randint(61, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, theirs(ids).logits, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_class_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "model small {\n width = 32, layers = 2, vocab = 61\n modality text\n attention { heads = 4 }\n"
    spec += " ffn { hidden = 8 }\n}"
    checked = check_spec(SourceFile("small.mot", spec))
    network: Any = motc.load(spec_text(checked))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    given = (checked, final_ir(checked), spec_text(checked), network)
    written = write_original("llama", *given, tmp_path / "right")
    assert written.batches == 3 and written.logits < 1e-5 and written.generates
    kept = hub_folder.tensors_of
    monkeypatch.setattr(hub_folder, "tensors_of", lambda *how: {n: x.flip(0) for n, x in kept(*how).items()})
    with pytest.raises(hub_folder.NotTheSame, match="logits of what was written differ"):
        write_original("llama", *given, tmp_path / "wrong")
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


SHIPPED = {"llama_3_2_1b": "llama", "mistral_7b": "mistral", "qwen2_5_7b": "qwen2", "qwen3_8b": "qwen3",
           "command_r_plus_104b": "cohere", "phi3_mini": "phi3", "pythia_1_4b": "gpt_neox", "mixtral_8x7b": "mixtral",
           "qwen3_30b_a3b": "qwen3_moe", "smollm2_135m": "llama"}  # fmt: skip


@pytest.mark.parametrize("spec", SHIPPED)
def test_shipped_specs_have_a_configuration_and_names(spec: str) -> None:
    checked = check_spec(GALLERY / f"{spec}.mot")
    model = final_ir(checked)
    shapes = parameter_shapes(model) | correction_shapes(model)
    theirs = original(SHIPPED[spec], checked, model, shapes, {})
    assert theirs.configuration["architectures"] == [CLASSES[SHIPPED[spec]]]
    assert {name for move in theirs.bijection.moves for name in move.parameters} == shapes.keys()


def test_what_is_not_the_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(CLASSES.values()) <= BY_NAME.keys()
    checked = check_spec(GALLERY / "qwen3_0_6b.mot")
    model = final_ir(checked)
    with pytest.raises(SpecError, match=r"no LlamaForCausalLM: .* attention\.qk_norm: none → rms"):
        original("llama", checked, model, parameter_shapes(model), {})
    untied = check_spec(GALLERY.parent / "emoji_mot.mot")
    with pytest.raises(SpecError, match="is no LlamaForCausalLM"):
        original("llama", untied, final_ir(untied), parameter_shapes(final_ir(untied)), {})
    arguments = ["export", "a.mot", "w.safetensors", "--to", "hf", str(tmp_path / "out"), "--as", "bert"]
    assert main(arguments) == 2
    assert "'bert' is none of llama, mistral" in capsys.readouterr().err
