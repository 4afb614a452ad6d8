"""Good checkpoints, and what damages them, each drawn from a seed."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Header = dict[str, Any]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
}
SMALL = """
model small {
  width = 16, layers = 2
  modality text { vocab = 9 }, image { vocab = 7 }
  attention { heads = 2 }
  ffn { kind = moe, experts = 3, hidden = 8, correction = true }
  untie attention
}
"""
"""A model whose weights are saved and damaged."""

STRANGE: list[Any] = [None, True, -1, 0, 1, 3, 10**30, 2**31, 0.5, 1e308, float("nan"), float("inf"), "", "x", "16"]
STRANGE += ["../x", "\0", "é" * 300, [], [1], ["x"], [[]], {}, {"x": 1}, {"rope_type": "yarn"}, {"rope_type": None}]


class Untold(AssertionError):
    """Something wrong was not told as it should be."""


@dataclass
class Damaged:
    """A folder, and what was done to it. `tensors` are the names of which one has to be told; none: any will do.

    `is_wrong`: whether it must be refused.
    """

    folder: Path
    done: str
    is_wrong: bool = True
    tensors: tuple[str, ...] = ()


def llama(draw: random.Random) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and tensors of a small Llama, Mixtral or Phi-3."""
    kind = draw.choice(["LlamaForCausalLM", "MixtralForCausalLM", "Phi3ForCausalLM"])
    config = {**CONFIG, "architectures": [kind]}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (24, 16), "model.norm.weight": (16,)}
    shapes["lm_head.weight"] = (24, 16)
    for layer in range(2):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{norm}.weight"] = (16,)
        attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
        shapes[f"{attention}.o_proj.weight"] = (16, 16)
        if kind == "Phi3ForCausalLM":
            shapes[f"{attention}.qkv_proj.weight"] = (16 + 8 + 8, 16)
            shapes[f"{mlp}.gate_up_proj.weight"], shapes[f"{mlp}.down_proj.weight"] = (48, 16), (16, 24)
            continue
        shapes |= {f"{attention}.{name}_proj.weight": (size, 16) for name, size in (("q", 16), ("k", 8), ("v", 8))}
        if kind == "LlamaForCausalLM":
            shapes |= {f"{mlp}.{name}_proj.weight": (24, 16) for name in ("gate", "up")}
            shapes[f"{mlp}.down_proj.weight"] = (16, 24)
            continue
        moe = f"model.layers.{layer}.block_sparse_moe"
        shapes[f"{moe}.gate.weight"] = (3, 16)
        for expert in range(3):
            experts = f"{moe}.experts.{expert}"
            shapes |= {f"{experts}.{name}.weight": (24, 16) for name in ("w1", "w3")}
            shapes[f"{experts}.w2.weight"] = (16, 24)
    if kind == "MixtralForCausalLM":
        config |= {"num_local_experts": 3, "num_experts_per_tok": 2}
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    return config, {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], draw: random.Random) -> None:
    """A folder as Hugging Face has them, in one file or in shards."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if draw.random() < 0.5:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    shards = [names[start::3] for start in range(3)]
    files = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    for file, theirs in zip(files, shards, strict=True):
        save_file({name: tensors[name] for name in theirs}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, theirs in zip(files, shards, strict=True) for name in theirs}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def damaged_tensors(tensors: dict[str, Tensor], draw: random.Random) -> tuple[str, tuple[str, ...]]:
    """Damage to the tensors themselves: what was done, and to which."""
    name = draw.choice(sorted(tensors))
    x = tensors[name]
    match draw.choice(["missing", "extra", "shape", "dimension", "nan", "infinity", "integers", "dtype", "renamed"]):
        case "missing":
            del tensors[name]
            return f"{name} is missing", (name,)
        case "extra":
            more = draw.choice([f"{name}.more", "model.layers.2.input_layernorm.weight", "é.weight", name.upper()])
            tensors[more] = x.clone()
            return f"{more} is there", (more,)
        case "shape":
            tensors[name] = torch.cat([x, x[:1]]) if draw.random() < 0.5 else x[:-1].clone()
            return f"{name} is {list(tensors[name].shape)}", (name,)
        case "dimension":
            tensors[name] = x.T.contiguous() if x.ndim == 2 and x.shape[0] != x.shape[1] else x[None].clone()
            return f"{name} is {list(tensors[name].shape)}", (name,)
        case "nan" | "infinity" as kind:
            x.view(-1)[draw.randrange(x.numel())] = torch.nan if kind == "nan" else -torch.inf
            return f"{name} has {kind}", (name,)
        case "integers":
            tensors[name] = x.to(draw.choice([torch.int8, torch.int64, torch.bool]))
            return f"{name} is {tensors[name].dtype}", (name,)
        case "dtype":
            tensors[name] = x.to(torch.float8_e4m3fn)
            return f"{name} is {tensors[name].dtype}", (name,)
        case _:
            tensors[f"x{name}"] = tensors.pop(name)
            return f"{name} is called x{name}", (name, f"x{name}")


def damage_file(path: Path, draw: random.Random) -> str:
    """Damage to a file of weights, always such that it must be refused; what was done."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header: Header = json.loads(data[8 : 8 + length])
    numbers = data[8 + length :]
    name = draw.choice([key for key in header if key != "__metadata__"])
    entry = header[name]

    def write(text: str | bytes, start: int | None = None) -> None:
        encoded = text.encode() if isinstance(text, str) else text
        path.write_bytes((len(encoded) if start is None else start).to_bytes(8, "little") + encoded + numbers)

    kinds = [
        "cut",
        "length",
        "offsets",
        "twice",
        "dtype",
        "shape",
        "missing",
        "kind",
        "deep",
        "garbage",
        "more",
        "empty",
    ]
    kinds += ["pickle", "folder", "link", "fifo", "metadata", "constant", "entry", "overlap", "swap"]
    kind = draw.choice(kinds)
    match kind:
        case "cut":
            path.write_bytes(data[: draw.randrange(len(data))])
        case "length":
            wrong = draw.choice([0, 1, 7, length - 1, length + 8, 2**31, 2**40, 2**63, 2**64 - 1, len(data)])
            path.write_bytes(wrong.to_bytes(8, "little") + data[8:])
        case "offsets":
            start, end = entry["data_offsets"]
            shift = draw.choice([-8, -1, 1, 4, 2**40, 2**63])
            strange = draw.choice([[start + shift, end + shift], [start, end + shift], [end, start], [start], []])
            entry["data_offsets"] = draw.choice([strange, [0.5, end], [str(start), end], [True, end], None, {}])
            write(json.dumps(header))
        case "twice":
            text = json.dumps(header)
            write(text[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}")
        case "dtype":
            entry["dtype"] = draw.choice(["F31", "", "f32", "float32", "F64", "BF16", 5, None, ["F32"], "F32 "])
            write(json.dumps(header))
        case "shape":
            shape = entry["shape"]
            strange = draw.choice([[-1], [*shape, 2], [0, *shape], [1.0 * shape[0] + 0.5], [2**62, 2**62], ["16"], 16])
            entry["shape"] = draw.choice([strange, None, [None], [True, *shape[1:]], [-16, -16], [[16]], "16,16"])
            write(json.dumps(header))
        case "missing":
            del entry[draw.choice(sorted(entry))]
            write(json.dumps(header))
        case "kind":
            write(draw.choice(["[]", "3", "null", '"x"', "", "{", "{}}", '{"a": NaN}', '{"a": 1e999}', "{'a': 1}"]))
        case "deep":
            write('{"a": ' * 100_000)
        case "garbage":
            write(bytes(draw.randrange(128, 256) for _ in range(64)))
        case "more":
            path.write_bytes(data + b"\0" * draw.choice([1, 8, 4096]))
        case "empty":
            path.write_bytes(b"")
        case "pickle":
            if draw.random() < 0.5:
                path.write_bytes(pickle.dumps(Bomb(), protocol=draw.choice([2, 3, 4, 5])))
            else:
                torch.save({"x": torch.ones(2)}, path)
        case "folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.unlink()
            path.symlink_to(draw.choice(["nowhere", path.name, "/proc/self/mem", "/dev/zero", "/dev/null", "."]))
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "metadata":
            header["__metadata__"] = draw.choice([[], "x", 3, {"a": 1}, {"a": None}, {"a": {}}])
            write(json.dumps(header))
        case "constant":
            header[name] = draw.choice([None, [], "x", 3, {}])
            write(json.dumps(header))
        case "entry":
            header[f"{name}.more"] = entry
            write(json.dumps(header))
        case "overlap":
            other = header[draw.choice([key for key in header if key not in ("__metadata__", name)])]
            entry["data_offsets"], entry["shape"] = other["data_offsets"], other["shape"]
            write(json.dumps(header))
        case "swap":
            others = [of for key, of in header.items() if key != "__metadata__"]
            others = [of for of in others if prod(of["shape"]) != prod(entry["shape"])]
            if not others:  # of one size
                path.write_bytes(b"")
                return f"empty: {path.name}"
            other = draw.choice(others)
            entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
            write(json.dumps(header))
    return f"{kind}: {path.name}, {name}"


class Bomb:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_went_off, ())


