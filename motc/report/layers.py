"""A kind of layer, or what became of one, as a panel: sublayers, their rows, and where tokens meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import assert_never

from motc.diff.alike import differences
from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.layer import Body, Layer, Sublayer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.report.cells import CellMaker, Change, changes, renamed
from motc.report.scene import Frame, Meeting, Names, Panel, Place, Row, Seen, Status
from motc.report.words import ranges

TOGETHER = (
    ("attention.q", "attention.k", "attention.v", "attention.gate"),
    ("attention.q_norm", "attention.k_norm", "attention.sinks"),
    ("ffn.gate", "ffn.up"),
    ("ffn.shared.gate", "ffn.shared.up", "ffn.shared.down", "ffn.shared.router"),
)
"""Groups that are drawn beside each other."""

TITLES = {"ffn": "feed-forward"}
"""What a sublayer is called where it is not as its role."""


Leaves = Callable[[Sublayer], Iterable[Leaf | None]]


class LayerDrawer:
    """Makes panels of the layers of one model, or of two whose modalities are called as the later one's."""

    def __init__(self, before: Model | None, after: Model, names: Mapping[str, str], common: Names) -> None:
        self.before, self.after, self.names, self.common = before, after, names, common

    def panel(self, place: Place, first: Layer) -> Panel:
        """The panel of a kind of layer; `first` is the later model's first kind."""
        old, new = place.old, place.new
        status: Status = "same"
        if self.before is not None:
            status = "added" if old is None else "removed" if new is None else "same"
        layer = new or old
        assert layer is not None
        roles = list(dict.fromkeys(each.role for one in (new, old) if one for each in one.sublayers))
        frames = tuple(self._frame(place, _sublayer(old, role), _sublayer(new, role), layer) for role in roles)
        differs = () if self.before is not None or layer is first else differences(self.after, first, layer)
        return Panel(
            letter=place.letter,
            where=ranges(place.runs),
            count=place.count,
            differs=differs,
            frames=frames,
            status=status,
        )

    def _frame(self, place: Place, old: Sublayer | None, new: Sublayer | None, layer: Layer) -> Frame:
        shown, is_diff = new or old, self.before is not None
        assert shown is not None
        status: Status = "same"
        if is_diff:
            status = "added" if old is None else "removed" if new is None else "same"
        model = self.after if new is not None or self.before is None else self.before
        names = {} if new is not None else self.names
        maker = CellMaker(place=place, common=self.common, is_diff=is_diff, experts=_experts(shown, model, names))
        inner: list[Row | Meeting] = []
        before_body = self._changes(old, new, lambda each: (each.before, each.modulation))
        inner += [row for change in before_body for row in maker.rows([change])]
        rows_before = len(inner)
        bodies = self._changes(old, new, lambda each: each.body.leaves())
        last = shown.body.out.path
        for beside in _together([change for change in bodies if change.path != last]):
            inner += maker.rows(beside)
        if isinstance(shown.body, Attention):
            inner.append(self._meeting(old, new))
        inner += maker.rows([change for change in bodies if change.path == last])
        for change in self._changes(old, new, lambda each: (each.after, each.out_gate)):
            inner += maker.rows([change])
        joined = self._changes(old, new, lambda each: (each.joined,))
        after = [row for change in joined for row in maker.rows([change])]
        told, notes = told_of(shown, layer, model)
        if is_diff and old is not None and new is not None and not self._alike(old.body, new.body):
            status = "changed"
        return Frame(
            role=shown.role,
            told=told,
            notes=notes,
            rows=(*inner, *after),
            joined=tuple(names.get(name, name) for block in shown.body.out.blocks for name in block.modalities),
            rows_before=rows_before,
            rows_after=len(after),
            reads=shown.reads,
            status=status,
        )

    def _changes(self, old: Sublayer | None, new: Sublayer | None, leaves: Leaves) -> list[Change]:
        """What became of these groups of a sublayer."""
        before, after = ([] if each is None else [leaf for leaf in leaves(each) if leaf] for each in (old, new))
        return changes(None if self.before is None else [renamed(leaf, self.names) for leaf in before], after)

    def _meeting(self, old: Sublayer | None, new: Sublayer | None) -> Meeting:
        shown = new or old
        assert shown is not None and isinstance(shown.body, Attention)
        before = old.body if old is not None and isinstance(old.body, Attention) else None
        body = shown.body
        status: Status = "same"
        seen_before = None
        if before is None or new is None:
            status = "same" if self.before is None else "added" if before is None else "removed"
        elif self.before is not None:
            mask = before.mask.renamed(self.names)
            if mask != body.mask.renamed({}):
                seen_before = Seen(mask, self._called(self.before))
            status = "same" if seen_before is None and self._alike(before, body) else "changed"
        blocks = (*body.q.blocks, *body.k.blocks)
        meeting: Names = tuple(dict.fromkeys(name for block in blocks for name in block.modalities))
        if new is None:
            meeting = tuple(self.names.get(name, name) for name in meeting)
        seen = Seen(body.mask, self.after.names)
        if new is None and self.before is not None:
            seen = Seen(body.mask.renamed(self.names), self._called(self.before))
        heads = f"{body.heads} heads of {body.head_dim}"
        heads += "" if body.kv_heads == body.heads else f", {body.kv_heads} for keys and values"
        return Meeting(told=heads, modalities=meeting, seen=seen, seen_before=seen_before, status=status)

    def _alike(self, old: Body, new: Body) -> bool:
        """Whether the body of a sublayer has the same settings as before, but for masks, for those still there."""
        assert self.before is not None
        return self._settings(old, self.before) == self._settings(new, self.after)

    def _settings(self, body: Body, model: Model) -> dict[str, object]:
        """A body's settings, but for masks; those that are each modality's only of the modalities of both models."""
        settings = {**body.settings, "mask": ""}
        for key, value in settings.items():
            if isinstance(value, tuple) and len(value) == len(model.names):
                each = zip(self._called(model), value, strict=True)
                settings[key] = {name: of for name, of in each if name in self.common}
        return settings

    def _called(self, model: Model) -> Names:
        """A model's modalities, as the later one calls them."""
        return tuple(self.names.get(name, name) for name in model.names)


