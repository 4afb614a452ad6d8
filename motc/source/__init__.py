"""Source text, positions in it, and complaints about it."""

from motc.source.diagnostic import CompilerBug, Diagnostic, SpecError
from motc.source.span import SourceFile, Span

__all__ = ["CompilerBug", "Diagnostic", "SourceFile", "Span", "SpecError"]
