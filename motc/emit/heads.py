"""Heads as text: logits of states, and losses that are taken a head at a time."""

from __future__ import annotations

from typing import assert_never

from motc.emit.leaves import Applied, each_piece
from motc.emit.text import literal
from motc.ir.model import FeatureModality, LatentModality
from motc.ir.steps import Read, TakeLosses
from motc.plan import ModulePlan
from motc.plan.constants import Constants

NO_LOSS = "torch.zeros((), device=x.device)"
"""What stands for the loss of latents and features, which have no targets."""


def logits(module: ModulePlan, read: Read, text: Applied, x: str, *, in_batch: bool) -> str:
    """The expression of logits: in each wanted vocabulary of its own, or in the one that is shared.

    `in_batch`: of states in the order of the batch, where those that are no token's are zeros, and so are their logits.
    """
    zeroed = in_batch and module.model.head_bias
    if read.own:
        return _own_logits(module, read, x, zeroed)
    return _zeroed(module, finished(module, _shared_logits(module, read, text, x)), zeroed)


def _zeroed(module: ModulePlan, logits: str, zeroed: bool) -> str:
    """The expression of logits that are zeros where no token with an id is, whatever the head's bias."""
    ids = "self.words(layout)" if module.model.continuous_modalities() else "layout.modality_ids"
    return f"torch.where({ids}[..., None] >= 0, {logits}, 0.0)" if zeroed else logits


def finished(module: ModulePlan, logits: str) -> str:
    """The expression of logits once they are scaled and capped, where they are."""
    scale, cap = module.model.logit_scale, module.model.logit_softcap
    scaled = logits if scale == 1 else f"{logits} * {scale!r}"
    return scaled if cap is None else f"soft_capped({scaled}, {cap!r})"


def _shared_logits(module: ModulePlan, read: Read, text: Applied, x: str) -> str:
    leaf = module.outer[read.leaf.path]
    if read.skips_continuous:
        counts = tuple(count for _, count in module.head_pieces)
        none = f"lambda x: absent(x, {Constants(module.model).named('VOCAB', module.model.vocab)})"
        heads = [none if block is None else _head(read, block) for block, _ in module.head_pieces]
        pieces = x if module.stream_in_pieces else text.pieces(x, counts)
        return text.joined(each_piece(heads, counts, pieces), counts)
    if leaf.form == "single":
        return _logits_of(read, "", x)
    if read.is_tied:
        pieces = x if module.stream_in_pieces else text.pieces(x, leaf.counts)
        heads = [_head(read, name or "") for name in leaf.route]
        return text.joined(each_piece(heads, leaf.counts, pieces), leaf.counts)
    return text.through(leaf, x, "", reads_pieces=module.stream_in_pieces, writes_pieces=False)


def _own_logits(module: ModulePlan, read: Read, x: str, zeroed: bool) -> str:
    """The expression of the logits in each vocabulary that is wanted."""
    blocks = {modality.name: read.leaf.block_of(modality.name) for modality in module.model.token_modalities()}
    named = {name: block.name for name, block in blocks.items() if block is not None and block.name}
    copy = "name" if all(name == block for name, block in named.items()) else f"{literal(named)}[name]"
    group = f"[{copy}]" if named else ""
    head = f"F.linear({x}, self.embedding{group}.weight)" if read.is_tied else f"self.head{group}({x})"
    return f"{{name: {_zeroed(module, finished(module, head), zeroed)} for name in wanted}}"


def sums_of_losses(module: ModulePlan, take: TakeLosses, text: Applied, x: str, *, is_sorted: bool) -> str:
    """The expression of the sum of each modality's losses, of states `x` that `is_sorted` if targets are not."""
    match take.counted:
        case "pieces":
            return _of_pieces(module, take, text, x, is_sorted)
        case "targets":
            return _of_targets(module, take)
        case "masked":
            return _masked(module, take, text, x)
        case _:
            assert_never(take.counted)


def _of_pieces(module: ModulePlan, take: TakeLosses, text: Applied, x: str, is_sorted: bool) -> str:
    counts = tuple(count for _, count in module.head_pieces)

    def cut(values: str) -> str:
        return text.cut(f"{values}{'.flatten()[layout.order]' if is_sorted else ''}", counts)

    text.assign("pieces", x if module.stream_in_pieces else text.cut(x, counts))
    text.assign("ids", cut("wanted.ids"))
    text.assign("kinds", cut("wanted.modality_ids"))
    text.assign("weights", f"weights_of_pieces(wanted.weights, lambda x: {cut('x')}, {len(counts)})")
    present = [(i, block) for i, (block, _) in enumerate(module.head_pieces) if block is not None]
    heads = [finished(module, _logits_of(take, block, f"pieces[{i}]")) for i, block in present]
    losses = [f"cross_entropy({head}, ids[{i}], weights[{i}])" for head, (i, _) in zip(heads, present, strict=True)]
    kinds = [f"kinds[{i}]" for i, _ in present]
    text.assign("losses", _joined(losses))
    text.assign("modality", f"torch.arange({len(module.order)}, device=losses.device)[:, None]")
    text.assign("following", _joined(kinds))
    return "torch.where(modality == following, losses, 0.0).sum(1)"


def _joined(pieces: list[str]) -> str:
    return pieces[0] if len(pieces) == 1 else f"torch.cat([{', '.join(pieces)}])"


def _of_targets(module: ModulePlan, take: TakeLosses) -> str:
    sums = []
    for place, modality in enumerate(module.model.modalities):
        if isinstance(modality, LatentModality | FeatureModality):
            sums.append(NO_LOSS)
            continue
        logits = finished(module, _own(take, modality.name, f"states[{place}]"))
        sums.append(f"cross_entropy({logits}, ids[{place}], weights[{place}]).sum()")
    return f"torch.stack([{', '.join(sums)}])"


def _masked(module: ModulePlan, take: TakeLosses, text: Applied, x: str) -> str:
    text.assign("weights", "None if wanted.weights is None else wanted.weights.flatten()")
    sums = []
    for place, modality in enumerate(module.model.modalities):
        if isinstance(modality, LatentModality | FeatureModality):
            sums.append(NO_LOSS)
            continue
        text.assign("ids", f"torch.where(wanted.modality_ids == {place}, wanted.ids, -1)")
        text.assign("logits", finished(module, _own(take, modality.name, x)))
        text.assign(f"sum_{place}", "cross_entropy(logits.flatten(0, -2), ids.flatten(), weights).sum()")
        sums.append(f"sum_{place}")
    return f"torch.stack([{', '.join(sums)}])"


def _own(take: TakeLosses, modality: str, x: str) -> str:
    """The expression of the logits in a modality's own vocabulary."""
    block = take.leaf.block_of(modality)
    assert block is not None
    return _logits_of(take, block.name, x)


def _logits_of(head: Read | TakeLosses, block: str, x: str) -> str:
    """The expression of what a copy makes of states; `block` is empty where there is one."""
    copy = f'["{block}"]' if block else ""
    return f"F.linear({x}, self.embedding{copy}.weight)" if head.is_tied else f"self.head{copy}({x})"


def _head(head: Read, block: str) -> str:
    """The same as a function."""
    copy = f'["{block}"]' if block else ""
    return f"lambda x: {_logits_of(head, block, 'x')}" if head.is_tied else f"self.head{copy}"
