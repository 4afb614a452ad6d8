"""Tokens times their span's row: gradients of both, twice, and that no row is kept for each token."""

from __future__ import annotations

import torch
from torch import Tensor

from codegen_templates.modulation import scaled


def given() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, table = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 7, 8), (4, 8)))
    return x.requires_grad_(), table.requires_grad_(), torch.randint(0, 4, (3, 7), generator=generator)


def test_gradients_of_tokens_and_rows() -> None:
    x, table, spans = given()
    assert torch.equal(scaled(x, table, spans), x * table[spans])
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x, table: scaled(x, table, spans), (x, table))
    with torch.no_grad():
        assert torch.equal(scaled(x, table, spans), x * table[spans])


def test_of_each_token_the_token_alone_is_kept() -> None:
    x, table, spans = given()
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scaled(x, table, spans)
    assert sorted(kept) == [spans.numel(), table.numel(), x.numel()]
