"""What a model is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Several = Tensor | list[Tensor]
"""One for each span: as a tensor, or one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What forward and loss take, all int64 [B, S]; and by continuous modality what its n spans are.

    `position_ids` may be [B, S, axes].

    `latents` and `noise` are [n, channels, height, width], or lists of n that may differ in size, `timesteps` [n], or
    for each span of its tokens, or of the frames of latents of three axes; `clean`, bool, says of the same which are
    not noised and no targets, none if not given. What forward takes for noised latents, loss takes for clean ones.
    `features` are vectors [n, size] of a modality's n tokens, or [n, 1 + layers, size]. `labels` and `weights`,
    floating-point, are loss's: what is predicted of each token, -100 being nothing, and how much it counts; `input_ids`
    and 1 unless given. `conditions` have what else is known of a modality's n spans: `label` int64 [n], `number` [n],
    `vector` [n, size].
    """

    input_ids: Tensor
    modality_ids: Tensor
    position_ids: Tensor | None = None
    document_ids: Tensor | None = None
    labels: Tensor | None = None
    weights: Tensor | None = None
    latents: Mapping[str, Several] = field(default_factory=dict)
    timesteps: Mapping[str, Several] = field(default_factory=dict)
    noise: Mapping[str, Several] = field(default_factory=dict)
    clean: Mapping[str, Several] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    conditions: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
