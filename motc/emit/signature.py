"""What was generated and not edited since: a file's last line, and a package's list of its files, hold digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

SIGNATURE = "# motc: sha256 "
LISTED = re.compile(r"^# motc: (\w+\.py) ([0-9a-f]{64})$", re.MULTILINE)
INIT = "__init__.py"


def sign(text: str) -> str:
    """The text and its signature, set off by two empty lines."""
    body = text + "\n\n"
    return f"{body}{SIGNATURE}{digest(body)}\n"


def is_untouched(text: str) -> bool:
    """Whether a file is as it was generated; False for a file without a signature."""
    body, mark, signed = text.rpartition(SIGNATURE)
    return bool(mark) and signed == f"{digest(body)}\n"


def listing(files: Mapping[str, str]) -> str:
    """Lines that say which files a package was generated with."""
    return "".join(f"# motc: {name} {digest(text)}\n" for name, text in sorted(files.items()))


def listed(init: str | None) -> dict[str, str]:
    """The digests of a package's files by the list in its `__init__.py`; empty where that is none of ours."""
    return dict(LISTED.findall(init)) if init is not None and is_untouched(init) else {}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
