"""What turns ids into the stream after the last layer, as text."""

from __future__ import annotations

from motc.emit.operations import arguments_of, given
from motc.emit.outer import (
    add_lines,
    apart_lines,
    enter_lines,
    leave_lines,
    locate_lines,
    place_lines,
    read_too_lines,
    stream_type,
    together_lines,
)
from motc.emit.text import loop, method, statement
from motc.plan import ModulePlan
from motc.plan.constants import Constants
from motc.plan.seen import Pairs, seen_targets


def transform_method(module: ModulePlan, constants: Constants) -> str:
    """Ids, and patches of latents where there are any, through all layers."""
    stream = stream_type(module)
    continuous = module.model.continuous_modalities()
    arguments = ["ids: Tensor", f"layout: {module.execution.layout_type}", "positions: Tensor"]
    arguments += ["patches: dict[str, Patches]"] if continuous else []
    arguments += ["conditioned: SpanConditions"] if module.model.conditioned_by else []
    arguments += ["cache: Cache | None = None"]
    placed = ["patches of latents"] * bool(module.model.latents()) + ["features"] * bool(module.model.features())
    said = f"Token ids, and {' and '.join(placed)}," if placed else "Token ids"
    balance = "; and what balances experts" if module.is_balanced else ""
    layers = constants.named("LAYERS", module.model.layers)
    beside = given(module, constants)
    added = add_lines(module)
    numbered = [("number", f"range({layers})")] if added else []
    with_layers = [("layer", "self.layers"), ("kept", "layers_of(cache, self.layers)")]
    taken = [*numbered, *with_layers, *((one.names, one.each) for one in beside if one.each)]
    each, iterated = (", ".join(part) for part in zip(*taken, strict=True))
    is_plain = module.embedding is not None and module.embedding.form == "single"
    lines = [
        *method("transform", arguments, f"tuple[{stream}, Tensor]" if module.is_balanced else stream),
        f'        """{said} to the stream after the last layer{balance}."""',
        f"        x{': Tensor' if is_plain else ''} = self.embed(ids, layout)",
        *place_lines(module),
        *locate_lines(module, constants),
        *enter_lines(module),
        *together_lines(module),
        *(["        spans, conditions = conditioned"] if module.model.conditioned_by else []),
        *(line for one in beside for line in one.lines),
        *(["        balance = torch.zeros((), device=layout.tokens.device)"] if module.is_balanced else []),
        *loop(f"for {each} in ", f"zip({iterated}, strict=True)"),
        *_one_layer(module),
        *added,
        *apart_lines(module),
        *read_too_lines(module),
        *leave_lines(module),
        f"        return x, balance / {layers}" if module.is_balanced else "        return x",
    ]
    return "\n".join(lines)


def _one_layer(module: ModulePlan) -> list[str]:
    """Lines that send the stream through a layer."""
    *arguments, _ = arguments_of(module)
    passed = f"{', '.join(arguments)}, cache=kept"
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
