"""Compiling without kernels, for tests of what torch traces, guards and counts: seconds instead of a minute."""

from __future__ import annotations

from functools import partial

import pytest
import torch


def make_no_kernels(patch: pytest.MonkeyPatch) -> None:
    """Graphs that torch.compile makes meanwhile are run as they are, unless a backend is given."""
    patch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
