"""Whether what a spec says of its norms goes together."""

from __future__ import annotations

from motc.lower.attributes import final_adaptive, final_norm, projector_norm
from motc.schema import Checked
from motc.schema.attention import QkNormSpec
from motc.schema.norms import FinalNorm, NormSpec
from motc.source import Diagnostic


def check_norms(checked: Checked, errors: list[Diagnostic]) -> None:
    """Refuse keys that say nothing of such a norm, in the model and in each tower. Appends to `errors`."""
    spec = checked.spec
    placement = spec.norm.placement
    if (placement == "post" and spec.parallel) or (placement != "pre" and spec.parallel == "one_norm"):
        message = f"sublayers in parallel behind {spec.parallel} cannot have their norms {placement}"
        related = (("the norms", checked.span("norm", "placement")),)
        way_out = "one_norm goes with placement = pre, two_norms with any but post"
        errors.append(
            Diagnostic(code="MOT079", message=message, span=checked.span("parallel"), help=way_out, related=related)
        )
    _check(checked, spec.norm, set(spec.norm.said()), ("norm",), errors)
    _check_final(checked, spec.norm, ("norm", "final"), errors)
    _check_head_norm(checked, spec.attention.qk_norm, ("attention", "qk_norm"), errors)
    for name, modality in spec.modalities.items():
        projector = modality.features and modality.features.projector
        if projector and projector.norm:
            norm, path = projector_norm(spec, projector.norm), ("modalities", name, "features", "projector", "norm")
            _check(checked, norm, set(projector.norm.said()), path, errors)
    for name, tower in spec.towers.items():
        norm = spec.norm.model_copy(update=tower.norm.said())
        _check(checked, norm, set(tower.norm.said()), ("towers", name, "norm"), errors)
        if tower.norm.final is not None:
            _check_final(checked, norm, ("towers", name, "norm", "final"), errors)
        _check_head_norm(checked, tower.attention.qk_norm, ("towers", name, "attention", "qk_norm"), errors)


def _check_final(checked: Checked, norm: NormSpec, path: tuple[str, ...], errors: list[Diagnostic]) -> None:
    final = final_norm(norm)
    if isinstance(norm.final, FinalNorm) and norm.final.kind == "none":
        said = [key for key in ("eps", "offset", "weight", "bias") if key in norm.final.said()]
        if said:
            message = f"`{said[0]}` says nothing where there is no final norm"
            errors.append(_refusal(checked, (*path, said[0]), message, "leave it out, or use another kind"))
        if final_adaptive(norm) is None:
            message = "a final norm of kind none does what a condition says, and there is none"
            errors.append(_refusal(checked, (*path, "kind"), message, "use final = false, or say adaptive"))
    if final is not None and isinstance(norm.final, FinalNorm):
        _check(checked, final, set(norm.final.said()), path, errors)


def _check_head_norm(
    checked: Checked, norm: QkNormSpec | None, path: tuple[str, ...], errors: list[Diagnostic]
) -> None:
    if norm is None:
        return
    said = set(norm.said())
    _check(checked, norm, said, path, errors)
    if norm.over == "heads" and "by_head" in said:
        message = "`by_head` says nothing of a norm over all heads together"
        errors.append(_refusal(checked, (*path, "by_head"), message, "leave it out, or use over = head"))


def _check(
    checked: Checked, norm: NormSpec | QkNormSpec, said: set[str], path: tuple[str, ...], errors: list[Diagnostic]
) -> None:
    if norm.kind == "rms" and "bias" in said:
        message = "`bias` says nothing of a norm of kind rms, which has none"
        errors.append(_refusal(checked, (*path, "bias"), message, "leave it out, or use kind = layer"))
    if not norm.weight and norm.offset and "offset" in said:
        message = "`offset` says nothing of a norm without weights, which would be added to it"
        errors.append(_refusal(checked, (*path, "offset"), message, "leave it out, or use weight = true"))


def _refusal(checked: Checked, path: tuple[str, ...], message: str, way_out: str) -> Diagnostic:
    return Diagnostic(code="MOT068", message=message, span=checked.span(*path), help=way_out)
