"""`python -m motc`."""

from __future__ import annotations

import sys

from motc.cli import main

if __name__ == "__main__":
    sys.exit(main())
