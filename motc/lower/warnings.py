"""What is right in a spec and may not be meant so."""

from __future__ import annotations

from motc.ir.mask import Mask, sees_next
from motc.ir.model import Model
from motc.lower.by_layer import specs_by_layer
from motc.lower.mask import lower_masks
from motc.schema import Checked
from motc.source import Diagnostic


def warnings(checked: Checked, model: Model) -> tuple[Diagnostic, ...]:
    """Warnings about a spec and the model it lowered to."""
    return (*_leaks(checked, model), *_seen_targets(checked, model))


def _leaks(checked: Checked, model: Model) -> list[Diagnostic]:
    """Experts that choose tokens, where a mask hides some tokens from others: what is hidden still plays a part."""
    chosen = {name for name, moe in model.mixtures if moe.routing == "expert_choice"}
    choosing = [name for name in model.names if name in chosen]
    hiding = [mask for mask in model.masks if mask.kernel(model.names) != "full" or mask.window is not None]
    if not choosing or not hiding:
        return []
    spec = checked.spec
    place: tuple[str, ...] = ("ffn", "routing")
    for name, tower in spec.towers.items():
        if tower.ffn.routing == "expert_choice" and set(tower.modalities) & set(choosing):
            place = ("towers", name, "ffn", "routing")
            break
    said = "mask" in spec.attention.model_fields_set
    return [
        Diagnostic(
            code="MOT060",
            message=f"experts of {', '.join(choosing)} choose among all tokens of a batch, so what a token becomes "
            f"depends on tokens {hiding[0].hidden}",
            span=checked.span(*place),
            help="for a model that generates, use routing = top_k; to compare losses with the paper's, leave it",
            related=(("the mask", checked.span("attention", "mask")),) if said else (),
            severity="warning",
        )
    ]


def _seen_targets(checked: Checked, model: Model) -> list[Diagnostic]:
    """Targets that the token before them sees, where the spec does not say whether they count: they do not."""
    masks = model.masks
    in_one_run = {name for mask in masks for name in mask.bidirectional}
    delimited = any(mask.delimiters and mask.in_runs for mask in masks)
    in_runs = {name for mask in masks for run in mask.runs for name in run}
    tokens = [modality.name for modality in model.token_modalities()]
    silent = [name for name in tokens if checked.spec.modalities[name].seen_targets is None]
    ways_of = {name: {before: sees_next(masks, before, name) for before in tokens} for name in silent}
    shown = {name: ways for name, ways in ways_of.items() if set(ways.values()) != {"never"}}
    if not shown:
        return []
    distinct = {id(spec): spec for spec in specs_by_layer(checked, [])}.values()
    specs = dict(reversed([*zip(lower_masks(distinct, []), distinct, strict=True)]))  # by mask, the first that has it
    causes: dict[str, list[str]] = {}
    places: dict[str, Checked] = {}
    for name, ways in shown.items():
        showing = next(specs[mask] for mask in masks if any(mask.sees_next(each, name) != "never" for each in tokens))
        own_run = [before for before, often in ways.items() if often != "never"] == [name]
        cause: str = showing.spec.attention.mask.kind
        if name in in_runs:
            cause = "runs"
        elif own_run and name in in_one_run:
            cause = "bidirectional"
        elif delimited:
            cause = "delimiters"
        causes.setdefault(cause, []).append(name)
        places.setdefault(cause, showing)
    return [_seen_target(places[key], masks, key, names, tokens) for key, names in causes.items()]


def _seen_target(
    checked: Checked, masks: tuple[Mask, ...], cause: str, names: list[str], tokens: list[str]
) -> Diagnostic:
    never = [name for name in names if all(sees_next(masks, before, name) == "always" for before in tokens)]
    effect = f"the loss leaves out {'all' if never == names else 'such'} targets of {', '.join(names)}"
    effect += ": nothing is trained by cross-entropy" if never == tokens else ""
    why = {
        "full": "all tokens of a document see each other",
        "blocks": "tokens see all of their own block and of those before it",
        "prefix": "the tokens of a document's prefix see each other",
        "runs": f"an unbroken run in which {' or '.join(names)} may be sees all of itself",
        "delimiters": "an unbroken run sees all of itself and the tokens before and after it",
        "bidirectional": f"an unbroken run of {' or '.join(names)} sees all of itself",
    }[cause]
    key = "kind" if cause == "full" else cause
    return Diagnostic(
        code="MOT064",
        message=f"{why}, so a token can see the one that it is to predict; {effect}",
        span=checked.span("attention", "mask", key),
        help=f"`modality {names[0]} {{ seen_targets = false }}` says that this is meant, `true` counts them all the "
        "same; a causal mask hides them",
        related=tuple((f"{name} is declared here", checked.span("modalities", name)) for name in names[:1]),
        severity="warning",
    )
