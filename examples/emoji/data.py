"""The emoji data set as packed training batches of captions (bytes) and images (codes)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

TEXT, IMAGE, PADDING = 0, 1, -1
BEGIN, END = 256, 257  # text ids after the 256 bytes: of the sample, of the caption
IMAGE_TOKENS = 64
HELD_OUT_EVERY = 20  # sample 0, 20, 40, … is held out: 5%


Row = tuple[list[int], list[int], list[int]]  # input ids, modality ids, document ids


@dataclass(frozen=True, slots=True, kw_only=True)
class EmojiData:
    """Captions with their images: codes [N, 64] into codebook [512, 4, 4, 3] (uint8 RGB patches)."""

    captions: tuple[bytes, ...]
    codes: Tensor
    codebook: Tensor

    @property
    def training(self) -> list[int]:
        """Indices of the samples to train on."""
        return [index for index in range(len(self.captions)) if index % HELD_OUT_EVERY]

    @property
    def held_out(self) -> list[int]:
        """Indices of the samples never trained on."""
        return list(range(0, len(self.captions), HELD_OUT_EVERY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Packed rows, each tensor int64 [B, S]; modality -1 is padding."""

    input_ids: Tensor
    modality_ids: Tensor
    document_ids: Tensor

    def count_targets(self) -> dict[str, int]:
        """How many next-token targets of each modality the batch holds."""
        same_document = self.document_ids[:, 1:] == self.document_ids[:, :-1]
        targets = self.modality_ids[:, 1:]
        return {
            name: int((same_document & (targets == modality)).sum())
            for name, modality in (("text", TEXT), ("image", IMAGE))
        }


def load_emoji(path: Path | None = None) -> EmojiData:
    """Read emoji.safetensors, by default the one beside this file."""
    tensors = load_file(path or Path(__file__).with_name("emoji.safetensors"))
    text = bytes(tensors["caption_bytes"].tolist())
    ends = [0, *tensors["caption_ends"].tolist()]
    return EmojiData(
        captions=tuple(text[start:end] for start, end in pairwise(ends)),
        codes=tensors["codes"].long(),
        codebook=tensors["codebook"],
    )


def encode_caption(caption: bytes) -> list[int]:
    """The text tokens of a sample: begin, the bytes, end of caption."""
    return [BEGIN, *caption, END]


def pack(data: EmojiData, indices: Iterable[int], length: int) -> Iterator[Row]:
    """Rows of whole samples, one after another, each row padded to the length given."""
    inputs: list[int] = []
    modalities: list[int] = []
    documents: list[int] = []
    document = 0

    def padded() -> Row:
        missing = length - len(inputs)
        return inputs + [0] * missing, modalities + [PADDING] * missing, documents + [document] * missing

    for index in indices:
        text = encode_caption(data.captions[index])
        sample_length = len(text) + IMAGE_TOKENS
        if sample_length > length:
            raise ValueError(f"sample {index} has {sample_length} tokens, rows have {length}")
        if len(inputs) + sample_length > length:
            yield padded()
            inputs, modalities, documents, document = [], [], [], 0
        inputs += [*text, *data.codes[index].tolist()]
        modalities += [TEXT] * len(text) + [IMAGE] * IMAGE_TOKENS
        documents += [document] * sample_length
        document += 1
    if inputs:
        yield padded()


def stack(rows: Sequence[Row]) -> Batch:
    """One batch of the given rows."""
    inputs, modalities, documents = zip(*rows, strict=True)
    return Batch(
        input_ids=torch.tensor(inputs), modality_ids=torch.tensor(modalities), document_ids=torch.tensor(documents)
    )


def shuffle_forever(indices: Sequence[int], seed: int) -> Iterator[int]:
    """Epoch after epoch in a random order, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for position in torch.randperm(len(indices), generator=generator).tolist():
            yield indices[position]


def training_batches(data: EmojiData, *, batch_size: int, length: int = 512, seed: int = 0) -> Iterator[Batch]:
    """Endless batches of the training samples."""
    rows = pack(data, shuffle_forever(data.training, seed), length)
    while True:
        yield stack([next(rows) for _ in range(batch_size)])


def held_out_batches(data: EmojiData, *, batch_size: int, length: int = 512) -> Iterator[Batch]:
    """Every held-out sample once; the last batch may have fewer rows."""
    rows = list(pack(data, data.held_out, length))
    for start in range(0, len(rows), batch_size):
        yield stack(rows[start : start + batch_size])
