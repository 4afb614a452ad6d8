"""The modalities of a spec: each has a vocabulary, its own or the model's, or is continuous; and their head."""

from __future__ import annotations

from motc.lower.attributes import periods, stream_width
from motc.lower.by_layer import check_layers
from motc.lower.denoising import check_denoising
from motc.schema import Checked
from motc.schema.modalities import FeaturesSpec, LatentSpec
from motc.source import Diagnostic, Span


def check_vocabularies(checked: Checked, errors: list[Diagnostic]) -> None:
    """Either all modalities of tokens have a vocabulary of their own, or all share the model's. Appends to `errors`."""
    spec = checked.spec
    _check_continuous(checked, errors)
    tokens = {name: modality for name, modality in spec.modalities.items() if modality.continuous is None}
    without = [name for name, modality in tokens.items() if modality.vocab is None]
    owners = [name for name, modality in tokens.items() if modality.vocab is not None]
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


def check_head(checked: Checked, errors: list[Diagnostic]) -> None:
    """Whether the head can have biases: not where it is the embedding's table. Appends to `errors`."""
    if checked.spec.embedding.tied and checked.spec.head.bias:
        message = "a head that is the embedding's table has no bias"
        span, way_out = checked.span("head", "bias"), "leave it out, or use embedding.tied = false"
        errors.append(Diagnostic(code="MOT069", message=message, span=span, help=way_out))


def _check_continuous(checked: Checked, errors: list[Diagnostic]) -> None:
    """A continuous modality has no vocabulary, and is of one kind; something is predicted."""
    modalities = checked.spec.modalities
    for name, modality in modalities.items():
        if modality.continuous and modality.vocab is not None:
            message = f"modality `{name}` is continuous and has a vocabulary"
            span = checked.key_span("modalities", name, "vocab")
            related = (("what makes it continuous", checked.key_span("modalities", name, modality.continuous)),)
            errors.append(
                Diagnostic(code="MOT061", message=message, span=span, help="keep one of the two", related=related)
            )
        if modality.latent is not None and modality.features is not None:
            message = f"modality `{name}` is of latents, which are denoised, and of features, which are given"
            span = checked.key_span("modalities", name, "features")
            related = (("the latents", checked.key_span("modalities", name, "latent")),)
            way_out = "keep one of the two, or declare a modality for each"
            errors.append(Diagnostic(code="MOT061", message=message, span=span, help=way_out, related=related))
        if modality.latent is not None:
            _check_unet(checked, name, modality.latent, errors)
            _check_time(checked, name, modality.latent, errors)
            _check_place_tables(checked, name, modality.latent, errors)
            check_denoising(checked, name, modality.latent, errors)
        if modality.features is not None:
            _check_projector(checked, name, modality.features, errors)
            _check_added(checked, name, modality.features, errors)
    if all(modality.features is not None for modality in modalities.values()):
        message, span = "nothing is predicted: every modality is of features", checked.span("modalities")
        way_out = "declare one with a vocabulary, such as `modality text`, or with `latent`"
        errors.append(Diagnostic(code="MOT062", message=message, span=span, help=way_out))
    elif all(modality.continuous for modality in modalities.values()) and checked.spec.vocab is not None:
        message, span = "`vocab` is of tokens with ids, and every modality is continuous", checked.span("vocab")
        way_out = "leave it out, or declare a modality without `latent` and `features`"
        errors.append(Diagnostic(code="MOT062", message=message, span=span, help=way_out))


def _check_projector(checked: Checked, name: str, features: FeaturesSpec, errors: list[Diagnostic]) -> None:
    """Without a projector a feature is as wide as its tower's stream; `hidden` is between two maps."""
    projector, place = features.projector, ("modalities", name, "features")
    wide = stream_width(checked.spec, name)
    if projector is None and features.size != wide:
        message = f"features of {features.size} numbers do not fit a stream of width {wide} without a projector"
        span = checked.key_span(*place, "projector")
        related = (("their size", checked.span(*place, "size")),)
        way_out = "leave `projector` out for one linear map"
        errors.append(Diagnostic(code="MOT067", message=message, span=span, help=way_out, related=related))
    if projector is not None and projector.kind == "linear" and projector.hidden is not None:
        message = "`hidden` is between two maps, and a projector of kind linear is one"
        span = checked.key_span(*place, "projector", "hidden")
        way_out = "leave it out, or give the activation between: kind = gelu"
        errors.append(Diagnostic(code="MOT067", message=message, span=span, help=way_out))


