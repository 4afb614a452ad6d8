"""What turns ids into the stream after the last layer, as text."""

from __future__ import annotations

from motc.emit.latents import place_lines
from motc.emit.layers import arguments_of
from motc.emit.text import method, statement
from motc.plan import ModulePlan
from motc.plan.constants import Constants
from motc.plan.seen import Pairs, seen_targets


def transform_method(module: ModulePlan, constants: Constants) -> str:
    """Ids, and patches of latents where there are any, through all layers."""
    stream = "list[Tensor]" if module.stream_in_pieces else "Tensor"
    beside_latents = module.model.latents() is not None
    arguments = ["ids: Tensor", f"layout: {module.execution.layout_type}", "positions: Tensor"]
    arguments += ["patches: dict[str, Patches]"] if beside_latents else []
    arguments += ["cache: Cache | None = None"]
    said = "Token ids, and patches of latents," if beside_latents else "Token ids"
    balance = "; and what balances experts" if module.is_balanced else ""
    layers = constants.named("LAYERS", module.model.layers)
    lines = [
        *method("transform", arguments, f"tuple[{stream}, Tensor]" if module.is_balanced else stream),
        f'        """{said} to the stream after the last layer{balance}."""',
        f"        x{'' if module.embedding.form != 'single' else ': Tensor'} = self.embed(ids, layout)",
        *(place_lines(module) if beside_latents else ()),
        *_context(module, constants),
        *(["        balance = torch.zeros((), device=layout.tokens.device)"] if module.is_balanced else []),
        f"        for layer, kept in zip(self.layers, layers_of(cache, {layers}), strict=True):",
        *_one_layer(module),
        f"        return x, balance / {layers}" if module.is_balanced else "        return x",
    ]
    return "\n".join(lines)


def _context(module: ModulePlan, constants: Constants) -> list[str]:
    """Lines that make what all layers share beside the layout: cosine and sine of positions, and the mask."""
    dtype = "x[0].dtype" if module.stream_in_pieces else "x.dtype"
    mask = f"        mask = layout.rows.matrix({dtype})"
    if not module.model.ropes:
        return [mask]
    ((rope, head_dim),) = module.model.ropes
    theta, size = constants.named("ROPE_THETA", rope.theta), constants.named("HEAD_DIM", head_dim)
    return [*statement("cos, sin = ", f"rope_angles(positions, {size}, {theta}, {dtype})"), mask]


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
    if in_prefix:
        (mask,) = module.model.masks
        prefix = tuple(module.model.names.index(name) for name in mask.prefix)
        lines += [
            *_neighbours("both" if always else "seen", in_prefix),
            f"        within = in_prefix(layout.modality_ids, layout.document_ids, {prefix!r})",
            f"        seen = {'seen | (both & within)' if always else 'seen & within'}",
        ]
    return "\n".join([*lines, "        return labels.masked_fill(seen, -100)"])


def _neighbours(name: str, pairs: Pairs) -> list[str]:
    """Lines that call by a name which tokens are such a pair with the one before them."""
    return statement(f"{name} = ", f"neighbours(layout.modality_ids, {pairs!r})")
