"""Who sees whom in attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never, get_args

MaskKind = Literal["causal", "full", "prefix", "blocks"]
Often = Literal["never", "sometimes", "always"]
OFTEN: tuple[Often, ...] = get_args(Often)
Kernel = Literal["causal", "full", "views", "matrix"]
Place = Literal["anywhere", "leading", "following"]
Names = tuple[str, ...]
Sees = tuple[tuple[str, Names], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One call of attention that needs no matrix: tokens of a document that see the same modalities.

    Those who ask are the tokens of modalities `asking` at `place`: anywhere, among the leading tokens of a `prefix`, or
    after these. They see the tokens of modalities `seen`, of the leading ones if they lead themselves: all of them, or
    if the call is `causal` those that do not come after the one who asks.
    """

    asking: Names
    seen: Names
    causal: bool
    place: Place = "anywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which of a document's real tokens a token i of it sees.

    `causal`: those not after it; `full`: all. `prefix`: as causal, and the leading tokens of the document whose
    modalities are in `prefix` see each other. `blocks`: i sees j if j's block is i's or one before it.
    With `causal` and `prefix`, i also sees j if both lie in one unbroken run of a modality in `bidirectional`, or of
    the modalities that are together in `runs`, whichever of them its tokens are. With `delimiters` the token right
    before such a run and the one right after it, of modalities in none, are in it too; one between two is in both.
    `sees` restricts all of it: a modality named there sees the listed ones only, itself among them. So does `window`: i
    sees no token that is so many or more before it in its document, and with `full` and `blocks` none so far after it.
    It is 2 at least: neighbours see each other as without it.
    Tokens of modalities in `absent` take no part: they see none and none sees them, and to the others they are as
    padding.
    `detach` changes no result: a modality named there reads keys and values of the listed ones without gradient.
    Tokens of modalities in `reads` are read by none: to the others they are as padding. Themselves they see what all of
    the above shows them, but of the listed modalities alone; or if that is nothing, themselves. With `crosses` there
    are none but these and those that they read, which have no queries.

    A noised span of a modality in `hide_noised`, which is in `bidirectional`, is seen by its own tokens alone, those of
    `delimiters` among them.

    Names of modalities in the order of their declaration, save that blocks stand in order; `simplified`
    makes masks of equal meaning equal. What is asked of a mask below takes it to be simplified, and `modalities` to be
    all of the model's, in the order of their declaration.
    """

    kind: MaskKind
    prefix: Names = ()
    bidirectional: Names = ()
    blocks: tuple[Names, ...] = ()
    sees: Sees = ()
    window: int | None = None
    detach: Sees = ()
    absent: Names = ()
    runs: tuple[Names, ...] = ()
    reads: Sees = ()
    delimiters: bool = False
    hide_noised: Names = ()
    crosses: bool = False

    def simplified(self, modalities: Names) -> Mask:
        """The mask of this meaning in its simplest form, for a model of these modalities.

        before   prefix {}                             after    causal
                 prefix {every modality}                        full
                 full, text sees {text}                         blocks {text} {image}
                 causal, text sees {every modality}             causal
        """
        if self.absent:
            present = self.present(modalities)
            absent = tuple(name for name in modalities if name not in present)
            return replace(replace(self, absent=()).simplified(present), absent=absent)
        if self.reads:
            visible, said = self.visible(modalities), dict(self.reads)
            reads = {name: tuple(filter(said[name].__contains__, visible[name])) for name in modalities if name in said}
            of_all = replace(self, reads=(), crosses=False).simplified(modalities)
            return replace(of_all, reads=tuple(reads.items()), crosses=self.crosses)
        if self.hide_noised:
            hidden = tuple(name for name in modalities if name in self.hide_noised)
            return replace(replace(self, hide_noised=()).simplified(modalities), hide_noised=hidden)
        kind, visible = self.kind, self.visible(modalities)
        detach = self._detached(visible)
        prefix = tuple(name for name in modalities if name in self.prefix)
        if kind == "prefix" and not prefix:
            kind = "causal"
        all_lead = kind == "prefix" and prefix == modalities
        if all_lead and self.window is None:  # with a window a prefix sees all that follows, and full does not
            kind = "full"
        if kind in ("full", "blocks"):
            # Both say no more than which modality sees which.
            levels = sorted(set(visible.values()), key=len)
            ordered = tuple(tuple(name for name in modalities if visible[name] == level) for level in levels)
            if all(set(level) == set().union(*ordered[: place + 1]) for place, level in enumerate(levels)):
                whole = len(levels) == 1
                blocks = () if whole else ordered
                return Mask(kind="full" if whole else "blocks", blocks=blocks, window=self.window, detach=detach)
            kind = "full"
        runs = [tuple(name for name in modalities if name in run) for run in self.runs]
        alone = {*self.bidirectional, *(name for run in runs for name in run if len(run) == 1)}
        if all_lead or kind == "full":
            runs, alone = [], set()
        mask = Mask(
            kind=kind,
            prefix=prefix if kind == "prefix" else (),
            bidirectional=tuple(name for name in modalities if name in alone),
            runs=tuple(sorted((run for run in runs if len(run) > 1), key=lambda run: modalities.index(run[0]))),
            sees=tuple((name, seen) for name, seen in visible.items() if seen != modalities),
            window=self.window,
            detach=detach,
        )
        some = bool(mask.in_runs) and mask.in_runs != {*modalities}
        return replace(mask, delimiters=self.delimiters and some)

    def _detached(self, visible: Mapping[str, Names]) -> Sees:
        """Whom each modality reads without gradient, of those that it sees."""
        said = dict(self.detach)
        each = {name: tuple(other for other in seen if other in said.get(name, ())) for name, seen in visible.items()}
        return tuple((name, others) for name, others in each.items() if others)

    @property
    def looks_ahead_as_far(self) -> bool:
        """Whether a window ends as far after a token as before it."""
        match self.kind:
            case "causal" | "prefix":
                return False
            case "full" | "blocks":
                return True
            case _:
                assert_never(self.kind)

    def present(self, modalities: Names) -> Names:
        """The modalities whose tokens take part."""
        return tuple(name for name in modalities if name not in self.absent)

    @property
    def readers(self) -> Names:
        """The modalities whose tokens read others, and are read by none."""
        return tuple(name for name, _ in self.reads)

    @property
    def in_runs(self) -> frozenset[str]:
        """The modalities of which unbroken runs see all of themselves."""
        return frozenset((*self.bidirectional, *(name for run in self.runs for name in run)))

    def visible(self, modalities: Names) -> dict[str, Names]:
        """The modalities that each that takes part sees at all, wherever their tokens stand."""
        modalities = self.present(modalities)
        said, rank = dict(self.sees), self._rank()
        visible = dict.fromkeys(modalities, modalities)
        for name in modalities:
            if name in said:
                visible[name] = tuple(filter(set(said[name]).__contains__, modalities))
            if rank:
                visible[name] = tuple(other for other in visible[name] if rank[other] <= rank[name])
        return visible

    def kernel(self, modalities: Names) -> Kernel:
        """What attention needs if a row is one document: a plain call, calls by views, or a matrix of who sees whom.

        That is where the window, if there is one, covers the row; a longer one needs a matrix.
        """
        match self.views(modalities):
            case ():
                return "matrix"
            case (View(asking=asking, seen=seen, causal=causal),) if asking == seen == modalities:
                return "causal" if causal else "full"
            case _:
                return "views"

    def views(self, modalities: Names) -> tuple[View, ...]:
        """The calls of attention that together say what the mask says; none if only a matrix can, or costs less.

        causal, full                   one call
        prefix                         the prefix sees itself, the others what came before
        blocks, full with `sees`       a call for each set of modalities that is seen
        causal with `sees`             the same, but a causal call has the keys of others for queries too: with more
                                       than two sets it may cost more than a matrix, and is not done
        with `reads`                   those of the others, and a call for each modality that reads; where what comes
                                       later is not seen, all that it reads must come before it
        """
        if self.reads:
            return self._views_of_readers(modalities)
        if self.bidirectional or self.runs:
            return ()
        askers: dict[Names, list[str]] = {}
        for name, seen in self.visible(modalities).items():
            askers.setdefault(seen, []).append(name)
        causal = self.kind == "causal"
        by_sets = tuple(View(asking=tuple(asking), seen=seen, causal=causal) for seen, asking in askers.items())
        match self.kind:
            case "full" | "blocks":
                return by_sets
            case "causal":
                return by_sets if len(by_sets) <= 2 else ()
            case "prefix":
                present = self.present(modalities)
                leading = View(asking=self.prefix, seen=self.prefix, causal=False, place="leading")
                following = View(asking=present, seen=present, causal=True, place="following")
                return () if self.sees else (leading, following)
            case _:
                assert_never(self.kind)

    def of_others(self, modalities: Names) -> Mask:
        """The mask among the tokens that do not read others, to which those that do are as padding."""
        absent = tuple(name for name in modalities if name in (*self.absent, *self.readers))
        return replace(self, reads=(), absent=absent).simplified(modalities)

    def _views_of_readers(self, modalities: Names) -> tuple[View, ...]:
        """The calls that say the same as a mask of which some modalities read others."""
        if self.bidirectional or self.runs or not {name for name, _ in self.detach} <= set(self.readers):
            return ()
        readers = tuple(View(asking=(name,), seen=read, causal=False) for name, read in self.reads)
        if self.crosses:
            return readers
        others = self.of_others(modalities).views(modalities)
        return others and (*others, *readers)

    @property
    def hidden(self) -> str:
        """Which tokens one does not see, in words."""
        match self.kind:
            case "causal" | "prefix":
                return "that come after it"
            case "full" | "blocks":
                return "that it does not see"
            case _:
                assert_never(self.kind)

    @property
    def is_decodable(self) -> bool:
        """Whether a document can be generated token by token, what was computed of a token staying as it is.

        Runs that see all of themselves and prefixes are generated at once, or given.
        """
        match self.kind:
            case "causal" | "prefix":
                return True
            case "full" | "blocks":
                return False
            case _:
                assert_never(self.kind)

    def sees_next(self, before: str, after: str) -> Often:
        """Whether a token of modality `before` sees the one right after it in its document, of modality `after`."""
        if after not in dict(self.sees).get(before, (after,)) or {before, after} & set(self.absent):
            return "never"
        if after in self.readers or after not in dict(self.reads).get(before, (after,)):
            return "never"
        match self.kind:
            case "full":
                return "always"
            case "blocks":
                rank = self._rank()
                return "always" if rank[after] <= rank[before] else "never"
            case "causal" | "prefix":
                alone = before == after and before in self.bidirectional
                if alone or any(before in run and after in run for run in self.runs):
                    return "always"
                if self.delimiters and len({before, after} & self.in_runs) == 1:
                    return "always"
                return "sometimes" if {before, after} <= set(self.prefix) else "never"
            case _:
                assert_never(self.kind)

    def renamed(self, names: Mapping[str, str]) -> Mask:
        """The mask with modalities called as `names` has it; others keep their name.

        Names are in alphabetical order, so that models that declare theirs in another order can be compared.
        """

        def called(group: Names) -> Names:
            return tuple(sorted(names.get(name, name) for name in group))

        return Mask(
            kind=self.kind,
            prefix=called(self.prefix),
            bidirectional=called(self.bidirectional),
            blocks=tuple(called(block) for block in self.blocks),
            sees=tuple(sorted((names.get(name, name), called(seen)) for name, seen in self.sees)),
            window=self.window,
            detach=tuple(sorted((names.get(name, name), called(others)) for name, others in self.detach)),
            absent=called(self.absent),
            runs=tuple(sorted(called(run) for run in self.runs)),
            delimiters=self.delimiters,
            hide_noised=called(self.hide_noised),
            reads=tuple(sorted((names.get(name, name), called(others)) for name, others in self.reads)),
            crosses=self.crosses,
        )

    def _rank(self) -> dict[str, int]:
        """The place of each modality's block; empty without blocks."""
        return {name: place for place, block in enumerate(self.blocks) for name in block}

    def __str__(self) -> str:
        """`prefix {image}`, `causal, bidirectional {image}`, `blocks {text} {image}`, `full, a sees {a}, window 64`."""
        groups = (*self.blocks, *((self.prefix,) if self.kind == "prefix" else ()))
        parts = [" ".join((self.kind, *map(_braces, groups)))]
        if self.bidirectional:
            parts.append(f"bidirectional {_braces(self.bidirectional)}")
        parts += [f"runs {' '.join(map(_braces, self.runs))}"] if self.runs else []
        parts += ["with delimiters"] if self.delimiters else []
        parts += [f"noised {_braces(self.hide_noised)} hidden"] if self.hide_noised else []
        parts += [f"{name} sees {_braces(seen)}" for name, seen in self.sees]
        parts += [] if self.window is None else [f"window {self.window}"]
        parts += [f"{name} detaches {_braces(others)}" for name, others in self.detach]
        does = "attends to" if self.crosses else "reads"
        parts += [f"{name} {does} {_braces(others)}" for name, others in self.reads]
        parts += [f"without {_braces(self.absent)}"] if self.absent else []
        return ", ".join(parts)


def sees_next(masks: Iterable[Mask], before: str, after: str) -> Often:
    """Whether a token of modality `before` sees the one right after it, of modality `after`, by one of the masks."""
    return max((mask.sees_next(before, after) for mask in masks), key=OFTEN.index, default="never")


def _braces(names: Names) -> str:
    return "{" + " ".join(names) + "}"
