"""Generating tokens and latents in turn; latents begin as noise and are denoised whole (Transfusion, 2408.11039)."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from .cache import NewTokens
from .constants import on_device
from .generate import Decoding, Row, compact, followed, in_last_document, layout_of_step, uncompiled
from .generate_checks import TokenSpan, check_mapping, check_prompt, checked_spans, generator_of, whole
from .latent_checks import AXES, is_cut, named, outside, patch_words, patches_in, product_words
from .latents import rank_of
from .masks import visibility


class GeneratedLatents(NamedTuple):
    """What was generated, without the prompt: int64 [B, N], where a row has ended modality -1 and id 0; so at latents.

    `latents` holds for each continuous modality in `spans` what was made, [n, channels, ...] in float32 or wider,
    in the order spans come in the batch, rows first.
    """

    input_ids: Tensor
    modality_ids: Tensor
    latents: dict[str, Tensor]


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
    check_mapping("schedulers", schedulers)
    check_mapping("spans", spans)
    for name in schedulers:
        if name not in model.latents:
            raise ValueError(
                f"{reprlib.repr(name)} is no continuous modality of this model: {', '.join(model.latents)}"
            )
    lengthened: dict[str, TokenSpan] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    for name, span in spans.items():
        if name not in model.latents or not isinstance(span, Mapping):
            lengthened[name] = span
            continue
        patch = model.latents[name].patch
        axes = ", ".join(AXES[len(patch)])
        if {"begin", "end", "size"} - span.keys() or "length" in span:
            raise ValueError(f"the span of {name} needs begin, end and size ({axes}), and no length")
        sides = sizes[name] = checked_size(name, span["size"], axes)
        if min(sides) < 1 or not is_cut(sides, patch):
            words = patch_words(patch)
            raise ValueError(f"the span of {name} has size {product_words(sides)}: no multiple of its patch, {words}")
        if name not in schedulers:
            raise ValueError(f"the span of {name} needs a scheduler, as diffusers has: schedulers={{{name!r}: ...}}")
        rest = {key: value for key, value in span.items() if key != "size"}
        lengthened[name] = TokenSpan(**rest, length=patches_in(sides, patch))  # type: ignore[typeddict-item]
    return checked_spans(model, lengthened), sizes


def checked_size(name: str, size: Any, axes: str) -> tuple[int, ...]:
    """A latent's sides along its axes, said as `height, width`. Raises TypeError or ValueError for other than numbers.

    That of a sequence may be its length alone.
    """
    count = len(axes.split(", "))
    if count == 1 and not isinstance(size, Sequence):
        size = (size,)
    if not isinstance(size, Sequence) or len(size) != count:
        raise TypeError(f"the span of {name} needs its size as ({axes}), not {reprlib.repr(size)}")
    return tuple(whole(f"the size of the span of {name}", number, positive=False) for number in size)


def unnoised(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The timesteps of clean latents."""
    return {name: torch.zeros(x.shape[:1], dtype=torch.int64, device=x.device) for name, x in latents.items()}


