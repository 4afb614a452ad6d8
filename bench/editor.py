"""What the language server takes of a processor, in milliseconds: `python bench/editor.py`, on a spec of 490 lines.

The spec is as hard as one of its length can be: 160 statements of layers, in 50 kinds of three towers; and so are the
edits, of the width, which change every layer. Printed are the least of some times, which other work on the machine adds
to, and their median.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from motc.lsp.completion import complete
from motc.lsp.costs import hints
from motc.lsp.hover import hover
from motc.lsp.session import Session

TIMES = 20
HEAD = """model big {
  width = 512
  layers = 240
  modality text { vocab = 1000 }
  modality image { vocab = 512 }
  modality speech { vocab = 300 }
  attention { heads = 8 }
  ffn { kind = swiglu, hidden = 1024 }
  untie attention, ffn, norm
"""
STATEMENTS = "".join(f"  layers {i} {{\n    ffn {{ hidden = {1024 + 8 * (i % 50)} }}\n  }}\n" for i in range(160))


def main() -> None:
    gc.set_threshold(50_000)  # as the command does
    session, path = Session(), Path("big.mot").resolve()
    texts = [f"{HEAD}{STATEMENTS}}}\n".replace("512", str(512 + 64 * number)) for number in range(TIMES)]
    session.change(path, texts[0])
    session.told()
    analysis = session.analysis(path)
    assert analysis is not None
    offset = texts[0].rindex("hidden")
    asked = iter(texts * 2)

    def edit() -> None:
        session.change(path, next(asked))

    def edit_and_tell() -> None:
        edit()
        session.told()

    work: dict[str, Callable[[], object]] = {
        "an edit": edit,
        "all that is told when typing pauses": edit_and_tell,
        "hover": lambda: hover(analysis, offset),
        "completion": lambda: complete(analysis, offset),
        "inlays": lambda: hints(analysis),
    }
    print(f"{len(texts[0].splitlines())} lines")
    for name, each in work.items():
        taken = []
        for _ in range(TIMES):
            start = time.process_time()
            each()
            taken.append((time.process_time() - start) * 1000)
        print(f"{name:36} {min(taken):6.1f} ms at least, {median(taken):6.1f} in the middle")


if __name__ == "__main__":
    main()
