"""Numbers of pairs as a run goes on, as a picture: a row for each pair, by group and by layer."""

from __future__ import annotations

from collections.abc import Mapping

from motc.match.pairs import Pairs, group_of, layer_of, mean_by, names_of_pairs
from motc.match.plot import look
from motc.report.figures import content, empty, finish


def plot_pairs(by_step: Mapping[int, Pairs], title: str) -> bytes:
    """A PNG. `by_step` has at least one pair. Raises ImportError without matplotlib."""
    pairs = names_of_pairs(by_step.values())
    figure = empty(11, 3.4 * len(pairs))
    for row, pair in zip(figure.subplots(len(pairs), 2, squeeze=False, sharey=True), pairs, strict=True):
        for axes, (what, part) in zip(row, (("group", group_of), ("layer", layer_of)), strict=True):
            means = {step: mean_by(part, measured, pair) for step, measured in by_step.items()}
            names = list(dict.fromkeys(name for found in means.values() for name in found))
            for place, name in enumerate(names):
                points = [(step, found[name]) for step, found in means.items() if name in found]
                axes.plot(*zip(*points, strict=True), **look(place), label=name)
            axes.set_title(f"{' and '.join(pair.split())}: {title}, mean by {what}", fontsize=10)
            axes.set_xlabel("steps")
            finish(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return content(figure)
