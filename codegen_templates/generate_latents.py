"""Generating tokens and latents in turn; latents begin as noise and are denoised whole (Transfusion, 2408.11039)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, TypedDict

import torch
from torch import Tensor

from .denoised import checked_size, denoised, noise_of, unnoised
from .generate import Decoding, Row, compact, followed, uncompiled
from .generate_checks import TokenSpan, check_mapping, check_prompt, checked_spans, generator_of, whole
from .generated import GeneratedLatents
from .guidance import Guidance, Guide, GuidedLatents, History, checked_guides
from .latent_checks import AXES, grid_in, named, patches_in
from .masks import in_delimited_runs
from .next_latents import Delimiters, latents_kept
from .prompt_features import prompt_features
from .schedulers import check_schedulers


class LatentSpan(TypedDict, total=False):
    """Which tokens stand around latents.

    After the token `begin` of modality `within` (if not given, the first with tokens) come the patches of a latent of
    `size`: height and width of an image, the length of a sequence, or frames, height and width; then the token `end`,
    and it goes on in `within`.
    """

    begin: int
    end: int
    size: int | tuple[int, ...]
    within: str


def checked_sizes(
    model: Any, spans: Mapping[str, Any], schedulers: Mapping[str, Any]
) -> tuple[dict[str, TokenSpan], dict[str, tuple[int, ...]]]:
    """All spans with lengths in tokens, and the sides of latents. Raises ValueError for what no model can make."""
    check_mapping("spans", spans)
    check_schedulers(model, schedulers)
    lengthened: dict[str, TokenSpan] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    for name, span in spans.items():
        if name not in model.latents or not isinstance(span, Mapping):
            lengthened[name] = span
            continue
        patch = model.latents[name].patch
        if {"begin", "end", "size"} - span.keys() or "length" in span:
            axes = ", ".join(AXES[len(patch)])
            raise ValueError(f"the span of {name} needs begin, end and size ({axes}), and no length")
        sides = sizes[name] = checked_size(name, span["size"], patch)
        if name not in schedulers:
            raise ValueError(f"the span of {name} needs a scheduler, as diffusers has: schedulers={{{name!r}: ...}}")
        rest = {key: value for key, value in span.items() if key != "size"}
        lengthened[name] = TokenSpan(**rest, length=patches_in(sides, patch))  # type: ignore[typeddict-item]
    return checked_spans(model, lengthened), sizes


def ends_after_prompts(
    model: Any, spans: Mapping[str, TokenSpan], rows: list[Row], modality_ids: Tensor, lengths: list[int]
) -> dict[int, tuple[int, str]]:
    """The token that must follow, for rows whose prompt ends with latents. Raises ValueError if none is known."""
    endings = {}
    for row, length in enumerate(lengths):
        name = model.modalities[modality_ids[row, length - 1]]
        if name not in model.latents:
            continue
        if name not in spans:
            raise ValueError(f"a prompt ends with latents of {name}, and no token is predicted of them: add their end")
        if delimiters_of(model, name, spans[name]):
            raise ValueError(f"a prompt ends with latents of {name}, which see the token after them: add their end")
        endings[row] = (spans[name]["end"], spans[name]["within"])
        rows[row].next = spans[name]["within"]
        rows[row].check_next()
    return endings


def delimiters_of(model: Any, name: str, span: TokenSpan) -> Delimiters | None:
    """The tokens around a span, if they are in a run with it, so that what is kept of them depends on it."""
    if model.modalities.index(name) not in in_delimited_runs(model.masks):
        return None
    return Delimiters(span["begin"], span["end"], model.modalities.index(span["within"]))


def make_latents(
    decoding: Decoding,
    name: str,
    rows: list[int],
    size: tuple[int, ...],
    scheduler: Any,
    steps: int,
    delimiters: Delimiters | None,
    history: History,
    guides: Mapping[str, list[Guide]],
    spans: Mapping[str, TokenSpan],
) -> Tensor:
    """A latent [channels, ...] of this size for each of these rows, which go on by its patches."""
    model, generator = decoding.model, decoding.how["generator"]
    modality, grid = model.modalities.index(name), grid_in(size, model.latents[name].patch)
    count = prod(grid)
    runs = in_delimited_runs(model.masks)
    if delimiters is not None and any(decoding.rows[row].before in runs for row in rows):
        raise ValueError(f"the token before latents of {name} closes a run too: what was kept of that would change")
    following = GuidedLatents(history, decoding, {name: grid}, rows, delimiters, guides, spans, keeps_last=True)
    noise = {name: noise_of(model, name, len(rows), size, generator)}
    latents = denoised(model, noise, following, {name: scheduler}, steps, generator)
    following.keep(latents)
    history.add(name, rows, latents[name])
    for row in rows:
        decoding.made[row] += [(0, modality)] * count
        for _ in range(count):
            decoding.rows[row].follow(0, name)
    made: Tensor = latents[name]
    return made


@torch.no_grad()
def generate_with_latents(
    model: Any,
    input_ids: Tensor,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    position_ids: Tensor | None,
    spans: Mapping[str, Any],
    latents: Any,
    features: Mapping[str, Tensor],
    schedulers: Mapping[str, Any],
    denoising_steps: int,
    guidance: Any,
    max_new_tokens: int,
    **choices: Any,
) -> GeneratedLatents:
    """See the model's `generate`; `choices` are what `Decoding` takes besides."""
    checked, sizes = checked_sizes(model, spans, schedulers)
    guides = checked_guides(model, guidance, sizes, position_ids)
    denoising_steps = whole("denoising_steps", denoising_steps, positive=True)
    max_new_tokens = whole("max_new_tokens", max_new_tokens, positive=True)
    latents = named("latents", latents, model.latents)
    latents = latents_kept(model, latents, modality_ids, document_ids)
    prompts = compact(input_ids, modality_ids, document_ids, position_ids)
    rows = followed(model, checked, prompts, latents)
    decoding = Decoding(model, rows, prompts.modality_ids, max_new_tokens, **choices)
    given = ends_after_prompts(model, checked, rows, prompts.modality_ids, prompts.lengths)
    finished: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in sizes}
    with uncompiled():
        vectors = {"latents": latents, "timesteps": unnoised(latents), "features": features}
        logits = decoding.start(prompts, **vectors)
        history = History(model, prompts, latents, features)
        while decoding.active:
            for name, size in sizes.items():
                span = checked[name]
                beginning = [row for row in decoding.active if row not in given and rows[row].next == name]
                fitting = [row for row in beginning if max_new_tokens - len(decoding.made[row]) > span["length"]]
                decoding.active = [row for row in decoding.active if row not in beginning or row in fitting]
                if fitting:
                    around = delimiters_of(model, name, span)
                    how = (schedulers[name], denoising_steps, around, history, guides, checked)
                    x = make_latents(decoding, name, fitting, size, *how)
                    finished[name] += zip(fitting, x, strict=True)
                    given.update(dict.fromkeys(fitting, (span["end"], span["within"])))
            others = [row for row in decoding.active if row not in given]
            logits = decoding.feed({**given, **(decoding.drawn(logits, others) if others else {})})
            given = {}
    images = {}
    for name, size in sizes.items():
        like = next(model.latents[name].parameters())
        empty = torch.zeros(0, model.latents[name].channels, *size, dtype=like.dtype, device=like.device)
        images[name] = (
            torch.stack([x for _, x in sorted(finished[name], key=lambda pair: pair[0])]) if finished[name] else empty
        )
    return GeneratedLatents(*decoding.result(), images)


