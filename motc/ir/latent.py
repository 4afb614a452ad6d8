"""The parameters of a continuous modality's ends: a contract with checkpoints, as docs/parameters.md tells it."""

from __future__ import annotations

from motc.ir.model import LatentEnds

TIME_FREQUENCIES = 256
"""Numbers of a timestep's sinusoidal embedding, as in DiT (Peebles and Xie, arXiv 2212.09748)."""


def latent_shapes(ends: LatentEnds) -> dict[str, tuple[int, ...]]:
    """Each parameter's name after `latents.MODALITY.`, and its shape."""
    numbers = ends.channels * ends.patch**2
    return {
        **_biased("encode", ends.width, numbers),
        **_biased("time.hidden", ends.width, TIME_FREQUENCIES),
        **_biased("time.embed", ends.width, ends.width),
        **_biased("decode", numbers, ends.width),
    }


def _biased(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