def latents_kept(
    model: Any, latents: Mapping[str, Tensor], modality_ids: Tensor, document_ids: Tensor | None
) -> Mapping[str, Tensor]:
    """The latents of each row's last document. Raises ValueError where they do not fit the batch."""
    if document_ids is None:
        return latents
    patches = model.encode(model.layout(modality_ids, document_ids), latents, unnoised(latents))
    kept = in_last_document(modality_ids, document_ids).flatten()
    of_rows = {}
    for name, x in latents.items():
        rank = rank_of(modality_ids, model.modalities.index(name))
        length = (patches[name].vectors.shape[0] - 1) // max(1, x.shape[0])
        of_rows[name] = x[(rank[kept & (rank >= 0)] // max(1, length)).unique().to(x.device)]
    return of_rows


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
        endings[row] = (spans[name]["end"], spans[name]["within"])
        rows[row].next = spans[name]["within"]
        rows[row].check_next()
    return endings


class NextLatents:
    """Latents that some rows are to have next: where their patches stand, and a cache of these rows."""

    def __init__(self, decoding: Decoding, name: str, rows: list[int], count: int) -> None:
        """`count`: how many patches each has."""
        model, modality = decoding.model, decoding.model.modalities.index(name)
        starts = [decoding.rows[row].length for row in rows]
        for row, start in zip(rows, starts, strict=True):
            decoding.rows[row].check_next()
            decoding.known[row, start : start + count] = modality
        device, length = decoding.known.device, max(starts) + count
        each = torch.arange(len(rows), device=device)[:, None]
        slots = on_device(starts, device)[:, None] + torch.arange(count, device=device)
        positions = slots + on_device([decoding.rows[row].offset for row in rows], device)[:, None]
        known = decoding.known[rows, :length]
        seen = [visibility(mask, known, None)[each, slots] for mask in model.masks]
        masks = [None if bool(visible.all()) else visible[:, None] for visible in seen]
        self.model, self.name, self.decoding, self.rows = model, name, decoding, rows
        self.modality_ids = torch.full_like(positions, modality)
        self.layout = layout_of_step(model, decoding.layout, {modality}, self.modality_ids, positions, masks)
        self.cache = decoding.cache.of_rows(rows, length)
        self.cache.step = NewTokens(each, slots, length)

    def predicted(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """What the model predicts of latents [n, channels, ...] at timesteps [n]; they are kept as seen."""
        given = {"latents": {self.name: x}, "timesteps": {self.name: timesteps}}
        ids = self.modality_ids  # may be anything
        output = self.model(ids, self.modality_ids, layout=self.layout, cache=self.cache, **given)
        predicted: Tensor = output.predictions[self.name]
        return predicted

    def keep(self, x: Tensor) -> None:
        """Let the rows have seen these latents, clean ones, and go on after them."""
        self.predicted(x, torch.zeros(x.shape[0], dtype=torch.int64, device=x.device))
        self.decoding.cache.put_rows(self.rows, self.cache)


def denoised(
    model: Any,
    name: str,
    noise: Tensor,
    following: NextLatents,
    scheduler: Any,
    steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Noise [n, channels, ...] to latents, which the rows then have seen.

    Raises ValueError for timesteps that the modality's objective does not have, and where numbers are lost.
    """
    objective, x = model.objectives[name], noise
    scheduler.set_timesteps(steps, device=noise.device)
    times = scheduler.timesteps
    if (objective.whole and times.is_floating_point()) or bool(outside(times, objective).any()):
        kind = "whole numbers" if objective.whole else "numbers"
        raise ValueError(f"the scheduler of {name} has timesteps its objective has not: {kind} in 0..{objective.last}")
    drawing = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for time in times:
        predicted = following.predicted(x, time.expand(x.shape[0]))
        x = scheduler.step(predicted.to(x.dtype), time, x, **drawing).prev_sample
    if not bool(x.isfinite().all()):
        raise ValueError(f"denoising {name} gave infinite numbers or NaN: is its scheduler one for its objective?")
    following.keep(x)
    return x


def make_latents(
    decoding: Decoding, name: str, rows: list[int], size: tuple[int, ...], scheduler: Any, steps: int
) -> Tensor:
    """A latent [channels, ...] of this size for each of these rows, which go on by its patches."""
    model, generator = decoding.model, decoding.how["generator"]
    ends, modality = model.latents[name], model.modalities.index(name)
    count = patches_in(size, ends.patch)
    following = NextLatents(decoding, name, rows, count)
    like = next(ends.parameters())
    dtype = torch.promote_types(like.dtype, torch.float32)
    noise = torch.randn(len(rows), ends.channels, *size, generator=generator, device=like.device, dtype=dtype)
    x = denoised(model, name, noise, following, scheduler, steps, generator)
    for row in rows:
        decoding.made[row] += [(0, modality)] * count
        for _ in range(count):
            decoding.rows[row].follow(0, name)
    return x


@torch.no_grad()
def generate_with_latents(
    model: Any,
    input_ids: Tensor,
    modality_ids: Tensor,
    document_ids: Tensor | None,
    position_ids: Tensor | None,
    spans: Mapping[str, Any],
    latents: Any,
    schedulers: Mapping[str, Any],
    denoising_steps: int,
    max_new_tokens: int,
    **choices: Any,
) -> GeneratedLatents:
    """See the model's `generate`; `choices` are what `Decoding` takes besides."""
    checked, sizes = checked_sizes(model, spans, schedulers)
    denoising_steps = whole("denoising_steps", denoising_steps, positive=True)
    max_new_tokens = whole("max_new_tokens", max_new_tokens, positive=True)
    latents = named("latents", latents, model.latents)
    latents = latents_kept(model, latents, modality_ids, document_ids)
    prompts = compact(input_ids, modality_ids, document_ids, position_ids)
    rows = followed(model, checked, prompts)
    decoding = Decoding(model, rows, prompts.modality_ids, max_new_tokens, **choices)
    given = ends_after_prompts(model, checked, rows, prompts.modality_ids, prompts.lengths)
    finished: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in sizes}
    with uncompiled():
        given_latents = {"latents": latents, "timesteps": unnoised(latents)}
        logits = decoding.start(prompts, **given_latents)
        while decoding.active:
            for name, size in sizes.items():
                span = checked[name]
                beginning = [row for row in decoding.active if row not in given and rows[row].next == name]
                fitting = [row for row in beginning if max_new_tokens - len(decoding.made[row]) > span["length"]]
                decoding.active = [row for row in decoding.active if row not in beginning or row in fitting]
                if fitting:
                    x = make_latents(decoding, name, fitting, size, schedulers[name], denoising_steps)
                    finished[name] += zip(fitting, x, strict=True)
                    given.update(dict.fromkeys(fitting, (span["end"], span["within"])))
            others = [row for row in decoding.active if row not in given]
            logits = decoding.feed({**given, **(decoding.drawn(logits, others) if others else {})})
            given = {}
    images = {}
    for name, size in sizes.items():
        like = next(model.latents[name].parameters())
        empty = like.new_zeros(0, model.latents[name].channels, *size)
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
        latents: Mapping[str, Tensor] | None = None,
        schedulers: Mapping[str, Any] | None = None,
        denoising_steps: int = 250,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | torch.Generator | None = 0,
    ) -> GeneratedLatents:
        """Continue each row of a prompt, ids int64 [B, S]; padding (-1) is dropped wherever it stands.

        A row goes on in the modality it ends with, but for `spans`: for a modality, which tokens begin and end it.
        `stop` has, for a modality, the tokens after which a row ends. Temperature 0 takes the likeliest token.
        Positions are from 0, or as `forward` takes them, and go on after a row's largest.

        `latents` are the prompt's, clean, as for `loss`. A modality in `spans` that has latents is made whole, by its
        own of `schedulers`, objects with `set_timesteps`, `timesteps` and `step` as those of diffusers.
        Raises ValueError, or TypeError, for ids and latents that do not fit, and for what the model does not have.
        """
        check_prompt(self, input_ids, modality_ids, document_ids, position_ids)
        return generate_with_latents(
            self,
            input_ids,
            modality_ids,
            document_ids,
            position_ids,
            {} if spans is None else spans,
            latents,
            {} if schedulers is None else schedulers,
            denoising_steps,
            max_new_tokens=max_new_tokens,
            stop={} if stop is None else stop,
            temperature=temperature,
            top_p=top_p,
            generator=generator_of(seed, input_ids.device),
        )
