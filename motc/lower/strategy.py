"""Whether a strategy of execution can run a model."""

from __future__ import annotations

from motc.ir.inventory import LAYER_PATHS, OUTER_PATHS, VOCABULARY_PATHS
from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.operators import Linear, Modulation, Norm
from motc.source import Diagnostic, SpecError

MULTIPLE = 8  # torch's grouped products want strides of 16 bytes, in bfloat16 too


def check_strategy(model: Model) -> None:
    """Raise SpecError if `grouped` is asked of a model whose copies of a group differ: one product has one shape.

    Vocabularies may differ, for tables are looked up and each head is applied by itself.
    """
    if model.routings and not model.execution.has_experts:
        message = f"the {model.strategy} strategy cannot run a mixture of experts, whose router needs a tower's tokens"
        way_out = "use --strategy sorted, which has grouped products for experts"
        raise SpecError(Diagnostic(code="MOT056", message=message, span=model.span, help=way_out))
    if not model.execution.groups_copies:
        return
    own_vocabularies = model.vocab is None
    for leaf in model.leaves():
        if leaf.path in VOCABULARY_PATHS and own_vocabularies:
            continue
        different = _difference(leaf, model)
        if different is not None:
            message = f"the {model.strategy} strategy cannot run {leaf.path}: {different}"
            way_out = "use --strategy sorted, or give the towers the same attributes"
            raise SpecError(Diagnostic(code="MOT056", message=message, span=model.span, help=way_out))
    for body in (body for layer, _ in model.kinds for body in layer.feed_forwards):
        kinds = {kind for kind in body.kinds if kind}
        if len(kinds) <= 1:
            continue
        message = f"the {model.strategy} strategy cannot run feed-forwards of several kinds: {', '.join(sorted(kinds))}"
        way_out = "use --strategy sorted, or give the towers the same kind"
        raise SpecError(Diagnostic(code="MOT056", message=message, span=model.span, help=way_out))


def _difference(leaf: Leaf, model: Model) -> str | None:
    if leaf.path not in (*LAYER_PATHS, *OUTER_PATHS) or isinstance(leaf.blocks[0].operator, Modulation):
        return None  # each modality's own, or of conditions, which are no tokens
    served = model.token_modalities() if leaf.path in VOCABULARY_PATHS else model.modalities
    unread = model.feature_modalities() if leaf.path == "final_norm" else ()
    missing = [m.name for m in served if leaf.block_of(m.name) is None and m not in unread]
    if missing:
        return f"{', '.join(missing)} has none"
    if leaf.path == "embedding" and model.tied_embedding and len(leaf.blocks) > 1:
        return "each copy is a head too, and tables are not multiplied at once"
    if len({block.operator for block in leaf.blocks}) > 1:
        what = "kind, size or eps" if isinstance(leaf.blocks[0].operator, Norm) else "shape or bias"
        return f"its copies differ in {what}"
    operator = leaf.blocks[0].operator
    if len(leaf.blocks) > 1 and isinstance(operator, Linear):
        for size in (operator.in_features, operator.out_features):
            if size % MULTIPLE:
                return f"{size} is no multiple of {MULTIPLE}"
    return None
