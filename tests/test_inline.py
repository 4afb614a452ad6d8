"""A statement moves into the one that follows it, where it is used there alone."""

from __future__ import annotations

import pytest

from motc.emit.inline import RETURN, inlined
from motc.emit.text import statement

FEED_FORWARD = [("gate", "self.gate(x)"), ("up", "self.up(x)"), ("hidden", "F.silu(gate) * up")]


def test_a_feed_forward_is_one_line() -> None:
    body = [*FEED_FORWARD, ("out", "self.down(hidden)"), ("x", "x + out")]
    assert inlined(body, "x") == [("x", "x + self.down(F.silu(self.gate(x)) * self.up(x))"), (RETURN, "x")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([("h", "self.norm(x)"), ("q", "self.q(h)"), ("x", "add(q, h)")], id="used twice"),
        pytest.param([("v", "self.v(x)"), ("x", "attend(q, k, v, mask, cache)")], id="keys and values have names"),
        pytest.param([("v", "self.v(x)"), ("x", "x + self.out(attend(q, k, v))")], id="within another call too"),
        pytest.param([("x", "self.norm(x)"), ("y", "{name: heads[name](x) for name in names}")], id="for each key"),
        pytest.param([("h", "a + b"), ("x", "h * c")], id="a sum is no factor"),
        pytest.param([("up", "self.up(x)"), ("x", "[f(u, up) for u in x]")], id="would be computed for each"),
        pytest.param([("h", f"of({', '.join(['argument'] * 8)})"), ("x", "another(h)")], id="too long"),
        pytest.param([("h", "self.h(x)"), ("y", "self.y(x)"), ("x", "add(y, y, h)")], id="not at once"),
    ],
)
def test_what_stays_where_it_is(body: list[tuple[str, str]]) -> None:
    assert inlined(body, "(x, x)")[0] == body[0]


def test_a_value_that_replaces_its_own_name_moves() -> None:
    body = [("q", "self.q(x)"), ("q", "rotate(q, cos, sin)")]
    assert inlined(body, "(q, q)")[0] == ("q", "rotate(self.q(x), cos, sin)")


def test_a_tuple_of_one_keeps_its_comma_on_several_lines() -> None:
    one = "(" + "x" * 120 + ",)"
    assert statement("masks = ", one) == ["        masks = (", f"            {'x' * 120},", "        )"]
