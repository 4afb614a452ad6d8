"""Plan to Python text. Decides nothing."""

from motc.emit.emit import MARK, emit, emit_package, emit_parallel

__all__ = ["MARK", "emit", "emit_package", "emit_parallel"]
