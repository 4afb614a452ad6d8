"""What `motc match` makes of losses: how curves match, and the report."""

from __future__ import annotations

import json
import math

import pytest

from motc.match import Settings, to_markdown
from motc.match.data import Description
from motc.match.matching import match, smooth
from motc.match.report import Curves, Report, make_report


def test_a_curve_that_is_twice_as_fast_needs_half_the_steps() -> None:
    steps = list(range(1, 101))
    base = [1 / step for step in steps]
    matched = match(steps, base, [1 / (2 * step) for step in steps])
    assert matched.ratio == pytest.approx(0.5, abs=0.01)
    assert matched.other_steps[:6] == (1, 1, 2, 2, 3, 3)  # the first at which 2 s >= t
    assert matched.unmatched == 0


def test_losses_never_reached_are_counted_and_left_out() -> None:
    steps = list(range(1, 101))
    matched = match(steps, [1 / step for step in steps], [2 / step for step in steps])
    assert matched.ratio == pytest.approx(2.0)
    assert matched.unmatched == 50


def test_between_evaluations_the_step_is_found_by_a_line() -> None:
    matched = match([10, 20, 30], [4.0, 3.0, 2.0], [4.0, 2.0, 1.0])
    assert matched.other_steps == (10, 15, 20)


def test_smoothing_leaves_out_batches_without_a_target() -> None:
    means = smooth([1.0, 3.0, math.nan, 5.0], 2)
    assert math.isnan(means[0])
    assert means[1:] == [2.0, 3.0, 5.0]


def report() -> Report:
    """Of a base whose losses fall and rise in turn, and a system that is 0.1 below them."""
    settings = Settings(steps=6, seeds=1, batch=1, eval_every=3, learning_rate=1.0, device="cpu", threads=1)
    losses = [[6.0], [4.0], [5.0], [3.0], [4.0], [2.0]]
    lower = [[loss - 0.1] for (loss,) in losses]
    curves = Curves(
        seed=0,
        losses={"base": losses, "lower": lower},
        held_out={"base": [[2.0], [3.0]], "lower": [[1.9], [2.9]]},
        seconds={"base": [2.0] * 6, "lower": [1.0] * 6},
    )
    described = Description(modalities=("text",), vocab={"text": 8}, latents={})
    return make_report([curves], described, settings, {"base": 10, "lower": 20}, ())


def test_a_noisy_base_needs_less_than_its_own_steps() -> None:
    result = report()
    (itself,) = result.comparisons["base"]
    assert itself.training["text"].other_steps == (1, 2, 2, 4, 2, 6)
    assert result.ratios("base", "text", "training") == [pytest.approx((1 + 4 + 6 + 16 + 10 + 36) / 91)]
    assert result.ratios("base", "text", "held_out") == [pytest.approx((3 * 3 + 6 * 3) / 45)]


def test_the_base_beside_itself_is_in_the_report_without_times() -> None:
    page, systems = to_markdown(report(), "motc match"), report().to_json()["systems"]
    rows = [line for line in page.splitlines() if line.startswith("| base, itself |")]
    assert rows == [
        "| base, itself | steps, training loss | 0.802 |",
        "| base, itself | steps, held-out loss | 0.600 |",
    ]
    assert systems["base"]["steps_to_match"] == {"text": [pytest.approx(73 / 91)]}
    assert "time_to_match" not in systems["base"]
    (steps,) = systems["lower"]["steps_to_match"]["text"]
    assert systems["lower"]["time_to_match"] == {"text": [pytest.approx(steps / 2)]}
    json.dumps(systems, allow_nan=False)
