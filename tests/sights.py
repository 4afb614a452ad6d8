"""Batches for originals: of text, and of images between text, whose encoders are left out and their outputs given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Ids and modality ids [B, S], and what the original and motc's model are given besides.

    `features` are what an encoder made, in the order of the tokens in the batch; gradients flow into them. `prompt` is
    what the original's `generate` is given in place of `theirs`. `grids` [n, 3] are those of images, which positions
    follow from.
    """

    ids: Tensor
    modality_ids: Tensor
    theirs: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    prompt: dict[str, Any] = field(default_factory=dict)
    features: Tensor | None = None
    grids: Tensor | None = None


MakeBatch = Callable[[Any, int, int, tuple[int, ...], torch.dtype], Batch]
"""Of the original, its vocabulary, how many modalities there are, the shape of a token's features, and the dtype."""


def text(theirs: Any, vocab: int, modalities: int, given: tuple[int, ...], dtype: torch.dtype) -> Batch:
    """Two rows of eleven tokens, of any modality."""
    del theirs, given, dtype
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocab, (2, 11), generator=generator)
    return Batch(ids=ids, modality_ids=torch.randint(0, modalities, ids.shape, generator=generator))


IMAGE = 1
"""The place of images among the modalities of specs that have them."""
ROWS, COLUMNS = 2, 3


def with_images(vocab: int, image_token: int, given: tuple[int, ...], dtype: torch.dtype, tokens: int) -> Batch:
    """Two rows of text with an image of so many tokens in each, at another place."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocab, (2, tokens + 7), generator=generator)
    modality_ids = torch.zeros_like(ids)
    for row, begin in enumerate((2, 4)):
        modality_ids[row, begin : begin + tokens] = IMAGE
    ids = torch.where(modality_ids == IMAGE, image_token, ids)
    features = torch.randn(2 * tokens, *given, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    return Batch(ids=ids, modality_ids=modality_ids, features=features, ours={"features": {"image": features}})


def qwen_vl(theirs: Any, vocab: int, modalities: int, given: tuple[int, ...], dtype: torch.dtype) -> Batch:
    """Images of two rows and three columns of tokens, with positions on three axes as the original makes them."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    del modalities
    tokens = ROWS * COLUMNS
    batch = with_images(vocab - 3, theirs.config.image_token_id, given, dtype, tokens)
    assert batch.features is not None
    merge = theirs.config.vision_config.spatial_merge_size
    grid = torch.tensor([[1, ROWS * merge, COLUMNS * merge]] * 2)
    kinds = (batch.modality_ids == IMAGE).int()
    positions, _ = theirs.model.get_rope_index(batch.ids, kinds, image_grid_thw=grid)
    first, *added = batch.features.unbind(1) if len(given) > 1 else [batch.features]
    seen = BaseModelOutputWithPooling(pooler_output=first.split(tokens))
    seen.deepstack_features = [each.split(tokens) for each in added]  # for the states after Qwen3-VL's first layers
    return Batch(
        ids=batch.ids,
        modality_ids=batch.modality_ids,
        features=batch.features,
        theirs={"position_ids": positions, "mm_encoder_outputs": {"image": seen}},
        ours=batch.ours | {"position_ids": positions.permute(1, 2, 0)},
        grids=torch.tensor([[1, ROWS, COLUMNS]] * 2),
        prompt={"image_grid_thw": grid, "mm_token_type_ids": kinds, "mm_encoder_outputs": {"image": seen}},
    )


BOUNDARY = 2
"""The place of the tokens around an image, where they have a modality of their own."""


def ernie_vl(theirs: Any, vocab: int, modalities: int, given: tuple[int, ...], dtype: torch.dtype) -> Batch:
    """The same, and the tokens right before and after an image go through its experts."""
    batch = qwen_vl(theirs, vocab, modalities, given, dtype)
    is_image = batch.modality_ids == IMAGE
    around = (is_image.roll(1, 1) | is_image.roll(-1, 1)) & ~is_image
    kinds = (is_image | around).int()
    return replace(
        batch,
        modality_ids=torch.where(around, BOUNDARY, batch.modality_ids),
        theirs=batch.theirs | {"moe_mm_token_type_ids": kinds},
        prompt=batch.prompt | {"moe_mm_token_type_ids": kinds},
    )


class Encoder(nn.Module):
    """In place of an encoder: what it would make of images is given as these."""

    def forward(self, pixel_values: Tensor, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(last_hidden_state=pixel_values)


def gemma3_vl(theirs: Any, vocab: int, modalities: int, given: tuple[int, ...], dtype: torch.dtype) -> Batch:
    """Images of four tokens, through the original's own projector."""
    del modalities
    theirs.model.vision_tower = Encoder()
    batch = with_images(vocab - 3, theirs.config.image_token_id, given, dtype, tokens=4)
    assert batch.features is not None
    kinds = (batch.modality_ids == IMAGE).long()
    seen = {"pixel_values": batch.features.view(2, 4, *given), "token_type_ids": kinds}
    return replace(batch, theirs=seen, prompt=seen)


QUESTION = 2
"""The place of questions, which belong to the prefix; those of answers, the first, do not."""


def paligemma(theirs: Any, vocab: int, modalities: int, given: tuple[int, ...], dtype: torch.dtype) -> Batch:
    """An image of four tokens, a question and an answer."""
    batch = gemma3_vl(theirs, vocab, modalities, given, dtype)
    modality_ids = torch.tensor([[IMAGE] * 4 + [QUESTION] * 3 + [0] * 4, [IMAGE] * 4 + [QUESTION] * 2 + [0] * 5])
    text = batch.ids.where(batch.modality_ids != IMAGE, 5)
    ids = torch.where(modality_ids == IMAGE, theirs.config.image_token_id, text)
    seen = batch.theirs | {"token_type_ids": (modality_ids == 0).long()}
    return replace(batch, ids=ids, modality_ids=modality_ids, theirs=seen, prompt=seen)
