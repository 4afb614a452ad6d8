"""Who sees whom in attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

MaskKind = Literal["causal", "full", "prefix", "blocks"]
Often = Literal["never", "sometimes", "always"]
Sees = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which of a document's real tokens a token i of it sees.

    `causal`: those not after it; `full`: all. `prefix`: as causal, and the leading tokens of the document whose
    modalities are in `prefix` see each other. `blocks`: i sees j if j's block is i's or one before it.
    With `causal` and `prefix`, i also sees j if both lie in one unbroken run of a modality in `bidirectional`.
    `sees` restricts all of it: a modality named there sees the listed ones only, itself among them.

    Names of modalities in the order of their declaration, save that blocks stand in order; `simplified`
    makes masks of equal meaning equal.
    """

    kind: MaskKind
    prefix: tuple[str, ...] = ()
    bidirectional: tuple[str, ...] = ()
    blocks: tuple[tuple[str, ...], ...] = ()
    sees: Sees = ()

    def simplified(self, modalities: tuple[str, ...]) -> Mask:
        """The mask of this meaning in its simplest form, for a model of these modalities.

        before   prefix {}                             after    causal
                 prefix {every modality}                        full
                 full, text sees {text}                         blocks {text} {image}
                 causal, text sees {every modality}             causal
        """
        kind, said = self.kind, dict(self.sees)
        visible = {name: frozenset(said.get(name, modalities)) for name in modalities}
        if kind == "prefix" and not self.prefix:
            kind = "causal"
        if kind == "prefix" and set(self.prefix) == set(modalities):
            kind = "full"
        if kind == "blocks":
            rank = {name: place for place, block in enumerate(self.blocks) for name in block}
            earlier = {name: frozenset(n for n in modalities if rank[n] <= rank[name]) for name in modalities}
            visible = {name: visible[name] & earlier[name] for name in modalities}
        if kind in ("full", "blocks"):
            # Both say no more than which modality sees which.
            levels = sorted(set(visible.values()), key=len)
            ordered = tuple(tuple(name for name in modalities if visible[name] == level) for level in levels)
            if all(level == frozenset().union(*ordered[: place + 1]) for place, level in enumerate(levels)):
                return Mask(kind="full") if len(levels) == 1 else Mask(kind="blocks", blocks=ordered)
            kind = "full"
        ordered_sees = tuple((name, tuple(n for n in modalities if n in visible[name])) for name in modalities)
        return Mask(
            kind=kind,
            prefix=tuple(name for name in modalities if name in self.prefix) if kind == "prefix" else (),
            bidirectional=() if kind == "full" else tuple(name for name in modalities if name in self.bidirectional),
            sees=tuple((name, seen) for name, seen in ordered_sees if seen != modalities),
        )

    def sees_next(self, before: str, after: str) -> Often:
        """Whether a token of modality `before` sees the one right after it in its document, of modality `after`."""
        if after not in dict(self.sees).get(before, (after,)):
            return "never"
        match self.kind:
            case "full":
                return "always"
            case "blocks":
                rank = {name: place for place, block in enumerate(self.blocks) for name in block}
                return "always" if rank[after] <= rank[before] else "never"
            case "causal" | "prefix":
                if before == after and before in self.bidirectional:
                    return "always"
                return "sometimes" if {before, after} <= set(self.prefix) else "never"
            case _:
                assert_never(self.kind)

    @property
    def is_plain(self) -> bool:
        """Whether this is `causal` or `full` and nothing more: modality plays no part."""
        return self in (Mask(kind="causal"), Mask(kind="full"))

    def renamed(self, names: Mapping[str, str]) -> Mask:
        """The mask with modalities called as `names` has it; others keep their name.

        Names are in alphabetical order, so that models that declare theirs in another order can be compared.
        """

        def called(group: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(sorted(names.get(name, name) for name in group))

        return Mask(
            kind=self.kind,
            prefix=called(self.prefix),
            bidirectional=called(self.bidirectional),
            blocks=tuple(called(block) for block in self.blocks),
            sees=tuple(sorted((names.get(name, name), called(seen)) for name, seen in self.sees)),
        )

    def __str__(self) -> str:
        """`causal`, `prefix {image}`, `causal, bidirectional {image}`, `blocks {text} {image}`, `full, a sees {a}`."""
        groups = self.blocks if self.kind == "blocks" else (self.prefix,) if self.kind == "prefix" else ()
        parts = [" ".join((self.kind, *(_braces(group) for group in groups)))]
        if self.bidirectional:
            parts.append(f"bidirectional {_braces(self.bidirectional)}")
        parts += [f"{name} sees {_braces(seen)}" for name, seen in self.sees]
        return ", ".join(parts)


def _braces(names: tuple[str, ...]) -> str:
    return "{" + " ".join(names) + "}"
