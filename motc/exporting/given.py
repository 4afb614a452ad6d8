"""The model with its weights that is to be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from motc.ir.model import Model
from motc.loading import instantiate
from motc.weights.kept import require_same
from motc.weights.read import DTYPES, fill
from motc.weights.stored import open_weights


def network_of(model: Model, spec: str, path: Path) -> Any:
    """The module of a final IR, whose spec is this text, with the weights of a file or folder, in their dtype.

    Where they have several, it is the widest. Raises SpecError for weights that are none of this model, and OSError.
    """
    stored = open_weights(path)
    require_same(stored, model)
    dtypes = {DTYPES.get(entry.dtype, torch.float32) for entry in stored.tensors.values()}
    network: Any = instantiate(model, dtype=max(dtypes, key=lambda dtype: dtype.itemsize), seed=None, spec=spec)
    fill(network, stored)
    return network.eval()
