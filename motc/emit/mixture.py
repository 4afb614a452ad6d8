"""A feed-forward with experts, as text: unit by unit, each with its own parameters."""

from __future__ import annotations

from motc.emit.leaves import Applied
from motc.emit.steps import activation
from motc.ir.feed_forward import GATED, Mixture, Moe
from motc.plan import ModulePlan, SublayerPlan, Unit, mixture_units


def mixed(module: ModulePlan, part: SublayerPlan, body: Mixture, text: Applied, x: str, *, in_pieces: bool) -> str:
    """Writes the lines, and gives the expression of the result: a tensor, or pieces where the stream is in pieces."""
    units = mixture_units(body, module.model)
    pieces = x if in_pieces else text.pieces(x, part.counts)
    if any(unit.moe is not None and unit.moe.routing == "expert_choice" for unit in units):
        slots = "layout.rows.slots.flatten()[layout.order]" if module.execution.sorts else "layout.rows.slots"
        text.assign("places", text.cut(slots, part.counts))
    results = [""] * len(part.counts)
    balanced = False
    for index, unit in enumerate(units):
        out = "out" if len(units) == 1 else f"out_{index}"
        if len(unit.pieces) == 1:
            text.assign("tokens", f"{pieces}[{unit.pieces[0]}]")
        else:
            text.assign("own", f"[{', '.join(f'{pieces}[{piece}]' for piece in unit.pieces)}]")
            text.assign("tokens", "torch.cat(own)")
        of_unit = _made(module, part, body, unit, text)
        text.assign(out, of_unit if len(unit.pieces) == 1 else f"part({of_unit}, own)")
        if unit.moe is not None and unit.moe.balance:
            term = f"{unit.moe.balance!r} * imbalance(routing)"
            text.assign("balance", f"balance + {term}" if balanced else term)
            balanced = True
        for place, piece in enumerate(unit.pieces):
            results[piece] = out if len(unit.pieces) == 1 else f"{out}[{place}]"
    result = f"[{', '.join(results)}]"
    return result if in_pieces else text.joined(result, part.counts)


def _made(module: ModulePlan, part: SublayerPlan, body: Mixture, unit: Unit, text: Applied) -> str:
    """The lines that send `tokens` through a unit, and the expression of what it makes of them."""
    if unit.moe is None:
        return _down(module, part, body, unit.modalities[0], text)
    if not unit.moe.shared:
        return _routed(module, part, body, unit, unit.moe, text)
    own = [tuple(_group(part, names[0], f"shared.{each}") for each in ("gate", "up", "down")) for names in unit.members]
    alike = len(set(own)) == 1
    if alike:
        text.assign("every", "tokens")
    text.assign("mixed", _routed(module, part, body, unit, unit.moe, text))
    if alike:
        return f"mixed + {_down(module, part, body, unit.modalities[0], text, x='every', prefix='shared.')}"
    for index, names in enumerate(unit.members):
        text.assign(f"shared_{index}", _down(module, part, body, names[0], text, x=f"own[{index}]", prefix="shared."))
    return f"mixed + torch.cat([{', '.join(f'shared_{index}' for index in range(len(own)))}])"


def _routed(module: ModulePlan, part: SublayerPlan, body: Mixture, unit: Unit, moe: Moe, text: Applied) -> str:
    """The lines that route a unit's tokens, and the expression of what its experts make of them."""
    logits = f"{_group(part, unit.modalities[0], 'router')}(tokens)"
    if moe.routing == "top_k":
        text.assign("routing", f"top_k({logits}, {moe.per_token})")
    else:
        fraction = (moe.per_token.numerator, moe.per_token.denominator)
        pieces = ", ".join(f"places[{piece}]" for piece in unit.pieces)
        places = pieces if len(unit.pieces) == 1 else f"torch.cat([{pieces}])"
        text.assign("routing", f"expert_choice({logits}, {fraction}, {places})")
    text.assign("tokens", "dispatch(tokens, routing)")
    ends = ", routing.ends" if moe.routing == "top_k" else ""
    return f"combine({_down(module, part, body, unit.modalities[0], text, ends)}, routing)"


def _down(
    module: ModulePlan,
    part: SublayerPlan,
    body: Mixture,
    modality: str,
    text: Applied,
    ends: str = "",
    x: str = "tokens",
    prefix: str = "",
) -> str:
    """The lines up to the activation, and the expression of `down`; `ends` says where each expert's tokens end."""
    ffn_kind = body.kinds[module.model.names.index(modality)]
    inner = ("gate", "up") if ffn_kind in GATED else ("up",)
    for attribute in inner:
        text.assign(attribute, f"{_group(part, modality, prefix + attribute)}({x}{ends})")
    text.assign("hidden", activation(ffn_kind, "gate", "up"))
    return f"{_group(part, modality, prefix + 'down')}(hidden{ends})"


def _group(part: SublayerPlan, modality: str, attribute: str) -> str:
    """A modality's own copy of a group; empty where it has none."""
    leaf = next((leaf for leaf in part.leaves.values() if leaf.attribute == attribute), None)
    block = None if leaf is None else leaf.leaf.block_of(modality)
    if block is None:
        return ""
    return f'self.{attribute}["{block.name}"]' if block.name else f"self.{attribute}"