def _together(changes: list[Change]) -> list[list[Change]]:
    """The groups in order, those that are drawn beside each other in one list."""
    order: list[list[Change]] = []
    for change in changes:
        family = next((paths for paths in TOGETHER if change.path in paths), (change.path,))
        home = next((each for each in order if each[0].path in family), None)
        if home is None:
            order.append([change])
        else:
            home.append(change)
    routers = [each for each in order if each[0].path.endswith("router") and len(each) == 1]
    return [*routers, *(each for each in order if each not in routers)]


def _sublayer(layer: Layer | None, role: str) -> Sublayer | None:
    return None if layer is None else next((each for each in layer.sublayers if each.role == role), None)


def _experts(sublayer: Sublayer, model: Model, names: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """By modality with experts how many, and how many a token goes to on average, rounded up."""
    if not isinstance(sublayer.body, Mixture):
        return {}
    by_modality = sublayer.body.by_modality(model.names)
    return {names.get(name, name): (moe.experts, ceil(moe.per_token)) for name, moe in by_modality.items()}


def told_of(sublayer: Sublayer, layer: Layer, model: Model) -> tuple[str, tuple[str, ...]]:
    """A sublayer's title, and further lines of what it is."""
    body, title = sublayer.body, TITLES.get(sublayer.role, sublayer.role)
    notes = []
    match body:
        case Attention():
            notes.append("no rotary positions" if body.rope is None else f"rope {body.rope}")
            for said, value in (("scores × ", body.scale), ("soft-cap ", body.softcap), ("clip ", body.clip)):
                notes += [] if value is None else [f"{said}{value:g}"]
        case FeedForward():
            title += f" · {body.brief(model.names)}"
        case Mixture():
            kinds = dict.fromkeys(kind for kind in body.kinds if kind is not None)
            title += f" · {', '.join(kinds)}"
            of: dict[str, list[str]] = {}
            for name, moe in body.by_modality(model.names).items():
                of.setdefault(str(moe), []).append(name)
            notes += [f"{' '.join(names)}: {moe}" if len(of) > 1 else moe for moe, names in of.items()]
        case _:
            assert_never(body)
    match sublayer.reads:
        case "stream":
            pass
        case "entry":
            notes.append(f"in parallel with {layer.sublayers[0].role}")
        case "normed":
            notes.append(f"in parallel, behind {layer.sublayers[0].role}'s norm")
        case _:
            assert_never(sublayer.reads)
    notes += ["added to what came into the layer"] * (sublayer.onto == "entry")
    notes += [] if sublayer.scale == 1 else [f"added × {sublayer.scale:g}"]
    return title, tuple(notes)
