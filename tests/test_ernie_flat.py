"""ERNIE-4.5-VL's configuration as its makers publish it: all at the top, with lists by modality."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from motc.cli import main
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash
from motc.source import SourceFile, SpecError
from tests.originals import described, merged
from tests.published import ORIGINALS
from tests.test_importing import saved

(ERNIE,) = (each for each in ORIGINALS if each.spec.startswith("ernie"))

FLAT: dict[str, Any] = {
    "architectures": ["Ernie4_5_VLMoeForConditionalGeneration"],
    "model_type": "ernie4_5_moe_vl",
    "vocab_size": 103424,
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "num_hidden_layers": 28,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000,
    "rope_scaling": {"type": "default", "mrope_section": [22, 22, 20]},
    "rope_3d": True,
    "freq_allocation": 20,
    "use_bias": False,
    "moe_num_experts": [64, 64],
    "moe_num_shared_experts": 2,
    "moe_layer_start_index": [1, 1],
    "moe_layer_end_index": [29, 28],
    "moe_layer_interval": 1,
    "moe_intermediate_size": [1536, 512],
    "moe_k": 6,
    "moe_capacity": [128, 128, 128],
    "moe_use_aux_free": True,
    "moe_gate": "topk",
    "im_patch_id": 100295,
    "spatial_conv_size": 2,
    "temporal_conv_size": 2,
    "fuse_rope": True,
    "tie_word_embeddings": True,
    "vision_config": {"depth": 32, "hidden_size": 1280, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14},
}
SMALLER = {"vocab_size": 61, "hidden_size": 256, "num_hidden_layers": 3, "moe_k": 2}
SMALLER |= {"num_attention_heads": 2, "num_key_value_heads": 1, "im_patch_id": 60}
VISION = {"depth": 1, "hidden_size": 32, "mlp_ratio": 1, "num_heads": 2, "patch_size": 14, "hidden_act": "quick_gelu"}


def test_it_is_the_shipped_spec() -> None:
    text = described(FLAT).spec("it", "It.", "config.json")
    assert semantic_hash(compile_ir(SourceFile("it.mot", text))) == semantic_hash(compile_ir(ERNIE.path)), text


@pytest.mark.parametrize("shared", [2, 0])
def test_a_folder_comes_in(shared: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same logits and the same file of weights as with the configuration that transformers writes."""
    pytest.importorskip("transformers", minversion="5.0")
    folder = tmp_path / "it"
    given = merged(ERNIE.config, {"text_config": {"moe_num_shared_experts": shared}})
    saved(replace(ERNIE, config=given), folder)
    written = []
    theirs = (folder / "config.json").read_text()
    experts = {"moe_num_experts": [4, 4], "moe_intermediate_size": [24, 16], "moe_num_shared_experts": shared or None}
    ours = json.dumps({**FLAT, **SMALLER, **experts, "vision_config": VISION})
    for name, config in (("theirs", theirs), ("ours", ours)):
        (folder / "config.json").write_text(config)
        spec, weights = tmp_path / f"{name}.mot", tmp_path / f"{name}.safetensors"
        code = main(["import", str(folder), "-o", str(spec), "--weights", str(weights), "--check", "9", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert code == 0, told
        assert told["difference"] <= 1e-5 * told["largest_logit"]
        written.append((told["semantic_hash"], load_file(weights)))
    assert written[0][0] == written[1][0]
    assert all(each.equal(written[1][1][name]) for name, each in written[0][1].items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moe_num_experts": [64, 32]}, "`moe_num_experts` is [64, 32], and motc reads two whole numbers that are"),
        ({"moe_layer_start_index": [1, 3]}, "`moe_layer_start_index` is [1, 3], and motc reads the same layer for"),
        ({"moe_layer_end_index": [28, 8]}, "`moe_layer_end_index` is [28, 8], and motc reads the same layer for"),
        ({"moe_layer_interval": 0}, "`moe_layer_interval` is 0"),
        ({"moe_group_experts": True}, "`moe_group_experts` is True, and motc reads False"),
        ({"rope_3d": False}, "`rope_3d` is False, and motc reads True"),
        ({"hidden_size": None}, "`hidden_size` is None, and motc reads a value, in a configuration of this form"),
        ({"hidden_size": "wide"}, "`hidden_size` is 'wide', and motc reads a whole number"),
        ({"num_hidden_layers": 10**9}, "`num_hidden_layers` is 1000000000"),
        ({"new_key": 1}, "motc does not know what `new_key` does"),
        ({"vision_config": 3}, "`vision_config` is 3, and motc reads an object"),
    ],
)
def test_what_it_cannot_say_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        described({**FLAT, **change})
    assert message in caught.value.diagnostics[0].message


def test_layers_without_experts() -> None:
    """As ERNIE-4.5-VL-424B-A47B says them: one number for both."""
    text = described({**FLAT, "moe_layer_start_index": 3, "moe_layer_end_index": -1}).spec("it", "It.", "config.json")
    assert "layers 0..2 {\n    ffn { kind = swiglu, hidden = 12288 }" in text
