"""What `motc bench` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from motc.report.words import in_bytes

if TYPE_CHECKING:
    from motc.bench import DepthCompilation, Report, SideKernels
    from motc.bench.kernels import GraphKernels, LayerKernels
    from motc.bench.portable.timing import Spread

PIPED_WIDTH = 160
NONE = "–"


def print_report(report: Report) -> None:
    """Two tables: times, and what each model takes beside time."""
    console = _console()
    machine = report.machine
    console.print(
        f"{report.model}: {report.batch} x {report.sequence} tokens, {report.pairs} pairs, on {machine.processor}, "
        f"{machine.threads} threads, torch {machine.torch}"
    )
    for name, span in report.spans.items():
        console.print(f"{name} comes in whole spans of {span} tokens; shares are the nearest{_shares(report)}")
    console.print(_times(report))
    console.print("products: mot / dense of the matrix products alone, by the profiler; the rest: of all but them")
    console.print(_costs(report))
    late = sum(cell.graphs_meanwhile for cell in report.cells)
    if late:
        console.print(f"{late} graphs were compiled while the clock ran: those times say little")


def _shares(report: Report) -> str:
    used = dict.fromkeys(f"{cell.share:.4g}" for cell in report.cells if cell.share is not None)
    return f": {', '.join(used)}" if used else ""


def _times(report: Report) -> Table:
    names = list(report.cells[0].tokens)
    table = Table("dtype", "mode")
    for title in (" / ".join(names), "mot ms", "dense ms", "reference ms", "mot tokens/s"):
        table.add_column(title, justify="right")
    for title in ("mot / dense (10 % .. 90 %)", "products", "the rest", "reference / dense (10 % .. 90 %)"):
        table.add_column(title, justify="right")
    last = None
    for cell in report.cells:
        if last and last != (cell.dtype, cell.mode):
            table.add_section()
        last = (cell.dtype, cell.mode)
        parts = (cell.products_ratio("mot"), cell.rest_ratio("mot"))
        table.add_row(
            cell.dtype,
            cell.mode,
            " / ".join(str(count) for count in cell.tokens.values()),
            *(f"{1000 * cell.median(side):.1f}" for side in ("mot", "dense", "reference")),
            f"{cell.tokens_per_second('mot'):,.0f}",
            _spread(cell.ratio("mot")),
            *(NONE if ratio is None else f"{ratio.median:.3f}" for ratio in parts),
            _spread(cell.ratio("reference")),
        )
    return table


def _spread(ratio: Spread) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f} .. {ratio.high:.3f})"


def _costs(report: Report) -> Table:
    phases = list(dict.fromkeys(each.phase for each in report.compilations))
    table = Table("dtype", "model")
    titles = ["parameters", "beyond dense", "peak of a step"]
    titles += [f"compile {phase}, s (first)" for phase in phases]
    for title in (*titles, "graphs", "breaks", "kernels a layer", "products a layer"):
        table.add_column(title, justify="right")
    for memory in report.memory:
        key = (memory.dtype, memory.side)
        by_phase = {c.phase: c.compilation for c in report.compilations if (c.dtype, c.side) == key}
        layers = next((kernels.layers for kernels in report.kernels if (kernels.dtype, kernels.side) == key), ())
        table.add_row(
            *key,
            in_bytes(memory.parameters),
            in_bytes(memory.parameters - report.parameters(memory.dtype, "dense")),
            NONE if memory.peak is None else in_bytes(memory.peak),
            *(f"{by_phase[p].seconds:.1f} ({by_phase[p].first_seconds:.1f})" if by_phase else NONE for p in phases),
            str(sum(each.graphs for each in by_phase.values())) if by_phase else NONE,
            str(sum(each.graph_breaks for each in by_phase.values())) if by_phase else NONE,
            _listed(layer.kernels for layer in layers),
            _listed(layer.products for layer in layers),
        )
    return table


def print_kernels(sides: Sequence[SideKernels]) -> None:
    """For each dtype and kind of layer, the kernels in the order of their calls, the model's beside its twin's."""
    console = _console()
    for dtype in dict.fromkeys(side.dtype for side in sides):
        mot, dense = (next(s for s in sides if (s.dtype, s.side) == (dtype, name)) for name in ("mot", "dense"))
        for ours, theirs in zip_longest(mot.layers, dense.layers):
            console.print(_layer(dtype, ours, theirs))


def _layer(dtype: str, ours: LayerKernels | None, theirs: LayerKernels | None) -> Table:
    table = Table(title=f"{dtype}: a layer's training step, in the order of calls", title_justify="left")
    for side, layer in (("mot", ours), ("dense", theirs)):
        table.add_column(f"{side}: {layer.layers} × {layer.kind}" if layer else side, overflow="fold")
    for direction in ("forward", "backward"):
        columns = [[] if layer is None else _lines(getattr(layer, direction)) for layer in (ours, theirs)]
        for row in zip_longest(*columns, fillvalue=""):
            table.add_row(*row)
        table.add_section()
        table.add_row(
            *("" if layer is None else _sum(direction, getattr(layer, direction)) for layer in (ours, theirs)),
            end_section=True,
        )
    return table


def _lines(graphs: Iterable[GraphKernels]) -> list[str]:
    return [name for graph in graphs for name in graph.kernels]


def _sum(direction: str, graphs: Sequence[GraphKernels]) -> str:
    kernels, nests = sum(len(graph.kernels) for graph in graphs), sum(graph.generated for graph in graphs)
    products = sum(graph.products for graph in graphs)
    others = sum(len(graph.library_calls) for graph in graphs) - products
    return (
        f"{direction}: {kernels} kernels ({nests} generated), {products} matrix products, {others} other library calls"
    )


def print_depths(depths: Sequence[DepthCompilation]) -> None:
    """Seconds at each depth, and in times of the shallowest."""
    table = Table("dtype", "model")
    for title in ("layers", "compile s", "of the first", "graphs", "breaks"):
        table.add_column(title, justify="right")
    for depth in depths:
        first = next(each for each in depths if (each.dtype, each.side) == (depth.dtype, depth.side))
        table.add_row(
            depth.dtype,
            depth.side,
            str(depth.layers),
            f"{depth.seconds:.1f}",
            f"{depth.seconds / first.seconds:.2f}",
            str(depth.graphs),
            str(depth.graph_breaks),
        )
    _console().print(table)


def _listed(numbers: Iterable[int]) -> str:
    """One number a kind of layer."""
    return ", ".join(str(number) for number in numbers) or NONE


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
