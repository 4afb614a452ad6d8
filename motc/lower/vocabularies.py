"""The modalities of a spec: each has a vocabulary, its own or the model's, or is continuous."""

from __future__ import annotations

from motc.schema import Checked
from motc.schema.spec import LatentSpec
from motc.source import Diagnostic


def check_vocabularies(checked: Checked, errors: list[Diagnostic]) -> None:
    """Either all modalities of tokens have a vocabulary of their own, or all share the model's. Appends to `errors`."""
    spec = checked.spec
    _check_latents(checked, errors)
    without = [name for name, modality in spec.modalities.items() if modality.vocab is None and not modality.latent]
    owners = [name for name, modality in spec.modalities.items() if modality.vocab is not None and not modality.latent]
    if spec.vocab is None and without:
        message = f"modality `{without[0]}` has no vocabulary"
        span = checked.span("modalities", without[0])
        errors.append(
            Diagnostic(code="MOT049", message=message, span=span, help="give it a vocab, or the model one for all")
        )
    elif spec.vocab is not None and owners:
        owner = owners[0]
        message = f"modality `{owner}` has a vocabulary of its own, and the model has one for all"
        related = (("the model's", checked.span("vocab")),)
        span = checked.span("modalities", owner)
        errors.append(
            Diagnostic(code="MOT049", message=message, span=span, help="keep one of the two", related=related)
        )


def _check_latents(checked: Checked, errors: list[Diagnostic]) -> None:
    """A continuous modality has no vocabulary, and stands beside one of tokens at least."""
    modalities = checked.spec.modalities
    for name, modality in modalities.items():
        if modality.latent is not None and modality.vocab is not None:
            message = f"modality `{name}` is continuous and has a vocabulary"
            span = checked.key_span("modalities", name, "vocab")
            related = (("what makes it continuous", checked.key_span("modalities", name, "latent")),)
            errors.append(
                Diagnostic(code="MOT061", message=message, span=span, help="keep one of the two", related=related)
            )
        if modality.latent is not None:
            _check_unet(checked, name, modality.latent, errors)
    if all(modality.latent is not None for modality in modalities.values()):
        message = "no modality has tokens: every one is continuous"
        way_out = "declare one without `latent`, such as `modality text`: it delimits the spans of the others"
        errors.append(Diagnostic(code="MOT062", message=message, span=checked.span("modalities"), help=way_out))


def _check_unet(checked: Checked, name: str, latent: LatentSpec, errors: list[Diagnostic]) -> None:
    """A U-Net halves a square patch of an image until it is one pixel; its sizes are said for a U-Net only."""
    ends = checked.span("modalities", name, "latent", "ends")
    sides = [latent.patch] * 2 if isinstance(latent.patch, int) else latent.patch
    square = len(sides) == 2 and sides[0] == sides[1]
    if latent.ends == "unet" and (not square or sides[0] < 2 or sides[0] & (sides[0] - 1)):
        message = f"a U-Net halves a patch until it is one pixel, and {sides[0]} is no power of two from 2 up"
        if not square:
            message = f"a U-Net is of images in square patches, and these are {' x '.join(map(str, sides))}"
        span = checked.span("modalities", name, "latent", "patch")
        related = (("the ends", ends),)
        errors.append(
            Diagnostic(code="MOT063", message=message, span=span, help="use 2, 4, 8 …, or linear ends", related=related)
        )
    if latent.ends != "unet" and latent.unet is not None:
        said = "ends" in latent.model_fields_set
        errors.append(
            Diagnostic(
                code="MOT063",
                message=f"`unet` says nothing of {latent.ends} ends",
                span=checked.key_span("modalities", name, "latent", "unet"),
                help="leave it out, or use ends = unet",
                related=(("the ends", ends),) if said else (),
            )
        )
