"""The tokens of all modalities in one vocabulary: which ids are whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class JointVocabulary:
    """Ranges of ids by modality, [first, end) each. `size` is how many ids there are in all.

    Where modalities have vocabularies of their own, these follow one another in it, and an id of a modality is so many
    after its first. In a shared vocabulary ids are what they are, and of ranges that overlap the smallest says whose an
    id is; a modality without a range is had by its ids of modality alone.
    """

    def __init__(self, model: Any, ranges: Mapping[str, Sequence[int]]) -> None:
        """Raises ValueError for ranges that do not fit the model."""
        self.modalities: tuple[str, ...] = tuple(model.modalities)
        self.vocabularies: Mapping[str, int] = model.vocabularies
        self.own = bool(model.own_vocabularies)
        self.ranges = {name: (int(first), int(end)) for name, (first, end) in ranges.items()}
        self.size = max((end for _, end in self.ranges.values()), default=0)
        for name, (first, end) in self.ranges.items():
            if name not in self.modalities:
                raise ValueError(f"token_ranges have {name}, and the modalities are {', '.join(self.modalities)}")
            if not 0 <= first < end:
                raise ValueError(
                    f"token_ranges have [{first}, {end}] for {name}: the first id, and the one after the last"
                )
        if self.own:
            at = 0
            for name, (first, end) in sorted(self.ranges.items(), key=lambda each: each[1]):
                if first != at or end - first != self.vocabularies.get(name):
                    raise ValueError(
                        f"token_ranges have [{first}, {end}] for {name}: ranges follow one another, each as large as "
                        f"its modality's vocabulary ({self.vocabularies.get(name)})"
                    )
                at = end
            if self.ranges.keys() != self.vocabularies.keys():
                raise ValueError(f"token_ranges lack one of {', '.join(self.vocabularies)}")

    def modality_ids(self, ids: Tensor) -> Tensor:
        """The modality of each id by the ranges, int64 as ids. Raises ValueError for ids that are in none."""
        found = torch.full_like(ids, -1)
        for name, (first, end) in sorted(self.ranges.items(), key=lambda each: each[1][0] - each[1][1]):
            found = torch.where((ids >= first) & (ids < end), self.modalities.index(name), found)
        if not torch.compiler.is_compiling() and bool((found < 0).any()):
            known = ", ".join(f"{name} {first}..{end - 1}" for name, (first, end) in self.ranges.items())
            raise ValueError(f"input_ids have {int(ids[found < 0][0])}, which is in no range ({known})")
        return found

    def local(self, ids: Tensor, modality_ids: Tensor) -> Tensor:
        """Ids as the model takes them, from those of the joint vocabulary; -100 stays, for it is no target."""
        if not self.own:
            return ids
        shift = torch.zeros_like(ids)
        for name, (first, _) in self.ranges.items():
            shift = torch.where(modality_ids == self.modalities.index(name), first, shift)
        return torch.where(ids == -100, ids, ids - shift)

    def following(self, modality_ids: Tensor) -> Tensor:
        """The modality of the token after each, int64 [B, S]; its own where none with a vocabulary comes after it."""
        after = torch.cat([modality_ids[:, 1:], modality_ids[:, -1:]], dim=1)
        has_words = torch.zeros_like(after, dtype=torch.bool)
        for name in self.vocabularies:
            has_words = has_words | (after == self.modalities.index(name))
        return torch.where(has_words, after, modality_ids)

    def joined(self, logits: Any, modality_ids: Tensor) -> Tensor:
        """A model's logits over the joint vocabulary, [B, S, size]; modality_ids int64 [B, S] are those of its tokens.

        Own vocabularies have a head each, and the one of the next token's modality predicts it: the others' logits are
        the smallest number there is. What comes after the last token is taken to be of its modality.
        """
        if isinstance(logits, Tensor):
            return logits
        following = self.following(modality_ids)
        parts = []
        for name, _ in sorted(self.ranges.items(), key=lambda each: each[1]):
            other = (following != self.modalities.index(name)) & (following >= 0)
            parts.append(logits[name].masked_fill(other[..., None], torch.finfo(logits[name].dtype).min))
        return torch.cat(parts, dim=-1)
