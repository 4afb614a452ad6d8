"""Kernels that the compiler makes give eager's results and gradients: of each strategy one model in which much meets.

Making kernels takes most of a test's time, so graphs are counted elsewhere, without them (tests/test_compile.py). Every
two choices of a spec meet in tests/test_compile_pairs.py, for `make test-pairs`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import functional as F

from codegen_templates.attention import attend
from codegen_templates.masks import Matrix
from codegen_templates.sizes import mark_sizes
from motc.driver import final_ir
from motc.ir.execution import Strategy
from motc.schema import check
from motc.source import SourceFile
from motc.syntax import read
from motc.validate.batches import random_batches
from tests.test_compile_pairs import assert_compiled_as_eager, fresh
from tests.tracing import KERNELS_OF_LAYERS

pytestmark = pytest.mark.compiled

fresh = fresh  # for every test of this file too

SORTED = """
model sorted {
  width = 16; layers = 1; vocab = 11
  modality text
  modality image {
    latent { channels = 1, patch = 2, objective = flow, ends = unet, unet { channels = 4, blocks = 1 } }
  }
  attention { heads = 4, head_dim = 4, kv_heads = 2, qk_norm = layer, mask { sees { text = text } } }
  ffn { kind = gelu, hidden = 12, bias = true }
  tower chosen = image { width = 8, ffn { kind = moe, expert = swiglu, experts = 3, routing = expert_choice } }
  untie attention, ffn, norm, embedding, head
}
"""
BLEND = """
model blended {
  width = 8; layers = 1; vocab = 11
  modality text, image
  attention { heads = 2, head_dim = 4, qk_norm = rms, rope { pairing = interleaved }, mask { bidirectional = image } }
  ffn { hidden = 6 }
  norm { kind = layer, placement = post }
  tower wide = image { width = 12 }
  untie attention, ffn, norm, embedding, head
}
"""


@pytest.mark.parametrize(
    "text, strategy, backend",
    [(SORTED, "sorted", "inductor"), (BLEND, "blend", KERNELS_OF_LAYERS)],
    ids=["sorted", "blend"],
)
def test_kernels_as_eager(text: str, strategy: Strategy, backend: Any) -> None:
    """A graph of the layer and three of the ends; documents that are unlike, and weights, would take more.

    A layer norm of queries and keys, and pieces of the stream under `blend`, once could not be compiled. Ends have
    kernels in the first; in the second, which has nothing else of them, they run as they are traced.
    """
    if strategy == "sorted" and torch.__version__.startswith("2.12."):
        pytest.skip("torch 2.12 compiles no towers of several widths: docs/execution.md")
    model = final_ir(check(read(SourceFile("kernels.mot", text))), strategy=strategy)
    generator = torch.Generator().manual_seed(1)
    batches = [x for x in random_batches(model, generator) if x.document_ids is None and x.weights is None]
    assert len(batches) > 5
    assert_compiled_as_eager(model, batches, generator, backend)
    assert counters["stats"]["unique_graphs"] == 4


@pytest.mark.skipif(torch.__version__ < "2.12", reason="torch 2.11 compiles no backward of it: docs/execution.md")
def test_capped_attention_of_one_head() -> None:
    """By a matrix and causal, of any size: torch's lowering of products asks for sizes, which tracing does not show.

    The compiler took [R, 1, L, head_dim] for an image with channels last, and asked how large R and L are.
    """
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(4, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def between_products(x: torch.Tensor, matrix: Matrix) -> torch.Tensor:
        """As in a layer: the backward of a product wants what comes from attention in a memory layout of its own."""
        q, k, v = (torch.unflatten(F.linear(x, weight), -1, (1, 4)) for weight in weights)
        return attend(q, k, v, matrix, softcap=5.0) + attend(q, k, v, None, softcap=0.5)

    compiled = torch.compile(between_products, fullgraph=True)
    for rows, length in ((2, 5), (1, 1), (3, 7)):
        x = torch.randn(rows, length, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        visible = torch.ones(rows, 1, length, length).tril().bool()
        added = torch.zeros(visible.shape, dtype=torch.float64).masked_fill(~visible, -torch.inf)
        mark_sizes(x, "rows", "length")
        for part in (added, visible):
            mark_sizes(part, "rows", "one", "length", "length")
        results = []
        for function in (between_products, compiled):
            mixed = function(x, Matrix(added, visible))
            results.append((mixed, *torch.autograd.grad(mixed.square().sum(), [x, *weights])))
        torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
    assert counters["stats"]["unique_graphs"] == 1
