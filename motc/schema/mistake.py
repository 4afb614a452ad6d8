"""A mistake that a validator of the schema finds itself."""

from __future__ import annotations


class Mistake(ValueError):
    """A value that cannot be, with the code it is told under and a way out; `at` leads from the value to the place."""

    def __init__(self, code: str, message: str, way_out: str, at: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.way_out = way_out
        self.at = at