class GeneratesLatents:
    """A model that can continue a prompt by tokens and by latents."""

    def generate(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        max_new_tokens: int,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        spans: Mapping[str, TokenSpan | LatentSpan] | None = None,
        stop: Mapping[str, Iterable[int]] | None = None,
        features: Mapping[str, Tensor] | None = None,
        latents: Mapping[str, Tensor] | None = None,
        schedulers: Mapping[str, Any] | None = None,
        denoising_steps: int = 250,
        guidance: Mapping[str, Guidance | Sequence[Guidance]] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | torch.Generator | None = 0,
    ) -> GeneratedLatents:
        """Continue each row of a prompt, ids int64 [B, S]; padding (-1) is dropped wherever it stands.

        A row goes on in the modality it ends with, but for `spans`: for a modality, which tokens begin and end it.
        `stop` has, for a modality, the tokens after which a row ends. Temperature 0 takes the likeliest token.
        Positions are from 0, or as `forward` takes them, and go on after a row's largest.

        `features` are the prompt's, and `latents` too, clean, as for `loss`. A modality in `spans` that has latents is
        made whole, by its own of `schedulers`, objects with `set_timesteps`, `timesteps` and `step` as diffusers has,
        and led by its `guidance`.
        Raises ValueError, or TypeError, for ids and latents that do not fit, and for what the model does not have.
        """
        check_prompt(self, input_ids, modality_ids, document_ids, position_ids)
        spans = {} if spans is None else spans
        return generate_with_latents(
            self,
            input_ids,
            modality_ids,
            document_ids,
            position_ids,
            spans,
            latents,
            prompt_features(self, features, spans, modality_ids, document_ids),
            {} if schedulers is None else schedulers,
            denoising_steps,
            {} if guidance is None else guidance,
            max_new_tokens=max_new_tokens,
            stop={} if stop is None else stop,
            temperature=temperature,
            top_p=top_p,
            generator=generator_of(seed, input_ids.device),
        )
