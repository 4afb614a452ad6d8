"""What a pack's run found, as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .cells import BASE
from .checking import BESIDE_REFERENCE, LONG_SUM, TOLERANCES

NONE = "–"
Result = dict[str, Any]


def markdown(result: Result) -> str:
    """The whole report; tables without a row are left out."""
    machine, spent = result["machine"], result["seconds"]
    driver = f", driver {machine['driver']}, CUDA {machine['cuda']}" if machine["driver"] else ""
    lines = [
        "# Checked and timed",
        "",
        f"{machine['device_name']} ({machine['device']}){driver}; {machine['processor']}, "
        f"{machine['threads']} threads; torch {machine['torch']}, Python {machine['python']}; motc {result['motc']}. "
        f"{spent['spent']:.0f} of {spent['allowed']:.0f} s.",
        *(["", "With `--quick`: the times say nothing."] if result["quick"] else []),
        *(["", "With `--one-size`: compiled for the sizes of one mixture alone."] if result["one_size"] else []),
    ]
    limits = "; ".join(f"{dtype}: outputs {a:g}, gradients {b:g}" for dtype, (a, b) in TOLERANCES.items())
    checks = ("model", "strategy", "dtype", "compiled", "tokens", "outputs off by", "gradients off by", "")
    ratios = ("side / dense (10 % .. 90 %)", "products", "the rest")
    cells = ("model", "side", "dtype", "mode", "tokens", "ms", "dense ms", *ratios, "tokens/s", "waits")
    compiled = ("model", "side", "dtype", "for", "compile, s (first)", "graphs", "recompilations", "breaks")
    decoding = ("model", "dtype", "rows", "mot tokens/s", "dense", "mot / dense (10 % .. 90 %)", "limit")
    products = ("dtype", "pieces", "mode", "way", "way / whole (10 % .. 90 %)", "whole, ms")
    others = ("job", "state", "why")
    lines += _table(
        "Checks",
        f"Largest relative errors against the reference in float32. {limits}; or {BESIDE_REFERENCE:g} times its own. "
        f"Where products add up more than {LONG_SUM:,} numbers, more as the root of how many.",
        checks,
        _checks(result),
    )
    lines += _table("Times", _TIMES, cells, _cells(result))
    lines += _table("Compiling", "", (*compiled, "CUDA graphs skipped"), _compilations(result))
    lines += _table("Memory", "", ("model", "side", "dtype", "parameters, MB", "peak of a step, MB"), _memory(result))
    lines += _table("Decoding", "Uncompiled.", decoding, _decoding(result))
    lines += _table("Products of one layer alone, on the processor", "", products, _products(result))
    lines += _table("Not done", "", others, _others(result))
    return "\n".join(lines) + "\n"


_TIMES = (
    "products and the rest: side / dense of the matrix products alone and of everything else, by the profiler. "
    "waits: synchronisations of the host with the device in a run, with those of making the layout."
)


def _table(title: str, said: str, names: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    listed = list(rows)
    if not listed:
        return []
    lines = [f"| {' | '.join(row)} |" for row in listed]
    return [
        "",
        f"## {title}",
        "",
        *([said, ""] if said else []),
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        *lines,
    ]


def _entries(result: Result, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model's entries of a kind, such as `cells`, with the model's name."""
    for done in result["jobs"]:
        for entry in done.get(what, ()):
            yield done["job"]["model"], entry


def _checks(result: Result) -> Iterator[Sequence[str]]:
    for model, entry in _entries(result, "checks"):
        tokens = " / ".join(map(str, entry["tokens"]))
        start = (model, entry["strategy"], entry["dtype"], "yes" if entry["compiled"] else "no", tokens)
        if "error" in entry:
            yield *start, NONE, NONE, _cell(entry["error"])
        else:
            off = f"{entry['output']}, {entry['parameter']}"
            said = "ok" if entry["ok"] else f"**wrong**: {off}" if entry["judged"] else f"{off}: rounding moves routers"
            errors = (entry["output_error"], entry["gradient_error"])
            yield *start, *("no number" if error is None else f"{error:.1e}" for error in errors), said


def _cells(result: Result) -> Iterator[Sequence[str]]:
    for model, entry in _entries(result, "cells"):
        name, side = next((name, side) for name, side in entry["sides"].items() if name != BASE)
        parts = (side.get("products_ratio"), side.get("rest_ratio"))
        waits = entry["synchronisations"][name]
        yield (
            model,
            name,
            entry["dtype"],
            entry["mode"] + (" (compiled meanwhile)" if entry["graphs_meanwhile"] else ""),
            " / ".join(map(str, entry["tokens"].values())),
            f"{1000 * side['median_seconds']:.2f}",
            f"{1000 * entry['sides'][BASE]['median_seconds']:.2f}",
            _spread(side["ratio"]),
            *(NONE if ratio is None else f"{ratio['median']:.3f}" for ratio in parts),
            f"{side['tokens_per_second']:,.0f}",
            NONE if waits is None else str(waits),
        )


def _compilations(result: Result) -> Iterator[Sequence[str]]:
    for model, entry in _entries(result, "compilations"):
        yield (
            model,
            entry["side"],
            entry["dtype"],
            entry["phase"],
            f"{entry['seconds']:.1f} ({entry['first_seconds']:.1f})",
            *(str(entry[key]) for key in ("graphs", "recompilations", "graph_breaks")),
            str(entry.get("cuda_graphs_skipped", NONE)),
        )


def _memory(result: Result) -> Iterator[Sequence[str]]:
    for model, entry in _entries(result, "memory"):
        sizes = (entry["parameter_bytes"], entry["peak_step_bytes"])
        yield model, entry["side"], entry["dtype"], *(f"{size / 1e6:,.1f}" for size in sizes)


def _decoding(result: Result) -> Iterator[Sequence[str]]:
    for model, entry in _entries(result, "decoding"):
        yield (
            model,
            entry["dtype"],
            f"{entry['batch']}, {'mixed' if entry['mixed'] else 'of one modality'}",
            *(f"{entry['median_tokens_per_second'][side]:,.1f}" for side in ("mot", BASE)),
            _spread(entry["ratio"]),
            f"{entry['limit']:.2f}",
        )


def _products(result: Result) -> Iterator[Sequence[str]]:
    for _, entry in _entries(result, "products"):
        start = (entry["dtype"], str(entry["pieces"]), entry["mode"], entry["way"])
        yield *start, _spread(entry["ratio"]), f"{1000 * entry['whole_seconds']:.2f}"


def _others(result: Result) -> Iterator[Sequence[str]]:
    for entry in result["jobs"]:
        if entry["state"] != "done":
            yield entry["title"], entry["state"], _cell(entry.get("reason", ""))


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.3f} ({ratio['low']:.3f} .. {ratio['high']:.3f})"


def _cell(text: str) -> str:
    """Text that keeps to its cell."""
    return " ".join(text.split()).replace("|", "\\|")
