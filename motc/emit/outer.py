"""What comes before the layers and after them, as text: embedding, final norm, head, loss."""

from __future__ import annotations

from typing import assert_never

from motc.emit.latents import merged_logits, sorted_losses, states_for_head
from motc.emit.leaves import Applied, each_piece
from motc.emit.steps import around, permuted
from motc.emit.text import literal, method, names_tuple, statement
from motc.ir.model import LatentModality
from motc.plan import LeafPlan, ModulePlan

NO_LOSS = "torch.zeros((), device=x.device)"
"""What stands for the loss of latents, which have no targets."""


def outer_methods(module: ModulePlan) -> list[str]:
    """The methods before and after the layers that are not as for a model without copies."""
    methods = []
    if module.embedding.form != "single":
        methods.append(_embed(module))
    if module.model.latents() is not None:
        methods += [_norm_method(module), _read_beside_latents(module), _score(module)]
    elif not module.has_plain_outer:
        methods += [_read(module), _score(module)]
    return methods


def _embed(module: ModulePlan) -> str:
    text, in_pieces = Applied(module.execution), module.stream_in_pieces
    (before, after) = around(module.model.outer_steps.embed)
    if before:
        text.assign("ids", f"ids_to_{before}(ids, layout)")
    result = text.through(module.embedding, "ids", "", reads_pieces=False, writes_pieces=in_pieces)
    result = permuted(result, after)
    stream = "list[Tensor]" if in_pieces else "Tensor"
    lines = [
        *method("embed", ["ids: Tensor", f"layout: {module.execution.layout_type}"], stream),
        '        """Token ids to the stream."""',
        *text.lines,
        *statement(f"x: {stream} = ", result),
        "        return x",
    ]
    return "\n".join(lines)


def _read(module: ModulePlan) -> str:
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    own = module.model.vocab is None
    text = _normed(module)
    arguments = [f"x: {stream}", f"layout: {module.execution.layout_type}"]
    if not own and _head(module).form == "by_tower":
        text.assign("logits", _logits(module, text))
        result = ["        return to_batch(logits, layout)"]
    else:
        text.assign("x", "to_batch(x, layout)")
        single = [f"        logits: Tensor = {_single_head(module, 'x')}", "        return logits"]
        result = statement("return ", _own_logits(module, "x")) if own else single
    lines = [
        *method("read", [*arguments, *_wanted(module)], "dict[str, Tensor]" if own else "Tensor"),
        '        """The stream to logits, in the order of the batch."""',
        *text.lines,
        *result,
    ]
    return "\n".join(lines)


def _wanted(module: ModulePlan) -> list[str]:
    """The argument that says which modalities' logits are wanted, where each has a vocabulary of its own."""
    if module.model.vocab is not None:
        return []
    names = names_tuple([modality.name for modality in module.model.token_modalities()])
    return [f"wanted: tuple[str, ...] = {names}"]


def _own_logits(module: ModulePlan, x: str) -> str:
    """The expression of the logits in each vocabulary that is wanted."""
    leaf = _head(module).leaf
    blocks = {modality.name: leaf.block_of(modality.name) for modality in module.model.token_modalities()}
    named = {name: block.name for name, block in blocks.items() if block is not None and block.name}
    copy = "name" if all(name == block for name, block in named.items()) else f"{literal(named)}[name]"
    group = f"[{copy}]" if named else ""
    if module.head:
        return f"{{name: self.head{group}({x}) for name in wanted}}"
    return f"{{name: F.linear({x}, self.embedding{group}.weight) for name in wanted}}"


def _norm_method(module: ModulePlan) -> str:
    """The method by which denoising has the normed stream without logits."""
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    text = _final_norm(module)
    lines = [
        *method("norm", [f"x: {stream}", f"layout: {module.execution.layout_type}"], stream),
        '        """The stream after the final norm."""',
        *text.lines,
        "        return x",
    ]
    return "\n".join(lines)


def _read_beside_latents(module: ModulePlan) -> str:
    """`read` where latents have no logits; it also returns the normed stream, for predictions."""
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    returned = "dict[str, Tensor]" if module.model.vocab is None else "Tensor"
    text = _normed(module)
    masked = "torch.where(self.words(layout)[..., None] >= 0, {}, 0.0)"
    if module.model.vocab is None:
        text.assign("batch", masked.format("to_batch(x, layout)"))
        text.assign("logits", _own_logits(module, "batch"))
        result = "        return logits, x"
    elif module.head_pieces:
        text.assign("logits", merged_logits(module, text, _blocks_of_head(module)))
        result = "        return to_batch(logits, layout), x"
    else:
        text.assign("logits", _logits(module, text))
        result = f"        return {masked.format('to_batch(logits, layout)')}, x"
    arguments = [f"x: {stream}", f"layout: {module.execution.layout_type}", *_wanted(module)]
    lines = [
        *method("read", arguments, f"tuple[{returned}, {stream}]"),
        '        """The stream to logits, in the order of the batch, zeros at latents; and the normed stream."""',
        *text.lines,
        result,
    ]
    return "\n".join(lines)


def _blocks_of_head(module: ModulePlan) -> dict[str, str]:
    """The logits of states `x` for each block of a shared vocabulary's head."""
    leaf = _head(module).leaf
    return {block.name: _own_head(module, block.modalities[0], "{x}") for block in leaf.blocks}


