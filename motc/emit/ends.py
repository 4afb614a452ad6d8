"""What comes before the layers and after them, as text: embedding, final norm, head, loss."""

from __future__ import annotations

from motc.emit.latents import merged_logits, sorted_losses, words
from motc.emit.leaves import Applied
from motc.emit.text import method, statement
from motc.plan import LeafPlan, ModulePlan


def embed_method(module: ModulePlan) -> str:
    leaf, text = module.embedding, Applied(module.execution)
    in_pieces = module.stream_in_pieces
    if leaf.form == "single":
        result = "self.embedding(ids)"
    else:
        if module.sorts_ends:
            text.assign("ids", "ids.flatten()[layout.order]")
        result = text.through(leaf, "ids", "", reads_pieces=False, writes_pieces=in_pieces)
        if module.sorts_ends:
            result = f"to_slots({result}, layout)"
    stream = "list[Tensor]" if in_pieces else "Tensor"
    lines = [
        *method("embed", ["ids: Tensor", f"layout: {module.execution.layout_type}"], stream),
        '        """Token ids to the stream."""',
        *text.lines,
        f"        x: {stream} = {result}",
        "        return x",
    ]
    return "\n".join(lines)


def read_method(module: ModulePlan) -> str:
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    own = module.model.vocab is None
    returned = "dict[str, Tensor]" if own else "Tensor"
    text = _normed(module)
    if module.model.latents() is not None:
        return _read_beside_latents(module, text, stream, returned)
    if not own and _head(module).form == "by_tower":
        text.assign("logits", _logits(module, text))
        result = ["        return to_batch(logits, layout)"]
    else:
        text.assign("x", "to_batch(x, layout)")
        single = [f"        logits: Tensor = {_single_head(module, 'x')}", "        return logits"]
        result = _own_logits(module) if own else single
    lines = [
        *method("read", [f"x: {stream}", f"layout: {module.execution.layout_type}"], returned),
        '        """The stream to logits, in the order of the batch."""',
        *text.lines,
        *result,
    ]
    return "\n".join(lines)


def _read_beside_latents(module: ModulePlan, text: Applied, stream: str, returned: str) -> str:
    """`read` where latents have no logits; it also returns the normed stream, for predictions."""
    masked = "torch.where(words[..., None] >= 0, {}, 0.0)"
    text.assign("normed", "x")
    if module.model.vocab is None:
        text.assign("words", words(module))
        text.assign("batch", masked.format("to_batch(x, layout)"))
        items = [f'"{m.name}": {_own_head(module, m.name, "batch")}' for m in module.model.token_modalities()]
        text.assign("logits", f"{{{', '.join(items)}}}")
        result = "        return logits, normed"
    elif module.head_pieces:
        text.assign("logits", merged_logits(module, text, _blocks_of_head(module)))
        result = "        return to_batch(logits, layout), normed"
    else:
        text.assign("words", words(module))
        text.assign("logits", _logits(module, text))
        result = f"        return {masked.format('to_batch(logits, layout)')}, normed"
    lines = [
        *method("read", [f"x: {stream}", f"layout: {module.execution.layout_type}"], f"tuple[{returned}, {stream}]"),
        '        """The stream to logits, in the order of the batch, zeros at latents; and the normed stream."""',
        *text.lines,
        result,
    ]
    return "\n".join(lines)


def _blocks_of_head(module: ModulePlan) -> dict[str, str]:
    """The logits of states `x` for each block of a shared vocabulary's head."""
    leaf = _head(module).leaf
    return {block.name: _own_head(module, block.modalities[0], "{x}") for block in leaf.blocks}


def _own_logits(module: ModulePlan) -> list[str]:
    """The lines that return every modality's logits, on one line where they fit."""
    items = [f'"{m.name}": {_own_head(module, m.name, "x")}' for m in module.model.modalities]
    return statement("return ", f"{{{', '.join(items)}}}")


