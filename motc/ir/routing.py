"""How a token's experts are chosen, where more is said of it than how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

Routing = Literal["top_k", "expert_choice"]
Scores = Literal["softmax", "sigmoid"]
GroupScore = Literal["best_two", "best"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a token chooses its experts, and what these weigh.

    `scores` are made of the router's logits. The chosen ones, scaled to add up to 1 if `normalised`, are weights, times
    `scale`. `corrected`: a number for each expert is added to its score for choosing alone. Of `groups` of experts,
    each worth its `group_score`, only the best `top_groups` are chosen from.
    """

    scores: Scores = "softmax"
    normalised: bool = True
    scale: float = 1.0
    corrected: bool = False
    groups: int = 1
    top_groups: int = 1
    group_score: GroupScore = "best_two"

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said of it: probabilities that add up to 1."""
        return self == Choice()

    @property
    def is_wide(self) -> bool:
        """Whether logits are computed in float32 at least, as the models do that choose so."""
        return self.corrected or self.scores == "sigmoid"

    def __str__(self) -> str:
        """`sigmoid scores, corrected, of the 4 of 8 groups with the best two experts, not normalised, times 2.5`."""
        said = [] if self.scores == "softmax" else [f"{self.scores} scores"]
        said += ["corrected"] if self.corrected else []
        if self.groups > 1:
            said.append(f"of the {self.top_groups} of {self.groups} groups {in_words(self.group_score)}")
        said += [] if self.normalised else ["not normalised"]
        said += [] if self.scale == 1.0 else [f"times {self.scale!r}"]
        return ", ".join(said)


def in_words(score: GroupScore) -> str:
    """What makes a group of experts the better one."""
    match score:
        case "best_two":
            return "with the best two experts"
        case "best":
            return "with the best expert"
        case _:
            assert_never(score)