def _score(module: ModulePlan) -> str:
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    text = _normed(module)
    wanted = "TargetOrder" if module.scoring == "targets" else "Targets"
    match module.scoring:
        case "pieces":
            sums = _score_pieces(module, text)
        case "places":
            sums = _score_places(module, text)
        case "targets":
            sums = _score_targets(module, text)
        case "masks":
            sums = _score_masks(module, text)
        case _:
            assert_never(module.scoring)
    arguments = [f"x: {stream}", f"layout: {module.execution.layout_type}", f"wanted: {wanted}"]
    if module.model.latents() is None:
        head = [*method("score", arguments, "Tensor"), '        """The sum of each modality\'s losses [M]."""']
        return "\n".join([*head, *text.lines, *statement("return ", sums)])
    text.assign("sums", sums)
    head = method("score", arguments, f"tuple[Tensor, {stream}]")
    said = '        """The sum of each modality\'s losses [M]; and the normed stream."""'
    return "\n".join([*head, said, *text.lines, "        return sums, x"])


def _score_pieces(module: ModulePlan, text: Applied) -> str:
    sorted_losses(module, text, _blocks_of_head(module))
    text.assign("modality", f"torch.arange({len(module.order)}, device=losses.device)[:, None]")
    return "torch.where(modality == following, losses, 0.0).sum(1)"


def _score_places(module: ModulePlan, text: Applied) -> str:
    cut = bool(module.head_pieces)
    text.assign("logits", merged_logits(module, text, _blocks_of_head(module)) if cut else _logits(module, text))
    return "sums_by_modality(logits, wanted, len(self.modalities))"


def _score_targets(module: ModulePlan, text: Applied) -> str:
    rows = "x" if module.model.residual == "sorted" else "x.flatten(0, 1)"
    text.assign("states, ids, weights", f"wanted.cut({rows})")
    sums = []
    for place, modality in enumerate(module.model.modalities):
        if isinstance(modality, LatentModality):
            sums.append(NO_LOSS)
            continue
        logits = _own_head(module, modality.name, f"states[{place}]")
        sums.append(f"cross_entropy({logits}, ids[{place}], weights[{place}]).sum()")
    return f"torch.stack([{', '.join(sums)}])"


def _score_masks(module: ModulePlan, text: Applied) -> str:
    text.assign("weights", "None if wanted.weights is None else wanted.weights.flatten()")
    sums = []
    for place, modality in enumerate(module.model.modalities):
        if isinstance(modality, LatentModality):
            sums.append(NO_LOSS)
            continue
        text.assign("ids", f"torch.where(wanted.modality_ids == {place}, wanted.ids, -1)")
        text.assign("logits", _own_head(module, modality.name, "x"))
        text.assign(f"sum_{place}", "cross_entropy(logits.flatten(0, -2), ids.flatten(), weights).sum()")
        sums.append(f"sum_{place}")
    return f"torch.stack([{', '.join(sums)}])"


def _normed(module: ModulePlan) -> Applied:
    """The lines that send the stream through the final norm."""
    if module.model.latents() is None:
        return _final_norm(module)
    text = Applied(module.execution)
    text.assign("x", "self.norm(x, layout)")
    return text


def _final_norm(module: ModulePlan) -> Applied:
    """The same, written out."""
    text, leaf = Applied(module.execution), module.final_norm
    if leaf is None:
        return text
    in_pieces = module.stream_in_pieces
    places = "layout.sorted_places" if module.model.residual == "sorted" else "layout.places"
    before, after = around(module.model.outer_steps.norm)
    if before:
        text.assign("x", permuted("x", before))
    result = text.through(leaf, "x", places, reads_pieces=in_pieces, writes_pieces=in_pieces)
    text.assign("x", permuted(result, after))
    return text


def _head(module: ModulePlan) -> LeafPlan:
    return module.head or module.embedding


def _single_head(module: ModulePlan, x: str) -> str:
    return f"self.head({x})" if module.head else f"F.linear({x}, self.embedding.weight)"


def _own_head(module: ModulePlan, modality: str, x: str) -> str:
    """The logits of states `x` in a modality's own vocabulary."""
    block = _head(module).leaf.block_of(modality)
    assert block is not None
    if module.head:
        return f'self.head["{block.name}"]({x})' if block.name else f"self.head({x})"
    table = f'self.embedding["{block.name}"].weight' if block.name else "self.embedding.weight"
    return f"F.linear({x}, {table})"


def _logits(module: ModulePlan, text: Applied) -> str:
    """The logits of every place of the stream `x`, in one shared vocabulary."""
    leaf = _head(module)
    if leaf.form == "single":
        return _single_head(module, "x")
    states, after = states_for_head(module, text)
    if module.head is None:
        pieces = states if module.stream_in_pieces else text.cut(states, leaf.counts)
        tied = [f'lambda x: F.linear(x, self.embedding["{name}"].weight)' for name in leaf.route]
        result = text.joined(each_piece(tied, leaf.counts, pieces), leaf.counts)
    else:
        result = text.through(leaf, states, "", reads_pieces=module.stream_in_pieces, writes_pieces=False)
    return permuted(result, after)
