"""The spec's mask to the IR's: towers become their modalities, and what does not go together is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from motc.ir.mask import Mask
from motc.lower.attributes import attends, is_crossed
from motc.lower.attributes import crossing as crosses
from motc.schema import Checked, Spec
from motc.source import Diagnostic, Span
from motc.source.nearest import suggestion

Said = tuple[tuple[str, tuple[str, ...]], ...]
"""Towers, and the names of modalities or towers that each is said to read, or to attend to."""


def lower_masks(specs: Iterable[Checked], errors: list[Diagnostic], *, dense: bool = False) -> list[Mask | None]:
    """Who sees whom by each spec, as it is in some layers; None where there is no attention.

    With `dense` no tower lacks any. Appends to `errors`; the masks are right if nothing was appended.
    """
    known: dict[tuple[object, ...], Mask] = {}
    masks: list[Mask | None] = []
    for checked in specs:
        attention, absent = checked.spec.attention, _absent(checked.spec, dense=dense)
        reading = () if dense else _reading(checked.spec, absent)
        crossing = () if dense else _crossing(checked.spec)
        # where nothing else is said a section is one object
        key = (id(attention.mask), attention.window, absent, reading, crossing)
        if key not in known:
            known[key] = _MaskLowering(checked, errors).mask(absent, dict(reading), dict(crossing))
        masks.append(None if len(absent) == len(checked.spec.modalities) else known[key])
    return masks


def _absent(spec: Spec, *, dense: bool) -> tuple[str, ...]:
    """The modalities that have no attention."""
    tower_of = {} if dense else {name: tower for tower in spec.towers.values() for name in tower.modalities}
    return tuple(
        name
        for name in spec.modalities
        if not attends(spec, tower_of.get(name)) and not is_crossed(spec, tower_of.get(name))
    )


def _reading(spec: Spec, absent: tuple[str, ...]) -> Said:
    """The towers whose tokens read others, and whom they are said to read."""
    return tuple(
        (name, tuple(tower.attention.reads))
        for name, tower in spec.towers.items()
        if tower.attention.reads and not tower.attention.cross and not set(tower.modalities) <= set(absent)
    )


def _crossing(spec: Spec) -> Said:
    """The towers whose tokens attend to others alone, and to whom they are said to."""
    return tuple((name, tuple(tower.attention.cross or ())) for name, tower in crosses(spec).items())


class _MaskLowering:
    """The mask of one spec."""

    def __init__(self, checked: Checked, errors: list[Diagnostic]) -> None:
        self.checked = checked
        self.spec = checked.spec.attention.mask
        self.errors = errors
        self.modalities = tuple(checked.spec.modalities)
        towers = {
            name: tuple(modality for modality in self.modalities if modality in tower.modalities)
            for name, tower in checked.spec.towers.items()
        }
        # A tower may have the name of one of its modalities: then the name means the modality.
        self.meaning = towers | {modality: (modality,) for modality in self.modalities}

    def mask(
        self, absent: tuple[str, ...], reading: dict[str, tuple[str, ...]], crossing: dict[str, tuple[str, ...]]
    ) -> Mask:
        before = len(self.errors)
        self.check_keys()
        prefix = self.names(self.spec.prefix, "prefix")
        bidirectional = self.names(self.spec.bidirectional, "bidirectional")
        runs, blocks = self.runs(bidirectional), self.blocks()
        sees, detach = self.sees(), self.detach()
        reads = self.reads(reading, absent, prefix) | self.crosses(crossing, absent)
        if len(self.errors) > before:
            return Mask(kind="causal")
        mask = Mask(
            kind=self.spec.kind,
            prefix=prefix,
            bidirectional=bidirectional,
            runs=runs,
            delimiters=self.spec.delimiters,
            hide_noised=self.hide_noised(),
            blocks=blocks,
            sees=tuple(sees.items()),
            window=self.checked.spec.attention.window,
            detach=tuple(detach.items()),
            absent=absent,
            reads=tuple(reads.items()),
            crosses=bool(crossing),
        ).simplified(self.modalities)
        self.check_hidden(mask)
        for name, others in mask.reads:
            if not others:
                tower = self.tower_of(name)
                span = self.cross_span(tower) if tower in crossing else self.reads_span(tower)
                way_out = "let it see those, or read others"
                self.error("MOT084", f"`{name}` sees none of those that it reads", span, way_out)
        return mask

    def hide_noised(self) -> tuple[str, ...]:
        """The modalities of latents whose noised spans are hidden."""
        names = self.names(self.spec.hide_noised, "hide_noised")
        for name in names:
            if self.checked.spec.modalities[name].latent is None:
                message = f"spans of {name} are not noised: it has no latents"
                self.error("MOT054", message, self.span("hide_noised"), "name modalities with `latent`")
        return names

    def check_hidden(self, mask: Mask) -> None:
        """Spans that are hidden see all of themselves, by a matrix of whole rows that nothing else cuts."""
        span = self.span("hide_noised")
        for name in mask.hide_noised:
            if name not in mask.bidirectional and name not in mask.absent:
                message = f"a noised span that only it sees is a run that sees all of itself, and {name} is in none"
                self.error("MOT054", message, span, f"add bidirectional = {name}")
        others = {"a window": mask.window, "reading others": mask.reads, "reading without gradient": mask.detach}
        for what, said in others.items():
            if mask.hide_noised and said:
                self.error(
                    "MOT054", f"noised spans are not hidden in layers with {what}", span, "leave one of them out"
                )

    def span(self, *path: str | int) -> Span:
        return self.checked.span("attention", "mask", *path)

    def key_span(self, *path: str | int) -> Span:
        return self.checked.key_span("attention", "mask", *path)

    def error(self, code: str, message: str, span: Span, way_out: str, *related: tuple[str, Span]) -> None:
        self.errors.append(Diagnostic(code=code, message=message, span=span, help=way_out, related=related))

    def check_keys(self) -> None:
        """Each kind has the keys it needs, and none that say nothing for it; an empty list is as good as none."""
        kind = self.spec.kind
        both = ("causal", "prefix")
        kinds_of = {"prefix": ("prefix",), "blocks": ("blocks",), "bidirectional": both, "runs": both}
        for key, kinds in kinds_of.items():
            if kind == key and getattr(self.spec, key) is None:
                message, way_out = f"a mask of kind {key} needs `{key}`", f"such as {key} = {self.example(key)}"
                self.error("MOT054", message, self.span("kind"), way_out)
            elif kind not in kinds and getattr(self.spec, key):
                message, way_out = f"`{key}` says nothing in a mask of kind {kind}", " or ".join(kinds)
                related = (("the kind", self.span("kind")),) if "kind" in self.spec.model_fields_set else ()
                self.error("MOT054", message, self.key_span(key), f"leave it out, or use kind = {way_out}", *related)

        if self.spec.delimiters and not (self.spec.bidirectional or self.spec.runs):
            message, way_out = "`delimiters` says nothing without runs that see all of themselves", "leave it out"
            self.error("MOT054", message, self.key_span("delimiters"), f"{way_out}, or use bidirectional or runs")

    def example(self, key: str) -> str:
        if key == "prefix":
            return self.modalities[0]
        return "[" + ", ".join(f"[{name}]" for name in self.modalities) + "]"

    def names(self, names: list[str] | None, *path: str | int) -> tuple[str, ...]:
        """The modalities that names of modalities and towers mean."""
        modalities: list[str] = []
        for index, name in enumerate(names or ()):
            modalities += self.meant(name, self.span(*path, index))
        return tuple(modalities)

    def meant(self, name: str, span: Span) -> tuple[str, ...]:
        if name in self.meaning:
            return self.meaning[name]
        known = f"modalities: {', '.join(self.modalities)}"
        towers = [tower for tower in self.meaning if tower not in self.modalities]
        known += f"; towers: {', '.join(towers)}" if towers else ""
        way_out = suggestion(name, self.meaning, known)
        self.error("MOT044", f"no modality or tower `{name}`", span, way_out)
        return ()

    def runs(self, bidirectional: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """The modalities that are in runs together; none is in two, or in runs of its own besides."""
        taken = dict.fromkeys(bidirectional, self.span("bidirectional"))
        return self.disjoint("runs", taken, "runs twice", "the other place")

    def blocks(self) -> tuple[tuple[str, ...], ...]:
        if self.spec.blocks is None or self.spec.kind != "blocks":
            return tuple(self.names(block, "blocks", row) for row, block in enumerate(self.spec.blocks or ()))
        before = len(self.errors)
        taken: dict[str, Span] = {}
        blocks = self.disjoint("blocks", taken, "two blocks", "the other one")
        missing = [name for name in self.modalities if name not in taken]
        if missing and len(self.errors) == before:
            message = f"the blocks do not cover {', '.join(missing)}"
            self.error("MOT043", message, self.span("blocks"), f"add [{missing[0]}] or put it in a block")
        return blocks

    def disjoint(
        self, key: Literal["runs", "blocks"], taken: dict[str, Span], twice: str, label: str
    ) -> tuple[tuple[str, ...], ...]:
        """The modalities of each list under a key: it has some, and none of `taken`, to which they are added."""
        lists = []
        for row, names in enumerate(getattr(self.spec, key) or ()):
            if not names:
                message = f"a {key.removesuffix('s')} is empty"
                self.error("MOT043", message, self.span(key, row), "name its modalities")
            members: list[str] = []
            for column, name in enumerate(names):
                span = self.span(key, row, column)
                for modality in self.meant(name, span):
                    if modality in taken:
                        message, related = f"`{modality}` is in {twice}", (label, taken[modality])
                        self.error("MOT043", message, span, "keep it in one", related)
                    taken.setdefault(modality, span)
                    members.append(modality)
            lists.append(tuple(members))
        return tuple(lists)

    def detach(self) -> dict[str, tuple[str, ...]]:
        """Whom each modality reads without gradient."""
        return {modality: others for modality, (_, others) in self.others("detach", "detaches").items()}

    def reads(
        self, reading: dict[str, tuple[str, ...]], absent: tuple[str, ...], prefix: tuple[str, ...]
    ) -> dict[str, tuple[str, ...]]:
        """Whom each modality of these towers reads: those that have keys and values there."""
        readers = [modality for tower in reading for modality in self.checked.spec.towers[tower].modalities]
        reads: dict[str, tuple[str, ...]] = {}
        for tower, names in reading.items():
            others: list[str] = []
            for index, name in enumerate(names):
                span = self.reads_span(tower, index)
                for modality in self.meant(name, span):
                    others.append(modality)
                    why = "reads others in the same layers" if modality in readers else ""
                    why = "has no attention in these layers" if modality in absent else why
                    if why:
                        message = f"tower {tower} cannot read {modality}, which {why}"
                        self.error("MOT084", message, span, "read modalities that have keys and values there")
            members = self.checked.spec.towers[tower].modalities
            leading = [name for name in members if name in prefix]
            if leading and self.spec.kind == "prefix":
                message = f"`{leading[0]}` reads others, and cannot be in the prefix of these layers"
                related = (("the prefix", self.span("prefix")),)
                self.error("MOT084", message, self.reads_span(tower), "leave it out of the prefix there", *related)
            reads |= dict.fromkeys(members, tuple(others))
        return reads

    def crosses(self, crossing: dict[str, tuple[str, ...]], absent: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """To whom each modality of these towers attends: towers that have no attention of their own."""
        spec, attended = self.checked.spec, dict[str, tuple[str, ...]]()
        for tower, names in crossing.items():
            others: list[str] = []
            named = {modality for name in names for modality in self.meaning.get(name, ())}
            if spec.towers[tower].attention.reads:
                message = f"tower {tower} reads others, and attends to others alone in the same layers"
                self.error("MOT084", message, self.cross_span(tower), "use reads = [] there, or leave `cross` out")
            for index, name in enumerate(names):
                span = self.cross_span(tower, index)
                for modality in self.meant(name, span):
                    others.append(modality)
                    owner = next((each for each in spec.towers.values() if modality in each.modalities), None)
                    if owner is None or not is_crossed(spec, owner):
                        message = f"tower {tower} cannot attend to {modality} alone, which has attention of its own"
                        self.error("MOT084", message, span, f"give its tower attention = none, or use reads = {name}")
                    elif missing := [each for each in owner.modalities if each not in named]:
                        message = f"tower {tower} attends to {modality}, and not to {missing[0]} of the same tower"
                        self.error("MOT084", message, span, "name the tower, or give it a tower of its own")
            attended |= dict.fromkeys(spec.towers[tower].modalities, tuple(others))
        read = {name for others in attended.values() for name in others}
        beside = [name for name in self.modalities if name not in {*attended, *read, *absent}]
        widths = {tower.width or spec.width for tower in spec.towers.values()}
        if crossing and (beside or len(widths) > 1):
            what = f"`{beside[0]}` has attention of its own" if beside else "towers are of several widths"
            message = f"{what} in layers where tower {next(iter(crossing))} attends to others alone"
            way_out = "give that tower attention = none there" if beside else "give all towers the same width"
            self.error("MOT084", message, self.cross_span(next(iter(crossing))), way_out)
        return attended

    def cross_span(self, tower: str, *place: int) -> Span:
        return self.checked.span("towers", tower, "attention", "cross", *place)

    def reads_span(self, tower: str, *place: int) -> Span:
        return self.checked.span("towers", tower, "attention", "reads", *place)

    def tower_of(self, modality: str) -> str:
        return next(name for name, tower in self.checked.spec.towers.items() if modality in tower.modalities)

    def sees(self) -> dict[str, tuple[str, ...]]:
        """Each modality's own list, checked to hold the modality itself."""
        seen_by = self.others("sees", "sees")
        for modality, (key, seen) in seen_by.items():
            if modality not in seen and self.meaning.keys() >= set(self.spec.sees[key]):
                message = f"`{modality}` does not see itself: a token always sees itself"
                self.error("MOT055", message, self.span("sees", key), f"add {modality}")
        return {modality: seen for modality, (_, seen) in seen_by.items()}

    def others(self, section: Literal["sees", "detach"], does: str) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Whom a section names for each modality, and under which key: its own, or its tower's."""
        named: dict[str, tuple[str, tuple[str, ...]]] = {}
        for key, names in getattr(self.spec, section).items():
            span = self.key_span(section, key)
            modalities = self.names(names, section, key)
            for modality in self.meant(key, span):
                first, _ = named.setdefault(modality, (key, modalities))
                if first != key:
                    message = f"whom `{modality}` {does} is said twice, by `{first}` and by `{key}`"
                    related = ("the other one", self.key_span(section, first))
                    self.error("MOT054", message, span, "keep one of the two", related)
        return named
