"""What turns ids into the stream after the last layer, as text."""

from __future__ import annotations

from typing import assert_never

from motc.emit.layers import arguments_of
from motc.emit.outer import place_lines, stream_type
from motc.emit.text import method, statement
from motc.ir.rope import Angles, Axes, DynamicScaling, LinearScaling, Llama3Scaling, YarnScaling
from motc.plan import ModulePlan
from motc.plan.constants import Constants
from motc.plan.seen import Pairs, seen_targets


def transform_method(module: ModulePlan, constants: Constants) -> str:
    """Ids, and patches of latents where there are any, through all layers."""
    stream = stream_type(module)
    continuous = module.model.continuous_modalities()
    arguments = ["ids: Tensor", f"layout: {module.execution.layout_type}", "positions: Tensor"]
    arguments += ["patches: dict[str, Patches]"] if continuous else []
    arguments += ["cache: Cache | None = None"]
    placed = ["patches of latents"] * bool(module.model.latents()) + ["features"] * bool(module.model.features())
    said = f"Token ids, and {' and '.join(placed)}," if placed else "Token ids"
    balance = "; and what balances experts" if module.is_balanced else ""
    layers = constants.named("LAYERS", module.model.layers)
    each, iterated = "layer, kept", "self.layers, layers_of(cache, self.layers)"
    if len(module.model.masks) > 1:
        each, iterated = f"{each}, mask", f"{iterated}, masks"
    if len(module.model.angles) > 1:
        each, iterated = f"{each}, (cos, sin)", f"{iterated}, angles"
    lines = [
        *method("transform", arguments, f"tuple[{stream}, Tensor]" if module.is_balanced else stream),
        f'        """{said} to the stream after the last layer{balance}."""',
        f"        x{'' if module.embedding.form != 'single' else ': Tensor'} = self.embed(ids, layout)",
        *place_lines(module),
        *_context(module, constants),
        *(["        balance = torch.zeros((), device=layout.tokens.device)"] if module.is_balanced else []),
        f"        for {each} in zip({iterated}, strict=True):",
        *_one_layer(module),
        f"        return x, balance / {layers}" if module.is_balanced else "        return x",
    ]
    return "\n".join(lines)


def _context(module: ModulePlan, constants: Constants) -> list[str]:
    """Lines that make what layers are given beside the layout: cosine and sine of positions, and the mask.

    Where they differ in one of these, a list of each layer's own.
    """
    dtype = "x[0].dtype" if module.stream_in_pieces else "x.dtype"
    angles = [_angles(each, constants, dtype) for each in module.model.angles]
    lines = statement("cos, sin = ", angles[0]) if len(angles) == 1 else []
    if len(angles) > 1:
        lines += statement("angles = ", f"[{', '.join(angles)}]")
        lines += statement("angles = ", f"[angles[number] for number in {module.layer_angles!r}]")
    if len(module.model.masks) == 1:
        return [*lines, f"        mask = layout.rows.matrix({dtype})"]
    return [*lines, *statement("masks = ", f"layout.rows.matrices({dtype}, {module.layer_masks!r})")]


def _angles(angles: Angles, constants: Constants, dtype: str) -> str:
    size, base = constants.named("HEAD_DIM", angles.size), constants.named("ROPE_THETA", angles.theta)
    scaling, axes = angles.scaling, angles.axes
    if scaling is None and axes is None:
        return f"rope_angles(positions, {size}, {base}, {dtype})"
    positions = "positions" if axes is None else f"on_axes(positions, {_axes_of_pairs(axes)})"
    given = f"{size}, {base}, positions.device"
    given += "" if scaling is None else f", factor={scaling.factor!r}"
    factor = ""
    match scaling:
        case None if axes is not None and axes.arrangement == "own":
            sizes = tuple(2 * pairs for pairs in axes.pairs)
            frequencies = f"axis_frequencies({sizes!r}, {base}, positions.device)"
        case None:
            frequencies = f"plain_frequencies({given})"
        case LinearScaling():
            frequencies = f"linear_frequencies({given})"
        case DynamicScaling(original_length=length):
            lengths = "lengths_of(positions, layout)"
            frequencies = f"dynamic_frequencies({given}, original_length={length}, lengths={lengths})"
        case Llama3Scaling(low_freq_factor=low, high_freq_factor=high, original_length=length):
            ramp = f"low_freq_factor={low!r}, high_freq_factor={high!r}, original_length={length}"
            frequencies = f"llama3_frequencies({given}, {ramp})"
        case YarnScaling(beta_fast=fast, beta_slow=slow, original_length=length, truncate=truncate):
            ramp = f"beta_fast={fast!r}, beta_slow={slow!r}, original_length={length}, truncate={truncate!r}"
            frequencies = f"yarn_frequencies({given}, {ramp})"
            factor = f", {scaling.attention_factor!r}"
        case _:
            assert_never(scaling)
    return f"rope_turned({positions}, {frequencies}, {dtype}{factor})"


def _axes_of_pairs(axes: Axes) -> str:
    """The expression of each pair's axis."""
    pairs = ", ".join(map(str, axes.pairs))
    match axes.arrangement:
        case "split" | "own":
            return f"split_axes({pairs})"
        case "interleaved":
            return f"interleaved_axes({pairs})"
        case "spatial_first":
            return f"spatial_first_axes({pairs})"
        case _:
            assert_never(axes.arrangement)


def _one_layer(module: ModulePlan) -> list[str]:
    """Lines that send the stream through a layer."""
    *given, _ = arguments_of(module)
    passed = f"{', '.join(given)}, cache=kept"
    if not module.is_balanced:
        return [f"            x = layer({passed})"]
    return [f"            x, more = layer({passed})", "            balance = balance + more"]


def counted_method(module: ModulePlan) -> str | None:
    """The method that makes no label of a target that the token before it sees, where such are left out."""
    always, in_prefix = seen_targets(module.model)
    if not always and not in_prefix:
        return None
    lines = [
        *method("counted", ["labels: Tensor", f"layout: {module.execution.layout_type}"], "Tensor"),
        '        """The labels int64 [B, S], -100 at targets that the token before them sees."""',
        *(_neighbours("seen", always) if always else ()),
    ]
    for number, (modalities, pairs) in enumerate(in_prefix):
        prefix = tuple(module.model.names.index(name) for name in modalities)
        more = bool(always) or number > 0
        lines += [
            *_neighbours("both" if more else "seen", pairs),
            f"        within = in_prefix(layout.modality_ids, layout.document_ids, {prefix!r})",
            f"        seen = {'seen | (both & within)' if more else 'seen & within'}",
        ]
    return "\n".join([*lines, "        return labels.masked_fill(seen, -100)"])


def _neighbours(name: str, pairs: Pairs) -> list[str]:
    """Lines that call by a name which tokens are such a pair with the one before them."""
    return statement(f"{name} = ", f"neighbours(layout.modality_ids, {pairs!r})")
