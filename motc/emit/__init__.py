"""Plan to Python text. Decides nothing."""

from motc.emit.emit import MARK, emit

__all__ = ["MARK", "emit"]
