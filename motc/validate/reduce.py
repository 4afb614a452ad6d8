"""A spec at a size that validates in seconds: the same structure and names, everything else small.

Layers are merged where no statement tells them apart; equal widths, hidden sizes, numbers of experts and vocabularies
stay equal, different ones different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

from motc.lower.attributes import heads_of, layer_attributes, rotated_head
from motc.lower.by_layer import specs_by_layer
from motc.schema import Checked, Spec
from motc.schema.attention import AttentionInLayers, RopeSpec
from motc.schema.conditions import ConditionSpec
from motc.schema.feed_forward import FfnAttributes
from motc.schema.modalities import FeaturesSpec, LatentSpec, ModalitySpec, PositionsSpec, SpanPositionsSpec, UnetSpec
from motc.schema.spec import LayersSpec, TowerInLayers, TowerSpec
from motc.schema.values import LayerNumbers

HEAD_DIM, HEAD_DIM_STEP, VALUE_DIM = 8, 2, 6
RANK, RANK_STEP = 10, 2
WIDTH_STEP = 2
Ffn = TypeVar("Ffn", bound=FfnAttributes)
NO_HEADS: dict[str, int | None] = {"heads": None, "kv_heads": None, "head_dim": None, "value_dim": None}
HIDDEN, HIDDEN_STEP = 24, 8
EXPERTS, EXPERTS_STEP, TOP_K = 6, 2, 2
VOCAB, VOCAB_STEP = 40, 8
CHANNELS, UNET_CHANNELS = 3, 4
WINDOW, WINDOW_STEP = 3, 2
ORIGINAL_LENGTH, LEAST_ROTATED = 8, 4
FIRST, LEARNED = 5, 64
FEATURES = 5
CONDITION, SINUSOIDS, LABELS = 12, 8, 6


def reduce(checked: Checked) -> Checked:
    """A small spec of the same structure; `checked` must be one that lowers."""
    spec, specs = checked.spec, specs_by_layer(checked, [])
    distinct = [spec, *{id(each): each.spec for each in specs}.values()]
    sizes = _Sizes(distinct)
    kept = _kept(spec, specs)
    vocabularies = [modality.vocab for modality in spec.modalities.values()]
    vocab = _smaller((size for size in (spec.vocab, *vocabularies) if size is not None), VOCAB, VOCAB_STEP)
    small = sizes.smaller(spec).model_copy(
        update={
            "layers": len(kept),
            "vocab": spec.vocab and vocab[spec.vocab],
            "modalities": {
                name: modality.model_copy(
                    update={
                        "vocab": modality.vocab and vocab[modality.vocab],
                        "latent": _smaller_latent(modality),
                        "features": _smaller_features(modality, sizes.width, len(kept)),
                        "condition": _smaller_condition(modality, sizes.width),
                        "positions": _nearer(modality.positions),
                    }
                )
                for name, modality in spec.modalities.items()
            },
            "positions": _fewer(spec.positions),
            "by_layer": [
                *(
                    sizes.statement(statement, layers)
                    for statement in spec.by_layer
                    for layers in _runs(statement.layers.numbers, kept)
                ),
                *(
                    sizes.last_word(place, specs[layer].spec)
                    for place, layer in enumerate(kept)
                    if specs[layer] is not checked
                ),
            ],
            "untie": [
                statement.model_copy(update={"layers": layers})
                for statement in spec.untie
                for layers in ([None] if statement.layers is None else _runs(statement.layers.numbers, kept))
            ],
        }
    )
    return Checked(small, checked.tree)


class _Sizes:
    """The small sizes in place of those of a spec: of the whole, and as it is in some layers."""

    def __init__(self, specs: list[Spec]) -> None:
        self.model = specs[0]
        attributes = [layer_attributes(spec, tower) for spec in specs for tower in (None, *spec.towers.values())]
        rotated = max(_least_rotated(spec.attention.rope) for spec in specs)
        ranks = [spec.attention.low_rank for spec in specs if spec.attention.low_rank is not None]
        self.rank = _smaller({each.kv for each in ranks} | {each.q for each in ranks if each.q}, RANK, RANK_STEP)
        self.rope_dim = _smaller({each.rope_dim for each in ranks}, rotated, HEAD_DIM_STEP)
        least = max(HEAD_DIM, rotated, *(size + HEAD_DIM_STEP for size in self.rope_dim.values()))
        self.head_dim = _smaller({a.head_dim for a in attributes}, least, HEAD_DIM_STEP)
        self.value_dim = _smaller({a.value_dim for a in attributes if a.value_dim}, VALUE_DIM, HEAD_DIM_STEP)
        windows = (spec.attention.window for spec in specs)
        self.window = _smaller((window for window in windows if window is not None), WINDOW, WINDOW_STEP)
        ffns = [ffn for spec in specs for ffn in (spec.ffn, *(tower.ffn for tower in spec.towers.values()))]
        shared = {ffn.shared_hidden for ffn in ffns if ffn.shared_hidden is not None}
        self.hidden = _smaller(({a.hidden for a in attributes} | shared) - {0}, HIDDEN, HIDDEN_STEP)
        self.in_groups = any(ffn.groups is not None for ffn in ffns)
        self.experts = _smaller((ffn.experts for ffn in ffns if ffn.experts is not None), EXPERTS, EXPERTS_STEP)
        heads, _, head_dim = heads_of(self.model)
        small_heads, _, small_head_dim = self._heads(self.model)
        self.width = _widths(self.model, small_heads * small_head_dim / (heads * head_dim))

    def smaller(self, spec: Spec) -> Spec:
        """The spec with small sizes but for its vocabularies and layers."""
        heads, kv_heads, head_dim = self._heads(spec)
        small: dict[str, object] = {
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "rope": self._rope(spec),
        }
        small |= {"window": self._window(spec), **self._values_and_ranks(spec.attention)}
        return spec.model_copy(
            update={
                "width": self.width[spec.width],
                "attention": spec.attention.model_copy(update=small),
                "ffn": self._fewer_experts(spec.ffn).model_copy(update={"hidden": self._hidden(spec, None)}),
                "towers": {name: self._smaller_tower(spec, tower) for name, tower in spec.towers.items()},
            }
        )

    def statement(self, said: LayersSpec, layers: LayerNumbers) -> LayersSpec:
        """What a statement says, of other layers and with small sizes but for those that `last_word` has."""
        head_dim = said.attention.head_dim
        small: dict[str, object] = {**NO_HEADS, "head_dim": head_dim and self.head_dim[head_dim]}
        small |= self._values_and_ranks(said.attention)
        towers = {
            name: tower.model_copy(
                update={"attention": tower.attention.model_copy(update=NO_HEADS), "ffn": self._fewer_experts(tower.ffn)}
            )
            for name, tower in said.towers.items()
        }
        return said.model_copy(
            update={
                "layers": layers,
                "attention": said.attention.model_copy(update=small),
                "ffn": self._fewer_experts(said.ffn),
                "towers": towers,
            }
        )

    def last_word(self, layer: int, spec: Spec) -> LayersSpec:
        """A statement of the small sizes, of one layer that is as `spec` says, which follow from more than one key."""
        towers = {
            name: TowerInLayers(ffn=FfnAttributes(hidden=self._hidden(spec, tower)))
            for name, tower in spec.towers.items()
        }
        ffn = FfnAttributes(hidden=self._hidden(spec, None))
        attention = AttentionInLayers(rope=self._rope(spec), window=self._window(spec))
        return LayersSpec.model_construct(
            layers=LayerNumbers(layer, layer), attention=attention, ffn=ffn, towers=towers
        )

    def _values_and_ranks(self, said: AttentionInLayers) -> dict[str, object]:
        """What is said of the size of values, and of low rank, with small sizes."""
        small: dict[str, object] = {}
        if said.value_dim is not None:
            small["value_dim"] = self.value_dim.get(said.value_dim) or self.head_dim[said.value_dim]
        if said.low_rank is not None:
            ranks = {"kv": self.rank[said.low_rank.kv], "q": said.low_rank.q and self.rank[said.low_rank.q]}
            small["low_rank"] = said.low_rank.model_copy(
                update={**ranks, "rope_dim": self.rope_dim[said.low_rank.rope_dim]}
            )
        return small

    def _window(self, spec: Spec) -> int | None:
        return spec.attention.window and self.window[spec.attention.window]

    def _rope(self, spec: Spec) -> RopeSpec | None:
        size = rotated_head(spec)
        small = self.head_dim[size] if spec.attention.low_rank is None else self.rope_dim[size]
        return _smaller_rope(spec.attention.rope, size, small)

    def _fewer_experts(self, ffn: Ffn) -> Ffn:
        """Fewer experts, if they are in no groups, which divide them; and small ones."""
        few = {"shared_hidden": ffn.shared_hidden and self.hidden[ffn.shared_hidden]}
        if not self.in_groups:
            few |= {"experts": ffn.experts and self.experts[ffn.experts], "top_k": ffn.top_k and min(ffn.top_k, TOP_K)}
        return ffn.model_copy(update=few)

    def _heads(self, spec: Spec) -> tuple[int, int, int]:
        """Few heads, of which as many share one of the few key and value heads, as nearly as can be."""
        heads, kv_heads, head_dim = heads_of(spec)
        small_kv_heads = min(kv_heads, 2)
        return small_kv_heads * min(heads // kv_heads, 2), small_kv_heads, self.head_dim[head_dim]

    def _smaller_tower(self, spec: Spec, tower: TowerSpec) -> TowerSpec:
        ffn = self._fewer_experts(tower.ffn).model_copy(update={"hidden": self._hidden(spec, tower)})
        attention = tower.attention.model_copy(update=NO_HEADS)
        return tower.model_copy(
            update={"width": self.width[tower.width or spec.width], "ffn": ffn, "attention": attention}
        )

    def _hidden(self, spec: Spec, tower: TowerSpec | None) -> int | None:
        """The small hidden size, if there is a feed-forward."""
        return self.hidden.get(layer_attributes(spec, tower).hidden)


def _fewer(positions: PositionsSpec) -> PositionsSpec:
    """Positions that are near; what is not said stays so, for it is asked whether it is."""
    small = {"first": min(positions.first, FIRST), "learned": positions.learned and LEARNED}
    return positions.model_copy(update={key: value for key, value in small.items() if key in positions.said()})


def _nearer(positions: SpanPositionsSpec | None) -> SpanPositionsSpec | None:
    """A rule whose spans do not begin far away."""
    if positions is None or positions.start is None:
        return positions
    return positions.model_copy(update={"start": min(positions.start, FIRST)})


def _smaller_latent(modality: ModalitySpec) -> LatentSpec | None:
    """A continuous modality with few channels and a small patch."""
    latent = modality.latent
    if latent is None:
        return None
    unet = UnetSpec(channels=UNET_CHANNELS, blocks=2) if latent.ends == "unet" else None
    small = {"channels": min(latent.channels, CHANNELS), "patch": _smaller_patch(latent.patch), "unet": unet}
    return latent.model_copy(update=small)


def _smaller_condition(modality: ModalitySpec, widths: dict[int, int]) -> ConditionSpec | None:
    """A condition of few numbers."""
    condition = modality.condition
    if condition is None:
        return None
    few: dict[str, object] = {"width": condition.width and widths.get(condition.width, min(condition.width, CONDITION))}
    for part in ("timestep", "number"):
        waves = getattr(condition, part)
        if waves is not None:
            small = {"size": min(waves.size, SINUSOIDS), "hidden": waves.hidden and min(waves.hidden, HIDDEN)}
            few[part] = waves.model_copy(update=small)
    if condition.label is not None:
        few["label"] = condition.label.model_copy(update={"count": min(condition.label.count, LABELS)})
    if condition.vector is not None:
        small = {"size": min(condition.vector.size, FEATURES), "hidden": condition.vector.hidden and HIDDEN}
        few["vector"] = condition.vector.model_copy(update=small)
    return condition.model_copy(update=few)


def _smaller_features(modality: ModalitySpec, widths: dict[int, int], layers: int) -> FeaturesSpec | None:
    """A modality of small features; where there is no projector they are as wide as the stream.

    Further vectors are added after as many of the first layers, or after all of these few but the last.
    """
    features = modality.features
    if features is None:
        return None
    if features.added_after is not None:
        last = min(len(features.added_after.numbers), layers - 1) - 1
        features = features.model_copy(update={"added_after": LayerNumbers(0, last)})
    if features.projector is None:
        return features.model_copy(update={"size": widths[features.size]})
    hidden = features.projector.hidden and min(features.projector.hidden, HIDDEN)
    projector = features.projector.model_copy(update={"hidden": hidden})
    return features.model_copy(update={"size": min(features.size, FEATURES), "projector": projector})


def _smaller_patch(patch: int | list[int]) -> int | list[int]:
    return min(patch, 2) if isinstance(patch, int) else [min(size, 2) for size in patch]


def _smaller_rope(rope: RopeSpec | None, head_dim: int, small_head_dim: int) -> RopeSpec | None:
    """Rotary positions of a smaller head, an even number of whose components rotates; some documents are long."""
    if rope is None:
        return None
    scaling = rope.scaling
    if scaling is not None and scaling.original_length is not None:
        length = min(scaling.original_length, ORIGINAL_LENGTH)
        scaling = scaling.model_copy(update={"original_length": length})
    if small_head_dim == head_dim:
        return rope.model_copy(update={"scaling": scaling})
    size = max(_least_rotated(rope), int(small_head_dim * rope.fraction) // 2 * 2)
    changed: dict[str, object] = {"fraction": size / small_head_dim, "scaling": scaling}
    if rope.sections is not None:
        changed["sections"] = [size // 2 - len(rope.sections) + 1, *[1] * (len(rope.sections) - 1)]
    if rope.axes is not None:
        changed["axes"] = [size - 2 * len(rope.axes) + 2, *[2] * (len(rope.axes) - 1)]
    return rope.model_copy(update=changed)


def _least_rotated(rope: RopeSpec | None) -> int:
    """How many components rotate at least: a pair for each axis, and two pairs for a scaling."""
    axes = [] if rope is None else rope.sections or rope.axes or []
    return max(LEAST_ROTATED, 2 * len(axes))


def _kept(spec: Spec, specs: tuple[Checked, ...]) -> list[int]:
    """The layers of the small spec: of each run of layers that no statement tells apart the first.

    Of runs of which the same is said only two are kept; where there is one run, two of its layers, if it has them.
    """
    said = [statement.layers.numbers for statement in spec.untie if statement.layers is not None]
    points = {0, *(layer for layer in range(1, spec.layers) if specs[layer] is not specs[layer - 1])}
    for numbers in said:
        points |= (
            {numbers[0], numbers[-1] + 1} if numbers.step == 1 else {at + each for at in (0, 1) for each in numbers}
        )
    starts = sorted(points - {spec.layers})
    if len(starts) == 1:
        return [*range(min(spec.layers, 2))]
    seen: Counter[tuple[int, ...]] = Counter()
    kept = []
    for layer in starts:
        key = (id(specs[layer]), *(index for index, numbers in enumerate(said) if layer in numbers))
        seen[key] += 1
        if seen[key] <= 2:
            kept.append(layer)
    return kept


def _runs(numbers: range, kept: list[int]) -> Iterator[LayerNumbers]:
    """Those of the kept layers that are among `numbers`, by their places among the kept ones."""
    places = [place for place, layer in enumerate(kept) if layer in numbers]
    for first in (place for place in places if place - 1 not in places):
        last = next(place for place in range(first, len(kept)) if place + 1 not in places)
        yield LayerNumbers(first, last)


def _widths(spec: Spec, ratio: float) -> dict[int, int]:
    """Small even widths in the order of the real ones, no two equal; a width is never made larger."""
    wanted = sorted({spec.width, *(tower.width for tower in spec.towers.values() if tower.width is not None)})
    smaller_of: dict[int, int] = {}
    for width in wanted:
        smaller_of[width] = min(width, max(WIDTH_STEP, round(width * ratio / WIDTH_STEP) * WIDTH_STEP))
    for smaller, larger in pairwise(wanted):
        smaller_of[larger] = min(larger, max(smaller_of[larger], smaller_of[smaller] + WIDTH_STEP))
    return smaller_of


def _smaller(sizes: Iterable[int], first: int, step: int) -> dict[int, int]:
    """Small sizes in the order of the real ones, no two equal; a size is never made larger."""
    return {size: min(size, first + step * index) for index, size in enumerate(sorted(set(sizes)))}
