"""Mapping files and map files with something wrong in them: it is told where, or they mean every tensor once."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

from motc.driver import check_spec, compile_ir, final_ir
from motc.exporting.original import tensor_shapes
from motc.ir.model import Model
from motc.ir.names import saved_shapes
from motc.source import SourceFile, SpecError
from motc.syntax import read_file
from motc.upcycling.groups import Groups
from motc.upcycling.plan import plan_init
from motc.upcycling.statements import read_statements
from motc.weights import bijection_of, read_mapping
from tests.fuzz.damage import Untold
from tests.fuzz.texts import alter
from tests.originals import GALLERY, Original
from tests.published import ORIGINALS

MAPPED = ("llama_3_2_1b", "mixtral_8x7b", "gpt_oss_20b", "phi3_mini", "pythia_1_4b", "qwen3_30b_a3b", "gemma_2_2b")

DENSE = """
model dense {
  width = 16, layers = 4, vocab = 9
  modality text
  attention { heads = 2 }
  ffn { hidden = 8 }
}
"""
MOT = """
model mot {
  width = 16, layers = 2, vocab = 9
  modality text, image
  attention { heads = 2 }
  ffn { hidden = 8 }
  tower painter = image { ffn { kind = moe, experts = 3, hidden = 8, top_k = 2 } }
  untie attention, ffn, norm
}
"""
MAP = """# how it begins
copy *
copy * in layers 0..1 from dense layers 1..3 step 2
noise 0.1 image.attention.q, image.attention.k in layer 1
slice text.ffn in layers 0..1
repeat 0.01 painter.ffn.up from dense.text
repeat painter.ffn.gate, painter.ffn.down
fresh painter.ffn.router
zero image.attention.out in layers 0..1 step 1
unused * in layers 0..2 step 2 from dense
"""

WORDS = (
    *"copy slice noise repeat fresh zero unused * ** image text painter dense nobody from in layers layer step".split(),
    *"attention.q attention.* ffn ffn.up *.norm *.bias head 0 1 -1 7 0..1 1..0 0..9 0..99999999999 1e999 0.1".split(),
    *"rows experts stacked transposed head_rows expert_rows expert_turns tensors tied left_out otherwise none".split(),
    *"model.embed_tokens model.layers.*.mlp.up_proj layers.*.ffn.up layers.*.attention.q lm_head final_norm".split(),
    *"{ } [ ] , : . # \" ' & ! | > ? % @ ` - é \u0000 \u200b \u2028 \ud7ff null true 3".split(),
    *("\n", "\n  ", "\t", "9" * 5000, "x" * 70, "[" * 200, "{a: " * 90, "\r", "\ufeff"),
)


def no_map_goes_untold(seed: int, under: Path) -> None:
    """A mapping file or a map file, drawn from a seed. Raises Untold."""
    draw = random.Random(seed)
    if seed % 2:
        mapping_is_told(draw, under / "it.yaml")
    else:
        map_is_told(draw, under / "it.map")


def mapping_is_told(draw: random.Random, path: Path) -> None:
    """What is read of a mapping uses every tensor, and fills every parameter, once; or it is said what is wrong."""
    spec = draw.choice(MAPPED)
    original = next(each for each in ORIGINALS if each.spec == spec)
    model, tensors = small(original)
    good = GALLERY / "mappings" / f"{original.mapping}.yaml"
    text = write_mutated(draw, path, good.read_text())
    try:
        mapping = read_mapping(path)
    except SpecError as error:
        is_placed(error, path, text)
        return
    try:
        bijection = bijection_of(mapping, tensors, model)
    except ValueError as error:
        if path.name not in str(error):
            raise Untold(f"no file is named: {error}\n{text}") from None
        return
    used = Counter(name for move in bijection.moves for name in move.tensors) + Counter(bijection.tied.keys())
    full = Counter(name for move in bijection.moves for name in move.parameters)
    left_out = {name for name in tensors if name not in used}
    if set(used.values()) != {1} or full != Counter(saved_shapes(model).keys()):
        raise Untold(f"tensors are used {used}, parameters filled {full}:\n{text}")
    if left_out and not mapping.left_out:
        raise Untold(f"{left_out} are not used:\n{text}")


def map_is_told(draw: random.Random, path: Path) -> None:
    """What is read of a map says of every parameter how it begins; or what is wrong is said, with its place."""
    target, sources = groups(MOT), {"dense": groups(DENSE)}
    text = write_mutated(draw, path, MAP)
    try:
        plan = plan_init(target, read_statements(read_file(path)), sources)
    except SpecError as error:
        is_placed(error, path, text)
        return
    if [start.parameter for start in plan.starts] != list(target.shapes):
        raise Untold(f"not all parameters begin:\n{text}")


def is_placed(error: SpecError, path: Path, text: str) -> None:
    """Each mistake that is in the file has its line and column there, and none has no words."""
    for each in error.diagnostics:
        if each.span is not None and not re.match(rf"{re.escape(str(path))}:\d+:\d+: MOT\d{{3}}", str(SpecError(each))):
            raise Untold(f"no place is told: {each}\n{text}")
        if each.span is None and each.code not in ("MOT112", "MOT110") and path.name not in each.message:
            raise Untold(f"no file is named: {each}\n{text}")


def write_mutated(draw: random.Random, path: Path, text: str) -> str:
    """A text with words replaced, doubled, left out, exchanged or put in, or its lines; sometimes no text at all."""
    if draw.random() < 0.03:
        path.write_bytes(
            draw.choice([b"", b"\xff\xfe", b"\0" * 9, text.encode("utf-16"), text.encode()[:-7] + b"\xc3"])
        )
        return repr(path.read_bytes())
    is_by_lines = draw.random() < 0.4
    pieces = text.splitlines(keepends=True) if is_by_lines else re.findall(r"[\w.*]+|\s+|[^\w\s]", text)
    for _ in range(draw.randint(1, 3)):
        place, other = draw.randrange(len(pieces)), draw.randrange(len(pieces))
        how = draw.choice(["replace", "drop", "double", "exchange", "insert", "copy"])
        alter(pieces, how, place, other, lambda: draw.choice(WORDS))
    mutated = "".join(pieces)
    path.write_bytes(mutated.encode(errors="surrogatepass"))
    return mutated


@cache
def small(original: Original) -> tuple[Model, dict[str, tuple[int, ...]]]:
    """A small model of the gallery, and the tensors that its checkpoint has."""
    model = compile_ir(original.path, original.overrides)
    return model, tensor_shapes(original.weights, saved_shapes(model))


@cache
def groups(spec: str) -> Groups:
    checked = check_spec(SourceFile("it.mot", spec))
    return Groups(final_ir(checked), checked.spec)
