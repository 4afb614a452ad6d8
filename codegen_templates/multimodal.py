"""What every model is, whatever its layers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .batch_order import to_batch
from .cache import Cache, check_cache
from .checked_layout import checked_layout
from .compiling import OUTER_METHODS, compile_parts
from .embed import in_stream, positions_in
from .initialise import initialise
from .layout import Layout
from .masks import Mask
from .outputs import LossOutput, ModelOutput, divided, mean_losses, sums_by_modality, weigh_modalities
from .row_ranks import rows_on
from .sizes import check_attention, check_grouped_products
from .target_checks import check_targets, only_with_labels
from .targets import Targets, find_targets, sort_targets


class MultimodalModel(nn.Module):
    """A transformer over tokens of several modalities: ids in, logits or losses out.

    A model says what it is made of: `embedding`, `layers`, `final_norm` and `head`. Its methods are `layout`, `embed`
    (ids to the stream), `transform` (ids to the stream after the last layer), `read` (the stream to logits) and `score`
    (the stream to losses); `embed`, `read` and `score` are here for embeddings and heads without copies.
    """

    modalities: ClassVar[tuple[str, ...]]
    vocabularies: ClassVar[Mapping[str, int]]
    semantic_hash: ClassVar[str]
    layout_key: ClassVar[str]
    masks: ClassVar[tuple[Mask, ...]]  # those of the layers, each once
    layer_masks: ClassVar[tuple[int, ...]] = ()  # which of them each layer has, if that is told; () where all are alike
    into_stream: ClassVar[tuple[str, ...]]  # a layer's groups whose results are added to the stream: they start smaller
    position_rules: ClassVar[tuple[Any, ...]] = ()  # of each modality where positions are not given; () for plain ones
    position_axes: ClassVar[int] = 1  # how many numbers a token's position is
    stream_sizes: ClassVar[tuple[str, ...]] = ("rows", "length")  # what the sizes of the stream are called
    layout_reads: ClassVar[bool] = True  # whether making a layout reads from the device
    own_vocabularies: ClassVar[bool] = False  # whether each modality has one, and logits are a dict
    sorts_targets: ClassVar[bool] = False  # whether `score` takes targets sorted by modality
    is_balanced: ClassVar[bool] = False  # whether `transform` also gives the load-balancing loss of experts
    target_weights: ClassVar[tuple[float, ...]] = ()  # of each modality's targets in the total's mean; () are ones
    alike: ClassVar[tuple[int, ...]] = ()
    """Of each modality the place, as they are sorted, of the first that has all its parameters: in a step of generating
    tokens that are alike are not sorted. Empty: all are.
    """
    rows_on = staticmethod(rows_on)  # for what puts a model on a mesh, whose own may be another module's
    layout: Callable[..., Any]
    transform: Callable[..., Any]
    layers: nn.ModuleList
    embedding: Any
    final_norm: Any
    head: Any

    def __init__(self) -> None:
        super().__init__()
        self.has_grouped_products = False  # as `compile` has found
        self.sizes_vary = True  # whether compiled code is told so

    def init_weights(self, seed: int = 0) -> None:
        """Fill every parameter, each from the seed and its own name. Works after `to_empty`."""
        initialise(self, layers=len(self.layers), into_stream=self.into_stream, seed=seed)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each kind of layer once, and what comes before and after them; arguments as for torch.compile.

        One graph serves all batches, whatever their sizes and their shares of each modality.
        Raises RuntimeError where torch is older than 2.11.
        """
        compile_parts(self, *args, **kwargs)

    @property
    def is_compiled(self) -> bool:
        """Whether layers are: those of a shallow copy are the model's own."""
        return any(layer._compiled_call_impl is not None for layer in self.layers)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: all but compiled code, so that a copy is to be compiled anew."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name not in OUTER_METHODS}

    def prepared(
        self,
        layout: Any,
        input_ids: Tensor,
        modality_ids: Tensor,
        position_ids: Tensor | None,
        document_ids: Tensor | None,
        labels: Tensor | None,
        weights: Tensor | None,
        cache: Cache | None,
    ) -> Any:
        """The layout of a batch, made unless it is given; of a step of generating, which has a cache, the given one.

        Raises TypeError or ValueError for what does not fit.
        """
        if cache is not None:
            check_cache(cache, layout)
            return layout
        reads = self.layout_reads and layout is None
        prepared = checked_layout(self, input_ids, modality_ids, position_ids, document_ids, layout, reads=reads)
        only_with_labels(labels, weights=weights)
        if labels is not None and (labels is not input_ids or weights is not None):
            check_targets(self, labels, weights, input_ids, modality_ids, reads=reads)
        if not torch.compiler.is_compiling() and self.is_compiled:
            has_mask = any(rows.mask is not None for rows in prepared.rows.by_mask)
            check_attention(prepared.rows.slots, has_mask=has_mask)
            if self.has_grouped_products:
                check_grouped_products(next(self.layers.parameters()))
            if self.sizes_vary:
                prepared.mark_sizes()
        return prepared

    def placed(
        self,
        layout: Layout,
        position_ids: Tensor | None,
        cache: Cache | None,
        latents: Mapping[str, Any] | None = None,
        clean: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The positions of attention's slots, int64 [R, L] or [R, L, axes]: those given, or from 0 in each document."""
        return positions_in(layout, position_ids)

    def embed(self, ids: Tensor, layout: Any) -> Any:
        """Token ids to the stream."""
        return self.embedding(ids)

    def read(self, x: Any, layout: Any) -> Any:
        """The stream to logits, in the order of the batch."""
        return self.head(to_batch(self.final_norm(x), layout))

    def score(self, x: Any, layout: Any, wanted: Any) -> Any:
        """The sum of each modality's losses [M]."""
        return sums_by_modality(self.head(self.final_norm(x)), wanted, len(self.modalities))

    def forward(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        position_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Any = None,
        cache: Cache | None = None,
    ) -> ModelOutput | LossOutput:
        """Logits [B, S, V], or a dict modality -> [B, S, V_m] of own vocabularies; with `labels` what `loss` returns.

        All arguments int64 [B, S]; `position_ids` [B, S, axes] where there are several; `weights` floating-point.
        `layout` is what `self.layout` made, or with a `cache`, which has the keys and values of the tokens before, that
        of the step. Logits are zeros at padding.
        """
        layout = self.prepared(layout, input_ids, modality_ids, position_ids, document_ids, labels, weights, cache)
        positions = self.placed(layout, position_ids, cache)
        x, balance = self.with_balance(self.transform(in_stream(input_ids, layout), layout, positions, cache))
        if labels is not None:
            return self.losses(x, layout, labels, weights, balance)
        return ModelOutput(self.logits(x, layout, cache))

    def with_balance(self, transformed: Any) -> tuple[Any, Tensor | None]:
        """The stream after the last layer, and the load-balancing loss of experts where `transform` gives it too."""
        return transformed if self.is_balanced else (transformed, None)

    def logits(self, x: Any, layout: Layout, cache: Cache | None) -> Any:
        """The logits of the stream after the last layer; with a cache, in the vocabularies that it wants.

        Of prompts they are those of the last tokens, [B, 1, V].
        """
        if cache is not None and cache.step is None and cache.last is not None:
            x, layout = cache.last.of(x, layout), cache.last.layout
        if self.own_vocabularies and cache is not None:
            return self.read(x, layout, cache.wanted)  # type: ignore[call-arg]
        return self.read(x, layout)

    def counted(self, labels: Tensor, layout: Any) -> Tensor:
        """The labels int64 [B, S], -100 where a token is no target though there is one."""
        return labels

    def targets(self, labels: Tensor, weights: Tensor | None, layout: Layout) -> Targets:
        """What the stream's places are to predict."""
        labels, words = self.counted(labels, layout), layout.modality_ids
        return find_targets(labels, weights, words, layout.document_ids, layout.tokens, len(self.modalities))

    def losses(
        self, x: Any, layout: Layout, labels: Tensor, weights: Tensor | None, balance: Tensor | None
    ) -> LossOutput:
        """The losses of the stream after the last layer."""
        targets = self.targets(labels, weights, layout)
        sums = self.score(x, layout, sort_targets(targets) if self.sorts_targets else targets)
        return self.means(sums, targets, layout, balance)

    def means(self, sums: Tensor, targets: Targets, layout: Layout, balance: Tensor | None) -> LossOutput:
        """The means of sums of losses [M]."""
        if balance is not None:  # where no token is real, routers have balanced nothing
            balance = torch.where((layout.modality_ids >= 0).any(), balance, 0.0)
        means = mean_losses(sums, targets.totals, self.modalities, balance)
        return weigh_modalities(means, sums, targets.totals, self.target_weights) if self.target_weights else means

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

    def count(
        self,
        input_ids: Tensor,
        modality_ids: Tensor,
        *,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        document_ids: Tensor | None = None,
        layout: Any = None,
    ) -> dict[str, Tensor]:
        """The `weights` that `loss` has for these arguments, by modality; no layer is run.

        Their sums over the parts of a batch are what `share` is given. Raises as `loss` does.
        """
        labels = input_ids if labels is None else labels
        layout = self.prepared(layout, input_ids, modality_ids, None, document_ids, labels, weights, None)
        totals = self.targets(labels, weights, layout).totals
        return dict(zip(self.modalities, totals.unbind(), strict=True))

    def share(self, losses: LossOutput, weights: Mapping[str, Tensor]) -> Tensor:
        """What a part of a batch adds to the total of all of it: the shares of all parts sum up to that.

        `losses` are the part's, and `weights` by modality the sums of all parts' `losses.weights`. The balance of
        experts counts as much as the part's weights do: routers balance what is before them.
        """
        factors = dict(zip(self.modalities, self.target_weights or (1.0,) * len(self.modalities), strict=True))
        nothing = torch.zeros((), device=losses.total.device)
        sums = {name: factors[name] * losses.by_modality[name] * losses.weights[name] for name in self.vocabularies}
        weight = sum((factors[name] * weights[name] for name in self.vocabularies), nothing)
        share = divided(sum(sums.values(), nothing), weight)
        if losses.balance is None:
            return share
        own, of_all = (sum(each.values(), nothing) for each in (losses.weights, weights))
        return share + losses.balance * torch.where(of_all > 0, own / of_all, 1)
