"""What calling a compiled layer costs, apart from what it computes.

    python -m bench.calls

A Llama of two layers, 32 wide, with 2 rows of 8 tokens, so that products take next to nothing: the forward of one
layer with everything around it, the same without torch's guards (which ask whether the graph still holds, and are
needed), and what telling the compiler which sizes vary takes. Microseconds of the process's own, float32, one thread of
a CPU: of 400 calls in turns that which a tenth are below, since others may have the processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

import motc
from motc.processor import processor_name

SPEC = """model llama {
  width = 32, layers = 2, vocab = 64
  modality text
  attention { heads = 4, kv_heads = 2 }
  ffn { hidden = 48 }
}"""


def microseconds(runs: dict[str, Callable[[], Any]], rounds: int = 400) -> dict[str, float]:
    """Of each what a tenth of its rounds are below, all in turns."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seen[name].append(1e6 * (time.process_time() - start))
    return {name: sorted(each)[rounds // 10] for name, each in seen.items()}


def main() -> None:
    """Measure, and print a line for each."""
    torch.set_num_threads(1)
    model: Any = motc.load(SPEC)
    model.compile()
    ids = torch.randint(64, (2, 8))
    batch = ids, torch.zeros_like(ids)
    for _ in range(3):
        model.loss(*batch).total.backward()
    layer, given = model.layers[1], []
    called = layer._compiled_call_impl

    def keep(*args: Any, **kwargs: Any) -> Any:
        given.append((args, kwargs))
        return called(*args, **kwargs)

    layer._compiled_call_impl = keep
    model.loss(*batch)
    layer._compiled_call_impl = called
    (x, *others), named = given[0]

    def without_guards() -> Any:
        with torch.compiler.set_stance("default", skip_guard_eval_unsafe=True):
            return called(x, *others, **named)

    def stance_alone() -> None:
        with torch.compiler.set_stance("default", skip_guard_eval_unsafe=True):
            pass

    took = microseconds(
        {
            "a compiled layer": lambda: called(x, *others, **named),
            "without guards": without_guards,
            "stance": stance_alone,
            "with new sizes told": lambda: called(x.view_as(x), *others, **named),
            "a compiled model's loss": lambda: model.loss(*batch),
        }
    )
    took["without guards"] -= took.pop("stance")
    print(f"{processor_name()}, torch {torch.__version__}")
    for name, each in took.items():
        print(f"{each:6.0f} us  {name}")


if __name__ == "__main__":
    main()
