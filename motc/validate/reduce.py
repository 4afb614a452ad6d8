"""A spec at a size that validates in seconds: the same structure and names, everything else small.

Layers are merged where no statement of `untie` tells them apart; equal widths, hidden sizes, numbers of experts and
vocabularies stay equal, different ones different.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from motc.lower.attributes import heads_of, layer_attributes
from motc.schema import Checked, Spec
from motc.schema.spec import FfnAttributes, LatentSpec, ModalitySpec, RopeSpec, TowerSpec, UnetSpec

HEAD_DIM = 8
WIDTH_STEP = 2
HIDDEN, HIDDEN_STEP = 24, 8
EXPERTS, EXPERTS_STEP, TOP_K = 6, 2, 2
VOCAB, VOCAB_STEP = 40, 8
CHANNELS, UNET_CHANNELS = 3, 4
ORIGINAL_LENGTH, LEAST_ROTATED = 8, 4


def reduce(checked: Checked) -> Checked:
    """A small spec of the same structure; `checked` must be one that lowers."""
    spec = checked.spec
    heads, kv_heads, head_dim = heads_of(spec)
    small_kv_heads = min(kv_heads, 2)
    small_heads = small_kv_heads * min(heads // kv_heads, 2)
    small_head_dim = min(head_dim, HEAD_DIM)
    widths = _widths(spec, small_heads * small_head_dim / (heads * head_dim))
    towers = {name: layer_attributes(spec, tower) for name, tower in spec.towers.items()}
    model = layer_attributes(spec, None)
    hidden = _smaller((model.hidden, *(tower.hidden for tower in towers.values())), HIDDEN, HIDDEN_STEP)
    vocabularies = [modality.vocab for modality in spec.modalities.values()]
    vocab = _smaller((size for size in (spec.vocab, *vocabularies) if size is not None), VOCAB, VOCAB_STEP)

    ffns = (spec.ffn, *(tower.ffn for tower in spec.towers.values()))
    experts = _smaller((ffn.experts for ffn in ffns if ffn.experts is not None), EXPERTS, EXPERTS_STEP)

    def fewer_experts(ffn: FfnAttributes) -> dict[str, int | None]:
        return {"experts": ffn.experts and experts[ffn.experts], "top_k": ffn.top_k and min(ffn.top_k, TOP_K)}

    def smaller_tower(name: str, tower: TowerSpec) -> TowerSpec:
        ffn = tower.ffn.model_copy(update={"hidden": hidden[towers[name].hidden], **fewer_experts(tower.ffn)})
        heads = tower.attention.model_copy(update={"heads": None, "kv_heads": None, "head_dim": None})
        return tower.model_copy(update={"width": widths[towers[name].width], "ffn": ffn, "attention": heads})

    layers = _layers(spec)
    small = spec.model_copy(
        update={
            "width": widths[spec.width],
            "layers": max(layers.values()),
            "vocab": spec.vocab and vocab[spec.vocab],
            "modalities": {
                name: modality.model_copy(
                    update={"vocab": modality.vocab and vocab[modality.vocab], "latent": _smaller_latent(modality)}
                )
                for name, modality in spec.modalities.items()
            },
            "attention": spec.attention.model_copy(
                update={
                    "heads": small_heads,
                    "kv_heads": small_kv_heads,
                    "head_dim": small_head_dim,
                    "rope": _smaller_rope(spec.attention.rope, head_dim, small_head_dim),
                }
            ),
            "ffn": spec.ffn.model_copy(update={"hidden": hidden[model.hidden], **fewer_experts(spec.ffn)}),
            "towers": {name: smaller_tower(name, tower) for name, tower in spec.towers.items()},
            "untie": [
                statement.model_copy(
                    update={
                        "layers": statement.layers
                        and (layers[statement.layers[0]], layers[statement.layers[1] + 1] - 1)
                    }
                )
                for statement in spec.untie
            ],
        }
    )
    return Checked(small, checked.tree)


def _smaller_latent(modality: ModalitySpec) -> LatentSpec | None:
    """A continuous modality with few channels and a small patch."""
    latent = modality.latent
    if latent is None:
        return None
    unet = UnetSpec(channels=UNET_CHANNELS, blocks=2) if latent.ends == "unet" else None
    small = {"channels": min(latent.channels, CHANNELS), "patch": _smaller_patch(latent.patch), "unet": unet}
    return latent.model_copy(update=small)


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
    fraction = rope.fraction
    if small_head_dim != head_dim:
        fraction = max(LEAST_ROTATED, int(small_head_dim * fraction) // 2 * 2) / small_head_dim
    return rope.model_copy(update={"fraction": fraction, "scaling": scaling})


def _layers(spec: Spec) -> dict[int, int]:
    """The reduced number of each layer at which the untying changes, and of the end: they become one layer apart.

    Where it never changes there are two layers, if there are as many.
    """
    points = {0, spec.layers}
    for statement in spec.untie:
        if statement.layers is not None:
            points |= {statement.layers[0], statement.layers[1] + 1}
    ordered = sorted(points)
    if len(ordered) == 2:
        return {0: 0, spec.layers: min(spec.layers, 2)}
    return {point: index for index, point in enumerate(ordered)}


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
