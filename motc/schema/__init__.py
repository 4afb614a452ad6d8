"""What a spec may say, typed."""

from motc.schema.check import Checked, check, to_python
from motc.schema.spec import Spec

__all__ = ["Checked", "Spec", "check", "to_python"]
