"""What a spec may say, typed."""

from motc.schema.check import Checked, check
from motc.schema.spec import Spec
from motc.schema.tree import to_python

__all__ = ["Checked", "Spec", "check", "to_python"]
