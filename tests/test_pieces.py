"""Streams in pieces: a tower's modalities are one in the layers, and a step of generating one modality is one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

import motc
from motc.driver import compile_ir
from motc.plan.pieces import counts_in_layers
from motc.source import SourceFile
from tests.fuzz.properties import agrees_with_sorted, generates_what_it_predicts
from tests.planted import broken, report
from tests.test_generate_latents import scheduler_of

ALL = """
model all_in_pieces {
  width = 16, layers = 2, vocab = 20
  modality text
  modality vit { features { size = 6, added_after = 0 } }
  modality mark
  modality image { latent { channels = 3, patch = 2, objective = flow }, condition { timestep { size = 8 } } }
  attention { heads = 2, head_dim = 8, mask { bidirectional = image } }
  ffn { kind = moe, experts = 3, top_k = 2, shared_experts = 1, hidden = 24 }
  tower und = text, vit
  tower gen = mark, image { width = 8, ffn { experts = 2, hidden = 12 }, norm { adaptive = image } }
  untie *
}
"""
DRAWING = """
model drawing {
  width = 16, layers = 2, vocab = 20
  modality text, speech
  modality image { latent { channels = 3, patch = 2, objective = flow } }
  attention { heads = 2, head_dim = 8, mask { bidirectional = image } }
  ffn { hidden = 24 }
  tower und = text, speech
  tower gen = image { width = 8, ffn { hidden = 12 } }
  untie *
}
"""


def ir(text: str) -> Any:
    return compile_ir(SourceFile("pieces.mot", text))


def test_modalities_that_share_all_in_the_layers_are_a_piece() -> None:
    assert counts_in_layers(ir(ALL)) == (2, 2)
    apart = ALL.replace("untie *", "untie *; untie ffn.norm as {text} {vit} {mark, image} in layer 1")
    assert counts_in_layers(ir(apart)) == (1, 1, 2), "in one layer they do not"
    assert counts_in_layers(compile_ir(SourceFile("pieces.mot", ALL), strategy="reference")) == (1, 1, 1, 1)


@pytest.mark.laws
def test_every_law_holds() -> None:
    verdict = report(ALL)
    assert verdict.ok, verdict


@pytest.mark.laws
def test_pieces_that_are_taken_for_others_are_found() -> None:
    assert broken(ALL, "modulation, spans_pieces, layout, (2, 2))", "modulation, spans_pieces, layout)")


def test_masks_say_the_same() -> None:
    agrees_with_sorted(ALL, "reference", 1e-12)


def calls(model: Any, maps: Counter[str]) -> None:
    """Count the calls of the copies of q."""
    for name, copy in model.layers[0].attention.q.items():
        copy.register_forward_hook(lambda *_, name=name: maps.update([name]))


def test_a_step_calls_the_maps_of_its_own_modality_alone() -> None:
    pytest.importorskip("diffusers")
    model: Any = motc.load(DRAWING, dtype=torch.float64)
    maps: Counter[str] = Counter()
    calls(model, maps)
    ids, of = torch.tensor([[3, 4, 5, 6], [7, 1, 2, 9]]), torch.tensor([[0, 1, 1, 0]] * 2)
    maps.clear()
    generates_what_it_predicts(model, ids, of, 5)
    assert maps == {"und": 1 + 4 + 1, "gen": 1 + 1}, "a prompt, four steps, and all again"
    maps.clear()
    made: Any = model.generate(
        torch.cat((ids, torch.full((2, 1), 19)), 1),
        torch.cat((of, torch.zeros(2, 1, dtype=torch.int64)), 1),
        max_new_tokens=6,
        spans={"image": {"begin": 19, "end": 18, "size": (4, 4)}},
        schedulers={"image": scheduler_of(model, "image")},
        denoising_steps=3,
        temperature=0,
    )
    assert made.modality_ids.tolist() == [[2, 2, 2, 2, 0, 0]] * 2
    assert maps == {"und": 1 + 1, "gen": 1 + 3 + 1}, "a prompt, then three steps, what is kept of them, and a token"


def test_tokens_after_latents_are_what_all_at_once_predicts() -> None:
    pytest.importorskip("diffusers")
    model: Any = motc.load(DRAWING, dtype=torch.float64)
    begin: Tensor = torch.tensor([[3, 4, 19]])
    made: Any = model.generate(
        begin,
        torch.tensor([[0, 1, 0]]),
        max_new_tokens=8,
        spans={"image": {"begin": 19, "end": 18, "size": (4, 4)}},
        schedulers={"image": scheduler_of(model, "image")},
        denoising_steps=3,
        temperature=0,
    )
    ids, of = (torch.cat(pair, 1) for pair in ((begin, made.input_ids), (torch.tensor([[0, 1, 0]]), made.modality_ids)))
    times = {"image": torch.zeros(1, dtype=torch.int64)}
    logits = model(ids, of, latents=made.latents, timesteps=times).logits
    assert torch.equal(logits[:, 7:-1].argmax(-1), made.input_ids[:, 5:])
