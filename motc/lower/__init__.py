"""Spec to IR."""

from motc.lower.lower import lower

__all__ = ["lower"]
