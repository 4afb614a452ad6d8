"""The one schema of both syntaxes. Unknown keys, wrong types and absurd sizes are refused here."""

from __future__ import annotations

import keyword
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_SIZE = 2**24
MAX_LAYERS = 4096

# Names become attributes of torch modules and dictionaries of them, where these already mean something.
RESERVED = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children clear compile copy cpu cuda double
    dump_patches eval extra_repr float forward fromkeys get get_buffer get_extra_state get_parameter
    get_submodule half init_weights ipu items keys load_state_dict modules mtia named_buffers named_children
    named_modules named_parameters padding parameters pop popitem register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ route set_extra_state
    set_submodule setdefault share_memory state_dict to to_empty total train training type update values xpu
    zero_grad""".split()
)


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > 64:
        raise ValueError(f"{name!r} is not a name: letters, digits and _ only, a letter first, at most 64")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ValueError(f"{name!r} is a Python keyword; the name becomes code")
    if name in RESERVED:
        raise ValueError(f"{name!r} is taken: torch modules have an attribute of that name")
    return name


def _name_list_to_mapping(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if len(set(value)) != len(value):
            raise ValueError("a modality is named twice")
        return {item: {} for item in value}
    return value


def _none_word(value: Any) -> Any:
    return None if value == "none" else value


def _layer_range(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d{1,9})\s*\.\.\s*(\d{1,9})\s*", value)):
        return (int(match[1]), int(match[2]))
    raise ValueError("layers are a number or a range, such as 3 or 0..3 (both ends included)")


def _one_name(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _mask_word(value: Any) -> Any:
    """A plain word, `mask = full`, is the section's kind."""
    return value if isinstance(value, dict | BaseModel) else {"kind": value}


def _selector_item(value: Any) -> Any:
    return {"groups": [value]} if isinstance(value, str) else value


