"""`motc show`: what a spec's model is made of and what it costs; or which spec weights are of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motc.cli.output import (
    DenseOption,
    HtmlOption,
    JsonOption,
    SetOption,
    SpecPath,
    StrategyOption,
    SvgOption,
    overrides,
    print_json,
    write_picture,
)

if TYPE_CHECKING:
    from motc.ir.leaf import Leaf
    from motc.ir.model import Model
    from motc.source import SourceFile
    from motc.weights.kept import Kept

PIPED_WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRange:
    """A parameter group, alike in layers `first` to `last` (None: outside the layers)."""

    leaf: Leaf
    layers: tuple[int, int] | None

    @property
    def count(self) -> int:
        return 1 if self.layers is None else self.layers[1] - self.layers[0] + 1


def run(
    spec: SpecPath,
    dense: DenseOption = False,
    json: JsonOption = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every key with its value and where that came from.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="How a layer is executed: gathers, scatters, matrix products.")
    ] = False,
    html: HtmlOption = None,
    svg: SvgOption = None,
    strategy: StrategyOption = None,
    set_: SetOption = None,
) -> None:
    """Show a model's parameter groups, their partitions, parameters, FLOPs and bytes.

    Of weights, a safetensors file or a folder of them, the spec that they are of is printed.
    """
    from motc.driver import check_spec, final_ir
    from motc.weights.stored import is_weights

    source: Path | SourceFile = spec
    if is_weights(spec):
        kept = kept_spec(spec)
        if not (json or plan or resolved or html or svg):
            typer.echo(f"# {spec}: {kept.told}\n{kept.spec.text}", nl=False)
            return
        source, dense = kept.spec, dense or kept.dense
    checked = check_spec(source, overrides(set_))
    model = final_ir(checked, dense=dense, strategy=strategy)
    printed = json or plan or resolved
    if html is not None:
        from motc.report.page import page
        from motc.report.subject import Subject

        write_picture(html, page(Subject(checked, model, dense)), told=not printed)
    if svg is not None:
        from motc.report import drawn, standalone

        write_picture(svg, standalone(drawn(model)), told=not printed)
    if (html or svg) and not printed:
        return
    if plan:
        from motc.cli import plan as execution

        if json:
            print_json(execution.to_json(model))
        else:
            execution.echo(model)
    elif resolved:
        from motc.lower.resolved import resolved as resolve

        keys = list(resolve(checked))
        if json:
            print_json({key: {"value": value, "from": origin} for key, value, origin in keys})
        else:
            _print_resolved(keys)
    elif json:
        print_json(to_json(model))
    else:
        _print_model(model, spec)


def kept_spec(path: Path) -> Kept:
    """What weights say of their model, which they fit."""
    from motc.ir.names import saved_shapes
    from motc.weights.fit import check_fit
    from motc.weights.kept import kept_with
    from motc.weights.stored import open_weights

    stored = open_weights(path)
    kept = kept_with(stored)
    model = kept.model()
    check_fit(stored, saved_shapes(model))
    return kept


def to_json(model: Model) -> dict[str, Any]:
    """What `motc show --json` prints."""
    from motc.cost import cost, kv_cache_bytes_per_token, leaf_parameters, memory
    from motc.ir.identity import semantic_hash

    return {
        "model": model.name,
        "semantic_hash": semantic_hash(model),
        "modalities": [modality.name for modality in model.modalities],
        "towers": [list(block) for block in model.towers.blocks],
        "layers": model.layers,
        **cost(model).to_json(),
        "groups": [
            {
                "group": group.leaf.path,
                "layers": None if group.layers is None else list(group.layers),
                "partition": [list(block) for block in group.leaf.partition()],
                "parameters": leaf_parameters(group.leaf) * group.count,
            }
            for group in groups(model)
        ],
        "bytes": {
            "float32": memory(model, "float32").weights,
            "bfloat16": memory(model, "bfloat16").weights,
            "training_float32": memory(model, "float32").training,
            "kv_cache_per_token_bfloat16": kv_cache_bytes_per_token(model),
        },
    }


def groups(model: Model) -> Iterator[GroupRange]:
    """Every group in the order of the forward, runs of layers where it does not change as one."""
    yield from (GroupRange(leaf=leaf, layers=None) for leaf in model.leaves_before())
    paths = dict.fromkeys(leaf.path for segment in model.segments for leaf in segment.layer.leaves())
    for path in paths:
        runs: list[GroupRange] = []
        for segment in model.segments:
            for leaf in segment.layer.leaves():
                if leaf.path != path:
                    continue
                last = runs[-1] if runs else None
                if last and last.layers and last.leaf == leaf and last.layers[1] == segment.first - 1:
                    runs[-1] = GroupRange(leaf=leaf, layers=(last.layers[0], segment.last))
                else:
                    runs.append(GroupRange(leaf=leaf, layers=(segment.first, segment.last)))
        yield from runs
    yield from (GroupRange(leaf=leaf, layers=None) for leaf in model.leaves_after())


def _print_resolved(keys: list[tuple[str, Any, str]]) -> None:
    import json

    shown = [(key, value if isinstance(value, str) else json.dumps(value), origin) for key, value, origin in keys]
    shown = [(key, "none" if value == "null" else value, origin) for key, value, origin in shown]
    widths = [min(60, max(len(row[column]) for row in shown)) for column in (0, 1)]
    for key, value, origin in shown:
        typer.echo(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")


def _print_model(model: Model, spec: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.tree import Tree

    from motc.cost import cost, kv_cache_bytes_per_token, leaf_parameters, memory
    from motc.ir.model import FeatureModality, LatentModality
    from motc.ir.print import told_loss
    from motc.report.words import in_bytes, ranges

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
    tree = Tree(f"{model.name} ({spec})")
    modalities = tree.add("modalities")
    for modality in model.modalities:
        if isinstance(modality, LatentModality):
            ends = modality.ends
            kind = f"latent, {ends.channels} channels in patches of {ends.words}, {ends.kind} ends{ends.told}"
            kind += f", {modality.denoised}"
        elif isinstance(modality, FeatureModality):
            kind = f"features of {modality.projector}"
        else:
            kind = f"vocab {model.vocab:,}, shared" if modality.vocab is None else f"vocab {modality.vocab:,}"
            kind += told_loss(modality.loss)
        modalities.add(f"{modality.name}: width {modality.width:,}, {kind}")
    tree.add(f"towers {model.towers}")
    layers = tree.add(f"{model.layers} layers")
    runs_of: dict[int, list[tuple[int, int]]] = {}
    for segment in model.segments:
        runs_of.setdefault(id(segment.layer), []).append((segment.first, segment.last))
    ropes = {attention.rope for layer, _ in model.kinds for attention in layer.attentions}
    for layer, _ in model.kinds:
        parallel = f", in parallel with {layer.parallel}" if layer.parallel else ""
        bodies = ", ".join(sublayer.body.brief(model.names) for sublayer in layer.sublayers)
        rotated = (f"rope {a.rope}" if a.rope else "no rope" for a in layer.attentions if len(ropes) > 1)
        positions = "".join(f", {each}" for each in rotated)
        scale = f", added times {layer.residual_scale:g}" if layer.residual_scale != 1 else ""
        scale += ", added to what came into the layer" if layer.residual_around == "layer" else ""
        layers.add(f"{ranges(runs_of[id(layer)])}: {bodies}{positions}, norm {layer.placements}{parallel}{scale}")
    console.print(tree)

    table = Table("group", "layers", "partition")
    table.add_column("parameters", justify="right")
    alike: dict[Leaf, list[GroupRange]] = {}
    for group in groups(model):
        alike.setdefault(group.leaf, []).append(group)
    for leaf, runs in alike.items():
        partition = " ".join("{" + " ".join(block) + "}" for block in leaf.partition())
        where = ranges([run.layers for run in runs if run.layers])
        table.add_row(leaf.path, where, partition, f"{leaf_parameters(leaf) * sum(run.count for run in runs):,}")
    console.print(table)

    costs = cost(model)
    table = Table("a token of")
    for title in ("active parameters", "FLOPs"):
        table.add_column(title, justify="right")
    for name, active in costs.active.items():
        table.add_row(name, f"{active:,}", f"{costs.flops_per_token[name]:,}")
    console.print(table)
    single, half = memory(model, "float32"), memory(model, "bfloat16")
    console.print(f"parameters  {costs.parameters:,}")
    console.print(f"weights     {in_bytes(single.weights)} in float32, {in_bytes(half.weights)} in bfloat16")
    console.print(f"training    {in_bytes(single.training)} in float32 with AdamW, without activations")
    console.print(f"kv cache    {in_bytes(kv_cache_bytes_per_token(model))} a token in bfloat16")
