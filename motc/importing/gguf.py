"""A GGUF file as the folder that it would have been, by transformers, which widens its numbers to float32."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch

from motc.importing.configuration import FILE
from motc.weights.stored import FILE as WEIGHTS
from motc.weights.write import write_tensors


def write_folder(path: Path, folder: Path) -> None:
    """config.json and model.safetensors of a GGUF file. Raises what transformers does where it cannot read it."""
    from transformers import AutoModelForCausalLM
    from transformers.core_model_loading import revert_weight_conversion

    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    configuration = json.loads(model.config.to_json_string(use_diff=False))
    configuration.pop("quantization_config", None)  # of the file; its numbers are no longer quantised
    configuration = {key: _shortest(value) for key, value in configuration.items()}
    configuration["architectures"] = [type(model).__name__]
    (folder / FILE).write_text(json.dumps(configuration))
    tensors = revert_weight_conversion(model, model.state_dict())
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})


def _shortest(value: Any) -> Any:
    """A float32 number, as GGUF files have them, as it was written: 1e-05 for 9.999999747378752e-06."""
    if not isinstance(value, float):
        return value
    short = float(f"{value:.7g}")
    return short if struct.pack("f", short) == struct.pack("f", value) else value