def _untie_list(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [_selector_item(item) for item in items]


Name = Annotated[str, AfterValidator(_check_name)]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Eps = Annotated[float, Field(gt=0, lt=1)]
Names = Annotated[list[str], BeforeValidator(_one_name, json_schema_input_type=str | list[str])]
MaskKindName = Literal["causal", "full", "prefix", "blocks"]
ExpertKindName = Literal["swiglu", "geglu", "gelu", "relu2"]
FfnKindName = Literal["swiglu", "geglu", "gelu", "relu2", "moe"]
RoutingName = Literal["top_k", "expert_choice"]
ExpertCount = Annotated[int, Field(ge=1, le=1024)]
CapacityFactor = Annotated[float, Field(gt=0, le=1024)]
BalanceWeight = Annotated[float, Field(ge=0, le=1000)]
NormKindName = Literal["rms", "layer"]
QkNorm = Annotated[NormKindName | None, BeforeValidator(_none_word)]


class Section(BaseModel):
    """Frozen, strict (no text for a number, no number for true), and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class UnetSpec(Section):
    channels: Annotated[int, Field(ge=1, le=2**14)] = Field(576, description="channels at the first level")
    blocks: Annotated[int, Field(ge=1, le=64)] = Field(3, description="residual blocks a level, on each side")


class LatentSpec(Section):
    """What a continuous modality is made of; how its parts go together is checked when the spec is lowered."""

    channels: Size = Field(..., description="channels of a latent image")
    patch: Annotated[int, Field(ge=1, le=64)] = Field(..., description="a token is a patch of so many rows and columns")
    ends: Literal["linear", "unet"] = Field("linear", description="what makes tokens of patches, and back")
    unet: UnetSpec | None = Field(None, description="sizes of a U-Net, for ends = unet")
    objective: Literal["ddpm", "flow"] = Field("ddpm", description="what is predicted: the noise, or a velocity")
    weight: float = Field(1.0, gt=0, le=1e6, description="of the denoising loss in the total")


class ModalitySpec(Section):
    vocab: Size | None = Field(None, description="rows of the modality's own vocabulary; ids are local to it")
    latent: LatentSpec | None = Field(None, description="makes it a continuous modality, which has no vocabulary")


class RopeSpec(Section):
    theta: float = Field(10000.0, gt=0, le=1e12, description="base of the rotary frequencies")
    pairing: Literal["half", "interleaved"] = Field(
        "half", description="which components rotate together: (i, i + head_dim/2) or (2i, 2i + 1)"
    )


class MaskSpec(Section):
    """Modalities may be named by their tower; what goes together is checked when the spec is lowered."""

    kind: MaskKindName = Field("causal", description="whom a token sees in its document")
    prefix: Names | None = Field(None, description="for kind = prefix: leading tokens of these see each other")
    bidirectional: Names | None = Field(
        None, description="with causal and prefix: an unbroken run of one of these sees all of itself"
    )
    blocks: list[Names] | None = Field(
        None, description="for kind = blocks: disjoint, in order; each sees itself and those before it"
    )
    sees: dict[str, Names] = Field({}, description="whom a modality or tower sees at most; one not named: everyone")


class AttentionSpec(Section):
    heads: Size = Field(..., description="query heads")
    kv_heads: Size | None = Field(None, description="key and value heads; default: heads")
    head_dim: Size | None = Field(None, description="size of a head; default: width / heads")
    bias: bool = Field(False, description="biases on q, k, v, and on out unless out_bias says otherwise")
    out_bias: bool | None = Field(None, description="bias on the output projection; default: bias")
    qk_norm: QkNorm = Field(None, description="norm of queries and keys over head_dim: none, rms or layer")
    qk_norm_eps: Eps | None = Field(None, description="eps of qk_norm; default: norm.eps")
    mask: Annotated[MaskSpec, BeforeValidator(_mask_word, json_schema_input_type=MaskKindName | MaskSpec)] = Field(
        MaskSpec(), description="who sees whom: a word, or a section"
    )
    rope: Annotated[RopeSpec | None, BeforeValidator(_none_word)] = Field(
        RopeSpec(), description="rotary positions, or none"
    )


class FfnSpec(Section):
    kind: FfnKindName = Field(
        "swiglu", description="the feed-forward's activation, swiglu and geglu being gated; or moe"
    )
    hidden: Size | None = Field(
        None, description="hidden size; default: 8/3 width rounded up to 256 if gated, else 4 width"
    )
    bias: bool = Field(False, description="biases on gate, up and down")
    experts: ExpertCount | None = Field(None, description="for kind = moe: how many experts")
    expert: ExpertKindName | None = Field(None, description="for kind = moe: each expert's kind; default: swiglu")
    shared_experts: ExpertCount | None = Field(
        None, description="for kind = moe: experts every token goes to as well, in one feed-forward; default: none"
    )
    routing: RoutingName | None = Field(
        None, description="for kind = moe: tokens choose experts (top_k, the default), or experts choose tokens"
    )
    top_k: ExpertCount | None = Field(None, description="for top_k: how many experts a token goes to; default: 2")
    capacity_factor: CapacityFactor | None = Field(
        None, description="for expert_choice: how many experts a token goes to on average; default: 1"
    )
    balance: BalanceWeight | None = Field(
        None, description="for top_k: weight of the load-balancing loss; default: 0.01"
    )


class NormSpec(Section):
    kind: NormKindName = Field("rms", description="rms or layer")
    eps: Eps = Field(1e-5, description="added to the variance")
    placement: Literal["pre", "post", "sublayer_output"] = Field(
        "pre", description="x + f(norm(x)), norm(x + f(x)), or x + norm(f(x))"
    )
    final: bool | None = Field(None, description="a norm before the head; default: unless placement is post")


class EmbeddingSpec(Section):
    tied: bool = Field(False, description="the head is the embedding's table")


class TowerAttention(Section):
    heads: Size | None = None
    kv_heads: Size | None = None
    head_dim: Size | None = None
    bias: bool | None = None
    out_bias: bool | None = None
    qk_norm: QkNorm = None
    qk_norm_eps: Eps | None = None


class TowerFfn(Section):
    kind: FfnKindName | None = None
    hidden: Size | None = None
    bias: bool | None = None
    experts: ExpertCount | None = None
    expert: ExpertKindName | None = None
    shared_experts: ExpertCount | None = None
    routing: RoutingName | None = None
    top_k: ExpertCount | None = None
    capacity_factor: CapacityFactor | None = None
    balance: BalanceWeight | None = None


class TowerNorm(Section):
    kind: NormKindName | None = None
    eps: Eps | None = None


class TowerSpec(Section):
    modalities: list[Name] = Field(..., min_length=1, description="the modalities that share this tower")
    width: Size | None = Field(None, description="width of the tower's residual stream; default: the model's")
    attention: TowerAttention = Field(TowerAttention(), description="attributes of attention for this tower")
    ffn: TowerFfn = Field(TowerFfn(), description="attributes of the feed-forward for this tower")
    norm: TowerNorm = Field(TowerNorm(), description="attributes of the norms for this tower")


class UntieSpec(Section):
    groups: list[str] = Field(..., min_length=1, description="selectors, such as ffn, attention.q or *.norm")
    as_: list[list[str]] | None = Field(None, alias="as", description="the partition; default: the towers")
    layers: Annotated[tuple[int, int], BeforeValidator(_layer_range)] | None = Field(
        None, description="3, or 0..3 with both ends included; default: all layers"
    )


class Spec(Section):
    """A whole spec, after `extends` has been followed."""

    model: Name = Field(..., description="the model's name; classes are named after it")
    language: Literal[1] = Field(1, description="the version of the language")
    width: Size = Field(..., description="width of the residual stream")
    layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)] = Field(..., description="how many layers")
    vocab: Size | None = Field(None, description="one vocabulary for all modalities")
    modalities: Annotated[dict[Name, ModalitySpec], BeforeValidator(_name_list_to_mapping)] = Field(
        ..., min_length=1, max_length=64, description="the modalities, in the order of their ids"
    )
    attention: AttentionSpec
    ffn: FfnSpec = FfnSpec()
    norm: NormSpec = NormSpec()
    embedding: EmbeddingSpec = EmbeddingSpec()
    towers: dict[Name, TowerSpec] = Field({}, description="named blocks of modalities with attributes of their own")
    untie: Annotated[list[UntieSpec], BeforeValidator(_untie_list)] = Field(
        [], description="which groups have one copy per block; later statements override earlier ones"
    )
