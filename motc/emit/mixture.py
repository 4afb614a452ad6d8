"""A feed-forward with experts, as text: unit by unit, each with its own parameters."""

from __future__ import annotations

from typing import assert_never

from motc.emit.activations import activation
from motc.emit.leaves import Applied
from motc.ir.feed_forward import GATED, FfnKind, Mixture, Moe
from motc.ir.leaf import Leaf
from motc.plan import ModulePlan, SublayerPlan, Unit, mixture_units

InnerLeaves = tuple[Leaf | None, Leaf | None, Leaf | None]
"""Gate, up and down: of experts, or of those that are shared."""


class MixtureText:
    """Writes the lines of a mixture of experts."""

    def __init__(self, module: ModulePlan, part: SublayerPlan, body: Mixture, text: Applied) -> None:
        self.module, self.part, self.body, self.text = module, part, body, text
        self.units = mixture_units(body, module.model, part.counts)

    def mixed(self, x: str, *, in_pieces: bool) -> str:
        """The expression of the result: a tensor, or pieces where the stream is in pieces."""
        text, counts = self.text, self.part.counts
        steps_of_one = bool(self.module.alike) and len(counts) > 1
        pieces = x if in_pieces else text.pieces(x, counts)
        if steps_of_one:
            text.assign("pieces", f"every_piece({pieces}, layout, {counts})")
            pieces = "pieces"
        if any(unit.moe is not None and unit.moe.routing == "expert_choice" for unit in self.units):
            slots = "layout.rows.slots.flatten()[layout.order]" if self.module.execution.sorts else "layout.rows.slots"
            text.assign("places", text.cut(slots, counts))
        results = [""] * len(counts)
        balanced = False
        for index, unit in enumerate(self.units):
            out = "out" if len(self.units) == 1 else f"out_{index}"
            if len(unit.pieces) == 1:
                text.assign("tokens", f"{pieces}[{unit.pieces[0]}]")
            else:
                text.assign("own", f"[{', '.join(f'{pieces}[{piece}]' for piece in unit.pieces)}]")
                text.assign("tokens", "torch.cat(own)")
            of_unit = self._of_unit(unit)
            text.assign(out, of_unit if len(unit.pieces) == 1 else f"part({of_unit}, own)")
            if unit.moe is not None and unit.moe.balance:
                term = f"{unit.moe.balance!r} * imbalance(routing, layout)"
                text.assign("balance", f"balance + {term}" if balanced else term)
                balanced = True
            for place, piece in enumerate(unit.pieces):
                results[piece] = out if len(unit.pieces) == 1 else f"{out}[{place}]"
        result = f"[{', '.join(results)}]"
        if steps_of_one:
            result = f"own_piece({result}, layout, {counts})"
        return result if in_pieces else text.joined(result, counts)

    def _of_unit(self, unit: Unit) -> str:
        """The lines that send `tokens` through a unit, and the expression of what it makes of them."""
        experts = (self.body.gate, self.body.up, self.body.down)
        if self._kind(unit.modalities[0]) is None:
            return "torch.zeros_like(tokens)"
        if unit.moe is None:
            return self._down(experts, unit.modalities[0])
        if not unit.moe.shared:
            return self._routed(unit, unit.moe, experts)
        shared = self.body.shared
        alike = len({tuple(self._copy(leaf, names[0]) for leaf in shared) for names in unit.members}) == 1
        if alike:
            self.text.assign("every", "tokens")
        self.text.assign("mixed", self._routed(unit, unit.moe, experts))
        if alike:
            return f"mixed + {self._shared(unit.modalities[0], 'every')}"
        for index, names in enumerate(unit.members):
            self.text.assign(f"shared_{index}", self._shared(names[0], f"own[{index}]"))
        return f"mixed + torch.cat([{', '.join(f'shared_{index}' for index in range(len(unit.members)))}])"

    def _shared(self, modality: str, x: str) -> str:
        """The lines of shared experts, and the expression of what they make of x, or of the share a token takes."""
        gate, up, down, router = self.body.shared
        out = self._down((gate, up, down), modality, x=x)
        share = self._copy(router, modality)
        return f"F.sigmoid({share}({x})) * {out}" if share else out

    def _routed(self, unit: Unit, moe: Moe, experts: InnerLeaves) -> str:
        """The lines that route a unit's tokens, and the expression of what its experts make of them."""
        routers = [self._copy(self.body.router, names[0]) for names in unit.members]
        if len(set(routers)) == 1:
            each = [f"{routers[0]}(tokens)"]
        else:
            each = [f"{router}(own[{index}])" for index, router in enumerate(routers)]
        logits = each[0] if len(each) == 1 else f"torch.cat([{', '.join(each)}])"
        match moe.routing:
            case "top_k":
                plain, chosen = f"top_k({logits}, {moe.per_token})", f"routed({', '.join(each)})"
                routing, ends = plain if moe.choice.is_plain else chosen, ", routing.ends"
            case "expert_choice":
                fraction = (moe.per_token.numerator, moe.per_token.denominator)
                pieces = ", ".join(f"places[{piece}]" for piece in unit.pieces)
                places = pieces if len(unit.pieces) == 1 else f"torch.cat([{pieces}])"
                routing, ends = f"expert_choice({logits}, {fraction}, {places})", ""
            case _:
                assert_never(moe.routing)
        self.text.assign("routing", routing)
        self.text.assign("tokens", "dispatch(tokens, routing)")
        return f"combine({self._down(experts, unit.modalities[0], ends)}, routing)"

    def _down(self, leaves: InnerLeaves, modality: str, ends: str = "", x: str = "tokens") -> str:
        """The lines up to the activation, and the expression of `down`; `ends` says where each expert's tokens end."""
        gate, up, down = leaves
        kind = self._kind(modality)
        if kind in GATED:
            self.text.assign("gate", f"{self._copy(gate, modality)}({x}{ends})")
        self.text.assign("up", f"{self._copy(up, modality)}({x}{ends})")
        self.text.assign("hidden", activation(kind, "gate", "up"))
        return f"{self._copy(down, modality)}(hidden{ends})"

    def _kind(self, modality: str) -> FfnKind | None:
        return self.body.kinds[self.module.model.names.index(modality)]

    def _copy(self, leaf: Leaf | None, modality: str) -> str:
        """A modality's own copy of a group; empty where it has none."""
        block = None if leaf is None else leaf.block_of(modality)
        if leaf is None or block is None:
            return ""
        attribute = self.part.leaves[leaf.path].attribute
        return f'self.{attribute}["{block.name}"]' if block.name else f"self.{attribute}"
