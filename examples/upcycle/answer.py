"""What is left of a language model: its logits on text, an answer, and how well it predicts a text.

python examples/upcycle/answer.py build/upcycle/smollm2.safetensors build/upcycle/short/weights.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rows import TEXT
from tokenizers import Tokenizer

import motc

CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
QUESTION = "What is the capital of France?"
PROSE = Path(__file__).with_name("prose.txt").read_text()


@torch.no_grad()
def nats(model: Any, tokenizer: Tokenizer, text: str) -> float:
    """The mean cross-entropy of a text's tokens after the first."""
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])
    return float(model.loss(ids, torch.full_like(ids, TEXT)).by_modality["text"])


@torch.no_grad()
def answer(model: Any, tokenizer: Tokenizer, question: str) -> str:
    """What it says, taking the likeliest word each time."""
    ids = torch.tensor([tokenizer.encode(CHAT.format(question), add_special_tokens=False).ids])
    stop = {"text": [tokenizer.token_to_id("<|im_end|>")]}
    generated = model.generate(ids, torch.full_like(ids, TEXT), max_new_tokens=40, temperature=0, stop=stop)
    said: str = tokenizer.decode(generated.input_ids[0].tolist())
    return said


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dense", type=Path, help="the language model")
    parser.add_argument("weights", type=Path, help="the model that draws")
    given = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(given.dense.with_name("tokenizer.json")))
    dense, model = (motc.load(weights=path).eval() for path in (given.dense, given.weights))
    ids = torch.tensor([tokenizer.encode(CHAT.format(QUESTION) + PROSE, add_special_tokens=False).ids])
    logits, expected = (each(ids, torch.full_like(ids, TEXT)).logits for each in (model, dense))
    same = "the same to the last bit" if torch.equal(logits, expected) else "NOT the same"
    print(f"logits of {ids.numel()} tokens of text: {same}")
    before, after = (nats(each, tokenizer, PROSE) for each in (dense, model))
    print(f"a text that is nowhere else: {after:.4f} nats a token, {before:.4f} before")
    print(f"{QUESTION} {answer(model, tokenizer, QUESTION)}")


if __name__ == "__main__":
    main()
