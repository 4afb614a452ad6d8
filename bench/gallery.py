"""The gallery's specs beside the classes of transformers that they are, both at a small size, with the same weights.

    python -m bench.gallery --out build/gallery.json [--specs qwen3_8b,mixtral_8x7b] [--compiled] [--width 512]
    python -m bench.gallery --specs mixtral_8x7b --profile [--compiled]

Forward and backward of the loss, and greedy decoding, each side in turns, float32 on one thread of a CPU. Seconds are
the process's own, so that a machine that others use says the same. `--compiled` adds both compiled, each in its own way
(`torch.compile(model)` and `model.compile()`), `--width` makes them so wide. Ratios are motc's time over the class's,
medians; what is measured is added to the file, spec by spec, and the table is made of all of it. `--profile` tells
instead how many of torch's operations and products there are, and by which of them the sides differ most; compiled,
what is called differs by name.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from motc.bench.portable.timing import Timed, interleave, stopwatch
from motc.driver import final_ir
from motc.files import write_whole
from motc.loading import instantiate
from motc.processor import processor_name
from motc.weights import bijection_of, parameters_of
from tests.originals import SMALL, Original, saved_of
from tests.published import LLAMA_VISION, ORIGINALS
from tests.sights import text

TIMES = {"width": 8, "vocab": 32, "attention.heads": 2, "attention.kv_heads": 2, "attention.head_dim": 2}
TIMES |= {"ffn.hidden": 8, "attention.window": 16}
"""How many times the sizes of the tests those of the bench are."""

TIMED = (*ORIGINALS, LLAMA_VISION)

TYPES = {"gemma_3_4b": 0, "paligemma_3b": 1}
"""What a class calls tokens of text, where its mask depends on it."""

ATTENDED = {"llama_3_2_vision_11b": 16}
"""How many vectors of an image stand before a row of text that attends to them."""

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
"""What torch's products of matrices come down to; attention's own are inside of its kernel."""

BATCH, LENGTH = 2, 128
PROMPT, STEPS = 16, 24


def larger(original: Original) -> Original:
    """An original whose small size is the bench's; those with images keep that of the tests, as their encoders do."""
    small = original.overrides
    times = TIMES if original.batch is text else {"vocab": TIMES["vocab"]}
    times |= {"modalities.text.vocab": TIMES["vocab"]}
    if "attention.low_rank.kv" in small:  # whose heads' sizes follow from each other
        times = {key: factor for key, factor in times.items() if not key.startswith("attention.")}
    sizes = {key: value * times.get(key, 1) if isinstance(value, int) else value for key, value in small.items()}
    return replace(original, small=dict.fromkeys(SMALL) | sizes)


FEATURES = "modalities.image.features.size"
WIDTHS = ("projection_dim", "out_hidden_size")
"""What the configuration of an encoder calls the width of the stream."""


def widened(original: Original, width: int) -> Original:
    """An original of another width, three times as wide within its feed-forwards; heads as wide as before."""

    def fitting(config: Mapping[str, Any]) -> dict[str, Any]:
        each = {key: fitting(value) if isinstance(value, dict) else value for key, value in config.items()}
        return each | {key: width for key in WIDTHS if key in each}

    before = original.overrides
    sizes = before | {"width": width, "ffn.hidden": 3 * width}
    if before.get(FEATURES) == before["width"]:
        sizes[FEATURES] = width
    if "attention.head_dim" not in before:
        sizes["attention.heads"] = before["attention.heads"] * width // before["width"]
    return replace(original, small=dict.fromkeys(SMALL) | sizes, small_config=fitting(original.small_config))


def sides(original: Original, compiled: bool) -> dict[str, Any]:
    """The model of the spec and that of the class, with the same weights; compiled, each in its own way."""
    torch.manual_seed(0)
    theirs = original.made(small=True, attention=None, experts=None).train()
    theirs.generation_config.eos_token_id = None
    tensors = original.tensors(theirs, {name: each.detach() for name, each in saved_of(theirs).items()})
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    model = final_ir(original.checked)
    ours: Any = instantiate(model)
    ours.load_state_dict(parameters_of(bijection_of(original.weights, shapes, model), tensors))
    if compiled:
        ours.compile()
    return {"ours": ours, "theirs": torch.compile(theirs) if compiled else theirs}


def step(model: Any, side: str, given: dict[str, Any]) -> Callable[[], None]:
    """Forward and backward of a batch's loss."""

    def run() -> None:
        if side == "ours":
            model.loss(**given).total.backward()
        else:
            model(**given, labels=given["input_ids"], use_cache=False).loss.backward()

    return run


def decoding(model: Any, side: str, given: dict[str, Any]) -> Callable[[], None]:
    """Greedy continuation of a prompt."""

    def run() -> None:
        if side == "ours":
            model.generate(**given, max_new_tokens=STEPS, temperature=0)
        else:
            mask = torch.ones_like(given["input_ids"])
            model.generate(**given, attention_mask=mask, max_new_tokens=STEPS, do_sample=False, pad_token_id=0)

    return run


