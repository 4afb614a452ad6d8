"""Random specs, always the same ones here, against every property of `tests/fuzz`; `make fuzz` looks for new ones."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, seed, settings

from motc.syntax import Syntax
from tests.fuzz.properties import (
    accepted,
    differ_alike_both_ways,
    is_a_spec_or_an_error,
    is_drawn,
    is_written_and_read_back,
    obeys_every_law,
)
from tests.fuzz.specs import Drawn, drawn_specs
from tests.fuzz.texts import random_texts

COVERED = """
full prefix blocks bidirectional sees seen_targets linear unet ddpm flow weight top_k expert_choice capacity_factor
balance shared_experts kv_heads head_dim qk_norm qk_norm_eps interleaved theta out_bias bias tied post sublayer_output
fraction scaling llama3 dynamic sections axes positions same grid learned final layer swiglu geglu gelu relu2 width
tower experts untie layers as runs window step reads
""".split()


def examples(count: int) -> settings:
    """Settings for so many examples, however long each takes."""
    return settings(max_examples=count, suppress_health_check=list(HealthCheck))


@examples(10)
@given(drawn_specs())
def test_a_random_spec_gives_a_right_model_or_a_diagnostic(drawn: Drawn) -> None:
    models = accepted(drawn)
    if models is not None:
        is_written_and_read_back(drawn.text)
        obeys_every_law(*models, drawn.seed, both=True)


@examples(40)
@given(drawn_specs(), drawn_specs())
def test_two_specs_differ_alike_both_ways(a: Drawn, b: Drawn) -> None:
    one, other = accepted(a), accepted(b)
    if one is not None and other is not None:
        for left, right in (one, other, (one[0], other[0])):
            differ_alike_both_ways(left, right)
        is_drawn(one[0], other[0])


@examples(120)
@given(random_texts())
def test_a_random_text_is_a_spec_or_an_error(drawn: tuple[str, Syntax]) -> None:
    is_a_spec_or_an_error(*drawn)


def test_random_specs_cover_the_language_and_nearly_all_are_right() -> None:
    specs: list[Drawn] = []

    @examples(40)
    @given(drawn_specs())
    def draw(drawn: Drawn) -> None:
        specs.append(drawn)

    for start in range(10):  # examples of one start resemble each other
        seed(start)(draw)()
    seen = {word for drawn in specs for word in (drawn.strategy, *re.findall(r"\w+", drawn.text))}
    assert seen >= {"sorted", "reference", "grouped", "blend", *COVERED}
    tried = specs[::4]
    assert sum(accepted(drawn) is not None for drawn in tried) >= 0.85 * len(tried) >= 85
