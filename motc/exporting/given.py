"""What exporting begins with: the model with its weights, and packages to ask what is written."""

from __future__ import annotations

from importlib.util import find_spec
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


def check_unconditioned(model: Model, what: str) -> None:
    """Raises ValueError for a model that is given conditions, which `what` is not."""
    asking = [each.name for each in model.latent_modalities() if each.condition is not None and each.condition.given]
    if asking:
        raise ValueError(f"{what} is given no conditions, and {', '.join(asking)} has some")


def need(packages: tuple[str, ...], extra: str) -> None:
    """Raises ImportError where packages are not installed by which something is written, or asked."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ImportError(f"{' and '.join(missing)} is needed: pip install 'motc[{extra}]'")