def score_method(module: ModulePlan) -> str:
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    text = _normed(module)
    modalities = [modality.name for modality in module.model.modalities]
    tokens = {modality.name for modality in module.model.token_modalities()}
    latents = module.model.latents() is not None
    wanted, lines = "Targets", text.lines
    answer, none = ("sums =", "torch.zeros((), device=x.device)") if latents else ("return", "")
    if latents:
        text.assign("normed", "x")
    if module.head_pieces and module.execution.heads_in_pieces:
        sorted_losses(module, text, _blocks_of_head(module))
        lines += [
            f"        modality = torch.arange({len(modalities)}, device=losses.device)[:, None]",
            f"        {answer} torch.where(modality == following, losses, 0.0).sum(1)",
        ]
    elif module.model.vocab is not None:
        blocks = _blocks_of_head(module) if module.head_pieces else {}
        text.assign("logits", merged_logits(module, text, blocks) if module.head_pieces else _logits(module, text))
        lines += [
            "        weights = None if wanted.weights is None else wanted.weights.flatten()",
            "        losses = cross_entropy(logits.flatten(0, -2), wanted.ids.flatten(), weights)",
            f"        modality = torch.arange({len(modalities)}, device=losses.device)[:, None]",
            f"        {answer} torch.where(modality == wanted.modality_ids.flatten(), losses, 0.0).sum(1)",
        ]
    elif module.execution.heads_in_pieces:
        wanted = "TargetOrder"
        rows = "x" if module.model.residual == "sorted" else "x.flatten(0, 1)"
        lines += [
            f"        states, ids, weights = wanted.cut({rows})",
        ]
        sums = [_piece_loss(module, name, i) if name in tokens else none for i, name in enumerate(modalities)]
        lines += statement(f"{answer} ", f"torch.stack([{', '.join(sums)}])")
    else:
        lines += [
            "        weights = None if wanted.weights is None else wanted.weights.flatten()",
            "        sums = []",
            *(
                line
                for i, name in enumerate(modalities)
                for line in (
                    (f"        sums.append({none})",)
                    if name not in tokens
                    else (
                        f"        ids = torch.where(wanted.modality_ids == {i}, wanted.ids, -1)",
                        f"        logits = {_own_head(module, name, 'x')}",
                        "        sums.append(cross_entropy(logits.flatten(0, -2), ids.flatten(), weights).sum())",
                    )
                )
            ),
            f"        {answer} torch.stack(sums)",
        ]
    returned, more = ("Tensor", "")
    if latents:
        lines.append("        return sums, normed")
        returned, more = f"tuple[Tensor, {stream}]", "; and the normed stream"
    head = [
        *method(
            "score",
            [f"x: {stream}", f"layout: {module.execution.layout_type}", f"wanted: {wanted}"],
            returned,
        ),
        f'        """The sum of each modality\'s losses [M]{more}."""',
    ]
    return "\n".join([*head, *lines])


def _piece_loss(module: ModulePlan, modality: str, i: int) -> str:
    """The sum of the losses of piece `i`, whose targets are a modality's."""
    return f"cross_entropy({_own_head(module, modality, f'states[{i}]')}, ids[{i}], weights[{i}]).sum()"


def _normed(module: ModulePlan) -> Applied:
    """The lines that send the stream through the final norm."""
    text, leaf = Applied(module.execution), module.final_norm
    if leaf is None:
        return text
    in_pieces = module.stream_in_pieces
    places = "layout.sorted_places" if module.model.residual == "sorted" else "layout.places"
    resort = module.sorts_ends and leaf.form == "by_tower"
    if resort:
        text.assign("x", "to_sorted(x, layout)")
    result = text.through(leaf, "x", places, reads_pieces=in_pieces, writes_pieces=in_pieces)
    text.assign("x", f"to_slots({result}, layout)" if resort else result)
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
    """The logits of every place of the stream, in one shared vocabulary."""
    leaf = _head(module)
    if leaf.form == "single":
        return _single_head(module, "x")
    if module.sorts_ends:
        text.assign("x", "to_sorted(x, layout)")
    if module.head is None:
        text.assign("pieces", "x" if module.stream_in_pieces else text.cut("x", leaf.counts))
        products = ", ".join(
            f'F.linear(pieces[{i}], self.embedding["{name}"].weight)' for i, name in enumerate(leaf.route)
        )
        result = text.joined(f"[{products}]", leaf.counts)
    else:
        result = text.through(leaf, "x", "", reads_pieces=module.stream_in_pieces, writes_pieces=False)
    return f"to_slots({result}, layout)" if module.sorts_ends else result
