"""How the spec has targets count: by modality, and where a token can see its own."""

from __future__ import annotations

from collections.abc import Collection

from motc.ir.mask import Mask, sees_next
from motc.ir.model import TokenLoss
from motc.schema import Checked
from motc.source import Diagnostic


def lower_losses(checked: Checked, masks: Collection[Mask], errors: list[Diagnostic]) -> dict[str, TokenLoss]:
    """The loss of each modality of tokens. Appends to `errors`."""
    modalities = checked.spec.modalities
    tokens = [name for name, modality in modalities.items() if modality.continuous is None]
    for name, modality in modalities.items():
        for key in ("weight", "seen_targets") if modality.continuous else ():
            if getattr(modality, key) is not None:
                errors.append(_not_of_tokens(checked, name, key))
    if tokens:
        errors += _weights_in_vain(checked, tokens)
    losses = {}
    for name in tokens:
        weight, seen_targets = modalities[name].weight, modalities[name].seen_targets
        shown = any(sees_next(masks, before, name) != "never" for before in tokens)
        losses[name] = TokenLoss(
            weight=1.0 if weight is None else float(weight), seen_targets=bool(seen_targets) if shown else None
        )
    return losses


def _not_of_tokens(checked: Checked, name: str, key: str) -> Diagnostic:
    way_out, continuous = "leave it out", checked.spec.modalities[name].continuous or ""
    if key == "weight" and continuous == "latent":
        way_out = "the weight of what denoising costs is said within: latent { weight = 5 }"
    return Diagnostic(
        code="MOT065",
        message=f"`{key}` is about tokens that are predicted, and `{name}` is continuous",
        span=checked.key_span("modalities", name, key),
        help=way_out,
        related=(("what makes it continuous", checked.key_span("modalities", name, continuous)),),
    )


def _weights_in_vain(checked: Checked, tokens: list[str]) -> list[Diagnostic]:
    """Weights of targets count against one another, so that of the only modality says nothing, unless it is 0."""
    modalities = checked.spec.modalities
    weights = [modalities[name].weight for name in tokens]
    span = checked.span("modalities", tokens[0], "weight")
    denoised = any(modality.latent is not None for modality in modalities.values())
    if not denoised and not any(weight is None or weight > 0 for weight in weights):
        message, way_out = "nothing would be trained: every modality has weight 0", "give one of them a weight"
    elif len(tokens) == 1 and weights[0] not in (None, 0, 1):
        message = f"targets are weighed against one another, and all of them are of {tokens[0]}"
        way_out = "leave it out"
        if denoised:
            way_out += "; what denoising counts beside them is said by latent { weight = 5 }"
    else:
        return []
    return [Diagnostic(code="MOT066", message=message, span=span, help=way_out)]
