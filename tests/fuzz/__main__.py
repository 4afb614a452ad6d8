"""`make fuzz`: random specs, texts, maps and damaged checkpoints against every property; 1 if any fails.

What fails is made as small as it can be, and printed with the seed that draws it again. Nothing is kept on disk, so any
number of these may run at once.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st

import motc
from motc.syntax import Syntax
from tests.fuzz.checkpoints import no_checkpoint_goes_untold
from tests.fuzz.damage import SMALL
from tests.fuzz.maps import no_map_goes_untold
from tests.fuzz.properties import (
    BrokenLaws,
    accepted,
    differ_alike_both_ways,
    freezes_as_by_hand,
    is_a_spec_or_an_error,
    is_drawn,
    is_written_and_read_back,
    obeys_every_law,
)
from tests.fuzz.specs import Drawn, drawn_specs
from tests.fuzz.texts import random_texts
from tests.short_rows import cut_short_rows

Check = Callable[["Tally", list[str]], Any]
EXAMPLES = {"spec": 16, "pair": 40, "text": 100, "checkpoint": 60, "map": 100}
"""How many of each are drawn from one seed: about as long for each."""


@dataclass
class Tally:
    """What was tried so far, and which failures were found: each told once, by where it was raised."""

    start: float = field(default_factory=time.monotonic)
    shown: float = 0.0
    specs: int = 0
    accepted: int = 0
    pairs: int = 0
    texts: int = 0
    checkpoints: int = 0
    maps: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def show(self, *, now: bool = False) -> None:
        """A line of progress, every ten seconds."""
        if now or self.seconds() - self.shown >= 10:
            self.shown = self.seconds()
            tried = f"{self.specs} specs ({self.accepted} accepted), {self.pairs} pairs, {self.texts} texts"
            tried += f", {self.checkpoints} checkpoints, {self.maps} maps"
            print(f"{self.shown:6.0f} s: {tried}, {len(self.failures)} failures", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Random specs and texts against every property.")
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on")
    parser.add_argument("--seed", type=int, help="of the first round, which the next adds 1 to; default: a random one")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cut_short_rows()
    seed, tally = given.seed, Tally()
    if seed is None:
        seed = random.SystemRandom().randrange(2**31)
    print(f"from seed {seed}", flush=True)
    while tally.seconds() < given.seconds:
        for name, check in CHECKS.items():
            attempt(name, seed, check, tally)
        seed += 1
    tally.show(now=True)
    return 1 if tally.failures else 0


def attempt(name: str, seed: int, check: Check, tally: Tally) -> None:
    """One round of one kind. What fails is printed as it was drawn, and then as small as it can be made."""
    tried: list[str] = []
    try:
        drawn_from(name, seed, check(tally, tried))
    except Exception as error:
        where = place(error)
        if where in tally.failures:
            return
        tally.failures[where] = tried[-1]
        print(f"\n--- {where}, make fuzz SEED={seed}\n{tried[-1]}\n{error}\n--- made smaller:", flush=True)
        try:
            drawn_from(name, seed, check(Tally(), tried), Phase.shrink)
        except Exception as smaller:
            print(tried[-1])
            traceback.print_exception(smaller, limit=-4, chain=False, file=sys.stdout)
        print("---\n", flush=True)


def drawn_from(name: str, seed: int, check: Any, *more: Phase) -> None:
    """Draws examples from a seed until one fails, and raises what it raised."""
    settings = hypothesis.settings(
        max_examples=EXAMPLES[name],
        phases=(Phase.generate, *more),
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    hypothesis.seed(seed)(settings(check))()


def place(error: Exception) -> str:
    """What was raised, and by which line; of laws, which ones are broken."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    laws = error.laws if isinstance(error, BrokenLaws) else ""
    return f"{type(error).__name__} at {frame.filename.rpartition('/')[2]}:{frame.lineno} {laws}".rstrip()


def spec_check(tally: Tally, tried: list[str]) -> Any:
    @hypothesis.given(drawn_specs())
    def check(drawn: Drawn) -> None:
        tried.append(str(drawn))
        tally.specs += 1
        models = accepted(drawn)
        if models is not None:
            tally.accepted += 1
            is_written_and_read_back(drawn.text)
            obeys_every_law(*models, drawn.seed, both=True)
            if drawn.strategy != "grouped":
                freezes_as_by_hand(drawn.text, drawn.strategy, drawn.seed)
        tally.show()

    return check


def pair_check(tally: Tally, tried: list[str]) -> Any:
    @hypothesis.given(drawn_specs(), drawn_specs())
    def check(a: Drawn, b: Drawn) -> None:
        tried.append(f"{a}\n{b}")
        one, other = accepted(a), accepted(b)
        if one is not None and other is not None:
            tally.pairs += 1
            for left, right in (one, other, (one[0], other[0])):
                differ_alike_both_ways(left, right)
            is_drawn(one[0], other[0])
        tally.show()

    return check


def text_check(tally: Tally, tried: list[str]) -> Any:
    @hypothesis.given(random_texts())
    def check(drawn: tuple[str, Syntax]) -> None:
        text, syntax = drawn
        tried.append(f"as {syntax}:\n{text}")
        tally.texts += 1
        is_a_spec_or_an_error(text, syntax)
        tally.show()

    return check


def checkpoint_check(tally: Tally, tried: list[str]) -> Any:
    @hypothesis.given(st.integers(0, 2**31))
    def check(seed: int) -> None:
        tried.append(f"tests.fuzz.checkpoints, seed {seed}")
        tally.checkpoints += 1
        with TemporaryDirectory() as folder:
            saved = Path(folder) / "saved.safetensors"
            saved.write_bytes(small_weights())
            no_checkpoint_goes_untold(seed, saved, Path(folder))
        tally.show()

    return check


def map_check(tally: Tally, tried: list[str]) -> Any:
    @hypothesis.given(st.integers(0, 2**31))
    def check(seed: int) -> None:
        tried.append(f"tests.fuzz.maps, seed {seed}")
        tally.maps += 1
        with TemporaryDirectory() as folder:
            no_map_goes_untold(seed, Path(folder))
        tally.show()

    return check


@cache
def small_weights() -> bytes:
    """A file of weights, made once: specs that are tried meanwhile forget modules, and what a model was made from."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "small.safetensors"
        motc.save(motc.load(SMALL), path)
        return path.read_bytes()


CHECKS = {
    "spec": spec_check,
    "pair": pair_check,
    "text": text_check,
    "checkpoint": checkpoint_check,
    "map": map_check,
}

if __name__ == "__main__":
    sys.exit(main())
