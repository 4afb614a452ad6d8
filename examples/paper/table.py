"""The table of specs/paper/README.md, from the specs themselves: `python examples/paper/table.py` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from motc.cost import cost
from motc.diff import diff
from motc.diff.edit import layer_range
from motc.driver import compile_ir
from motc.ir.model import Model

PAPER = Path(__file__).resolve().parents[2] / "specs" / "paper"
README = PAPER / "README.md"
HEADER = """\
| spec | modalities | width × layers × heads | untied | parameters, M | active, M | MFLOPs a token | paper's name |
|---|---|---|---|---:|---:|---:|---|
"""


def table() -> str:
    """A header and a row for each spec of the folder: by modalities, then by size, dense before what unties more."""
    pairs = [(path, compile_ir(path), compile_ir(path, dense=True)) for path in PAPER.glob("*.mot")]
    costs = {path: cost(model) for path, model, _ in pairs}
    pairs.sort(
        key=lambda row: (
            [modality.name for modality in row[1].modalities],
            max(costs[row[0]].active.values()),
            costs[row[0]].parameters,
            row[0].stem,
        )
    )
    rows = []
    for path, model, twin in pairs:
        total = costs[path]
        cells = (
            f"[{path.stem}]({path.name})",
            " + ".join(modality.name for modality in model.modalities),
            size(model),
            untied(twin, model),
            millions(total.parameters),
            by_modality(total.active),
            by_modality(total.flops_per_token),
            paper_name(path.stem),
        )
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEADER + "".join(rows)


def size(model: Model) -> str:
    """`1024 × 24 × 16`; every width where towers differ in it."""
    widths = "/".join(str(width) for width in dict.fromkeys(modality.width for modality in model.modalities))
    heads = "/".join(dict.fromkeys(str(a.heads) for layer, _ in model.kinds for a in layer.attentions))
    return f"{widths} × {model.layers} × {heads}"


def untied(twin: Model, model: Model) -> str:
    """What tells the model from its dense twin: `attention, ffn, norm: {text} {image}`; a dash if nothing does.

    Experts that the twin has as well stand first.
    """
    subjects: dict[str, list[str]] = {}
    whole = (0, model.layers - 1)
    for edit in diff(twin, model):
        where = "" if edit.layers in (None, whole) else f" in {layer_range(*edit.layers)}"
        subjects.setdefault(f"{edit.after or edit.before}{where}", []).append(edit.subject)
    mixtures = dict.fromkeys(moe for _, moe in twin.mixtures)
    experts = [f"all have {moe}" for moe in mixtures]
    return "; ".join([*experts, *(f"{', '.join(names)}: {change}" for change, names in subjects.items())]) or "–"


def by_modality(numbers: dict[str, int]) -> str:
    """One figure in millions where all modalities have the same, else one each."""
    if len(set(numbers.values())) == 1:
        return millions(next(iter(numbers.values())))
    return ", ".join(f"{name} {millions(number)}" for name, number in numbers.items())


def millions(number: int) -> str:
    return f"{number / 1e6:,.1f}"


def paper_name(stem: str) -> str:
    """`1.5B` for `chameleon_1_5b_mot`: the size the paper gives the model, which is in the file's name."""
    size_in_name = re.search(r"_(\d+(?:_\d+)?)([mb])_", stem)
    return f"{size_in_name[1].replace('_', '.')}{size_in_name[2].upper()}" if size_in_name else "–"


def with_table(text: str) -> str:
    """The text, its last table (which ends it) replaced by today's."""
    before, header, _ = text.partition(HEADER.partition("\n")[0])
    if not header:
        raise ValueError(f"{README} has no such table to replace: its header is not there")
    return before + table()


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
