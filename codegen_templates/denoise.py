"""Denoising latents by whole batches: each step is a forward, in which all tokens may see all others."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from .condition_checks import Given
from .denoise_listed import MadeList, is_listed, listed_spans
from .denoised import checked_size, denoised, noise_of
from .generate_checks import check_prompt, generator_of, whole
from .latent_checks import by_modality, named, patches_in, product_words
from .latents import beside
from .leading import checked_scale, guides_said, led
from .noised_spans import checked_clean
from .patched import OfLatents, in_patches, of_each
from .schedulers import check_schedulers


class Contrast(TypedDict, total=False):
    """How latents are led away from what is predicted of them when something else is given.

    What is predicted, p, becomes u + scale (p - u), u being predicted with these ids, or all features or all conditions
    of a modality, in place of the batch's; all else stays. With `renorm` it is then no longer than p.
    """

    scale: float
    input_ids: Tensor
    features: Mapping[str, Tensor]
    conditions: Given
    renorm: bool


INSTEAD = ("input_ids", "features", "conditions")
"""What a contrast may give in place of the batch's."""


class Led(NamedTuple):
    """A `Contrast` after a look at it, and what the model is given for it."""

    scale: float
    renorm: bool
    given: Mapping[str, Any]


class MadeSpans(NamedTuple):
    """All latents of a modality in a batch [n, channels, ...], and which of them are to be made, bool [n].

    Of these some frames or tokens may be clean: `frames`, bool [n, frames] or [n, tokens], and `kept`, the numbers of
    the latents that this means.
    """

    latents: Tensor
    noised: Tensor
    frames: Tensor | None = None
    kept: Tensor | None = None

    def filled(self, made: Tensor) -> Tensor:
        """All of them, with those [m, channels, ...] that were made."""
        whole = in_place(self.latents, self.noised, made)
        return whole if self.kept is None else torch.where(self.kept, self.latents.to(whole.dtype), whole)

    def timed(self, timesteps: Tensor | None) -> Tensor:
        """The timesteps of all, those of which are made being given [m]: one each, or of each frame or token."""
        times = torch.zeros(self.latents.shape[:1], dtype=torch.int64, device=self.latents.device)
        if timesteps is None:
            return times
        times = in_place(times, self.noised, timesteps)
        return times if self.frames is None else torch.where(self.frames, 0, times[:, None])

    @property
    def clean(self) -> Tensor:
        """Which spans, or frames or tokens of them, are clean."""
        return ~self.noised if self.frames is None else self.frames

    def of_made(self, each: Tensor) -> Tensor:
        """Of what there is for each span that of those which are made."""
        return each[self.noised]

    def drawn(self, model: Any, name: str, generator: torch.Generator | None) -> Tensor:
        """Noise for those that are made."""
        return noise_of(model, name, int(self.noised.sum()), tuple(self.latents.shape[2:]), generator)


AnySpans = MadeSpans | MadeList


