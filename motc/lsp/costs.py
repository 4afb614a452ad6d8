"""What is told of a model's size: of its groups, of a modality, and what changed since the file was saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from motc.cost import cost, leaf_parameters
from motc.cost.parameters import leaves_with_counts
from motc.diff.edit import signed
from motc.ir.inventory import SECTIONS
from motc.ir.model import Model
from motc.lsp.analysis import Analysis
from motc.report.words import braces, entering, held, leaving, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A remark behind a place in the text."""

    at: int
    text: str


def hints(analysis: Analysis) -> tuple[Hint, ...]:
    """Parameters of the model and of its sections, those that a token of each modality meets, and its FLOPs."""
    meaning, outline = analysis.meaning, analysis.outline
    if meaning is None or not analysis.is_right:
        return ()
    now, before = cost(meaning.model), None if analysis.saved is None else cost(analysis.saved.model)
    told: list[Hint] = []
    name = next((word for word in outline.words if word.path == ("model",) and word.role == "value"), None)
    if name is not None:
        changed = "" if before is None else _change(now.parameters - before.parameters, "parameters")
        told.append(Hint(at=name.end, text=f"{short(now.parameters)} parameters{changed}"))
    for word in outline.words:
        of = word.shown
        if word.role == "name" and word.path == ("modalities", of) and of in now.active:
            flops = now.flops_per_token[of]
            text = f"{short(now.active[of])} active, {short(flops)} FLOPs a token"
            if before is not None and of in before.flops_per_token:
                text += _change(flops - before.flops_per_token[of], "FLOPs")
            told.append(Hint(at=word.end, text=text))
        elif word.role == "key" and len(word.path) == 1 and of in SECTIONS:
            parameters = sum(now.groups.get(path, 0) for path in SECTIONS[of])
            if parameters:
                told.append(Hint(at=word.end, text=f"{short(parameters)} parameters"))
    return tuple(told)


def _change(number: int, unit: str) -> str:
    return f" ({signed(number)} {unit} against the file)" if number else ""


def told_groups(model: Model, paths: tuple[str, ...]) -> Iterator[str]:
    """A table of groups: what is shared by whom, what a copy holds, parameters, and FLOPs of a token in one layer."""
    rows = []
    for leaf, count in leaves_with_counts(model):
        if leaf.path in paths:
            holds = ", ".join(dict.fromkeys(held(block.operator) for block in leaf.blocks))
            flops = ", ".join(dict.fromkeys(f"{block.operator.flops:,}" for block in leaf.blocks))
            many = f"{count} × " if count > 1 else ""
            rows.append(
                f"| `{leaf.path}` | {braces(leaf.partition())} | {holds} | {many}{leaf_parameters(leaf):,} | {flops} |"
            )
    if rows:
        head = "| group | partition | a copy holds | parameters | FLOPs a token and layer |\n|---|---|---|--:|--:|"
        yield "\n".join([head, *dict.fromkeys(rows)])


def told_modality(model: Model, name: str) -> Iterator[str]:
    """A modality's tower, what comes in and what is made of it, and what a token costs."""
    modality = next((each for each in model.modalities if each.name == name), None)
    if modality is None:
        return
    tower = next(block for block in model.towers.blocks if name in block)
    ways = [" ".join(filter(None, each)) for each in (entering(modality, model), leaving(modality, model))]
    costs = cost(model)
    yield f"tower {{{' '.join(tower)}}}, width {modality.width:,}; {'; '.join(ways)}"
    yield f"a token: {costs.active[name]:,} active parameters, {costs.flops_per_token[name]:,} FLOPs"
