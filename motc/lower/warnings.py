"""What is right in a spec and may not be meant so."""

from __future__ import annotations

from motc.ir.mask import Mask
from motc.ir.model import Model
from motc.schema import Checked
from motc.source import Diagnostic


def warnings(checked: Checked, model: Model) -> tuple[Diagnostic, ...]:
    """Warnings about a spec and the model it lowered to."""
    return tuple(_leaks(checked, model))


def _leaks(checked: Checked, model: Model) -> list[Diagnostic]:
    """Experts that choose tokens, where a mask hides some tokens from others: what is hidden still plays a part."""
    mask = model.segments[0].layer.attention.mask
    choosing = [name for name, moe in model.moe.items() if moe.routing == "expert_choice"]
    if not choosing or mask == Mask(kind="full"):
        return []
    spec = checked.spec
    place: tuple[str, ...] = ("ffn", "routing")
    for name, tower in spec.towers.items():
        if tower.ffn.routing == "expert_choice" and set(tower.modalities) & set(choosing):
            place = ("towers", name, "ffn", "routing")
            break
    hidden = "that come after it" if mask.kind in ("causal", "prefix") else "that it does not see"
    said = "mask" in spec.attention.model_fields_set
    return [
        Diagnostic(
            code="MOT060",
            message=f"experts of {', '.join(choosing)} choose among all tokens of a batch, so what a token becomes "
            f"depends on tokens {hidden}",
            span=checked.span(*place),
            help="for a model that generates, use routing = top_k; to compare losses with the paper's, leave it",
            related=(("the mask", checked.span("attention", "mask")),) if said else (),
            severity="warning",
        )
    ]
