"""How often a picture has its caption's skin tone, told by a small classifier that was trained on the real pictures."""

from __future__ import annotations

from itertools import pairwise

import torch
from data import EmojiData
from torch import Tensor, nn

TONES = ("medium-light", "medium-dark", "light", "medium", "dark")  # of two in a caption the first counts
STEPS, BATCH = 400, 64


def tone_of(caption: bytes) -> int:
    """The number of the caption's skin tone, or of none."""
    words = caption.decode().split()
    tones = [word for word, after in pairwise(words) if after == "skin" and word in TONES]
    return TONES.index(tones[0]) if tones else len(TONES)


def trained_classifier(pixels: Tensor, data: EmojiData, seed: int) -> nn.Module:
    """What tells the tone of pictures [n, 3, 16, 16]; `pixels` are the training samples'."""
    torch.manual_seed(seed)
    classifier = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 16, len(TONES) + 1),
    )
    wanted = torch.tensor([tone_of(data.captions[index]) for index in data.training])
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(wanted), (BATCH,))
        loss = nn.functional.cross_entropy(classifier(pixels[chosen]), wanted[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return classifier.eval()


@torch.no_grad()
def agreement(classifier: nn.Module, pixels: Tensor, captions: list[bytes]) -> float:
    """The share of pictures [n, 3, 16, 16] that show the tone of their caption."""
    wanted = torch.tensor([tone_of(caption) for caption in captions])
    return float((classifier(pixels.clamp(-1, 1)).argmax(1) == wanted).float().mean())
