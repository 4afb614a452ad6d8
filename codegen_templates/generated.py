"""What generating gives where there are latents."""

from typing import NamedTuple

from torch import Tensor


class GeneratedLatents(NamedTuple):
    """What was generated, without the prompt: int64 [B, N], where a row has ended modality -1 and id 0; so at latents.

    `latents` holds for each continuous modality that was asked for what was made, [n, channels, ...] in float32 or
    wider, in the order spans come in the batch, rows first.
    """

    input_ids: Tensor
    modality_ids: Tensor
    latents: dict[str, Tensor]
