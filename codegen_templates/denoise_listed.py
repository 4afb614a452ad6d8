"""Latents of several sizes that are made together: one for each span, in lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .denoised import checked_size, noise_of
from .latent_checks import check_floating, grid_in, product_words


class MadeList(NamedTuple):
    """All latents of a modality in a batch, one by one [channels, ...], and which of them are to be made, bool [n].

    Of these some frames or tokens may be clean: bool [frames] or [tokens], None where none are.
    """

    latents: list[Tensor]
    noised: Tensor
    frames: list[Tensor | None]
    kept: list[Tensor | None]  # the numbers of a latent that this means

    def filled(self, made: Sequence[Tensor]) -> list[Tensor]:
        """All of them, with those that were made."""
        following, whole = iter(made), []
        for x, noised, kept in zip(self.latents, self.noised.tolist(), self.kept, strict=True):
            each = next(following) if noised else x
            whole.append(each if kept is None or not noised else torch.where(kept, x.to(each.dtype), each))
        return whole

    def timed(self, timesteps: Tensor | None) -> list[Tensor]:
        """The timesteps of all, those of which are made being given [m]: one each, or of each frame or token."""
        times, following = [], iter(() if timesteps is None else timesteps)
        for x, noised, frames in zip(self.latents, self.noised.tolist(), self.frames, strict=True):
            time = next(following) if noised and timesteps is not None else torch.zeros((), device=x.device)
            times.append(time.reshape(1) if frames is None else torch.where(frames, 0, time))
        return times

    @property
    def clean(self) -> list[Tensor]:
        """Which spans, or frames or tokens of them, are clean."""
        return [~noised[None] if of is None else of for noised, of in zip(self.noised, self.frames, strict=True)]

    def of_made(self, each: Sequence[Tensor]) -> list[Tensor]:
        """Of what there is for each span that of those which are made."""
        return [x for x, noised in zip(each, self.noised.tolist(), strict=True) if noised]

    def drawn(self, model: Any, name: str, generator: torch.Generator | None) -> list[Tensor]:
        """Noise for those that are made, one after the other."""
        return [noise_of(model, name, 1, tuple(x.shape[1:]), generator)[0] for x in self.of_made(self.latents)]


def is_listed(given: Any) -> bool:
    """Whether something is one for each span: tensors, or sizes."""
    return isinstance(given, list) and all(isinstance(each, Tensor | Sequence) for each in given)


def listed_spans(model: Any, name: str, made: bool, given: Mapping[str, Any]) -> MadeList:
    """The spans of a modality of which there are `sizes`, `noise` or `latents`, one for each, and which are `clean`.

    Raises TypeError or ValueError for what fits none.
    """
    ends = model.latents[name]
    if not made and ("sizes" in given or "noise" in given):
        raise ValueError(f"{name} has no scheduler, and sizes or noise are of what is made")
    said = [kind for kind in ("sizes", "noise", "latents") if kind in given]
    if not said or ("sizes" in said and len(said) > 1):
        also = f", and have {' and '.join(said)}" if said else ""
        raise ValueError(f"what is made of {name} needs sizes, or noise or latents that have some{also}")
    if "latents" in said and made and "clean" not in given:
        raise ValueError(f"latents of {name}, of which some are to be made: say which are clean")
    if "sizes" in said:
        like = next(ends.parameters())
        sides = [checked_size(name, size, ends.patch) for size in given["sizes"]]
        latents = [torch.zeros(ends.channels, *each, device=like.device) for each in sides]
    else:
        kind = "latents" if "latents" in said else "noise"
        latents = _listed_tensors(kind, name, given[kind], ends)
    count = len(latents)
    if "noise" in said:
        shapes, wanted = (
            [[*x.shape] for x in each] for each in (_listed_tensors("noise", name, given["noise"], ends), latents)
        )
        if shapes != wanted:
            raise ValueError(f"noise of {name} must be as its latents, {wanted}, not {shapes}")
        if "latents" not in said:
            latents = [torch.zeros_like(x) for x in latents]
    clean = list(given.get("clean", [torch.tensor(not made)] * count))
    if len(clean) != count or not all(isinstance(each, Tensor) and each.dtype == torch.bool for each in clean):
        raise ValueError(f"clean of {name} must be bool tensors for {count} latents")
    spans, frames, kept = [], list[Tensor | None](), list[Tensor | None]()
    for x, of in zip(latents, clean, strict=True):
        of = of.reshape(-1).to(x.device)
        spans.append(not bool(of.all()))
        partly = spans[-1] and bool(of.any())
        frames.append(of if partly else None)
        kept.append(_kept_numbers(name, ends, x, of) if partly else None)
    if not made and any(spans):
        raise ValueError(f"latents of {name} that are not clean are to be made, and need a scheduler")
    return MadeList(latents, torch.tensor(spans, dtype=torch.bool), frames, kept)


def _listed_tensors(kind: str, name: str, given: Any, ends: Any) -> list[Tensor]:
    """Latents or noise of each span. Raises TypeError or ValueError for what are none."""
    given = list(given) if isinstance(given, Tensor) else given
    for x in given:
        check_floating(kind, name, x)
        if x.ndim != 1 + len(ends.patch) or x.shape[0] != ends.channels:
            raise ValueError(f"each of the {kind} of {name} must have {ends.channels} channels, not be {[*x.shape]}")
        checked_size(name, tuple(x.shape[1:]), ends.patch)
    return list(given)


def _kept_numbers(name: str, ends: Any, x: Tensor, clean: Tensor) -> Tensor:
    """The numbers of a latent [channels, ...] that clean frames, or tokens, mean."""
    grid = grid_in(x.shape[1:], ends.patch)
    if clean.numel() not in (prod(grid), *(grid[:1] if len(grid) == 3 else ())):
        raise ValueError(f"clean of {name} [{clean.numel()}] fits no span of {product_words(grid)} patches")
    of_patches = clean.repeat_interleave(prod(grid) // clean.numel())
    numbers: Tensor = ends.put_together(of_patches[:, None].expand(-1, ends.encode.in_features), 1, grid)
    return numbers[0]
