"""Join neighbouring segments of equal layers.

before   layers 0..3 A, layers 4..23 A
after    layers 0..23 A
"""

from __future__ import annotations

from dataclasses import replace

from motc.ir.model import Model, Segment


def merge_segments(model: Model) -> Model:
    """The same model with as few segments as possible."""
    merged: list[Segment] = []
    for segment in model.segments:
        if merged and merged[-1].layer == segment.layer:
            merged[-1] = replace(merged[-1], last=segment.last)
        else:
            merged.append(segment)
    return replace(model, segments=tuple(merged))
