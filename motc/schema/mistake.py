"""A mistake that a validator of the schema finds itself."""

from __future__ import annotations


class Mistake(ValueError):
    """A value that cannot be, with the code it is told under and a way out."""

    def __init__(self, code: str, message: str, way_out: str) -> None:
        super().__init__(message)
        self.code = code
        self.way_out = way_out
