"""Peak memory of `motc import --weights` and of `motc init` on a folder as large as Llama 7B's.

    python bench/memory.py --layers 32 build/memory       # 20 GB of disk, for some minutes

The folder has the shapes of Llama 7B in bfloat16, a file for each layer, whose numbers are all zeros: files with holes,
which take no disk. What is written does. `motc init` makes a model of it with an attention of its own for images, a
noised copy, and a fresh head. Beside the peaks stand that of a process which only imports torch, the size of a layer
and that of the largest tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from math import prod
from pathlib import Path

from motc.weights.header import header_bytes

VOCAB, WIDTH, HIDDEN, HEADS = 32000, 4096, 11008, 32
LAYER = {
    "input_layernorm": (WIDTH,),
    "post_attention_layernorm": (WIDTH,),
    **{f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"},
    "mlp.gate_proj": (HIDDEN, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}
ENDS = {"model.embed_tokens": (VOCAB, WIDTH), "model.norm": (WIDTH,), "lm_head": (VOCAB, WIDTH)}
Shapes = dict[str, tuple[int, ...]]

SPEC = """model mot {
  extends "dense.mot"
  modality image { features { size = 1152 } }
  untie attention
}
"""
MAP = """copy *
noise 0.01 image.attention, embedding
fresh features, head
unused head
"""


def write_folder(folder: Path, layers: int) -> int:
    """The configuration, a file for each layer and one for the ends, and the index; how many bytes of numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = dict(zip(names, (VOCAB, WIDTH, HIDDEN, layers, HEADS), strict=True))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **sizes}))
    files = [{f"model.layers.{layer}.{name}": shape for name, shape in LAYER.items()} for layer in range(layers)]
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate([*files, ENDS]):
        file = folder / f"model-{number:05}.safetensors"
        weight_map |= {f"{name}.weight": file.name for name in shapes}
        header = header_bytes([(f"{name}.weight", "BF16", shape) for name, shape in shapes.items()], {"format": "pt"})
        with file.open("wb") as opened:
            opened.write(header)
            opened.truncate(len(header) + bytes_of(shapes))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return sum(map(bytes_of, [*files, ENDS]))


def bytes_of(shapes: Shapes) -> int:
    """Of tensors in bfloat16."""
    return sum(2 * prod(shape) for shape in shapes.values())


def measure(what: str, *arguments: str) -> None:
    """Run a program of Python, and print what it took at most and how long. Raises SystemExit where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{what}: failed")
    print(f"{what:<28} {used.ru_maxrss * 1024 / 1e6:>7,.0f} MB   {time.perf_counter() - start:>5.0f} s", flush=True)


def main() -> None:
    """Write the folder, and measure; what was written is removed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything is written")
    parser.add_argument("--layers", type=int, default=32)
    arguments = parser.parse_args()
    where: Path = arguments.folder / "motc_memory"
    whole = write_folder(where / "llama", arguments.layers)
    largest = max(2 * prod(shape) for shape in (LAYER | ENDS).values())
    print(f"{whole / 1e9:.1f} GB; a layer {bytes_of(LAYER) / 1e6:.0f} MB, the largest tensor {largest / 1e6:.0f} MB")
    (where / "mot.mot").write_text(SPEC)
    (where / "mot.map").write_text(MAP)
    dense, weights = where / "dense.mot", where / "written.safetensors"
    motc = ("-m", "motc")
    try:
        measure("import torch", "-c", "import torch")
        measure("motc import --weights", *motc, "import", f"{where}/llama", "-o", f"{dense}", "--weights", f"{weights}")
        weights.unlink()
        init = ("init", f"{where}/mot.mot", "--from", f"{where}/llama", "--map", f"{where}/mot.map", "-o", f"{weights}")
        measure("motc init", *motc, *init)
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
