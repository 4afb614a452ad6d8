"""A way out of a mistake that names what to write."""

from __future__ import annotations

from dataclasses import dataclass

from motc.source.span import Span


@dataclass(frozen=True, slots=True)
class Fix:
    """A text in place of what stands at a span."""

    span: Span
    text: str


class WayOut(str):
    """A way out in words, and `instead`: what it says to write in place of `span`, or of what the caret marks.

    With `whole`, it stands in place of the key that is marked and of its value.
    """

    instead: str
    span: Span | None
    whole: bool

    def __new__(cls, words: str, instead: str, span: Span | None = None, *, whole: bool = False) -> WayOut:
        made = super().__new__(cls, words)
        made.instead, made.span, made.whole = instead, span, whole
        return made

    def fix(self, marked: Span | None) -> Fix | None:
        """What is to be written, where; None if there is no place."""
        span = self.span or marked
        return None if span is None else Fix(span, self.instead)
