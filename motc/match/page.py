"""The report as a page to look at: the figures, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from motc.match.markdown import KINDS, NONE, spread
from motc.match.plot import panels
from motc.match.report import Report
from motc.report.document import document, section
from motc.report.plots import plots
from motc.report.tables import Value, number, table


def to_html(report: Report, command: str) -> str:
    """One file that asks for nothing; `command` is what made it. Raises ImportError without matplotlib."""
    settings, base = report.settings, report.base
    others = [name for name in report.comparisons if name != base]
    told = (
        f"{settings.steps} steps of {settings.batch} samples, {settings.seeds} seed{'s' if settings.seeds > 1 else ''}"
    )
    told += (
        f" · {report.processor}, {settings.threads} thread{'s' if settings.threads > 1 else ''}, torch {report.torch}"
    )
    how = (
        f"The share of the steps of {base}, and of its seconds, that a system needs to be where it is; below 1 is "
        f"better. {base} beside itself is where noise puts a system that learns as fast."
    )
    sections = [
        section("command", "What made it", f'<code class="command">{escape(command)}</code>'),
        section("matched", f"Beside {base}", f'<p class="hint">{escape(how)}</p>{_matched(report)}{_costs(report)}'),
        section("curves", "Curves", plots(panels(report), command)),
        section("losses", "Losses at the end", _losses(report)),
    ]
    foot = "Made by motc match. report.json has every number."
    return document(f"{', '.join(others)} beside {base}", told, sections, foot)


def _values(seeds: Sequence[float]) -> Value:
    """The mean over seeds, with the lowest and highest."""
    return Value(spread(seeds) if seeds else NONE, sum(seeds) / len(seeds) if seeds else 0.0)


def _matched(report: Report) -> str:
    rows = [
        [Value(name), Value(title), *(_values(report.ratios(name, each, kind)) for each in report.modalities)]
        for name in report.comparisons
        for kind, title in (KINDS[:2] if name == report.base else KINDS)
    ]
    title = f"Share of {report.base}'s steps, or seconds, to reach its loss"
    return table("ratios", title, ("system", "counted in", *report.modalities), rows)


def _losses(report: Report) -> str:
    rows = [
        [
            Value(name),
            Value("held-out" if held_out else "training"),
            *(_values(report.final(name, each, held_out=held_out)) for each in report.modalities),
        ]
        for name in report.parameters
        for held_out in (False, True)
    ]
    titles = (f"{name}, squared error" if name in report.continuous else f"{name}, nats" for name in report.modalities)
    return table("ends", "Means of the last steps, and the last held-out losses", ("system", "loss", *titles), rows)


def _costs(report: Report) -> str:
    rows = []
    for name, parameters in report.parameters.items():
        seconds = report.median_seconds(name)
        step = Value(NONE, 0.0) if seconds is None else Value(f"{1000 * seconds:.1f}", seconds)
        times = Value(NONE, 0.0) if name == report.base else _values(report.step_times(name))
        rows.append([Value(name), number(parameters), step, times])
    return table("costs", "Cost", ("system", "parameters", "median step, ms", f"times {report.base}"), rows)
