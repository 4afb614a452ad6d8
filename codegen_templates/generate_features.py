"""Generating token by token after a prompt with features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .generate import Generated, generate_tokens
from .generate_checks import TokenSpan, check_prompt, generator_of
from .prompt_features import prompt_features


class GeneratesAfterFeatures:
    """A model that can continue a prompt with features, token by token."""

    def generate(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        max_new_tokens: int,
        features: Mapping[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        spans: Mapping[str, TokenSpan] | None = None,
        stop: Mapping[str, Iterable[int]] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | torch.Generator | None = 0,
    ) -> Generated:
        """Continue each row of a prompt, ids int64 [B, S]; padding (-1) is dropped wherever it stands.

        `features` are the prompt's, as for `forward`. A row goes on in the modality it ends with, but for `spans`: for
        a modality, which tokens begin and end it. `stop` has, for a modality, the tokens after which a row ends.
        Temperature 0 takes the likeliest token. Positions are from 0, or as `forward` takes them, and go on after a
        row's largest. Raises ValueError, or TypeError, for ids and features that do not fit,
        for what the model does not have.
        """
        check_prompt(self, input_ids, modality_ids, document_ids, position_ids)
        spans = {} if spans is None else spans
        return generate_tokens(
            self,
            input_ids,
            modality_ids,
            document_ids,
            position_ids,
            spans,
            {"features": prompt_features(self, features, spans, modality_ids, document_ids)},
            max_new_tokens=max_new_tokens,
            stop={} if stop is None else stop,
            temperature=temperature,
            top_p=top_p,
            generator=generator_of(seed, input_ids.device),
        )
