"""A configuration to a spec: by the rows of its class, every key read, passed over or refused."""

from __future__ import annotations

from motc.importing.architecture import ALWAYS, NOTHING, TOKENS, Architecture
from motc.importing.architectures import BY_NAME
from motc.importing.configuration import Configuration, refused
from motc.importing.described import Described
from motc.importing.ernie_flat import in_parts, is_flat

FORMERLY = {
    ("Transformer2DModel", "ada_norm_zero"): "DiTTransformer2DModel",
    ("Transformer2DModel", "ada_norm_single"): "PixArtTransformer2DModel",
}
"""By a class of diffusers and its `norm_type` what it is called now."""


def architecture_of(configuration: Configuration) -> Architecture:
    """The row of the table that a configuration is of. Raises SpecError."""
    names = configuration.take("architectures")
    if names is None and isinstance(name := configuration.take("_class_name"), str):  # of diffusers
        names = [FORMERLY.get((name, str(configuration.values.get("norm_type"))), name)]
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        configuration.refuse("architectures", names, "a list with the name of one class")
    if names[0] not in BY_NAME:
        known = ", ".join(BY_NAME)
        raise refused(f"{configuration.file}: motc does not know {names[0]}", f"it knows {known}")
    architecture = BY_NAME[names[0]]
    is_other, other = architecture.otherwise or (lambda values: False, architecture)
    return other if is_other(configuration.values) else architecture


def describe(configuration: Configuration, architecture: Architecture) -> Described:
    """What a configuration says. Raises SpecError, which names the first key that is not read."""
    described = Described(settings=dict(architecture.settings))
    flat = is_flat(configuration)
    configuration = in_parts(configuration) if flat else configuration
    inner = configuration
    if architecture.inside and architecture.inside in configuration.values:
        inner = configuration.part(architecture.inside)
        inner.path = "" if flat else inner.path  # as the file has it
    for row in architecture.rows:
        row.read(inner, described)
    for row in architecture.outer:
        row.read(configuration, described)
    for row in ALWAYS:
        row.read(inner, described)
        row.read(configuration, described)
    configuration.pass_over((*architecture.said_of_encoders, *NOTHING))
    inner.pass_over(("tie_word_embeddings", *NOTHING))
    for each in (configuration, inner):
        for key in each.unread():
            if not key.endswith(TOKENS):
                help_ = "what it changes is in no row of the table of this class"
                raise refused(
                    f"{each.file}: motc does not know what `{each.path}{key}` does in {architecture.name}", help_
                )
    return described
