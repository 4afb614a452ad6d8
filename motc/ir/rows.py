"""What keeps the tokens of a row from lying on several ranks, and what such ranks share in attention."""

from __future__ import annotations

from motc.ir.model import Model


def heads_of_rows(model: Model) -> tuple[tuple[int, int], ...]:
    """The heads and kv_heads of attention, each pair once, which ranks that share rows also share.

    Raises ValueError for a model whose rows cannot be cut.
    """
    if not model.execution.rows_are_documents:
        raise ValueError("rows are cut in the strategy sorted alone")
    if any(modality.projector and modality.projector.added_after for modality in model.feature_modalities()):
        raise ValueError("features have further vectors, which are added after layers")
    if "expert_choice" in model.routings:
        raise ValueError("experts choose among all tokens of a batch")
    pairs = dict[tuple[int, int], None]()
    for layer, _ in model.kinds:
        for body in layer.attentions:
            if body.mask.reads or body.mask.detach:
                raise ValueError("tokens read others apart from their own attention, or without gradient")
            pairs[body.heads, body.kv_heads] = None
    return tuple(pairs)
