"""Adaptive norms and residuals: tokens are scaled, shifted and gated by what is made of their span's condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .layout import Layout
from .norms import NormByTower


class TakenRows(torch.autograd.Function):
    """Rows of a table [n, w] by `rows` int64 [m], each of which many tokens have.

    The gradient of the table is a product with ones where a token has a row: no scatter, in which tokens would wait for
    each other, and summed up in float32 or wider.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(table: Tensor, rows: Tensor) -> Tensor:
        return table.index_select(0, rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        table, rows = inputs
        ctx.save_for_backward(rows)
        ctx.count = table.shape[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        has_row = rows == torch.arange(ctx.count, device=rows.device)[:, None]
        return has_row.to(gradients[0].dtype) @ gradients[0], None


def take(table: Tensor, spans: Tensor) -> Tensor:
    """Of a table [n, w] the row of each token's span, [..., w], `spans` being int64 [...]."""
    rows = spans.flatten()
    if torch.is_grad_enabled():
        taken: Tensor = TakenRows.apply(table, rows)  # type: ignore[no-untyped-call]
    else:
        taken = table.index_select(0, rows)
    return taken.view(*spans.shape, table.shape[1])


class ScaledRows(torch.autograd.Function):
    """Tokens [m, w], each times its row of a table [n, w]; for the way back rows are taken anew, and none is kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        return x * table.index_select(0, rows).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, table, rows = ctx.saved_tensors
        (gradient,) = gradients
        has_row = rows == torch.arange(table.shape[0], device=rows.device)[:, None]
        of_rows = (gradient * x).to(table.dtype)
        return gradient * table.index_select(0, rows).to(x.dtype), has_row.to(table.dtype) @ of_rows, None


def scaled(x: Tensor, table: Tensor, spans: Tensor) -> Tensor:
    """Tokens [..., w], each times the row of its span in a table [n, w], `spans` being int64 [...]."""
    if not torch.is_grad_enabled():
        return x * take(table, spans).to(x.dtype)
    flat: Tensor = ScaledRows.apply(x.reshape(-1, x.shape[-1]), table, spans.flatten())  # type: ignore[no-untyped-call]
    return flat.view(x.shape)


class Modulated(NamedTuple):
    """What tokens are scaled, shifted and gated by, [n, w] each, a row for each span; what there is not is None."""

    scale: Tensor | None
    shift: Tensor | None
    gate: Tensor | None


class ModulatedByTower(NamedTuple):
    """The same for each run of modalities that share it, or None; `ends` as those of `NormByTower`."""

    each: tuple[Modulated | None, ...]
    ends: tuple[int, ...]

    def at(self, place: int) -> Modulated | None:
        """That of the modality at this place in the order in which tokens are sorted."""
        return self.each[sum(place >= end for end in self.ends)]  # which can be compiled, and bisect cannot


def of_some(one: Modulated, have: tuple[bool, ...], ends: tuple[int, ...]) -> ModulatedByTower:
    """What some runs of modalities alone have."""
    return ModulatedByTower(tuple(one if has else None for has in have), ends)


class ZeroLinear(nn.Linear):
    """A linear map whose weights start at 0."""

    start = 0.0


class Modulation(nn.Module):
    """Maps of a condition, `by` its name, to what tokens are scaled, shifted and gated by.

    With `gate="tanh"` they are gated by the tanh of what that map gives.
    """

    def __init__(
        self,
        by: str,
        size: int,
        width: int,
        parts: tuple[str, ...] = ("scale", "shift", "gate"),
        bias: bool = True,
        gate: str = "linear",
    ) -> None:
        super().__init__()
        self.by, self.squashes_gate = by, gate == "tanh"
        self.scale = ZeroLinear(size, width, bias=bias) if "scale" in parts else None
        self.shift = ZeroLinear(size, width, bias=bias) if "shift" in parts else None
        self.gate = ZeroLinear(size, width, bias=bias) if "gate" in parts else None

    def forward(self, conditions: Mapping[str, Tensor]) -> Modulated:
        x = conditions[self.by]
        scale, shift, gate = (None if each is None else each(x) for each in (self.scale, self.shift, self.gate))
        return Modulated(scale, shift, gate.tanh() if gate is not None and self.squashes_gate else gate)


class SharedModulations(nn.Module):
    """Modulations that layers have in common, by their path, such as `apart.attention.caption`."""

    def __init__(self, modulations: Mapping[str, Modulation]) -> None:
        super().__init__()
        self.paths = tuple(modulations)
        for path, modulation in modulations.items():
            module: nn.Module = self
            *names, last = path.split(".")
            for name in names:
                if name not in module._modules:
                    module.add_module(name, nn.Module())
                module = module.get_submodule(name)
            module.add_module(last, modulation)

    def forward(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each makes of conditions, its parts by their paths, [n, w]."""
        made = {path: self.get_submodule(path)(conditions) for path in self.paths}
        parts = ((f"{path}.{name}", part) for path, each in made.items() for name, part in each._asdict().items())
        return {path: part for path, part in parts if part is not None}


class GivenModulation(nn.Module):
    """What a layer's tokens are scaled, shifted and gated by, found by its path: made for all layers at once.

    If it is not `in_parts` there is one vector for all of these. With a `table` the layer adds numbers of its own. With
    `gate="tanh"` the tanh of the gate is taken at last.
    """

    start = 0.0

    def __init__(
        self,
        path: str,
        *,
        width: int,
        parts: tuple[str, ...] = ("scale", "shift", "gate"),
        gate: str = "linear",
        table: bool = False,
        in_parts: bool = True,
    ) -> None:
        super().__init__()
        self.path, self.in_parts = path, in_parts
        self.parts, self.squashes_gate = parts, gate == "tanh"
        for part in parts if table else ():
            self.register_parameter(part, nn.Parameter(torch.zeros(width)))

    def forward(self, conditions: Mapping[str, Tensor]) -> Modulated:
        scale, shift, gate = (self._part(part, conditions) for part in ("scale", "shift", "gate"))
        return Modulated(scale, shift, gate.tanh() if gate is not None and self.squashes_gate else gate)

    def _part(self, part: str, conditions: Mapping[str, Tensor]) -> Tensor | None:
        if part not in self.parts:
            return None
        made = conditions[f"{self.path}.{part}" if self.in_parts else self.path]
        own = self._parameters.get(part)
        return made if own is None else made + own


class ModulationByTower(NormByTower):
    """Copies of such maps, by name; `route` has None for modalities whose tokens are not changed."""

    def forward(self, conditions: Mapping[str, Tensor]) -> ModulatedByTower:  # type: ignore[override]
        return ModulatedByTower(
            tuple(None if name is None else self[name](conditions) for name in self.route), tuple(self.ends)
        )


def modulated(x: Tensor, by: Modulated, spans: Tensor) -> Tensor:
    """What a norm gives [..., w], times 1 + scale, plus shift."""
    if by.scale is not None:
        x = scaled(x, 1 + by.scale, spans)
    return x if by.shift is None else x + take(by.shift, spans).to(x.dtype)


def gated(x: Tensor, by: Modulated, spans: Tensor) -> Tensor:
    """What is to be added to the stream [..., w], times its gate."""
    return x if by.gate is None else scaled(x, by.gate, spans)


def modulated_by_place(x: Tensor, by: ModulatedByTower, spans: Tensor, places: Tensor | int) -> Tensor:
    """The same, each token by its tower's maps; `places` as `NormByTower` takes them."""
    return _chosen(modulated, x, by, spans, places)


def gated_by_place(x: Tensor, by: ModulatedByTower, spans: Tensor, places: Tensor | int) -> Tensor:
    """The same, each token by its tower's maps; `places` as `NormByTower` takes them."""
    return _chosen(gated, x, by, spans, places)


def modulated_pieces(
    x: list[Tensor], by: ModulatedByTower, spans: list[Tensor], layout: Layout, counts: tuple[int, ...] = ()
) -> list[Tensor]:
    """The same, piece by piece, piece i being of `counts[i]` modalities, or of one if not given."""
    return _pieces(modulated, x, by, spans, layout, counts)


def gated_pieces(
    x: list[Tensor], by: ModulatedByTower, spans: list[Tensor], layout: Layout, counts: tuple[int, ...] = ()
) -> list[Tensor]:
    """The same, piece by piece, piece i being of `counts[i]` modalities, or of one if not given."""
    return _pieces(gated, x, by, spans, layout, counts)


Change = Callable[[Tensor, Modulated, Tensor], Tensor]


def _chosen(change: Change, x: Tensor, by: ModulatedByTower, spans: Tensor, places: Tensor | int) -> Tensor:
    if isinstance(places, int):
        one = by.at(places)
        return x if one is None else change(x, one, spans)
    changed = [x if one is None else change(x, one, _within(spans, one)) for one in by.each]
    chosen, *others = changed
    for end, other in zip(by.ends, others, strict=False):
        chosen = torch.where(places[..., None] >= end, other, chosen)
    return chosen


def _within(spans: Tensor, by: Modulated) -> Tensor:
    """Spans of other modalities' conditions may be more than there are rows here; what they take is not chosen."""
    some = next(each for each in by if each is not None)
    return spans.clamp(max=some.shape[0] - 1)


def _pieces(
    change: Change,
    x: list[Tensor],
    by: ModulatedByTower,
    spans: list[Tensor],
    layout: Layout,
    counts: tuple[int, ...],
) -> list[Tensor]:
    firsts = [sum(counts[:piece]) if counts else piece for piece in range(len(x))]
    each = (by.at(place) for place in ([layout.places] if isinstance(layout.places, int) else firsts))
    parts = zip(x, each, spans, strict=True)
    return [piece if one is None else change(piece, one, mine) for piece, one, mine in parts]
