"""What generating refuses: prompts, spans and choices that do not fit the model."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor

from .checked_layout import check_positions, no_token
from .checks import check_modalities, check_tensor, refuse


class TokenSpan(TypedDict, total=False):
    """Which tokens stand around those of a modality.

    After the token `begin` of modality `within` (if not given, the first) come tokens of this one: `length` of them, or
    until the token `end`, which is `within`'s again; then it goes on in `within`.
    """

    begin: int
    end: int
    length: int
    within: str


def check_prompt(
    model: Any, input_ids: Tensor, modality_ids: Tensor, document_ids: Tensor | None, position_ids: Tensor | None
) -> None:
    """Raise TypeError or ValueError for ids that do not fit. Reads from the device, as generating does."""
    check_tensor("modality_ids", modality_ids)
    check_tensor("input_ids", input_ids, modality_ids)
    if position_ids is not None:
        check_positions(position_ids, modality_ids, model.position_axes)
    check_modalities(modality_ids, document_ids, len(model.modalities), reads=True)
    refuse([no_token("input_ids", input_ids, modality_ids, model.modalities, model.vocabularies)], reads=True)


def whole(name: str, value: Any, *, positive: bool) -> int:
    """A whole number of any library, as an int. Raises TypeError for others, ValueError where it must be positive."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {reprlib.repr(value)}")
    if positive and number < 1:
        raise ValueError(f"{name} must be positive, not {number}")
    return int(number)


def generator_of(seed: Any, device: torch.device) -> torch.Generator | None:
    """What draws: of a number a new generator with that seed, the generator that is given, or of None torch's own.

    Raises TypeError or ValueError for what is none of these, and for a generator on another device.
    """
    if seed is None:
        return None
    if isinstance(seed, torch.Generator):
        if torch.empty(0, device=seed.device).device != device:
            raise ValueError(f"seed is a generator on {seed.device}, and must be on {device} as input_ids")
        return seed
    number = whole("seed, unless None or a torch.Generator,", seed, positive=False)
    if not -(2**63) <= number < 2**64:
        given = number if number.bit_length() < 100 else f"a number of {number.bit_length()} bits"
        raise ValueError(f"seed must be in -2**63..2**64 - 1, as torch has it, not {given}")
    return torch.Generator(device).manual_seed(number)


def check_drawing(temperature: Any, top_p: Any) -> None:
    """Raise TypeError or ValueError for a temperature and a share of probabilities that tokens cannot be drawn by."""
    for name, value in (("temperature", temperature), ("top_p", top_p)):
        if isinstance(value, bool) or not hasattr(value, "__float__") or (isinstance(value, Tensor) and value.ndim):
            raise TypeError(f"{name} must be a number, not {reprlib.repr(value)}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be a finite number, 0 or more, not {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")


def check_mapping(name: str, given: Any) -> None:
    """Raise TypeError unless something is given for modalities by their names."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a dict by the names of modalities, not {reprlib.repr(given)}")


def checked_stops(model: Any, stop: Any) -> dict[str, set[int]]:
    """The tokens after which a row ends, by modality. Raises TypeError or ValueError for what none can be."""
    check_mapping("stop", stop)
    stops = {}
    for modality, tokens in stop.items():
        if isinstance(tokens, str) or not hasattr(tokens, "__iter__"):
            raise TypeError(
                f"stop has for {modality} the tokens after which a row ends, as a list, not {reprlib.repr(tokens)}"
            )
        stops[modality] = {whole(f"a token of {modality} in stop", token, positive=False) for token in tokens}
        check_tokens(model, modality, stops[modality])
    return stops


def checked_spans(model: Any, spans: Any) -> dict[str, TokenSpan]:
    """The spans, with `within` in each. Raises TypeError or ValueError for what no model has and no span can mean."""
    check_mapping("spans", spans)
    known: dict[str, TokenSpan] = {}
    for name, given in spans.items():
        if name not in model.modalities:
            raise ValueError(f"{reprlib.repr(name)} is no modality of this model: {', '.join(model.modalities)}")
        if not isinstance(given, Mapping):
            raise TypeError(
                f"the span of {name} must be a dict of begin, end, length and within, not {reprlib.repr(given)}"
            )
        if unknown := given.keys() - {"begin", "end", "length", "within"}:
            raise ValueError(f"a span has begin, end, length and within, not {', '.join(sorted(unknown))}")
        numbers = {
            key: whole(f"{key} of the span of {name}", value, positive=key == "length")
            for key, value in given.items()
            if key != "within"
        }
        span = TokenSpan(**{"within": given.get("within", next(iter(model.vocabularies))), **numbers})  # type: ignore[typeddict-item]
        if name == span["within"] or ("end" not in span and "length" not in span):
            raise ValueError(f"the span of {name} needs an end or a length, within another modality")
        if "end" in span and model.own_vocabularies and name in model.vocabularies:
            raise ValueError(f"{name} has a vocabulary of its own, without {span['within']}'s end: give a length")
        check_tokens(
            model, span["within"], [token for token in (span.get("begin"), span.get("end")) if token is not None]
        )
        if any(
            (other["within"], other.get("begin")) == (span["within"], span.get("begin", -1)) for other in known.values()
        ):
            raise ValueError(f"token {span['begin']} of {span['within']} begins the spans of two modalities")
        known[name] = span
    return known


def check_tokens(model: Any, modality: str, tokens: Iterable[int]) -> None:
    """Raise ValueError for ids that the modality's vocabulary does not have."""
    if modality not in tuple(model.vocabularies):  # which asks nothing of what it is
        raise ValueError(
            f"{reprlib.repr(modality)} is no modality of this model's tokens: {', '.join(model.vocabularies)}"
        )
    for token in tokens:
        if not 0 <= token < model.vocabularies[modality]:
            raise ValueError(f"{modality} has no token {token}: its ids are 0..{model.vocabularies[modality] - 1}")
