"""Who sees whom: the template of generated models, the reference, the IR and the language say the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from codegen_templates.masks import visibility as template
from motc.ir.mask import Mask
from motc.reference import ReferenceMask
from motc.reference.visibility import visibility as reference
from motc.validate.config import reference_mask
from tests.building import built_mask

NAMES = ("text", "image", "action")
KINDS = ("causal", "full", "prefix", "blocks")


def run_template(mask: Mask, names: tuple[str, ...], modality_ids: Tensor, document_ids: Tensor | None) -> Tensor:
    return template(built_mask(mask, names), modality_ids, document_ids)


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [chosen for size in range(len(names) + 1) for chosen in itertools.combinations(names, size)]


def ordered_blocks(names: tuple[str, ...]) -> list[tuple[tuple[str, ...], ...]]:
    """Every way to put the names into ordered blocks."""
    places = range(len(names))
    partitions = set()
    for ranks in itertools.product(places, repeat=len(names)):
        blocks = (tuple(name for name, rank in zip(names, ranks, strict=True) if rank == place) for place in places)
        partitions.add(tuple(block for block in blocks if block))
    return sorted(partitions)


def every_mask(names: tuple[str, ...]) -> Iterator[Mask]:
    """Every mask a spec can say, in every way it can be said."""
    seen_by = [[(name, s) for s in subsets(names) if name in s] for name in names]
    for sees in itertools.product(*seen_by):
        for kind in KINDS:
            prefixes = subsets(names) if kind == "prefix" else [()]
            runs = subsets(names) if kind in ("causal", "prefix") else [()]
            blocks = ordered_blocks(names) if kind == "blocks" else [()]
            for prefix, bidirectional, given in itertools.product(prefixes, runs, blocks):
                mask = Mask(kind=kind, prefix=prefix, bidirectional=bidirectional, blocks=given, sees=sees)  # type: ignore[arg-type]
                yield mask
                if bidirectional and sum(len(seen) < len(names) for _, seen in sees) < 2:
                    yield replace(mask, delimiters=True)


def in_windows(masks: Iterable[Mask], *windows: int) -> Iterator[Mask]:
    """Each mask, and each in each window."""
    for mask in masks:
        yield mask
        for window in windows:
            yield replace(mask, window=window)


def random_rows(seed: int, count: int, rows: int = 4, length: int = 12) -> tuple[Tensor, Tensor]:
    """Modality ids in short runs with padding anywhere, and documents that may come back after another."""
    generator = torch.Generator().manual_seed(seed)
    changes = torch.rand(rows, length, generator=generator) < 0.6
    drawn = torch.randint(0, count, (rows, length), generator=generator)
    modality_ids = drawn.gather(1, torch.where(changes, torch.arange(length), 0).cummax(dim=1).values)
    modality_ids[torch.rand(rows, length, generator=generator) < 0.2] = -1
    changes = torch.rand(rows, length, generator=generator) < 0.3
    return modality_ids, changes.long().cumsum(1) % 3


def assert_same(mask: Mask, names: tuple[str, ...], modality_ids: Tensor, document_ids: Tensor | None) -> None:
    actual = run_template(mask, names, modality_ids, document_ids)
    expected = reference(reference_mask(mask), names, modality_ids, document_ids)
    alone = torch.eye(modality_ids.shape[1], dtype=torch.bool) & (modality_ids < 0)[:, :, None]
    assert actual.dtype == torch.bool
    assert torch.equal(actual, expected | alone), str(mask)
    assert actual.any(dim=2).all(), "a row is empty"


@pytest.mark.parametrize("seed", range(8))
def test_the_template_is_the_reference_entry_by_entry(seed: int) -> None:
    masks = list(in_windows(every_mask(NAMES), 2, 3, 5))
    for number, mask in enumerate(random.Random(seed).sample(masks, 80)):
        modality_ids, document_ids = random_rows(100 * seed + number, len(NAMES))
        assert_same(mask, NAMES, modality_ids, document_ids)
        assert_same(mask, NAMES, modality_ids, None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_takes_rows_of_nothing(kind: str) -> None:
    mask = Mask(kind=kind, blocks=(NAMES,), bidirectional=("image",), prefix=("image",))  # type: ignore[arg-type]
    for shape in ((2, 0), (0, 3), (1, 1), (2, 5)):
        assert_same(mask, NAMES, torch.full(shape, -1), torch.zeros(shape, dtype=torch.int64))


def test_masks_of_equal_meaning_are_equal_and_of_other_meaning_are_not() -> None:
    """All masks of three modalities, told apart by all rows of four tokens, as one document and as two."""
    names = NAMES
    rows = torch.tensor(list(itertools.product((-1, 0, 1, 2), repeat=4)))
    documents = torch.tensor([0, 1, 0, 0]).expand_as(rows)
    ids, document_ids = torch.cat((rows, rows)), torch.cat((torch.zeros_like(rows), documents))
    meaning_of: dict[Mask, bytes] = {}
    mask_of: dict[bytes, Mask] = {}
    for mask in in_windows(every_mask(names), 2):
        simple = mask.simplified(names)
        meaning = run_template(mask, names, ids, document_ids).numpy().tobytes()
        assert meaning_of.setdefault(simple, meaning) == meaning, f"{mask} is not {simple}"
        assert mask_of.setdefault(meaning, simple) == simple, f"{mask_of[meaning]} and {simple} mean the same"
        assert simple.simplified(names) == simple
    assert len(mask_of) > 1000


def test_what_is_said_of_absent_modalities_alone_says_nothing() -> None:
    for prefix, kind in ((NAMES, "full"), (("action",), "causal"), (("text", "action"), "prefix")):
        mask = Mask(kind="prefix", prefix=prefix, absent=("action",)).simplified(NAMES)
        assert mask.kind == kind and mask == mask.simplified(NAMES)


def by_views(mask: Mask, ids: Tensor) -> Tensor:
    """Who sees whom by a mask's views, bool [B, S, S], in rows of one document each; a token asks in one view."""
    leading = torch.isin(ids, torch.tensor([NAMES.index(name) for name in mask.prefix])).cumprod(1).bool()
    before = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    visible, times = torch.zeros(*ids.shape, ids.shape[1], dtype=torch.bool), torch.zeros_like(ids)
    for view in mask.views(NAMES):
        asking, seen = (
            torch.isin(ids, torch.tensor(list(map(NAMES.index, group)))) for group in (view.asking, view.seen)
        )
        match view.place:
            case "leading":
                asking, seen = asking & leading, seen & leading
            case "following":
                asking &= ~leading
        times += asking
        visible |= asking[:, :, None] & seen[:, None, :] & (before if view.causal else True)
    assert bool((times == 1).all()), str(mask)
    return visible