def _went_off() -> None:
    raise Untold("a pickle was run")


def damage_index(path: Path, draw: random.Random) -> str:
    """Damage to an index of shards; what was done."""
    index = json.loads(path.read_text())
    weight_map = index["weight_map"]
    name = draw.choice(sorted(weight_map))
    file = weight_map[name]
    kind = draw.choice(["file", "tensor", "missing", "kind", "whole", "cut", "twice", "outside"])
    match kind:
        case "file":
            strange = ["nowhere.safetensors", "", ".", "..", "a/b.safetensors", "\0", None, 3, ["x"], "config.json"]
            weight_map[name] = draw.choice(strange)
        case "outside":
            (path.parent.parent / "outside").mkdir(exist_ok=True)
            shutil.copy(path.parent / file, path.parent.parent / "outside" / file)
            outside = path.parent.parent / "outside" / file
            wrong = draw.choice([f"../outside/{file}", str(outside), f"./../outside/{file}", f"x/../../outside/{file}"])
            index["weight_map"] = {each: wrong if its == file else its for each, its in weight_map.items()}
        case "tensor":
            weight_map[draw.choice(["more.weight", "", "é"])] = file
        case "missing":
            del weight_map[name]
        case "kind":
            index["weight_map"] = draw.choice([None, [], {}, "x", 3])
        case "whole":
            path.write_text(draw.choice(["[]", "null", "", "{", "3", "{}", '{"a": ' * 100_000]))
            return kind
        case "cut":
            text = path.read_text()
            path.write_text(text[: draw.randrange(len(text) - 1)])
            return kind
        case "twice":
            path.write_text(json.dumps(index)[:-2] + f", {json.dumps(name)}: {json.dumps(file)}}}}}")
            return f"{name} is twice in the index"
    path.write_text(json.dumps(index))
    return f"{kind} of {name} in the index"


