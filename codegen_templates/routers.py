"""Routers by which a token chooses its experts otherwise than plainly, and how corrections keep experts in balance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .experts import Choice, best_first, compared, router_probabilities

TINY = 1e-20
"""Added to sums of scores, which may all be 0; next to others it is nothing."""


class Router(nn.Linear):
    """A linear map [E, in]: the `top_k` experts of each token, and what these weigh.

    Scores are the softmax or the sigmoid of logits. Of `groups` of experts only the best `top_groups` are chosen from,
    each worth the sum of its `group_best` best. Weights are scores, scaled to add up to 1 if `normalised`, times
    `scale`. `wide`: logits too are computed in float32, or wider; otherwise scores alone.
    """

    def __init__(
        self,
        in_features: int,
        experts: int,
        *,
        top_k: int,
        bias: bool = False,
        sigmoid: bool = False,
        normalised: bool = True,
        scale: float = 1.0,
        groups: int = 1,
        top_groups: int = 1,
        group_best: int = 2,
        wide: bool = False,
    ) -> None:
        super().__init__(in_features, experts, bias=bias)
        self.top_k, self.sigmoid, self.normalised, self.scale, self.wide = top_k, sigmoid, normalised, scale, wide
        self.groups, self.top_groups, self.group_best = groups, top_groups, group_best

    def forward(self, x: Tensor) -> Choice:  # type: ignore[override]
        """Tokens [..., in] to what they choose. Of equal experts, or groups, it is the one with the lower number."""
        scores = self.scores(x)
        experts = self.best(self.worth(scores))
        weights = scores.gather(-1, experts)
        if self.normalised:
            weights = weights / (weights.sum(-1, keepdim=True) + TINY)
        if self.scale != 1.0:
            weights = weights * self.scale
        probabilities = scores / (scores.sum(-1, keepdim=True) + TINY) if self.sigmoid else scores
        return Choice(probabilities, experts, weights)

    def scores(self, x: Tensor) -> Tensor:
        """Each token's scores of experts [..., E], in float32 or wider."""
        if self.wide:
            wide = torch.promote_types(x.dtype, torch.float32)
            bias: Tensor | None = self.bias
            autocast = x.device.type != "meta"  # which has none
            with torch.autocast(x.device.type, enabled=False) if autocast else nullcontext():
                logits = F.linear(x.to(wide), self.weight.to(wide), None if bias is None else bias.to(wide))
        else:
            logits = super().forward(x)
        if self.sigmoid:
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        return router_probabilities(logits)

    def worth(self, scores: Tensor) -> Tensor:
        """What experts are compared by [..., E], in float32."""
        return compared(scores)

    def best(self, worth: Tensor) -> Tensor:
        """The numbers of each token's experts, the best first: int64 [..., k]."""
        if self.top_groups < self.groups:
            in_groups = torch.unflatten(worth, -1, (self.groups, worth.shape[-1] // self.groups))
            best = in_groups.sort(dim=-1, descending=True).values[..., : self.group_best].sum(-1)
            left_out = best.argsort(dim=-1, descending=True, stable=True)[..., self.top_groups :]
            is_left_out = torch.zeros_like(best, dtype=torch.bool).scatter(-1, left_out, True)
            worth = in_groups.masked_fill(is_left_out[..., None], float("-inf")).flatten(-2)
        return best_first(worth, self.top_k)


class CorrectedRouter(Router):
    """A router that adds a `correction` [E] to scores, for choosing alone; `load` [E] counts choices while it trains.

    Corrections are kept in float32, whatever the model's dtype.
    """

    correction: Tensor
    load: Tensor

    def __init__(self, in_features: int, experts: int, **choice: Any) -> None:
        super().__init__(in_features, experts, **choice)
        self.register_buffer("correction", torch.zeros(experts, dtype=torch.float32))
        self.register_buffer("load", torch.zeros(experts, dtype=torch.int64), persistent=False)

    def worth(self, scores: Tensor) -> Tensor:
        """Scores with corrections, in float32."""
        return compared(scores + self.correction)

    def best(self, worth: Tensor) -> Tensor:
        """The numbers of each token's experts, which are counted if the model trains."""
        experts = super().best(worth)
        if self.training and torch.is_grad_enabled():
            chosen = experts.flatten()
            self.load.add_(torch.zeros_like(self.load).scatter_add(0, chosen, torch.ones_like(chosen)))
        return experts

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CorrectedRouter:
        """Move as every module does, without rounding corrections to a lower dtype."""
        before = self.correction
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before.is_meta and not self.correction.is_meta:
            self.reset()
        elif self.correction.dtype != before.dtype:
            self.correction = before.to(self.correction.device)
        return self

    def reset(self) -> None:
        """Correct nothing, and have counted nothing."""
        self.correction.zero_()
        self.load.zero_()


def corrected_routers(model: nn.Module) -> list[CorrectedRouter]:
    """The routers of a model that correct scores."""
    return [module for module in model.modules() if isinstance(module, CorrectedRouter)]


def reset_corrections(model: nn.Module) -> None:
    """Correct nothing, and have counted nothing."""
    for router in corrected_routers(model):
        router.reset()


@torch.no_grad()
def update_corrections(model: nn.Module, rate: float) -> None:
    """Raise by `rate` the correction of each expert that was chosen less often than the mean, lower it if more often.

    Counted are the choices since the last update, of all processes together. "Auxiliary-Loss-Free Load Balancing
    Strategy for Mixture-of-Experts" (Wang et al., 2024), algorithm 1.
    """
    routers = corrected_routers(model)
    loads = torch.cat([router.load for router in routers])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(loads)
    for router, load in zip(routers, torch.split(loads, [len(router.load) for router in routers]), strict=True):
        router.correction += rate * (load.sum() - len(load) * load).sign()
        router.load.zero_()
