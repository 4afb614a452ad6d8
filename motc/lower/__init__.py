"""Spec to IR."""

from motc.lower.lower import lower
from motc.lower.warnings import warnings

__all__ = ["lower", "warnings"]