def damaged_folder(seed: int, under: Path) -> Damaged:
    """A folder with something wrong in its weights."""
    draw = random.Random(seed)
    config, tensors = llama(draw)
    folder = under / "it"
    kind = draw.choice(["tensors", "file", "file", "index"])
    done, names = damaged_tensors(tensors, draw) if kind == "tensors" else ("", ())
    write_folder(folder, config, tensors, draw)
    index = folder / "model.safetensors.index.json"
    if kind == "index" and index.exists():
        done = damage_index(index, draw)
    elif kind != "tensors":
        done = damage_file(draw.choice(sorted(folder.glob("*.safetensors"))), draw)
    return Damaged(folder, done, tensors=names)


def damaged_config(seed: int, under: Path) -> Damaged:
    """A folder of good weights with a strange configuration, which may say the same after all."""
    draw = random.Random(seed)
    config, tensors = llama(draw)
    folder = under / "it"
    key = draw.choice([*config, "rope_scaling", "rope_theta", "sliding_window", "hidden_act", "head_dim", "unheard_of"])
    if draw.random() < 0.2:
        config.pop(key, None)
    else:
        config[key] = draw.choice(STRANGE)
    write_folder(folder, config, tensors, draw)
    path = folder / "config.json"
    if draw.random() < 0.2:
        text = path.read_text()
        others = [
            text[: draw.randrange(len(text))],
            "[]",
            "",
            "null",
            text[:-1] + ', "hidden_size": 16}',
            '{"a":' * 10**5,
        ]
        path.write_bytes(draw.choice([each.encode() for each in others] + [b"\xff\xfe", pickle.dumps(Bomb())]))
    return Damaged(folder, f"{key} is {config.get(key)!r}"[:200], is_wrong=False)
