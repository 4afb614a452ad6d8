"""How often a run makes the host wait for the device."""

from __future__ import annotations

import warnings

import torch

from .timing import Run

TOLD = "synchronizing CUDA operation"


def count_synchronisations(run: Run, device: str) -> int | None:
    """Synchronising operations of a run on CUDA, as torch tells of them; None elsewhere.

    Torch does not tell of `torch.cuda.synchronize` and of what libraries do by themselves.
    """
    if not device.startswith("cuda"):
        return None
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum(TOLD in str(warning.message) for warning in told)
