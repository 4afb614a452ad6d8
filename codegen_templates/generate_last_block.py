"""Generating the last of a mask's blocks: it is denoised against what the others are, which is computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from .denoised import checked_size, denoised, noise_of, unnoised
from .generate import Decoding, compact, followed, uncompiled
from .generate_checks import check_mapping, check_prompt, generator_of, whole
from .generated import GeneratedLatents
from .guidance import Guidance, GuidedLatents, History, checked_guides
from .latent_checks import grid_in, named
from .next_latents import latents_kept
from .prompt_features import prompt_features
from .schedulers import check_schedulers


def sizes_of_block(model: Any, sizes: Any, schedulers: Any, modality_ids: Tensor) -> dict[str, tuple[int, ...]]:
    """The sizes of latents that are to be made. Raises TypeError or ValueError for what the last block cannot be."""
    check_mapping("sizes", sizes)
    check_schedulers(model, schedulers)
    last = ", ".join(model.last_block)
    if not sizes:
        raise ValueError(f"nothing is to be made: sizes={{{model.last_block[0]!r}: ...}}")
    checked = {}
    for name, size in sizes.items():
        if name not in model.last_block:
            raise ValueError(f"sizes are of modalities in the mask's last block, {last}, and not of {name!r}")
        checked[name] = checked_size(name, size, model.latents[name].patch)
        if name not in schedulers:
            raise ValueError(f"{name} needs a scheduler, as diffusers has: schedulers={{{name!r}: ...}}")
    for name in model.last_block:
        if bool((modality_ids == model.modalities.index(name)).any()):
            raise ValueError(f"a prompt has what is before the last block, and this one has tokens of {name}")
    return checked


@torch.no_grad()
def generate_last_block(
    model: Any,
    input_ids: Tensor,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    position_ids: Tensor | None,
    sizes: Any,
    schedulers: Any,
    latents: Any,
    features: Any,
    denoising_steps: Any,
    guidance: Any,
    generator: torch.Generator | None,
) -> GeneratedLatents:
    """See the model's `generate`."""
    checked = sizes_of_block(model, sizes, schedulers, modality_ids)
    guides = checked_guides(model, guidance, checked, position_ids)
    steps = whole("denoising_steps", denoising_steps, positive=True)
    latents = latents_kept(model, named("latents", latents, model.latents), modality_ids, document_ids)
    vectors = {"latents": latents, "timesteps": unnoised(latents)}
    vectors["features"] = prompt_features(model, features, {}, modality_ids, document_ids, may_end=True)
    prompts = compact(input_ids, modality_ids, document_ids, position_ids)
    rows = followed(model, {}, prompts, latents)
    for row in rows:
        row.next = next(iter(checked))
    grids = {name: grid_in(size, model.latents[name].patch) for name, size in checked.items()}
    total = sum(map(prod, grids.values()))
    decoding = Decoding(model, rows, prompts.modality_ids, total, {}, temperature=0, top_p=1)
    with uncompiled():
        decoding.start(prompts, **vectors)
        history = History(model, prompts, latents, vectors["features"])
        everyone = list(range(len(rows)))
        following = GuidedLatents(history, decoding, grids, everyone, None, guides, {}, keeps_last=False)
        noise = {name: noise_of(model, name, len(rows), size, generator) for name, size in checked.items()}
        made = denoised(model, noise, following, schedulers, steps, generator)
    modality_ids = following.next.modality_ids
    return GeneratedLatents(torch.zeros_like(modality_ids), modality_ids, made)


class GeneratesLastBlock:
    """A model whose mask is blocks of modalities, the last of them latents, which it can make of all that is before."""

    last_block: ClassVar[tuple[str, ...]]

    def generate(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        sizes: Mapping[str, int | tuple[int, ...]],
        schedulers: Mapping[str, Any],
        denoising_steps: int = 10,
        guidance: Mapping[str, Guidance | Sequence[Guidance]] | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
        latents: Mapping[str, Tensor] | None = None,
        seed: int | torch.Generator | None = 0,
    ) -> GeneratedLatents:
        """What follows each row of a prompt, ids int64 [B, S], as the mask's last block; padding (-1) is dropped.

        `sizes` says what is made: for each modality of the block, in the order they are to stand in, the size of its
        latent. They are denoised together, each by its own of `schedulers`, objects with `set_timesteps`, `timesteps`
        and `step` as diffusers has. `features` are the prompt's, and `latents` too, clean. Keys and values of the
        prompt are computed once, and serve every step of denoising; so are those of the same with less,
        by which `guidance` leads latents. Positions are from 0, or as `forward` takes them, and go on after a row's
        largest.
        Raises ValueError, or TypeError, for what does not fit, and for what the model does not have.
        """
        check_prompt(self, input_ids, modality_ids, document_ids, position_ids)
        return generate_last_block(
            self,
            input_ids,
            modality_ids,
            document_ids,
            position_ids,
            sizes,
            schedulers,
            latents,
            features,
            denoising_steps,
            {} if guidance is None else guidance,
            generator_of(seed, input_ids.device),
        )