def _check_added(checked: Checked, name: str, features: FeaturesSpec, errors: list[Diagnostic]) -> None:
    """Further vectors are added after layers that there are, and to states that a layer reads."""
    place, added = ("modalities", name, "features", "added_after"), features.added_after
    if added is None or not check_layers(checked, place, added, errors):
        return
    last = checked.spec.layers - 1
    if last in added.numbers:
        message = f"layer {last} is the last one, and nothing is read of what features are after it"
        way_out = f"name layers of 0..{last - 1}" if last else "leave it out"
        errors.append(Diagnostic(code="MOT092", message=message, span=checked.span(*place), help=way_out))


def _check_time(checked: Checked, name: str, latent: LatentSpec, errors: list[Diagnostic]) -> None:
    """A U-Net has its own way to be told the timestep; periods are of concatenated sinusoids, the rest of others."""
    time = latent.time
    place: tuple[str, ...] = ("modalities", name, "latent", "time")
    related: tuple[tuple[str, Span], ...] = ()
    said = [key for key in ("min_period", "max_period") if getattr(time, key) is not None]
    added = [key for key in ("scale", "size") if getattr(time, key) is not None]
    wide = stream_width(checked.spec, name)
    shortest, longest = periods(time)
    if latent.ends == "unet" and time.kind != "added":
        message, way_out = "a U-Net is told the timestep in each of its blocks, and not by its tokens", "leave it out"
        place, related = (*place, "kind"), (("the ends", checked.span("modalities", name, "latent", "ends")),)
    elif added and (latent.ends == "unet" or time.kind != "added"):
        message, way_out = f"`{added[0]}` is of a timestep whose vector is added to tokens", "leave it out"
        place = (*place, added[0])
    elif time.size is not None and time.size % 2:
        message, way_out = f"half of {time.size} sinusoids are cosines", "use an even number"
        place = (*place, "size")
    elif time.kind != "concat" and said:
        message, way_out = f"`{said[0]}` is of sinusoids that are concatenated", "leave it out, or use kind = concat"
        place = (*place, said[0])
    elif shortest >= longest:
        message, way_out = f"periods go up, not from {shortest:g} to {longest:g}", "say the shorter one as min_period"
        place = (*place, said[0])
    elif time.kind == "concat" and wide % 2:
        message = f"half of a timestep's sinusoids are cosines, and a token has {wide} numbers"
        way_out = "use an even width"
    else:
        return
    errors.append(Diagnostic(code="MOT074", message=message, span=checked.span(*place), help=way_out, related=related))


def _check_place_tables(checked: Checked, name: str, latent: LatentSpec, errors: list[Diagnostic]) -> None:
    """A table, of sines or learnt, is of an image's rows and columns, before linear ends' tokens go on."""
    sine, place = latent.sine, ("modalities", name, "latent", "sine" if latent.learned is None else "learned")
    wide = stream_width(checked.spec, name)
    if sine is None and latent.learned is None:
        return
    if latent.ends == "unet" or not (isinstance(latent.patch, int) or len(latent.patch) == 2):
        what = "sines of rows and columns are" if latent.learned is None else "what is learnt of places is"
        message, way_out = f"{what} added to images' tokens of linear ends", "leave it out"
    elif sine is not None and latent.learned is not None:
        message, way_out = "a token is told its place by sines, and by what is learnt", "leave one of the two out"
    elif sine is None:
        return
    elif wide % 4:
        message = f"half of the sines are of rows, half of these cosines, and a token has {wide} numbers"
        way_out = "use a width that is a multiple of 4"
    elif sine.crop is not None and sine.base is None:
        message, way_out = "`crop` is of a table whose places are scaled", "give its base, too"
    else:
        return
    span = checked.key_span(*place)
    errors.append(Diagnostic(code="MOT074", message=message, span=span, help=way_out))


def _check_unet(checked: Checked, name: str, latent: LatentSpec, errors: list[Diagnostic]) -> None:
    """A U-Net halves a square patch of an image until it is one pixel, by maps with biases; its sizes are its alone."""
    ends = checked.span("modalities", name, "latent", "ends")
    in_vain = [key for key in ("bias", "out_bias") if getattr(latent, key) is not None]
    if latent.ends == "unet" and in_vain:
        span, related = checked.key_span("modalities", name, "latent", in_vain[0]), (("the ends", ends),)
        message, way_out = f"`{in_vain[0]}` is of linear ends, and all of a U-Net has biases", "leave it out"
        errors.append(Diagnostic(code="MOT063", message=message, span=span, help=way_out, related=related))
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
