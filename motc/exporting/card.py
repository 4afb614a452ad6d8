"""The model card of an exported folder: its README.md."""

from __future__ import annotations

from motc import __version__
from motc.cost import cost, kv_cache_bytes_per_token, memory
from motc.exporting.hugging_face import token_ranges
from motc.ir.identity import semantic_hash
from motc.ir.model import FeatureModality, LatentModality, Modality, Model
from motc.plan.decoding import can_generate

OWN_CODE = "The architecture is in [model.py](model.py); the files beside it are what it needs, and none needs motc."


def model_card(model: Model, spec: str, dtype: str, licence: str | None, original: str = "") -> str:
    """What the hub reads, and people: what the model is, what it costs, how it is loaded, what it cannot do.

    `original` is the class of transformers that the folder is of, if that is none of its own.
    """
    costs, trusted = cost(model), "" if original else ", trust_remote_code=True"
    size = memory(model, dtype).weights
    towers = {name: " + ".join(block) for block in model.towers.blocks for name in block}
    rows = [
        f"| {modality.name} | {towers[modality.name]} | {_kind(model, modality)} | {costs.active[modality.name]:,} "
        f"| {costs.flops_per_token[modality.name]:,} |"
        for modality in model.modalities
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            f"license: {licence or 'unknown'}",
            *(["pipeline_tag: text-generation"] if can_generate(model) else []),
            "tags:",
            "- motc",
            "---",
            "",
            f"# {model.name}",
            "",
            f"Written by motc {__version__}; the model's semantic hash is `{semantic_hash(model)}`.",
            f"It is a {original}, under that one's names." if original else OWN_CODE,
            "",
            *(() if licence else ("No licence was given.", "")),
            "## Use",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM",
            "",
            f'model = AutoModelForCausalLM.from_pretrained("this folder"{trusted})',
            "```",
            "",
            *(() if original else (*_rule(model), "", *_limits(model), "")),
            "## Spec",
            "",
            "```",
            spec.rstrip(),
            "```",
            "",
            "## Costs",
            "",
            f"{costs.parameters:,} parameters, {size:,} bytes in {dtype}; keys and values take "
            f"{kv_cache_bytes_per_token(model, dtype):,} bytes a token.",
            "",
            "| modality | tower | tokens | active parameters | FLOPs a token |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _kind(model: Model, modality: Modality) -> str:
    if isinstance(modality, LatentModality):
        return f"patches of latents, {modality.denoised}"
    if isinstance(modality, FeatureModality):
        return f"features of {modality.projector.size}"
    first, end = token_ranges(model).get(modality.name, [0, model.vocab or 0])
    return f"ids {first}..{end - 1}"


def _rule(model: Model) -> list[str]:
    """How modalities are told."""
    names = ", ".join(f"{place} {name}" for place, name in enumerate(model.names))
    if len(model.modalities) == 1:
        return ["It has one modality, so that nothing is to be said of modalities."]
    if model.vocab is None:
        rule = "each has ids of its own, as the table has them, in one vocabulary that transformers sees"
    else:
        rule = (
            f"the vocabulary is shared, and an id is taken for {next(iter(token_ranges(model)))}'s; `token_ranges` in "
            "config.json can give others their ranges: the first id, and the one after the last"
        )
    return [
        f"Of which modality a token is follows from its id: {rule}. `modality_ids` (int64, as `input_ids`: {names}) "
        "say otherwise.",
    ]


def _limits(model: Model) -> list[str]:
    """What transformers cannot do with it."""
    limits = ["`inputs_embeds`, `output_attentions`, `output_hidden_states` and static caches are refused."]
    if not can_generate(model):
        limits.append("There is no `generate`, for what earlier tokens see changes by later ones.")
    elif len(model.token_modalities()) > 1 and model.vocab is None:
        limits.append(
            "`generate` goes on in the modality of the last token; `model.model.generate` goes to others, too."
        )
    if model.latent_modalities():
        limits.append(
            "Latents go in (`latents`, `timesteps`) and have a loss; predictions and generated ones are given by the "
            "generated model alone: `model.model(...)`, `model.model.generate(...)`."
        )
    return [" ".join(limits)]
