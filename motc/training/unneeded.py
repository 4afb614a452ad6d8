"""Gradients that nothing needs, and a backward without them.

Of a frozen tower autograd makes no gradients of weights. But the stream is one tensor: if some of its tokens need a
gradient, all of it has one, which would go back through linear maps to tokens before which nothing is trained. Who
needs gradients follows from what is trained, layer by layer, and from who sees whom. Where what a linear map reads
needs none, it is cut off there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, assert_never

import torch
from torch import Tensor

from motc.ir.attention import Attention
from motc.ir.feed_forward import FeedForward, Mixture
from motc.ir.layer import Body, Layer
from motc.ir.leaf import Leaf
from motc.ir.names import parameter_prefix
from motc.ir.operators import Experts, Linear, ReadMap
from motc.training.copies import Trained

Needs = dict[str, bool]
"""By modality, whether what its tokens have at some place needs a gradient."""


def leave_out_backward(trained: Trained) -> None:
    """Have the backward of a model leave out what nothing needs, from its next forward on."""
    for module in _maps(trained, maps_with_gradient(trained, set())).values():
        if not hasattr(module, "reads_without_gradient"):
            module.reads_without_gradient = False
            module.register_forward_pre_hook(cut_off)
    if not any(isinstance(hook, Watch) for hook in trained.network._forward_pre_hooks.values()):
        trained.network.register_forward_pre_hook(Watch(), with_kwargs=True)


def cut_off(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What a map reads, without gradient where none is needed."""
    if not module.reads_without_gradient:
        return None
    return tuple(each.detach() if isinstance(each, Tensor) else each for each in arguments)


class Watch:
    """Asks before each forward of a model what is trained, and if that has changed, where to cut off."""

    def __init__(self) -> None:
        self.known: tuple[bool, ...] | None = None

    def __call__(self, network: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        given = {name for name, x in (named.get("features") or {}).items() if isinstance(x, Tensor) and x.requires_grad}
        trained_now = (
            *(each.requires_grad for each in network.parameters()),
            *map(given.__contains__, network.modalities),
        )
        if trained_now != self.known:
            trained = Trained(network)
            needed = maps_with_gradient(trained, given)
            for prefix, module in _maps(trained, needed).items():
                module.reads_without_gradient = not needed[prefix]
            self.known = trained_now


def _maps(trained: Trained, prefixes: Iterable[str]) -> dict[str, Any]:
    """The modules of linear maps by their prefix. In `grouped`, where copies are not called, none."""
    maps: dict[str, Any] = {}
    for prefix in prefixes:
        container = trained.network.get_submodule(prefix.rpartition(".")[0])
        if not hasattr(container, "is_grouped_product"):
            maps[prefix] = trained.network.get_submodule(prefix)
    return maps


def maps_with_gradient(trained: Trained, given: set[str]) -> dict[str, bool]:
    """Of each linear map of the layers, by its prefix, whether what it reads needs a gradient.

    `given` are the modalities whose features are to have one.
    """
    walk = _Walk(trained, given)
    return dict(
        each
        for segment in trained.model.segments
        for layer in range(segment.first, segment.last + 1)
        for each in walk.through(segment.layer, layer)
    )


class _Walk:
    """A walk through the layers, with what the stream needs of each modality."""

    def __init__(self, trained: Trained, given: set[str]) -> None:
        self.names = trained.model.names
        self.trained = {
            copy.prefix for copy, theirs in trained.parameters.items() if any(x.requires_grad for x in theirs.values())
        }
        self.stream = {name: name in given for name in self.names}
        for leaf in trained.model.leaves_before():
            self.stream = self._behind(leaf, None, self.stream)

    def through(self, layer: Layer, number: int) -> Iterator[tuple[str, bool]]:
        """The maps of the next layer, with whether what they read needs a gradient."""
        entry, normed = self.stream, self.stream
        for sublayer in layer.sublayers:
            match sublayer.reads:
                case "stream":
                    read = self._behind(sublayer.before, number, self.stream)
                case "entry":
                    read = self._behind(sublayer.before, number, entry)
                case "normed":
                    read = normed
                case _:
                    assert_never(sublayer.reads)
            read = _conditioned(sublayer.modulation, read)
            if sublayer is layer.sublayers[0]:
                normed = read
            inner = self._inner(sublayer.body, number, read)
            last = (sublayer.body.out, *([sublayer.body.shared_down] if isinstance(sublayer.body, Mixture) else []))
            for leaf in sublayer.body.leaves():
                for block in leaf.blocks:
                    if isinstance(block.operator, Linear | Experts):
                        needs = inner if leaf in last else self._before(sublayer.body, leaf, number, read)
                        reads_others = isinstance(block.operator, ReadMap)
                        needed = reads_others or any(needs[name] for name in block.modalities)
                        yield parameter_prefix(leaf, block, number), needed
            made = inner
            for each in (sublayer.body.out, sublayer.after, sublayer.out_gate):
                made = self._behind(each, number, made)
            made = _conditioned(layer.gate_of(sublayer), made)
            joined = {name: self.stream[name] or made[name] for name in self.names}
            self.stream = self._behind(sublayer.joined, number, joined)

    def _before(self, body: Body, leaf: Leaf, number: int, read: Needs) -> Needs:
        """What a map of a body reads that is not its last."""
        return self._behind_all(body.before(leaf), number, read) if isinstance(body, Attention) else read

    def _inner(self, body: Body, number: int, read: Needs) -> Needs:
        """What the last map of a body reads."""
        match body:
            case Attention():
                asked = (*body.before(body.q), body.q, body.q_norm, body.sinks, body.gate)
                shared = None if body.low_rank is None else body.low_rank.k_rope
                answered = (*body.before(body.k), body.k, shared, body.k_norm, body.v)
                asking, keys = (self._behind_all(leaves, number, read) for leaves in (asked, answered))
                visible, detached = body.mask.visible(self.names), dict(body.mask.detach)
                return {
                    name: asking[name]
                    or any(
                        keys[other] for other in visible.get(name, self.names) if other not in detached.get(name, ())
                    )
                    for name in self.names
                }
            case FeedForward() | Mixture():
                return self._behind_all([leaf for leaf in body.leaves() if leaf is not body.out], number, read)
            case _:
                assert_never(body)

    def _behind_all(self, leaves: Iterable[Leaf | None], number: int, needs: Needs) -> Needs:
        for leaf in leaves:
            needs = self._behind(leaf, number, needs)
        return needs

    def _behind(self, leaf: Leaf | None, number: int | None, needs: Needs) -> Needs:
        """What a group's results need of what it is given: gradients also where it is trained."""
        if leaf is None:
            return needs
        trained = {
            name
            for block in leaf.blocks
            if parameter_prefix(leaf, block, number) in self.trained
            for name in block.modalities
        }
        return {name: needs[name] or name in trained for name in self.names}


def _conditioned(modulation: Leaf | None, needs: Needs) -> Needs:
    """What conditions have changed needs gradients: what they are made of is not looked into."""
    conditioned = {name for block in modulation.blocks for name in block.modalities} if modulation else set()
    return {name: needs[name] or name in conditioned for name in needs}