def test_runs_of_several_modalities_entry_by_entry() -> None:
    for number, mask in enumerate(
        (
            Mask(kind="causal", runs=(("text", "image"),)),
            Mask(kind="causal", runs=(("text", "image"),), delimiters=True),
            Mask(kind="prefix", prefix=("text",), runs=(("action", "image"),), delimiters=True, window=3),
            Mask(kind="causal", runs=(("image", "action"),), window=2),
            Mask(kind="prefix", prefix=("text",), runs=(("action", "image"),)),
            Mask(kind="prefix", prefix=NAMES, runs=(("text", "image"),)),
            Mask(kind="causal", runs=(NAMES,), sees=(("image", ("image", "text")),)),
            Mask(kind="causal", runs=(("image",), ("text",)), bidirectional=("action",)),
            Mask(kind="causal", runs=(("text", "action"),), bidirectional=("image",), absent=("action",)),
        )
    ):
        simple = mask.simplified(NAMES)
        assert simple.simplified(NAMES) == simple and simple.kernel(NAMES) in ("matrix", "full")
        for seed in range(3):
            modality_ids, document_ids = random_rows(10 * number + seed, 3)
            if mask.absent:
                modality_ids[modality_ids == NAMES.index("action")] = 0
            for documents in (document_ids, None):
                assert_same(simple, NAMES, modality_ids, documents)
                expected = run_template(replace(mask, absent=()), NAMES, modality_ids, documents)
                assert torch.equal(run_template(simple, NAMES, modality_ids, documents), expected)


