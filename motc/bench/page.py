"""What a benchmark found as a page to look at: ratios against shares, times, and what each model takes."""

from __future__ import annotations

from html import escape

from motc.bench.plot import drawn
from motc.bench.portable.timing import Spread
from motc.bench.report import Report
from motc.report.document import document, section
from motc.report.plots import plots
from motc.report.tables import Value, number, table
from motc.report.words import in_bytes

NONE = Value("–", 0.0)


def to_html(report: Report, command: str) -> str:
    """One file that asks for nothing; `command` is what made it. Raises ImportError without matplotlib."""
    machine = report.machine
    told = f"{report.batch} × {report.sequence} tokens, {report.pairs} pairs · {machine.processor}, {machine.device}"
    told += f", {machine.threads} thread{'s' if machine.threads > 1 else ''}, torch {machine.torch}"
    sections = [section("command", "What made it", f'<code class="command">{escape(command)}</code>')]
    if any(cell.share is not None for cell in report.cells):
        figure = drawn(report)
        title = figure.axes[0].get_title()
        figure.axes[0].set_title("")
        sections.append(section("ratios", "Ratios against shares", plots([(title, figure)], command)))
    late = sum(cell.graphs_meanwhile for cell in report.cells)
    warned = f"<p>{late} graphs were compiled while the clock ran: those times say little.</p>" if late else ""
    sections += [section("times", "Times", warned + _times(report)), section("costs", "Beside time", _costs(report))]
    return document(
        f"{report.model} beside its dense twin", told, sections, "Made by motc bench; --json has every round."
    )


def _times(report: Report) -> str:
    sides = ("mot", "dense", "reference")
    rows = []
    for cell in report.cells:
        parts = (cell.products_ratio("mot"), cell.rest_ratio("mot"))
        rows.append(
            [
                Value(cell.dtype),
                Value(cell.mode),
                Value(" / ".join(map(str, cell.tokens.values())), cell.share or 0.0),
                *(Value(f"{1000 * cell.median(side):.1f}", cell.median(side)) for side in sides),
                number(round(cell.tokens_per_second("mot"))),
                _ratio(cell.ratio("mot")),
                *(NONE if each is None else Value(f"{each.median:.3f}", each.median) for each in parts),
                _ratio(cell.ratio("reference")),
            ]
        )
    titles = ("dtype", "mode", " / ".join(report.cells[0].tokens), *(f"{side}, ms" for side in sides), "mot, tokens/s")
    caption = "Medians; ratios of rounds with what 10 % and 90 % of them are below; products by the profiler"
    return table("cells", caption, (*titles, "mot / dense", "products", "the rest", "reference / dense"), rows)


def _ratio(ratio: Spread) -> Value:
    return Value(f"{ratio.median:.3f} ({ratio.low:.3f} .. {ratio.high:.3f})", ratio.median)


def _costs(report: Report) -> str:
    phases = list(dict.fromkeys(each.phase for each in report.compilations))
    rows = []
    for memory in report.memory:
        key = (memory.dtype, memory.side)
        compiled = {each.phase: each.compilation for each in report.compilations if (each.dtype, each.side) == key}
        rows.append(
            [
                Value(memory.dtype),
                Value(memory.side),
                number(memory.parameters, in_bytes(memory.parameters)),
                NONE if memory.peak is None else number(memory.peak, in_bytes(memory.peak)),
                *(
                    Value(f"{compiled[phase].seconds:.1f}", compiled[phase].seconds) if phase in compiled else NONE
                    for phase in phases
                ),
                number(sum(each.graphs for each in compiled.values())) if compiled else NONE,
            ]
        )
    titles = ("dtype", "model", "parameters", "peak of a step", *(f"compile {phase}, s" for phase in phases), "graphs")
    return table("models", "Bytes and compiling", titles, rows)
