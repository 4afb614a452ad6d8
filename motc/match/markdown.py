"""The report as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from motc.match.report import Report

NONE = "–"
KINDS = (
    ("training", "steps, training loss"),
    ("held_out", "steps, held-out loss"),
    ("training_time", "time, training loss"),
    ("held_out_time", "time, held-out loss"),
)


def to_markdown(report: Report, command: str) -> str:
    """The page; `command` is what made it."""
    settings, base = report.settings, report.base
    others = [name for name in report.comparisons if name != base]
    lines = [
        f"# {', '.join(others)} beside {base}",
        "",
        f"    {command}",
        "",
        f"{settings.steps} steps of {settings.batch} samples, {_count(settings.seeds, 'seed')}; {report.processor}, "
        f"{_count(settings.threads, 'thread')}, torch {report.torch}.",
        f"Same data, order and optimizer for all; each step was taken by every system in turn. Training losses are "
        f"means of {report.window} steps.",
        *_apart(report),
        "",
        f"## Share of the steps of {base} needed to reach its loss",
        "",
        "Fitted slope through the origin; below 1 is better. Time: the same in seconds, by the medians of step times. "
        "Means over seeds, lowest and highest in brackets; † where some losses of the base were never reached: those "
        "are left out.",
        f"{base} beside itself is where noise puts a system that learns as fast: wherever the curve is not falling, an "
        "earlier step had a loss as low.",
        "",
        *table(["system", "", *report.modalities]),
    ]
    for name in report.comparisons:
        for kind, title in KINDS[:2] if name == base else KINDS:
            cells = [
                spread(report.ratios(name, modality, kind)) + ("†" if _unmatched(report, name, modality, kind) else "")
                for modality in report.modalities
            ]
            lines.append(row([f"{name}, itself" if name == base else name, title, *cells]))
    squared = f"; of {', '.join(report.continuous)}, mean squared errors of denoising" if report.continuous else ""
    lines += ["", f"## Losses at the end, in nats a token{squared}", "", *table(["system", "", *report.modalities])]
    for name in report.parameters:
        for held_out in (False, True):
            cells = [spread(report.final(name, modality, held_out=held_out)) for modality in report.modalities]
            lines.append(row([name, "held-out" if held_out else "training", *cells]))
    lines += ["", "## Cost", "", *table(["system", "parameters", "median step, ms", f"times {base}"])]
    for name, parameters in report.parameters.items():
        seconds = report.median_seconds(name)
        times = NONE if name == base else spread(report.step_times(name))
        lines.append(row([name, f"{parameters:,}", NONE if seconds is None else f"{1000 * seconds:.1f}", times]))
    return "\n".join([*lines, ""])


def _apart(report: Report) -> list[str]:
    if not report.apart:
        return []
    return [f"Trained apart from {report.base}, so step times do not compare ({NONE}): {', '.join(report.apart)}."]


def spread(values: Sequence[float]) -> str:
    """`0.512`, or with several values `0.512 (0.500 .. 0.531)`."""
    if not values:
        return NONE
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} .. {max(values):.3f})"


def _unmatched(report: Report, name: str, modality: str, kind: str) -> bool:
    by_seed = (each.held_out if kind.startswith("held_out") else each.training for each in report.comparisons[name])
    return any(matched[modality].unmatched for matched in by_seed)


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def table(titles: list[str]) -> list[str]:
    return [row(titles), "|" + "---|" * len(titles)]


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
