"""What `motc show --plan` prints: how a layer of each kind is executed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from motc.ir.model import Model
from motc.plan.reordering import naive_moves, permutations, planned_moves


def to_json(model: Model) -> dict[str, Any]:
    """The same for programs."""
    return {
        "strategy": model.strategy,
        "order": list(model.order),
        "residual": model.residual,
        "layers": [
            {
                "layers": [segment.first, segment.last],
                "naive": asdict(naive_moves(segment.layer, model)),
                "planned": asdict(planned_moves(segment.layer, model)),
                "permutations": [asdict(permutation) for permutation in permutations(segment.layer)],
            }
            for segment in model.segments
        ],
    }


def echo(model: Model) -> None:
    """Tables for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    kept = "sorted by modality" if model.residual == "sorted" else "in attention's rows"
    typer.echo(f"strategy {model.strategy}; tokens are sorted as {', '.join(model.order)}; the stream is kept {kept}")
    for segment in model.segments:
        where = str(segment.first) if segment.count == 1 else f"{segment.first}..{segment.last}"
        table = Table(f"a layer of {where}")
        for title in ("gathers", "scatters", "matrix products"):
            table.add_column(title, justify="right")
        rows = (("by masks", naive_moves(segment.layer, model)), ("planned", planned_moves(segment.layer, model)))
        for name, moves in rows:
            table.add_row(name, str(moves.gathers), str(moves.scatters), str(moves.products))
        console.print(table)
        for move in permutations(segment.layer):
            needed = ", ".join(move.forced_by)
            typer.echo(f"  {move.value} {move.direction}, {move.numbers:,} numbers a token, for {needed}")