def in_place(x: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """Of [n, ...] those where bool [n] is true replaced by values [m, ...], whose dtype all get."""
    return x.to(values.dtype).masked_scatter(beside(where, x), values)


class WholeBatch:
    """Latents of a batch, some of which are to be made: what is predicted of these, all others being clean."""

    def __init__(
        self, model: Any, given: Mapping[str, Any], spans: Mapping[str, AnySpans], leads: Mapping[str, list[Led]]
    ) -> None:
        """`given` is what the model takes beside latents."""
        self.model, self.given, self.spans, self.leads = model, given, spans, leads

    def predicted(self, made: Mapping[str, Any], timesteps: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is predicted of the latents [m, ...] that are made, at timesteps [m], led by each contrast in turn."""
        latents = {name: of.filled(made[name]) if name in made else of.latents for name, of in self.spans.items()}
        times = {name: of.timed(timesteps.get(name)) for name, of in self.spans.items()}
        clean = {name: of.clean for name, of in self.spans.items()}

        def predict(given: Mapping[str, Any]) -> dict[str, Any]:
            output = self.model(**given, latents=latents, timesteps=times, clean=clean)
            return {name: self.spans[name].of_made(output.predictions[name]) for name in made}

        predictions = predict(self.given)
        for name, leads in self.leads.items():
            for lead in leads:
                other = predict(lead.given)[name]
                predictions[name] = _each_led(predictions[name], other, made[name], lead)
        return predictions


def _each_led(predicted: Any, other: Any, made: Any, lead: Led) -> Any:
    """What is predicted of latents [m, ...], or of a list of such, led by a contrast."""
    if isinstance(predicted, list):
        each = zip(predicted, other, made, strict=True)
        return [_each_led(p[None], u[None], x[None], lead)[0] for p, u, x in each]
    return led(predicted, other, lead.scale, lead.renorm, predicted.shape[1] > made.shape[1])


def spans_of(
    model: Any,
    modality_ids: Tensor,
    made: Iterable[str],
    sizes: Mapping[str, Any],
    noise: Mapping[str, Tensor],
    latents: Mapping[str, Tensor],
    clean: Mapping[str, Tensor],
) -> dict[str, MadeSpans]:
    """The spans of each modality of which some are made, or given. Raises ValueError where it is not known which."""
    spans = {}
    for name, x in latents.items():
        none = torch.zeros(x.shape[:1], dtype=torch.bool, device=x.device)
        if name in made and name not in clean:
            raise ValueError(f"latents of {name}, of which some are to be made: say which are clean")
        spans[name] = MadeSpans(x, ~clean[name] if name in clean else none)
        if name not in made and bool(spans[name].noised.any()):
            raise ValueError(f"latents of {name} that are not clean are to be made, and need a scheduler")
    for name in made:
        said = [kind for kind, each in (("sizes", sizes), ("noise", noise), ("latents", latents)) if name in each]
        if not said or ("sizes" in said and len(said) > 1):
            also = f", and have {' and '.join(said)}" if said else ""
            raise ValueError(f"what is made of {name} needs a size, or noise or latents that have one{also}")
        if name not in latents:
            x = noise[name] if name in noise else _none_yet(model, name, sizes[name], modality_ids)
            spans[name] = MadeSpans(torch.zeros_like(x), torch.ones(x.shape[:1], dtype=torch.bool, device=x.device))
    return spans


def with_frames(model: Any, name: str, spans: MadeSpans, frames: Tensor) -> MadeSpans:
    """Spans of which some frames, or tokens, bool [n, frames], are clean. Raises ValueError for what fits none."""
    ends, count = model.latents[name], spans.latents.shape[0]
    given = in_patches(model, OfLatents({name: spans.latents}, None, None, {name: frames}))
    patched = given.latents[name]
    tokens = of_each(checked_clean(model.objectives, given.clean, given.latents)[name], patched)
    kept = ends.put_together(tokens[:, None].expand_as(patched.patches), count, patched.grids[0]) if count else None
    return spans._replace(frames=frames, kept=kept)


def _none_yet(model: Any, name: str, size: Any, modality_ids: Tensor) -> Tensor:
    """Zeros for as many latents of a size as a batch has tokens for."""
    ends = model.latents[name]
    sides = checked_size(name, size, ends.patch)
    tokens, each = int((modality_ids == model.modalities.index(name)).sum()), patches_in(sides, ends.patch)
    if tokens % each:
        said = product_words(sides)
        raise ValueError(f"modality_ids have {tokens} tokens of {name}, and latents of {said} have {each} each")
    return torch.zeros(tokens // each, ends.channels, *sides, device=next(ends.parameters()).device)


def checked_leads(guidance: Any, given: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, list[Led]]:
    """What leads the latents of each modality, in its order. Raises TypeError or ValueError for what cannot."""
    leads: dict[str, list[Led]] = {}
    for name, said in guides_said(guidance, made, "scale and what is given instead"):
        known = {"scale", "renorm", *INSTEAD}
        if not isinstance(said, Mapping) or "scale" not in said or not said.keys() <= known:
            raise ValueError(
                f"guidance of {name} needs a scale and some of {', '.join(INSTEAD)}, and may have renorm, "
                f"not {reprlib.repr(said)}"
            )
        instead = {key: said[key] for key in INSTEAD if key in said}
        if not instead:
            raise ValueError(f"guidance of {name} gives nothing else than the batch: some of {', '.join(INSTEAD)}")
        for key in {"features", "conditions"} & instead.keys():
            instead[key] = {**(given[key] or {}), **by_modality(key, instead[key], instead[key] or (), key)}
        lead = Led(checked_scale(name, said["scale"]), bool(said.get("renorm", False)), {**given, **instead})
        leads.setdefault(name, []).append(lead)
    return leads


class Denoises:
    """A model that can make latents wherever they stand in a batch."""

    latents: nn.ModuleDict
    modalities: ClassVar[tuple[str, ...]]
    objectives: ClassVar[Mapping[str, Any]]

    @torch.no_grad()
    def denoise(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        schedulers: Mapping[str, Any],
        denoising_steps: int = 50,
        sizes: Mapping[str, int | tuple[int, ...] | list[tuple[int, ...]]] | None = None,
        noise: Mapping[str, Tensor | list[Tensor]] | None = None,
        latents: Mapping[str, Tensor | list[Tensor]] | None = None,
        clean: Mapping[str, Tensor | list[Tensor]] | None = None,
        features: Mapping[str, Tensor] | None = None,
        conditions: Given | None = None,
        guidance: Mapping[str, Contrast | Sequence[Contrast]] | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        seed: int | torch.Generator | None = 0,
    ) -> dict[str, Any]:
        """The latents [n, channels, ...] of a batch, ids int64 [B, S] as for `forward`, of modalities with schedulers.

        They begin as noise, as many as the batch has spans, of the size that `sizes` says, or as `noise` itself. Those
        of `latents` that are `clean`, bool [n], or [n, frames] or [n, tokens], stay as they are, and those of
        modalities without a scheduler. Those of several sizes are lists, of one for each span: of sizes, noise, latents
        or of what is clean. Each step is a forward of the whole batch: nothing is kept from one to the next,
        and masks may be what they like. `schedulers` are objects with `set_timesteps`, `timesteps` and `step` as
        diffusers has. `guidance` says what is given instead of the batch's in a second forward, away from which latents
        are led. Raises ValueError, or TypeError, for what does not fit, and for what the model does not have.
        """
        model: Any = self
        check_prompt(model, input_ids, modality_ids, document_ids, position_ids)
        check_schedulers(model, schedulers)
        if not schedulers:
            raise ValueError(f"nothing is to be made: schedulers={{{next(iter(self.latents))!r}: ...}}")
        steps = whole("denoising_steps", denoising_steps, positive=True)
        generator = generator_of(seed, input_ids.device)
        given: dict[str, Any] = {"input_ids": input_ids, "modality_ids": modality_ids, "position_ids": position_ids}
        given |= {"features": features, "conditions": conditions, "layout": model.layout(modality_ids, document_ids)}
        leads = checked_leads({} if guidance is None else guidance, given, schedulers)
        spans, known = self._spans(modality_ids, schedulers, sizes=sizes, noise=noise, latents=latents, clean=clean)
        following, starts = WholeBatch(model, given, spans, leads), dict[str, Any]()
        for name in schedulers:
            of: Any = spans[name]
            starts[name] = of.of_made(known[name]) if name in known else of.drawn(model, name, generator)
        made = denoised(model, starts, following, schedulers, steps, generator)
        return {name: spans[name].filled(x) for name, x in made.items()}

    def _spans(
        self, modality_ids: Tensor, schedulers: Mapping[str, Any], **given: Any
    ) -> tuple[dict[str, AnySpans], dict[str, Any]]:
        """The spans of each modality, those of lists by themselves; and the noise that is given."""
        listed = {
            name: {kind: of[name] for kind, of in given.items() if isinstance(of, Mapping) and name in of}
            for name in self.latents
        }
        listed = {name: of for name, of in listed.items() if any(map(is_listed, of.values()))}
        rest = {
            kind: {name: x for name, x in of.items() if name not in listed} if isinstance(of, Mapping) else of
            for kind, of in given.items()
        }
        made = [name for name in schedulers if name not in listed]
        spans, noise = _of_one_size(self, modality_ids, made, **rest)
        of_lists = {name: listed_spans(self, name, name in schedulers, of) for name, of in listed.items()}
        return {**spans, **of_lists}, {**noise, **{name: of["noise"] for name, of in listed.items() if "noise" in of}}


def _of_one_size(
    model: Any, modality_ids: Tensor, made: Sequence[str], *, sizes: Any, noise: Any, latents: Any, clean: Any
) -> tuple[dict[str, MadeSpans], Mapping[str, Tensor]]:
    """The spans of modalities whose latents are of one size each, some frames being clean; and the noise."""
    sizes = by_modality("sizes", sizes, made, "modality that is made", "sizes")
    noise = named("noise", noise, made, "modality that is made")
    known = named("latents", latents, model.latents)
    frames = {name: each for name, each in named("clean", clean, model.objectives).items() if each.ndim == 2}
    of_spans = {**(clean or {}), **{name: each.bool().all(1) for name, each in frames.items()}}
    are_clean = checked_clean(model.objectives, of_spans, known)
    spans = spans_of(model, modality_ids, made, sizes, noise, known, are_clean)
    return spans | {name: with_frames(model, name, spans[name], each) for name, each in frames.items()}, noise