def ratio(models: dict[str, Any], make: Callable[[Any, str], Callable[[], None]], rounds: int) -> dict[str, Any]:
    """The median seconds of each side, and of the ratio in a round."""
    timed = {side: Timed(prepare=model.zero_grad, run=make(model, side)) for side, model in models.items()}
    for each in timed.values():  # what is made or compiled once
        each.run()
        each.run()
    seconds = interleave(timed, rounds, stopwatch("cpu", time.process_time))
    ratios = [ours / theirs for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return {"ratio": statistics.median(ratios)} | {side: statistics.median(times) for side, times in seconds.items()}


def inputs(original: Original, rows: int, length: int) -> dict[str, dict[str, Any]]:
    """What each side is given: the same ids of text, and where text attends to images vectors of these."""
    generator = torch.Generator().manual_seed(1)
    sizes: dict[str, Any] = original.overrides
    modalities = [each.name for each in final_ir(original.checked).modalities]
    vocab = (sizes.get("vocab") or sizes["modalities.text.vocab"]) - 64  # without the last, which may be special
    ids = torch.randint(1, vocab, (rows, length), generator=generator)
    modality_ids = torch.full_like(ids, modalities.index("text") if "text" in modalities else 0)
    ours: dict[str, Any] = {"input_ids": ids, "modality_ids": modality_ids}
    theirs: dict[str, Any] = {"input_ids": ids}
    if original.spec in TYPES:
        theirs["token_type_ids"] = torch.full_like(ids, TYPES[original.spec])
    if original.spec in ATTENDED:
        before = torch.zeros(rows, ATTENDED[original.spec], dtype=ids.dtype)
        ours = {
            "input_ids": torch.cat([before, ids], 1),
            "modality_ids": torch.cat([before + modalities.index("image"), modality_ids], 1),
            "features": {"image": torch.randn(before.numel(), sizes[FEATURES], generator=generator)},
        }
        theirs["cross_attention_states"] = torch.randn(*before.shape, sizes["width"], generator=generator)
    return {"ours": ours, "theirs": theirs}


def differences(sides: Mapping[str, Callable[[], None]], rounds: int, most: int = 12) -> str:
    """What a run of each side is made of, motc's first: all microseconds, torch's operations, and products among them.

    Then a line for each operation whose time differs most: microseconds and calls. Microseconds are the least of all
    rounds, for in some others may have had the processor for a while.
    """
    of: dict[str, dict[str, tuple[float, int]]] = {}
    for side, run in sides.items():
        run()  # what is made or compiled once
        run()
        seen: dict[str, list[Any]] = {}
        for _ in range(rounds):
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                run()
            for event in profile.key_averages():
                seen.setdefault(event.key, []).append(event)
        of[side] = {
            name: (min(event.self_cpu_time_total for event in events), events[0].count) for name, events in seen.items()
        }
    names = dict.fromkeys((*of["ours"], *of["theirs"]))
    pairs = {name: (of["ours"].get(name, (0, 0)), of["theirs"].get(name, (0, 0))) for name in names}
    everything = [sum(us for us, _ in each.values()) for each in of.values()]
    calls = [sum(count for name, (_, count) in each.items() if name.startswith("aten::")) for each in of.values()]
    products = [sum(each.get(name, (0, 0))[1] for name in PRODUCTS) for each in of.values()]
    lines = [f"{everything[0]:.0f} us, {everything[1]:.0f} us; {calls[0]} operations, {calls[1]}"]
    lines.append(f"{products[0]} products, {products[1]}")
    for name in sorted(pairs, key=lambda name: -abs(pairs[name][0][0] - pairs[name][1][0]))[:most]:
        ours, theirs = pairs[name]
        lines.append(f"{ours[0]:8.0f} us, {ours[1]:4} calls {theirs[0]:8.0f} us, {theirs[1]:4} calls  {name}")
    return "\n".join(lines)


def profiled(original: Original, compiled: bool, rounds: int) -> str:
    """What makes the difference of forward and backward and, uncompiled, of greedy decoding."""
    models, given = sides(original, compiled), inputs(original, BATCH, LENGTH)
    steps = {side: step(model, side, given[side]) for side, model in models.items()}
    told = f"{original.spec}, forward and backward: {differences(steps, rounds)}"
    if compiled:
        return told
    prompt = inputs(original, 1, PROMPT)
    decoded = {side: decoding(model.eval(), side, prompt[side]) for side, model in models.items()}
    return f"{told}\n{original.spec}, decoding: {differences(decoded, max(3, rounds // 3))}"


def measure(original: Original, compiled: bool, rounds: int) -> dict[str, Any]:
    """What is told of a spec: by what was timed."""
    models, given = sides(original, compiled), inputs(original, BATCH, LENGTH)
    stepped = ratio(models, lambda model, side: step(model, side, given[side]), rounds)
    if compiled:
        return {"compiled": stepped}
    for model in models.values():
        model.eval()
    prompt = inputs(original, 1, PROMPT)
    decoded = ratio(models, lambda model, side: decoding(model, side, prompt[side]), max(3, rounds // 3))
    return {"eager": stepped, "decoding": decoded}


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["| spec | forward + backward, eager | compiled | greedy decoding |", "|---|---|---|---|"]
    for name, told in results["specs"].items():
        cells = []
        for what in ("eager", "compiled", "decoding"):
            of = told.get(what)
            cells.append(f"{of['ratio']:.2f} ({1000 * of['ours']:.0f} ms)" if of else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, write, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gallery.json"))
    parser.add_argument("--specs", default="", help="names, by commas; all unless given")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument(
        "--width", type=int, help="for all, rather than some 256, or as in the tests where there are images"
    )
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = arguments.specs.split(",") if arguments.specs else [original.spec for original in TIMED]
    originals = [larger(original) for original in TIMED if original.spec in wanted]
    if arguments.width is not None:
        originals = [widened(original, arguments.width) for original in originals]
    if arguments.profile:
        for original in originals:
            print(profiled(original, arguments.compiled, arguments.rounds))
        return
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"specs": {}}
    results |= {"processor": processor_name(), "torch": torch.__version__}
    for original in originals:
        told = measure(original, arguments.compiled, arguments.rounds)
        results["specs"].setdefault(original.spec, {}).update(told)
        write_whole(arguments.out, json.dumps(results, indent=1) + "\n")
    print(f"{results['processor']}, torch {results['torch']}, one thread, float32\n\n{table(results)}")


if __name__ == "__main__":
    main()
