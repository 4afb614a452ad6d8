"""A plain dense model as the class of transformers that it is: its configuration, and tensors under its names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from motc.diff import diff
from motc.driver import compile_ir
from motc.exporting.tokenizer import SPECIAL
from motc.importing.architectures import BY_NAME
from motc.importing.configuration import Configuration
from motc.importing.describe import describe
from motc.importing.said import said_by
from motc.ir.identity import semantic_hash
from motc.ir.model import Model
from motc.schema import Checked
from motc.source import Diagnostic, SpecError
from motc.weights import Bijection, Rule, WeightMapping, bijection_of, read_mapping
from motc.weights.mapping import filled, pattern_of

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "cohere": "CohereForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "granite": "GraniteForCausalLM",
    "olmo": "OlmoForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "olmo3": "Olmo3ForCausalLM",
    "exaone4": "Exaone4ForCausalLM",
    "cohere2": "Cohere2ForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "phi": "PhiForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "arcee": "ArceeForCausalLM",
    "glm": "GlmForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "helium": "HeliumForCausalLM",
    "ministral": "MinistralForCausalLM",
    "seed_oss": "SeedOssForCausalLM",
    "ernie4_5": "Ernie4_5ForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "flex_olmo": "FlexOlmoForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "dots1": "Dots1ForCausalLM",
    "afmoe": "AfmoeForCausalLM",
    "ernie4_5_moe": "Ernie4_5_MoeForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "glm4_moe_lite": "Glm4MoeLiteForCausalLM",
    "youtu": "YoutuForCausalLM",
    "chameleon": "ChameleonForConditionalGeneration",
    "emu3": "Emu3ForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "ernie4_5_vl_moe": "Ernie4_5_VLMoeForConditionalGeneration",
    "paligemma": "PaliGemmaForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
    "mllama": "MllamaForConditionalGeneration",
    "mllama_text": "MllamaForCausalLM",
    "pi0": "PI0ForConditionalGeneration",
}
"""What a configuration calls a model's type, and its class."""

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Original:
    """What is written of a model in the original's format."""

    configuration: dict[str, Any]
    bijection: Bijection
    shapes: dict[str, Shape]


def original(
    kind: str, checked: Checked, model: Model, shapes: Mapping[str, Shape], beside: Mapping[str, Any]
) -> Original:
    """The model as a class's; `shapes` are those of its parameters, `beside` further keys of the configuration.

    The configuration is read back, and must mean the model. Raises SpecError where it does not, which says how they
    differ, or where parameters have no place.
    """
    architecture = BY_NAME[CLASSES[kind]]
    if architecture.said_of_encoders:
        raise _refused(f"{architecture.name} has an encoder, whose weights and configuration are no part of a spec")
    said = said_by(checked)
    configuration: dict[str, Any] = {"architectures": [architecture.name], "model_type": kind}
    try:
        for row in architecture.rows:
            configuration |= row.write(said)
    except ValueError as error:
        raise _refused(f"{checked.spec.model} is no {architecture.name}: {error}") from None
    except KeyError as error:
        raise _refused(f"{checked.spec.model} is no {architecture.name}: it has no {error.args[0]}") from None
    no_tokens = {f"{name}_id": None for name in SPECIAL}  # or the class has those of its first tokenizer
    configuration |= {key: value for key, value in {**no_tokens, **beside}.items() if key not in configuration}
    read = Configuration(Path("config.json"), json.loads(json.dumps(configuration)))
    read.take("architectures")
    try:
        meant = compile_ir(describe(read, architecture).source("config.json"))
    except SpecError as error:  # a configuration that the class does not have
        raise _refused(f"{model.name} is no {architecture.name}: {error.diagnostics[0].message}") from None
    if semantic_hash(meant) != semantic_hash(model):
        told = "; ".join(f"{edit.kind} {edit.describe()}" for edit in diff(meant, model)[:8])
        raise _refused(f"{model.name} is no {architecture.name}: from what its configuration can say, {told}")
    mapping = read_mapping(architecture.mapping_file)
    theirs = tensor_shapes(mapping, shapes)
    try:
        bijection = bijection_of(mapping, theirs, model)
    except ValueError as error:
        raise _refused(f"{model.name} is no {architecture.name}: {error}") from None
    return Original(configuration=configuration, bijection=bijection, shapes=theirs)


def tensor_shapes(mapping: WeightMapping, parameters: Mapping[str, Shape]) -> dict[str, Shape]:
    """The tensors, by name and shape, that a mapping's rules make of parameters; none for a head that is tied."""
    tensors: dict[str, Shape] = {}
    patterns = {name: pattern_of(name) for name in parameters}
    of_experts = {name for rule in mapping.rules.values() if rule.form == "experts" for name in rule.parameters}
    for rule in mapping.rules.values():
        for name, (pattern, numbers) in patterns.items():
            suffix = pattern.removeprefix(rule.parameters[0])
            if pattern.startswith(rule.parameters[0]) and suffix in ("", ".weight", ".bias"):
                ours = [filled(each, numbers) + suffix for each in rule.parameters]
                is_there = name == ours[0] and all(each in parameters for each in ours)
                if not is_there or not mapping.holds(rule, numbers, parameters):
                    continue
                is_of_experts = rule.parameters[0] in of_experts and len(parameters[name]) == 3
                if (rule.form == "experts") == is_of_experts:
                    tensors.update(_theirs(rule, numbers, suffix, [parameters[each] for each in ours]))
    return tensors


def _theirs(rule: Rule, numbers: tuple[str, ...], suffix: str, shapes: list[Shape]) -> Iterator[tuple[str, Shape]]:
    """The tensors of one rule that hold parameters of these shapes."""
    first, rows = shapes[0], sum(shape[0] for shape in shapes)
    if rule.form == "experts":
        for number in range(rows):
            yield filled(rule.tensor, (*numbers, str(number))) + suffix, first[1:]
        return
    shape: Shape
    match rule.form:
        case "same":
            shape = first
        case "rows" | "head_rows":
            shape = (rows, *first[1:])
        case "expert_rows" | "expert_turns":
            shape = (first[0], sum(each[1] for each in shapes), *first[2:])
        case "stacked":
            shape = (len(shapes), *first)
        case "columns" | "convolution" | "channels_last" | "repeated":
            raise ValueError(f"a mapping that has {rule.form} says nothing of which tensors there are")
        case _:
            assert_never(rule.form)
    if rule.transposed and len(shape) > 1:
        shape = (*shape[:-2], *shape[:-3:-1])
    yield filled(rule.tensor, numbers) + suffix, shape


def _refused(message: str) -> SpecError:
    help_ = "without --as the folder has the generated model's own code, and is any model"
    return SpecError(Diagnostic(code="MOT108", message=message, span=None, help=help_))
