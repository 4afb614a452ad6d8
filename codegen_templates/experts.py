"""Mixtures of experts: a linear map for each expert, and who of a tower's tokens goes to which."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autocast import product_dtype
from .expert_products import expert_products
from .layout import Layout
from .permute import permute
from .row_ranks import over_rows


class Experts(nn.Linear):
    """A linear map for each expert: weight [E, out, in], bias [E, out]."""

    def __init__(self, experts: int, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.weight = nn.Parameter(torch.empty(experts, out_features, in_features))
        if bias:
            self.bias = nn.Parameter(torch.empty(experts, out_features))

    def forward(self, x: Tensor, ends: Tensor | None = None) -> Tensor:
        """Tokens [n, in], those of expert 0 first; `ends` int32 [E]: where each expert's end; None: n / E for each."""
        experts = self.weight.shape[0]
        x, weights = x.to(product_dtype(x)), self.weight.to(product_dtype(self.weight))
        if not torch.compiler.is_compiling() and not torch.is_grad_enabled() and x.shape[0] == 0:
            return F.linear(x, weights[0])  # as in a step of generating tokens that have other experts
        if has_grouped_product(x, weights):
            until = ends
            if until is None:
                each = x.shape[0] // experts
                until = each * torch.arange(1, experts + 1, dtype=torch.int32, device=x.device)
            y = F.grouped_mm(x, weights.transpose(1, 2), offs=until)
        elif ends is None:
            pieces = zip(x.view(experts, -1, x.shape[1]).unbind(), weights.unbind(), strict=True)
            y = torch.cat([F.linear(piece, weight) for piece, weight in pieces])
        elif x.device.type == "cpu" and torch.compiler.is_compiling() and not torch.compiler.is_exporting():
            y = expert_products(x, weights.transpose(1, 2), ends)
        else:  # every expert on every token: no size depends on data
            y, token = F.linear(x, weights[0]), numbered(x)
            for before, weight in zip(ends.unbind(), weights[1:].unbind(), strict=False):
                y = torch.where((token >= before)[:, None], F.linear(x, weight), y)
        bias: Tensor | None = self.bias
        if bias is None:
            return y
        bias = bias.to(y.dtype)
        if ends is None:
            return y + bias.repeat_interleave(x.shape[0] // experts, dim=0)
        return y + bias[torch.bucketize(numbered(x), ends, right=True)]


def numbered(x: Tensor) -> Tensor:
    """The numbers int32 [n] of tokens [n, w]."""
    return torch.arange(x.shape[0], dtype=torch.int32, device=x.device)


def has_grouped_product(x: Tensor, weight: Tensor) -> bool:
    """Whether torch has a grouped product for these: in bfloat16, or on CPU and not compiled in float32 too."""
    if not hasattr(F, "grouped_mm"):  # as in torch 2.5
        return False
    fits = weight.shape[1] % 8 == 0 and weight.shape[2] % 8 == 0 and x.dtype == weight.dtype
    plain_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
    return fits and (x.dtype == torch.bfloat16 or (x.dtype == torch.float32 and plain_cpu))


MANY = 32
"""Numbers from which on `torch.topk` is quicker than a stable sort, for a CPU."""


class Routing(NamedTuple):
    """Which tokens go to which expert. m is the number of pairs of a token and an expert, in the order of experts.

    Tokens are [n] or, in a step of generating, [B, S].
    """

    probabilities: Tensor  # [n, E] in float32 or wider: the router's, of each token
    order: Tensor  # int64 [m]: by expert choice each pair's token; by top-k token · k + which of its k
    inverse: Tensor | None  # int64 [m]: by top-k the inverse of `order`; by expert choice None
    weights: Tensor  # [m], by top-k [n, k]: each pair's share of its token's result
    ends: Tensor | None  # int32 [E]: where each expert's pairs end; None: all experts have the same number


def router_probabilities(logits: Tensor) -> Tensor:
    """Each token's probabilities of experts [..., E], in float32 or wider."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)


def compared(probabilities: Tensor) -> Tensor:
    """Probabilities as they are compared: in float32, so that what float64 rounds apart is equal."""
    return probabilities.detach().to(torch.float32)


def best_first(worth: Tensor, k: int) -> Tensor:
    """The places [..., k] of the k largest of float32 numbers [..., E], the largest first, and of equal ones the first.

    `torch.topk` promises no order of equal numbers. Where there are many it is asked for the largest of whole ones in
    the same order, which have their place in them; few are sorted more quickly.
    """
    count = worth.shape[-1]
    if count < MANY:
        return worth.argsort(dim=-1, descending=True, stable=True)[..., :k]
    bits = (worth + 0.0).view(torch.int32)  # + 0.0: -0.0 is 0.0
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (rising * count + torch.arange(count - 1, -1, -1, device=worth.device)).topk(k, dim=-1).indices


def expert_choice(logits: Tensor, per_token: tuple[int, int], places: Tensor) -> Routing:
    """Every expert takes its ceil(n · per_token / E) best tokens. `per_token` is a fraction.

    Of equal tokens it takes the one that comes first in the batch, as `places` int64 [n] say, however they are ordered
    here. A token may go to several experts, or to none. "Mixture-of-Experts with Expert Choice Routing" (Zhou et al.,
    2022).
    """
    tokens, experts = logits.shape
    numerator, denominator = per_token
    each = -(-tokens * numerator // (denominator * experts))
    probabilities = router_probabilities(logits)
    by_place = places.argsort()
    by_expert = compared(probabilities)[by_place].t().contiguous()  # whose strides a compiler knows when it is sorted
    best = by_expert.argsort(dim=1, descending=True, stable=True)
    torch._check(each <= tokens)  # type: ignore[no-untyped-call]
    taken, _ = torch.split(best, [each, tokens - each], dim=1)  # a slice would ask the compiler for signs of sizes
    order = by_place[taken]
    weights = probabilities.t().gather(1, order)
    return Routing(probabilities, order.flatten(), None, weights.flatten(), None)


class Choice(NamedTuple):
    """Which experts each token goes to."""

    probabilities: Tensor  # [..., E], adding up to 1, in float32 or wider
    experts: Tensor  # int64 [..., k]
    weights: Tensor  # [..., k]: what each makes of the token's result


def top_k(logits: Tensor, k: int) -> Routing:
    """Every token goes to its k best experts, whose probabilities are scaled to add up to 1; none is dropped.

    Of equal experts it takes the one with the lower number.
    """
    probabilities = router_probabilities(logits)
    experts = best_first(compared(probabilities), k)
    weights = probabilities.gather(-1, experts)
    return routed(Choice(probabilities, experts, weights / weights.sum(-1, keepdim=True)))


def routed(*choices: Choice) -> Routing:
    """Tokens, those of each choice after those of the one before it, by the experts they chose."""
    parts = zip(*choices, strict=True)
    probabilities, experts, weights = (torch.cat(part) if len(part) > 1 else part[0] for part in parts)
    expert, order = experts.flatten().sort(stable=True)
    place = torch.arange(order.shape[0], device=order.device)
    inverse = torch.empty_like(order).scatter_(0, order, place)
    each = torch.arange(probabilities.shape[-1], device=order.device)
    ends = torch.bucketize(each, expert, right=True, out_int32=True)
    return Routing(probabilities, order, inverse, weights, ends)


class Copies(torch.autograd.Function):
    """Tokens [n, w] k times each, in an order int64 [n · k] of token · k + which of its k; `inverse` goes back.

    As a gradient has a place of its own for each copy, it is gathered and added up, and not scattered.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor, k: int) -> Tensor:
        return x.index_select(0, order // k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        _, order, inverse, ctx.k = inputs
        ctx.save_for_backward(order, inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        order, inverse = ctx.saved_tensors
        copies = permute(gradients[0], inverse, order, gaps=(False, False))
        return torch.unflatten(copies, 0, (-1, ctx.k)).sum(1), None, None, None


def dispatch(x: Tensor, routing: Routing) -> Tensor:
    """Tokens [..., w] to pairs [m, w]."""
    if routing.inverse is None:
        return x.index_select(0, routing.order)
    x, k = x.flatten(0, -2), routing.weights.shape[-1]
    if not torch.is_grad_enabled():
        return Copies.forward(x, routing.order, routing.inverse, k)
    copies: Tensor = Copies.apply(x, routing.order, routing.inverse, k)  # type: ignore[no-untyped-call]
    return copies


def combine(pairs: Tensor, routing: Routing) -> Tensor:
    """The experts' results of pairs [m, w], weighted and added up for each token [..., w]; zeros where none took it."""
    weights = routing.weights.to(pairs.dtype)[..., None]
    if routing.inverse is None:
        tokens = pairs.new_zeros(routing.probabilities.shape[0], pairs.shape[1])
        return tokens.index_add(0, routing.order, weights * pairs)
    by_token = permute(pairs, routing.inverse, routing.order, gaps=(False, False))
    return (weights * by_token.view(*weights.shape[:-1], pairs.shape[1])).sum(-2)


def imbalance(routing: Routing, layout: Layout) -> Tensor:
    """E · Σ (share of pairs · mean probability) over experts: 1 where all have as many, E where one has all, 0 of none.

    "Switch Transformers" (Fedus et al., 2021), equation 4, shares being of the pairs where k > 1. Of a step of
    generating nothing is learned: 0.
    """
    assert routing.ends is not None
    if isinstance(layout.places, int):
        return routing.probabilities.new_zeros(())
    experts, k = routing.probabilities.shape[1], routing.weights.shape[1]
    ends = over_rows(routing.ends)
    pairs = torch.diff(ends, prepend=ends.new_zeros(1))
    all_pairs = ends[-1].clamp(min=1)
    return (pairs * over_rows(routing.probabilities.sum(0))).sum() * (experts * k) / all_pairs / all_pairs


def part(x: Tensor, pieces: list[Tensor]) -> list[Tensor]:
    """x [n, w] in pieces of these lengths."""
    sizes = [piece.shape[0] for piece in pieces[:-1]]
    torch._check(sum(sizes) <= x.shape[0])  # type: ignore[no-untyped-call]
    return list(torch.split(x, [*sizes, x.shape[0] - sum(sizes)]))
