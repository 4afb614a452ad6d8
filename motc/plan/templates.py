"""Which building blocks a generated file is made of."""

from __future__ import annotations

from collections.abc import Iterable

from motc.ir.layer import Layer
from motc.ir.model import Model
from motc.ir.operators import Norm
from motc.plan.decoding import can_generate
from motc.plan.mixture import mixture_units
from motc.plan.module_plan import LeafPlan
from motc.plan.seen import seen_targets
from motc.plan.views import has_views

PLAIN_LAYOUTS = {
    "sorted": "document_layout",
    "grouped": "compact_layout",
    "blend": "compact_layout",
    "reference": "batch_layout",
}
ROWS = {"document_layout": "document_rows", "compact_layout": "compact_rows", "batch_layout": "batch_rows"}
PLAIN_ROWS = ("rows.is_plain", "rows.with_a_token", "rows.rows_by_document")
VIEWS = ("views.Chosen", "views.View", "views.Views", "views.Rows")
VIEWS_OF_ROWS = (
    "rows.with_a_token",
    "views.Part",
    "views.find_parts",
    "views.choose",
    "views.make_views",
    "views.rows_by_document",
    "views.attend_by_views",
)


def layout_function(model: Model, sorts: bool) -> str:
    """The function that makes a layout: by how the model tells modalities apart."""
    if sorts:
        return "sorted_layout" if model.strategy == "sorted" else "grouped_layout"
    return PLAIN_LAYOUTS[model.strategy]


def templates(
    model: Model, kinds: list[Layer], leaves: Iterable[LeafPlan], sorts: bool, resorts: bool
) -> tuple[str, ...]:
    """Files of `codegen_templates/`, or definitions in them, in the order they are copied."""
    found = list(leaves)
    forms = {leaf.form for leaf in found}
    layout = layout_function(model, sorts)
    rows = {"sorted_layout": "document_rows", "grouped_layout": "compact_rows"}.get(layout) or ROWS[layout]
    chosen = [
        "sizes",
        "permute",
        "constants",
        "visibility",
        "masks",
        *(VIEWS if has_views(model) else ("rows.Rows",)),
        "rows.look_up",
        "rows.places_of",
        "rows.invert",
        f"rows.{rows}",
    ]
    chosen += ["rows.fill_rows", "rows.document_starts", "rows.document_positions"]
    if rows == "document_rows":
        chosen += VIEWS_OF_ROWS if has_views(model) else PLAIN_ROWS
    if layout != "grouped_layout":
        chosen.append("rows.real_tokens")
    if model.latents() and rows != "compact_rows":
        chosen.append("rows.compact_rows")
    if sorts:
        chosen += ["layout_sorted" if model.strategy == "sorted" else "layout_grouped", "reorder"]
    else:
        chosen += [
            "layout_slots.ModalityLayout",
            f"layout_slots.{layout}",
            "layout_slots.place_slots",
            "layout_slots.to_batch",
        ]
        if "by_tower" in forms or model.routings or (model.latents() and model.vocab is not None):
            chosen.append(f"pieces_{model.strategy}")
    chosen += ["checks", "checked_layout"]
    outputs = "outputs_balanced" if model.is_balanced else "outputs"
    chosen += [
        "latents.ModelOutput" if model.latents() else "outputs.ModelOutput",
        f"{outputs}.LossOutput",
        "outputs.cross_entropy",
        "outputs.divided",
        *(("outputs.weighted_sum",) if any(m.loss.weight != 1 for m in model.modalities) else ()),
        "outputs.means",
        f"{outputs}.mean_losses",
    ]
    chosen += ["target_checks", "targets.Targets", "targets.find_targets"]
    seen = seen_targets(model)
    chosen += [*(("seen.neighbours",) if any(seen) else ()), *(("seen.in_prefix",) if seen.in_prefix else ())]
    if model.vocab is None and model.strategy == "sorted":
        chosen += ["targets.TargetOrder", "targets.sort_targets"]
    norms = {block.operator.kind for leaf in found for block in leaf.leaf.blocks if isinstance(block.operator, Norm)}
    chosen += [f"norms.{name}" for kind, name in (("rms", "RMSNorm"), ("layer", "LayerNorm")) if kind in norms]
    if "norm_by_tower" in forms:
        chosen.append("norms.NormByTower")
    rope = kinds[0].attention.rope
    if rope:
        chosen += ["rope.rope_angles", "rope.rotate_half" if rope.pairing == "half" else "rope.rotate_interleaved"]
    if resorts:
        chosen.append("recompute")
    if model.strategy == "grouped" or model.routings or model.latents() or can_generate(model):
        chosen.append("autocast")
    if "by_tower" in forms:
        chosen.append("by_tower_grouped" if model.strategy == "grouped" else "by_tower.ByTower")
    if model.routings:
        chosen += _experts(model, kinds)
    if len({modality.width for modality in model.modalities}) > 1:
        chosen.append("by_tower.add")
    if can_generate(model):
        chosen += ["decode", "generate_checks", *(_generating_latents() if model.latents() else ("generate",))]
    return (*chosen, *_latent_templates(model), "initialise")


def _generating_latents() -> list[str]:
    """What generates latents beside tokens."""
    rows = ["Row", "in_last_document", "compact"]
    return [*(f"generate.{name}" for name in (*rows, "sample", "draw", "Decoding", "followed")), "generate_latents"]


def _experts(model: Model, kinds: list[Layer]) -> list[str]:
    """What mixtures of experts are made of."""
    routings = model.routings
    wanted = ["Experts", "has_grouped_product", "Routing", "router_probabilities", "compared", *sorted(routings)]
    wanted += ["dispatch", "combine"]
    if model.is_balanced:
        wanted.append("imbalance")
    if any(len(unit.pieces) > 1 for layer in kinds for unit in mixture_units(layer, model)):
        wanted.append("part")
    return [f"experts.{name}" for name in wanted]


def _latent_templates(model: Model) -> list[str]:
    """What continuous modalities are made with."""
    latents = model.latent_modalities()
    if not latents:
        return []
    shared = model.vocab is not None and model.strategy != "grouped"
    in_pieces = len({modality.width for modality in model.modalities}) > 1
    chosen = ["Patches", "without", "make_patches", "rank_of"]
    chosen.append("patch_piece" if in_pieces else "place_patches")
    chosen += [*(("in_piece",) if in_pieces and model.strategy != "blend" else ()), "patch_states"]
    chosen += ["absent"] if shared else []
    objectives = [name for key, name in (("ddpm", "DDPM"), ("flow", "Flow")) if key in {m.objective for m in latents}]
    ends = sorted({modality.ends.kind for modality in latents})
    return [
        "latent_checks",
        *(f"latents.{name}" for name in chosen),
        *(f"objectives.{name}" for name in (*objectives, "noise_latents", "denoising_losses")),
        "latent_time",
        *(f"latent_{kind}" for kind in ends),
    ]