def test_views_say_together_what_a_mask_says_and_plain_masks_have_one() -> None:
    ids = torch.tensor(list(itertools.product((0, 1, 2), repeat=4)))
    kernels: dict[str, set[Mask]] = {}
    for mask in {mask.simplified(NAMES) for mask in every_mask(NAMES)}:
        kernels.setdefault(mask.kernel(NAMES), set()).add(mask)
        if mask.kernel(NAMES) != "matrix":
            assert torch.equal(by_views(mask, ids), run_template(mask, NAMES, ids, None)), str(mask)
    assert kernels["causal"] == {Mask(kind="causal")} and kernels["full"] == {Mask(kind="full")}
    assert len(kernels["views"]) > 50 and all(mask.bidirectional for mask in kernels["matrix"] if not mask.sees)


def test_a_mask_is_decodable_if_nothing_is_seen_before_it_is_there_but_in_runs_and_prefixes() -> None:
    ids = torch.tensor(list(itertools.product((0, 1, 2), repeat=4)))
    for mask in {mask.simplified(NAMES) for mask in every_mask(NAMES)}:
        kind = "causal" if mask.kind == "prefix" else mask.kind
        visible = run_template(replace(mask, kind=kind, prefix=(), bidirectional=()), NAMES, ids, None)
        assert mask.is_decodable == (not bool(visible.triu(1).any())), str(mask)


def rows_of(visible: Tensor) -> list[str]:
    return ["".join("x" if seen else "." for seen in row) for row in visible[0].tolist()]


# Ids are given as letters: t text, i image, a action, - padding.
MATRICES: list[tuple[str, ReferenceMask, str, str, list[str]]] = [
    ("causal", ReferenceMask(kind="causal"), "t-ti", "0011", ["x...", "....", "..x.", "..xx"]),
    ("full", ReferenceMask(kind="full"), "t-ti", "0001", ["x.x.", "....", "x.x.", "...x"]),
    (
        "prefix ends at the first other token, and padding does not end it",
        ReferenceMask(kind="prefix", prefix=("image",)),
        "i-itii",
        "000000",
        ["x.x...", "......", "x.x...", "x.xx..", "x.xxx.", "x.xxxx"],
    ),
    (
        "each document has its prefix",
        ReferenceMask(kind="prefix", prefix=("image", "action")),
        "tiiait",
        "001111",
        ["x.....", "xx....", "..xxx.", "..xxx.", "..xxx.", "..xxxx"],
    ),
    (
        "a span ends at another modality or document, not at padding",
        ReferenceMask(kind="causal", bidirectional=("image", "action")),
        "i-iaaii",
        "0000001",
        ["x.x....", ".......", "x.x....", "x.xxx..", "x.xxx..", "x.xxxx.", "......x"],
    ),
    (
        "text is in no span",
        ReferenceMask(kind="causal", bidirectional=("image",)),
        "ttii",
        "0000",
        ["x...", "xx..", "xxxx", "xxxx"],
    ),
    (
        "a span after the prefix",
        ReferenceMask(kind="prefix", prefix=("image",), bidirectional=("image",)),
        "iitii",
        "00000",
        ["xx...", "xx...", "xxx..", "xxxxx", "xxxxx"],
    ),
    (
        "blocks do not mind the order in the row",
        ReferenceMask(kind="blocks", blocks=(("image", "text"), ("action",))),
        "atia",
        "0000",
        ["xxxx", ".xx.", ".xx.", "xxxx"],
    ),
    (
        "sees is one way",
        ReferenceMask(kind="causal", sees={"text": ("text",), "image": ("text", "image")}),
        "titia",
        "00000",
        ["x....", "xx...", "x.x..", "xxxx.", "xxxxx"],
    ),
]


@pytest.mark.parametrize(("mask", "letters", "documents", "expected"), [case[1:] for case in MATRICES],
                         ids=[case[0] for case in MATRICES])  # fmt: skip
def test_the_reference_gives_what_is_written_here(
    mask: ReferenceMask, letters: str, documents: str, expected: list[str]
) -> None:
    modality_ids = torch.tensor([["tia-".index(letter) for letter in letters]])
    modality_ids[modality_ids == 3] = -1
    document_ids = torch.tensor([[int(digit) for digit in documents]])
    assert rows_of(reference(mask, NAMES, modality_ids, document_ids)) == expected
