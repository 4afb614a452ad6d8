"""A model on ranks that have one batch between them, of which each has every n-th slot of each row.

Layers work on a rank's own tokens; attention has whole rows (`row_ranks.py`). Ids become vectors on each rank for all
tokens, and losses are of own ones, added up over ranks. Gradients are those of the mean of the ranks' losses, which
are equal, so that ranks' parameters have the average of the ranks' gradients, as those of data-parallel ranks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from .collectives import sum_over
from .data_parallel import checkpoint_layers
from .row_ranks import RowRanks
from .tokens import real_tokens

KNOWN = ("x", "layout", "spans", "conditions", "mask", "cos", "sin", "cache")
"""What layers are given."""


class RankTokens(NamedTuple):
    """Which tokens of a batch this rank has."""

    ranks: RowRanks
    layout: Any  # where they lie, attention's rows being whole
    places: Tensor | None  # int64 [n]: of each its place in the whole stream, sorted by modality; None: it is in slots
    sizes: tuple[int, ...]  # how many tokens the whole stream has; of a stream in pieces, each of them

    def cut(self, x: Any) -> Any:
        """This rank's part of what has the stream's shape; of a list of pieces, a list."""
        if isinstance(x, list):
            return [piece.index_select(0, own) for piece, own in zip(x, self._by_piece(), strict=True)]
        return self.ranks.cut(x) if self.places is None else x.index_select(0, self.places)

    def joined(self, x: Any) -> Any:
        """The way back, on all ranks."""
        if isinstance(x, list):
            return [self._whole(*each) for each in zip(x, self._by_piece(), self.sizes, strict=True)]
        return self.ranks.joined(x) if self.places is None else self._whole(x, self.places, sum(self.sizes))

    def _whole(self, x: Tensor, places: Tensor, size: int) -> Tensor:
        return sum_over(x.new_zeros(size, *x.shape[1:]).index_copy(0, places, x), self.ranks.group)

    def _by_piece(self) -> list[Tensor]:
        """The places of own tokens in each piece."""
        assert self.places is not None, "pieces are of sorted tokens"
        own, start = list[Tensor](), 0
        for size in self.sizes:
            own.append(self.places[(self.places >= start) & (self.places < start + size)] - start)
            start += size
        return own


def rank_tokens(layout: Any, modalities: int, mesh: DeviceMesh) -> RankTokens:
    """Those of this rank, of so many modalities."""
    ranks = RowRanks(mesh.get_local_rank(), mesh.size(), mesh.get_group(), layout.rows.slots.shape[1])
    slots = ranks.cut(layout.rows.slots, -1)
    places = ranks.cut(layout.places, modalities)
    if not hasattr(layout, "pieces"):
        own = layout._replace(places=places, tokens=real_tokens(slots, layout.modality_ids))
        return RankTokens(ranks, own, None, ())
    own = layout.of_slots(places, slots, modalities)
    in_whole = ranks.cut(layout.inverse, -1).flatten()[own.order] if layout.tokens.ndim == 1 else None
    return RankTokens(ranks, own, in_whole, (layout.order.shape[0],))


class OnRanks:
    """A layer's forward, given a rank's part of what has the stream's shape; of the first layer that is x too."""

    def __init__(self, within: Callable[..., Any], names: tuple[str, ...], model: Any, first: bool) -> None:
        self.within, self.names, self.model, self.first = within, names, model, first

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own: RankTokens = self.model.own
        given = dict(zip(self.names, args, strict=False)) | kwargs
        if self.first and isinstance(given["x"], list):
            own = self.model.own = own._replace(sizes=tuple(piece.shape[0] for piece in given["x"]))
        for name, value in given.items():
            if name == "layout":
                given[name] = own.layout
            elif name in ("cos", "sin"):
                given[name] = own.ranks.cut(value)
            elif name == "spans" or (name == "x" and self.first):
                given[name] = own.cut(value)
        return self.within(own.ranks, **given)


class WithRows:
    """A layer's forward while rows lie on ranks, which it is given before all else; it may be run again."""

    def __init__(self, forward: Callable[..., Any], model: Any) -> None:
        self.forward, self.rows_on = forward, model.rows_on

    def __call__(self, ranks: RowRanks, **given: Any) -> Any:
        with self.rows_on(ranks):
            return self.forward(**given)


def cut_rows(model: Any, mesh: DeviceMesh, checkpoint_every: int) -> None:
    """Have ranks of a mesh of one dimension share each batch's tokens; layers are checkpointed as they keep them.

    Raises ValueError for a layer that is given what is not known here.
    """
    names = [tuple(inspect.signature(layer.forward).parameters) for layer in model.layers]
    unknown = sorted({name for each in names for name in each} - {*KNOWN})
    if unknown:
        raise ValueError(f"rows cannot be cut over ranks: layers are given {', '.join(unknown)}")
    for layer in model.layers:
        layer.forward = WithRows(layer.forward, model)
    if checkpoint_every:
        checkpoint_layers(model, checkpoint_every)
    for number, layer in enumerate(model.layers):
        layer.forward = OnRanks(layer.forward, names[number], model, first=number == 0)
    model.__class__ = of_rows(type(model), mesh)


def of_rows(cls: Any, mesh: DeviceMesh) -> type[nn.Module]:
    """The model's class, whose layers, `leave` and `score` have a rank's own tokens, and all else has all."""
    count = len(cls.modalities)

    def transform(model: Any, ids: Any, layout: Any, *args: Any, **kwargs: Any) -> Any:
        model.own = rank_tokens(layout, count, mesh)
        return cls.transform(model, ids, layout, *args, **kwargs)

    def leave(model: Any, x: Any, layout: Any, spans: Tensor, conditions: Any) -> Any:
        return cls.leave(model, x, model.own.layout, model.own.cut(spans), conditions)

    def read(model: Any, x: Any, layout: Any, *args: Any) -> Any:
        return cls.read(model, model.own.joined(x), layout, *args)

    def targets(model: Any, labels: Tensor, weights: Tensor | None, layout: Any) -> Any:
        of_all = cls.targets(model, labels, weights, layout)
        own = cls.targets(model, labels, weights, rank_tokens(layout, count, mesh).layout)
        return own._replace(totals=of_all.totals)

    def score(model: Any, x: Any, layout: Any, wanted: Any) -> Any:
        scored = cls.score(model, x, model.own.layout, wanted)
        if not isinstance(scored, tuple):
            return sum_over(scored, mesh.get_group())
        sums, states = scored
        return sum_over(sums, mesh.get_group()), model.own.joined(states)

    def refused(model: Any, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("a model whose rows lie on several ranks is not compiled, and generates nothing")

    members = {"transform": transform, "read": read, "targets": targets, "score": score}
    members |= {"leave": leave} if hasattr(cls, "leave") else {}
    members |= {name: refused for name in ("compile", "generate", "denoise") if hasattr(cls, name)}
    return type(cls.__name__, (cls,), members)
