"""Generating runs the model's own forward: hooks fire, and what was compiled runs as it was written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import motc

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"width": 16, "layers": 2, "attention.heads": 2, "ffn.hidden": 24}
NEW = 5


def small(name: str) -> Any:
    return motc.load(ROOT / "specs" / f"{name}.mot", set=SMALL).eval()


def generated(model: Any) -> Any:
    """One row, and two at different modalities."""
    modality_ids = torch.tensor([[0, 0, 0], [0, 1, 1]])
    return model.generate(torch.ones_like(modality_ids), modality_ids, max_new_tokens=NEW, temperature=0)


def called(model: Any) -> Counter[str]:
    """How often each module will have been called, as a hook on it counts."""
    counted: Counter[str] = Counter()
    for name, module in model.named_modules():

        def count(module: Any, args: Any, output: Any, name: str = name) -> None:
            counted[name] += 1

        module.register_forward_hook(count)
    return counted


@pytest.mark.parametrize("name", ["emoji_mot", "emoji_dense"])
def test_hooks_fire_for_the_prompt_and_every_token(name: str) -> None:
    model = small(name)
    counted = called(model)
    generated(model)
    layers = ["layers.0", "layers.1", "layers.1.attention", "layers.1.ffn", "final_norm"]
    assert [counted[each] for each in ["", *layers]] == [NEW] * 6


def test_a_forward_hook_changes_what_is_generated() -> None:
    model = small("emoji_mot")
    model.init_weights(0)
    plain = generated(model)
    hook = model.layers[1].register_forward_hook(lambda module, args, output: -3 * output.flip(-1))
    assert not generated(model).input_ids.equal(plain.input_ids)
    hook.remove()
    assert generated(model).input_ids.equal(plain.input_ids)


@pytest.mark.compiled
def test_nothing_is_compiled_while_generating() -> None:
    model = small("emoji_mot")
    model.init_weights(0)
    plain = generated(model)
    model.compile(backend="eager")
    model.loss(torch.ones(2, 5).long(), torch.tensor([[0, 0, 1, 1, 0]] * 2))
    counted, compiled = called(model), counters["stats"]["unique_graphs"]
    assert generated(model).input_ids.equal(plain.input_ids)
    assert counters["stats"]["unique_graphs"] == compiled > 0
    assert [counted[each] for each in ("", "layers.0", "layers.1")] == [NEW] * 3


def test_meanwhile_compiled_models_of_other_threads_run_as_they_were_written() -> None:
    """And compiled again afterwards."""
    model, other = small("emoji_mot"), small("emoji_dense")
    ids, modality_ids = torch.ones(2, 5).long(), torch.tensor([[0, 0, 1, 1, 0]] * 2)
    ran: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        return lambda *values: (ran.append("compiled"), graph.forward(*values))[1]

    def run() -> None:
        ran.append(f"{other.loss(ids, modality_ids).total.item():.5f}")

    other.compile(backend=backend)
    run()
    *compiled, loss = ran
    assert set(compiled) == {"compiled"}
    ran.clear()

    def in_a_thread(module: Any, args: Any, output: Any) -> None:
        thread = Thread(target=run)
        thread.start()
        thread.join()

    hook = model.layers[0].register_forward_hook(in_a_thread)
    generated(model)
    hook.remove()
    assert ran == [loss] * NEW
    run()
    assert ran[NEW:] == [*compiled, loss]
