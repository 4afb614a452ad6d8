"""What every model is, whatever its layers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .checked_layout import checked_layout
from .compiling import ENDS, compile_parts
from .initialise import initialise
from .layout import AnyLayout, Layout
from .masks import Mask
from .outputs import LossOutput
from .sizes import check_attention
from .target_checks import check_targets, only_with_labels


class MultimodalModel(nn.Module):
    """A transformer over tokens of several modalities: ids in, logits or losses out.

    A model has the methods `layout`, `embed`, `read` (the stream to logits), `score` (the stream to losses) and
    `forward`, and these attributes.
    """

    modalities: ClassVar[tuple[str, ...]]
    vocabularies: ClassVar[Mapping[str, int]]
    semantic_hash: ClassVar[str]
    layout_key: ClassVar[str]
    mask: ClassVar[Mask]
    into_stream: ClassVar[tuple[str, ...]]  # a layer's groups whose results are added to the stream: they start smaller
    stream_sizes: ClassVar[tuple[str, ...]]  # what the sizes of the stream are called, for the compiler
    layout_reads: ClassVar[bool]  # whether making a layout reads from the device
    layers: nn.ModuleList

    def __init__(self) -> None:
        super().__init__()
        self.is_compiled = False

    def init_weights(self, seed: int = 0) -> None:
        """Fill every parameter, each from the seed and its own name. Works after `to_empty`."""
        initialise(self, layers=len(self.layers), into_stream=self.into_stream, seed=seed)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each kind of layer once, and what comes before and after them; arguments as for torch.compile.

        One graph serves all batches, whatever their sizes and their shares of each modality.
        Raises RuntimeError where torch is older than 2.11.
        """
        compile_parts(self, *args, **kwargs)
        self.is_compiled = True

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: all but compiled code, so that a copy is to be compiled anew."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**{name: value for name, value in state.items() if name not in ENDS}, "is_compiled": False}

    def prepared(
        self,
        layout: AnyLayout | None,
        input_ids: Tensor,
        modality_ids: Tensor,
        position_ids: Tensor | None,
        document_ids: Tensor | None,
        labels: Tensor | None,
        weights: Tensor | None,
    ) -> AnyLayout:
        """The layout of a batch, made unless it is given. Raises TypeError or ValueError for what does not fit."""
        reads = self.layout_reads and layout is None
        prepared = checked_layout(self, input_ids, modality_ids, position_ids, document_ids, layout, reads=reads)
        only_with_labels(labels, weights=weights)
        if labels is not None and (labels is not input_ids or weights is not None):
            check_targets(self, labels, weights, input_ids, modality_ids, reads=reads)
        if self.is_compiled and not torch.compiler.is_compiling():
            check_attention(prepared.rows.slots, has_mask=prepared.rows.mask is not None)
            prepared.mark_sizes()
        return prepared

    def loss(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Layout | None = None,
    ) -> LossOutput:
        """Next-token cross-entropy: the mean over all counted targets, and by the modality of the target.

        `labels` int64 [B, S] are the tokens themselves, not shifted, and `input_ids` unless given; -100 is no target.
        `weights` [B, S] say how much each counts as a target: 1 unless given. Raises ValueError for other labels.
        """
        losses: LossOutput = self(
            input_ids,
            modality_ids,
            labels=input_ids if labels is None else labels,
            weights=weights,
            position_ids=position_ids,
            document_ids=document_ids,
            layout=layout,
        )
        return losses
