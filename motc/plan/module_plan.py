"""The module plan: every class, attribute and order of the generated file, decided before a line of it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from motc.ir.attention import Attention
from motc.ir.execution import Execution
from motc.ir.feed_forward import Mixture
from motc.ir.inventory import LAYER_GROUPS
from motc.ir.layer import Sublayer
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.steps import Apply, Permute, Read, Step, Steps, SumLosses, Value
from motc.plan.views import kernel

Form = Literal["single", "shared", "by_place", "by_tower", "held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafPlan:
    """How one group appears: its attribute, and how what it is applied to meets its blocks.

    `single`: one module for the whole. `shared`: one module, piece by piece. `by_place`: one norm for the whole,
    scaled by each token's copy, or each token's copy of sinks. `by_tower`: piece i, of `counts[i]` modalities, goes to
    `route[i]`. `held`: copies that are taken one by one, in a feed-forward with experts.

    `adds_nothing`: pieces without a copy are 0 after it; otherwise they are as before. With `blank` they are so many
    zeros a token, said for each piece that has no copy; None for one that has. If it is `open`, a gate that some lack,
    they are infinite, and their sigmoids 1. Of what the copies in `untrained` make, no gradient goes back.
    """

    attribute: str
    leaf: Leaf
    form: Form
    route: tuple[str | None, ...]
    counts: tuple[int, ...]
    adds_nothing: bool = False
    blank: tuple[int | None, ...] = ()
    open: bool = False
    untrained: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[int, ...]:
        """How many modalities there are up to the end of each piece but the last."""
        return tuple(accumulate(self.counts))[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class SublayerPlan:
    """A sublayer of one kind of layer: the name of its class, its steps, and its groups by path.

    `pieces` are the values that are pieces, not one tensor; within a feed-forward piece i holds `counts[i]` modalities,
    elsewhere as many as the stream's.
    `takes` are the values that it is given beside the stream, and `gives` those that it gives for other sublayers, each
    by what it is called; both are empty but in parallel layers. So is the modulation that it `borrows`, by which what
    it adds is gated, and which another one `lends`.
    `resorted` are the values that the group which reads them sorts itself, and in the backward again.
    """

    sublayer: Sublayer
    class_name: str
    steps: tuple[Step, ...]
    leaves: dict[str, LeafPlan]
    pieces: frozenset[str]
    counts: tuple[int, ...]
    resorted: frozenset[str]
    stream: Value
    takes: Mapping[Value, str]
    gives: Mapping[Value, str]
    borrows: LeafPlan | None
    lends: LeafPlan | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """One kind of layer: the name of its class, its sublayers in their order, and the layers of that kind."""

    layer_class: str
    where: str
    sublayers: tuple[SublayerPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePlan:
    """A whole generated file.

    `order` holds the modalities' ids as tokens are sorted; `runs` are (index into layer_plans, number of layers);
    `execution` is how the strategy runs it. Where something is generated, `alike` says for each modality where the
    first stands in that order that has all its parameters; it is empty where a step's tokens are sorted as a batch's.
    `last_block` are the modalities that it can make all at once instead, of what is before.
    Where the stream is in pieces, piece i holds `counts_in_layers[i]` modalities in the layers, and one elsewhere.
    `head_pieces` are the runs of modalities with one block of a shared vocabulary's head, where latents and features
    have none: each run's block, or None, and how many modalities it holds.
    `untrained_features` are the modalities of features that get no gradient.
    """

    model: Model
    class_name: str
    semantic_hash: str
    order: tuple[int, ...]
    layer_plans: tuple[LayerPlan, ...]
    runs: tuple[tuple[int, int], ...]
    embedding: LeafPlan | None
    position_table: LeafPlan | None
    embedding_norm: LeafPlan | None
    final_norm: LeafPlan | None
    final_modulation: LeafPlan | None
    head: LeafPlan | None
    head_pieces: tuple[tuple[str | None, int], ...]
    stream_in_pieces: bool
    counts_in_layers: tuple[int, ...]
    execution: Execution
    generates: bool
    last_block: tuple[str, ...]
    alike: tuple[int, ...]
    untrained_features: tuple[str, ...]

    @property
    def into_stream(self) -> tuple[str, ...]:
        """The groups of its layers that start smaller, as what they give is added to the stream."""
        there = {leaf.path for layer, _ in self.model.kinds for leaf in layer.leaves()}
        return tuple(group.path for group in LAYER_GROUPS if group.start == "into_stream" and group.path in there)

    @property
    def outer(self) -> dict[str, LeafPlan]:
        """The groups outside the layers by their paths, without what is of continuous modalities alone."""
        norms = (self.embedding_norm, self.final_norm, self.final_modulation)
        leaves = (self.embedding, self.position_table, *norms, self.head)
        return {leaf.leaf.path: leaf for leaf in leaves if leaf is not None}

    @property
    def sorts_targets(self) -> bool:
        """Whether losses are taken of states sorted by what they are to predict."""
        return any(step.order == "targets" for step in self.model.outer_steps.score)

    @property
    def has_plain_embed(self) -> bool:
        """Whether the stream is one table's rows and nothing else."""
        return (
            self.embedding is not None
            and self.embedding.form == "single"
            and _kinds(self.model.outer_steps.embed) == [Apply]
        )

    @property
    def has_plain_read(self) -> bool:
        """Whether logits and losses are one head's, of one norm's, and nothing else, wherever a token stands."""
        outer = self.model.outer_steps
        return (
            self.model.vocab is not None
            and (self.model.logit_scale, self.model.logit_softcap, self.model.head_bias) == (1.0, None, False)
            and all(leaf is not None and leaf.form == "single" for leaf in (self.final_norm, self.head))
            and (_kinds(outer.read), _kinds(outer.score)) == ([Permute, Read], [Read, SumLosses])
        )

    @property
    def is_balanced(self) -> bool:
        """Whether layers also give a load-balancing loss."""
        return self.model.is_balanced

    @property
    def layers_take_layout(self) -> bool:
        """Whether a layer asks where tokens stand."""
        return any(self.takes_layout(sublayer) for kind in self.layer_plans for sublayer in kind.sublayers)

    def takes_layout(self, part: SublayerPlan) -> bool:
        """Whether a sublayer asks where tokens stand: for copies, experts, permutations, or attention in views or
        detached.
        """
        body = part.sublayer.body
        leaves = [*part.leaves.values(), *(() if part.borrows is None else (part.borrows,))]
        asks = isinstance(body, Mixture) or any(leaf.form != "single" for leaf in leaves)
        if isinstance(body, Attention):
            asks = asks or bool(body.mask.detach or body.mask.reads) or kernel(body.mask, self.model) == "views"
        return asks or any(step.permutes for step in part.steps)

    @property
    def layers_take_conditions(self) -> bool:
        """Whether a layer has adaptive norms."""
        return any(part.sublayer.modulation is not None for kind in self.layer_plans for part in kind.sublayers)

    @property
    def layer_masks(self) -> tuple[int, ...]:
        """For each layer which of the model's masks is its own; the first where it has no attention."""
        numbers = {mask: number for number, mask in enumerate(self.model.masks)}
        return self._of_layers(lambda attention: numbers[attention.mask])

    @property
    def layer_angles(self) -> tuple[int, ...]:
        """For each layer which of the model's angles are its own; the first where it rotates nothing."""
        numbers = {angles: number for number, angles in enumerate(self.model.angles)}
        return self._of_layers(lambda attention: 0 if attention.angles is None else numbers[attention.angles])

    def _of_layers(self, number: Callable[[Attention], int]) -> tuple[int, ...]:
        """A number of each layer's attention, 0 where it has none."""
        segments = self.model.segments
        each = ((segment.count, next(map(number, segment.layer.attentions), 0)) for segment in segments)
        return tuple(place for count, place in each for _ in range(count))

    @property
    def each(self) -> tuple[int, ...]:
        """The counts of pieces that are one modality each."""
        return (1,) * len(self.order)


def _kinds(steps: Steps) -> list[type]:
    """Which operations these are."""
    return [type(step.operation) for step in steps]
