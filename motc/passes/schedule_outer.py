"""Write out what is outside the layers as steps.

    before   embedding, final_norm, head {text} {image}
    after    x = embedding(ids)
             normed = final_norm(x)
             logits = head(normed)            needs sorted
             sums = sums(logits)

Where each modality has a vocabulary, each head works on every token, wherever that stands; for losses, where the
strategy can sort them, on the states before its own targets alone. A shared vocabulary's head is given no latents or
features, which have no logits, where the strategy can leave them out.
"""

from __future__ import annotations

from motc.ir.leaf import Leaf
from motc.ir.model import Model
from motc.ir.steps import (
    SPANS,
    AddFeatures,
    Apply,
    Modulate,
    Operation,
    Order,
    OuterSteps,
    PlacePatches,
    Predict,
    Read,
    Step,
    Steps,
    SumLosses,
    TakeLosses,
    Value,
    ZeroContinuous,
)
from motc.passes.needs import needs_order, numbers_written


def outer_steps(model: Model) -> OuterSteps:
    """The steps before the layers and after them."""
    latents, continuous = model.latents(), model.continuous_modalities()
    first, norm, table = model.embedding_norm, model.final_norm, model.position_table
    is_adaptive = model.final_modulation is not None
    added = any(modality.projector.added_after for modality in model.feature_modalities())
    return OuterSteps(
        embed=() if model.embedding is None else (_applied(model, model.embedding, "ids", "x"),),
        place=() if not continuous else (_step(PlacePatches(), "x", "placed", _width(model)),),
        locate=() if table is None else (_applied(model, table, "ids", "x"),),
        enter=() if first is None else (_applied(model, first, "x", "entered"),),
        add=(_step(AddFeatures(), "x", "added", _width(model)),) if added else (),
        leave=() if not is_adaptive else _adaptive_norm(model),
        norm=() if norm is None or is_adaptive else (_applied(model, norm, "x", "normed"),),
        read=_read(model) if model.speaks else (),
        score=_score(model) if model.speaks else (),
        predict=() if latents is None else (_step(Predict(), _states(model), "predictions", _width(model)),),
    )


def _adaptive_norm(model: Model) -> Steps:
    """The final norm, if there is one, and what conditions do to what it gives: where layers end, for there these are
    known.
    """
    assert model.final_modulation is not None
    modulation, norm = Modulate(model.final_modulation), model.final_norm
    reads, writes = (Value("x" if norm is None else "normed"), SPANS), Value("left")
    step = Step(sublayer="", operation=modulation, reads=reads, writes=writes, numbers=_width(model))
    return (step,) if norm is None else (_applied(model, norm, "x", "normed"), step)


def _read(model: Model) -> Steps:
    """Logits, zeros at latents and features: heads of own vocabularies are given zeros there; a shared vocabulary's
    skips them or, where the strategy cannot, has its logits made zeros.
    """
    states, leaf = _states(model), model.read_leaf
    needs = _told_apart(model) if _tells_apart(model) else None
    skips = skips_continuous(model)
    read = Read(leaf, is_tied=model.head is None, own=model.vocab is None, skips_continuous=skips)
    numbers = _numbers(model, leaf)
    if not model.continuous_modalities() or skips:
        return (_step(read, states, "logits", numbers, needs),)
    if read.own:
        zeroed = _step(ZeroContinuous(), states, "states", _width(model), "batch")
        return (zeroed, _step(read, "states", "logits", numbers, needs))
    logits = _step(read, states, "every_logit", numbers, needs)
    return (logits, _step(ZeroContinuous(), "every_logit", "logits", numbers, "batch"))


def _score(model: Model) -> Steps:
    """The sums of losses, of targets that are as the stream."""
    states, leaf, is_tied = _states(model), model.read_leaf, model.head is None
    by_piece = model.execution.heads_in_pieces
    if model.vocab is None and by_piece:
        return (_step(TakeLosses(leaf, is_tied, "targets"), states, "sums", 1, "targets"),)
    if model.vocab is None:
        return (_step(TakeLosses(leaf, is_tied, "masked"), states, "sums", 1),)
    if by_piece and skips_continuous(model):
        return (_step(TakeLosses(leaf, is_tied, "pieces"), states, "sums", 1, _told_apart(model)),)
    needs = _told_apart(model) if _tells_apart(model) else None
    read = Read(leaf, is_tied, own=False, skips_continuous=skips_continuous(model))
    return (_step(read, states, "logits", _numbers(model, leaf), needs), _step(SumLosses(), "logits", "sums", 1))


def skips_continuous(model: Model) -> bool:
    """Whether the head of a shared vocabulary is given no latents or features, so that tokens are told apart for it."""
    return bool(model.continuous_modalities()) and model.vocab is not None and not model.execution.groups_copies


def _tells_apart(model: Model) -> bool:
    """Whether the head does not work on every token, wherever it stands, as heads of own vocabularies do."""
    return model.vocab is not None and (needs_order(model.read_leaf, model) or skips_continuous(model))


def _told_apart(model: Model) -> Order:
    """The order in which modalities are told apart: sorted, or by masks of the slots."""
    return "sorted" if model.execution.sorts else "slots"


def _states(model: Model) -> str:
    """What logits and predictions are made of."""
    return "x" if model.final_norm is None or model.final_modulation is not None else "normed"


def _width(model: Model) -> int:
    return max(modality.width for modality in model.modalities)


def _numbers(model: Model, leaf: Leaf) -> int:
    return max(numbers_written(block.operator) or _width(model) for block in leaf.blocks)


def _applied(model: Model, leaf: Leaf, reads: str, writes: str) -> Step:
    needs = _told_apart(model) if needs_order(leaf, model) else None
    return _step(Apply(leaf), reads, writes, _numbers(model, leaf), needs)


def _step(operation: Operation, reads: str, writes: str, numbers: int, needs: Order | None = None) -> Step:
    value, written = Value(reads), Value(writes)
    return Step(sublayer="", operation=operation, reads=(value,), writes=written, numbers=numbers, needs=needs)
