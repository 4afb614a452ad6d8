"""What the benchmark measures on and with: exact data, honest statistics. No times are tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from motc.bench import ModalityMix, mixtures
from motc.bench.kernels import read_code
from motc.bench.portable.batches import make_batch, most_even, rehearsals, runs, split
from motc.bench.portable.compiling import warm_up
from motc.bench.portable.memory import highest, peak_bytes
from motc.bench.portable.timing import Timed, interleave, pairwise, spread, stopwatch
from motc.bench.subject import data_modalities
from motc.driver import compile_ir

ROOT = Path(__file__).resolve().parent.parent


class Clock:
    """Time that passes only when a run says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def timed(self, name: str, seconds: Iterator[float]) -> Timed:
        def prepare() -> None:
            self.now += 100.0

        def run() -> None:
            self.ran.append(name)
            self.now += next(seconds)

        return Timed(prepare=prepare, run=run)


def test_sides_take_turns_and_preparing_is_not_timed() -> None:
    clock = Clock()
    given = {"mot": [2.0, 4.0, 3.0, 3.0], "dense": [1.0, 2.0, 2.0, 1.0], "reference": [5.0, 6.0]}
    seconds = interleave(
        {name: clock.timed(name, iter(times)) for name, times in given.items()}, 4, stopwatch("cpu", clock)
    )
    assert seconds == given
    assert clock.ran == "mot dense reference dense mot reference mot dense dense mot".split()
    assert pairwise(seconds["mot"], seconds["dense"]) == (2.0, 2.0, 1.5, 3.0)
    assert pairwise(seconds["reference"], seconds["dense"]) == (5.0, 3.0)


def test_one_side_takes_every_turn() -> None:
    clock = Clock()
    assert interleave({"mot": clock.timed("mot", iter([1.0, 2.0]))}, 2, stopwatch("cpu", clock)) == {"mot": [1.0, 2.0]}


def test_the_spread_is_median_and_outer_tenths() -> None:
    spreads = spread([float(number) for number in range(10, -1, -1)])
    assert (spreads.median, spreads.low, spreads.high) == (5.0, 1.0, 9.0)
    spreads = spread([1.5])
    assert (spreads.median, spreads.low, spreads.high) == (1.5, 1.5, 1.5)


def test_compile_seconds_are_those_beyond_the_fastest_run() -> None:
    clock = Clock()
    times = iter([11.0, 4.0, 2.0, 1.0])
    steps = [clock.timed("first", times).run, clock.timed("second", times).run]
    told: list[str] = []
    compilation = warm_up(steps, lambda: told.append(""), clock)
    assert (compilation.first_seconds, compilation.seconds, len(told)) == (10.0, 14.0, 4)
    assert (compilation.graphs, compilation.recompilations, compilation.graph_breaks) == (0, 0, 0)


@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.37, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("sequence", [1, 7, 300, 1024])
def test_every_row_has_exactly_the_asked_share(ratio: float, sequence: int) -> None:
    model = compile_ir(ROOT / "specs" / "emoji_mot.mot")
    (mixture,) = mixtures(["text", "image"], sequence, [ratio], None)
    batch = make_batch(data_modalities(model), mixture, 3, 0, "cpu")
    assert batch.input_ids.shape == batch.modality_ids.shape == (3, sequence)
    assert (batch.modality_ids == 1).sum(1).tolist() == [round(ratio * sequence)] * 3
    vocabularies = torch.tensor([258, 512])[batch.modality_ids]
    assert bool(((batch.input_ids >= 0) & (batch.input_ids < vocabularies)).all())
    again = make_batch(data_modalities(model), mixture, 3, 0, "cpu")
    assert torch.equal(again.input_ids, batch.input_ids) and torch.equal(again.modality_ids, batch.modality_ids)


def test_modalities_come_in_spans() -> None:
    measured = list(runs(ModalityMix(counts=(645, 379))))
    assert [modality for modality, _ in measured] == [0, 1] * 4
    assert min(length for _, length in measured) > 90
    assert list(runs(ModalityMix(counts=(0, 5)))) == [(1, 5)]


def test_mixtures_of_any_number_of_modalities() -> None:
    names = ["text", "image", "speech"]
    assert [m.counts for m in mixtures(names, 16, None, None)] == [tuple(split(16, 3))]
    assert [m.counts for m in mixtures(names, 16, [0.25], ["speech", "text"])] == [(12, 0, 4)]
    assert [m.counts for m in mixtures(names, 16, None, ["image"])] == [(0, 16, 0)]
    assert [m.share for m in mixtures(names, 16, None, ["text", "image"])] == [0.0, 0.37, 0.5, 1.0]
    with pytest.raises(ValueError, match="'audio' is none of the spec's modalities: text, image, speech"):
        mixtures(names, 16, None, ["audio"])
    with pytest.raises(ValueError, match="the data has 3"):
        mixtures(names, 16, [0.5], None)


def test_rehearsals_are_two_uneven_mixtures_of_what_is_mixed() -> None:
    mixes = mixtures(["text", "image"], 1024, [0.0, 0.37, 0.5], None)
    first, second = rehearsals(mixes)
    assert first.counts == second.counts[::-1] and len(set(first.counts)) == 2
    assert sum(first.counts) == 1024
    assert most_even(mixes).counts == (512, 512)
    assert rehearsals(mixtures(["text", "image"], 1024, [0.0, 1.0], None)) == ()
    assert [m.counts[1] for m in rehearsals(mixtures(["a", "b", "c"], 64, None, ["a", "c"]))] == [0, 0]
    for sequence in (1, 2, 3):
        tight = rehearsals(mixtures(["a", "b"], sequence, [0.5], None))
        assert all(min(mixture.counts) > 0 and sum(mixture.counts) == sequence for mixture in tight)


def test_the_peak_is_the_most_that_was_alive_at_once() -> None:
    assert highest([5, 5, -5, 3, -8]) == 10
    assert highest([-5]) == 0
    kept: list[torch.Tensor] = []

    def run() -> None:
        first = torch.empty(1000, 1000)
        second = torch.empty(1000, 500)
        del first
        kept.append(second)

    assert 6_000_000 <= peak_bytes(run, "cpu") < 6_010_000


def test_kernels_and_library_calls_are_read_in_the_order_of_calls() -> None:
    code = """
cpp_fused_add_0 = async_compile.cpp_pybinding(['float*'], r'''
    void kernel(float* in) { cpp_fused_add_0(in); }
''')
triton_mul_1 = async_compile.triton('triton_mul_1', '''
''', device_str='cuda')

class Runner:
    def call(self, args):
        cpp_fused_add_0(buf0, buf1)
        # Original ATen: [aten.mm]
        extern_kernels.mm(buf0, reinterpret_tensor(buf1, (2, 2), (1, 2), 0), out=buf2)
        triton_mul_1.run(buf2, 4, stream=stream0)
        buf3 = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(buf2, buf2, buf2, 0.0, True)
        cpp_fused_add_0(buf2, buf1)
        return (buf2, )

def benchmark_compiled_module(args):
    cpp_fused_add_0(buf0, buf1)
"""
    kernels = read_code(code, 7)
    assert kernels.kernels == ("cpp_fused_add_0", "triton_mul_1", "cpp_fused_add_0")
    assert kernels.library_calls == ("mm", "_scaled_dot_product_flash_attention_for_cpu")
    assert (kernels.products, kernels.generated) == (1, 7)
