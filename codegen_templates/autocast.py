"""What autocast does to products that torch's own list of operations leaves out."""

import torch
from torch import Tensor


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype a matrix product of x is made in: x's own, or under autocast the lower one, as in `nn.Linear`."""
    device = x.device.type
    if x.dtype != torch.float64 and device != "meta" and torch.is_autocast_enabled(device):  # meta has no autocast
        return torch.get_autocast_dtype(device)
    return x.dtype
