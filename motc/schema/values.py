"""The values of a spec: what a number, a name, a list or a word may be, and the shorthands for them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic.fields import FieldInfo

from motc.ir.feed_forward import FfnKind
from motc.schema.mistake import Mistake
from motc.schema.names import PATTERN, REFUSED, check_name
from motc.source.printable import cut
from motc.source.way_out import WayOut

MAX_SIZE = 2**24
MAX_LAYERS = 4096


def name_list_to_mapping(value: Any) -> Any:
    """`[text, image]` is `{text: {}, image: {}}`."""
    if not isinstance(value, list):
        return value
    for index, item in enumerate(value):
        if not isinstance(item, str):
            message = "`modalities` has something in its list that is no name"
            raise Mistake("MOT023", message, "name each modality", at=(index,))
    return {item: {} for item in value}  # none stands twice, which was checked where the places are known


def none_word(value: Any) -> Any:
    return None if value == "none" else value


def takes_none(field: FieldInfo) -> bool:
    """Whether the word `none` is one of the field's values."""
    words = (none_word, norm_word, some_layers, adaptive_word)
    return any(isinstance(each, BeforeValidator) and each.func in words for each in field.metadata)


class LayerNumbers(NamedTuple):
    """Layers from `first` to at most `last`, both ends included, each `step` after the one before it."""

    first: int
    last: int
    step: int = 1

    @property
    def numbers(self) -> range:
        return range(self.first, self.last + 1, self.step)

    def __str__(self) -> str:
        """`0..9 step 3`."""
        return f"{self.first}..{self.last}{f' step {self.step}' if self.step > 1 else ''}"


def layer_range(value: Any, several: str = "; write a statement for each range of layers") -> Any:
    """The layers that a number or a range names; `several` is how more ranges are said."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return LayerNumbers(value, value)
    if isinstance(value, str) and (match := re.fullmatch(LAYERS, value)):
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        if first > last:
            way_out = WayOut(f"write {last}..{first}", f"{last}..{first}")
            raise Mistake("MOT041", f"the range {first}..{last} is reversed", way_out)
        if step < 1:
            raise Mistake("MOT041", "a range of step 0 does not end", "count in steps of 1 or more")
        return LayerNumbers(first, last, step)
    message = "layers are a number or a range, such as 3, 0..3 (both ends included) or 0..9 step 3"
    raise Mistake("MOT023", message, f"layers count from 0{several}")


def some_layers(value: Any) -> Any:
    """A number or a range of layers, or none."""
    return layer_range(value, several=", and there is one range") if none_word(value) is not None else None


def one_name(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def some_runs(value: Any) -> Any:
    """A name alone is one run."""
    return one_name(not_null(value))


def not_null(value: Any) -> Any:
    """Nothing, where names are meant, is a mistake and not the default: `bidirectional = null`."""
    if value is None:
        raise Mistake("MOT023", "null names nothing", "leave the key out, or name something")
    return value


def none_kind(value: Any) -> Any:
    """`ffn = none` is a feed-forward whose kind is none; so is attention."""
    return {"kind": "none"} if value == "none" else value


def attention_kind(value: Any) -> Any:
    """A tower's `attention = keys` is one whose kind is that, as with none."""
    return {"kind": value} if value in ("none", "keys") else value


def mask_word(value: Any) -> Any:
    """A plain word, `mask = full`, is the section's kind."""
    return value if isinstance(value, dict | BaseModel) else {"kind": value}


def norm_word(value: Any) -> Any:
    """A plain word, `qk_norm = rms`, is the section's kind; `none` is no norm."""
    return None if value is None else none_word(value) and mask_word(value)


def adaptive_word(value: Any) -> Any:
    """A plain word, `adaptive = image`, is the modality; `none` is for norms that are not adaptive."""
    value = none_word(value)
    return value if value is None or isinstance(value, dict | BaseModel) else {"by": value}


def number_or_list(value: Any) -> str:
    """Which of the two a value is to be taken for, so that what is wrong with it is said of that one."""
    return "list" if isinstance(value, list) else "number"


def word_or_section(value: Any) -> str:
    """Which of the two a value is to be taken for; the tags are no keys, so that they are told from these."""
    return SECTION if isinstance(value, dict | BaseModel) else TRUE_OR_FALSE


def one_statement(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def embedding_scale(value: Any) -> Any:
    """A number above 0, or the word for the square root of a tower's width."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "sqrt_width" or (is_number and 0 < value <= 1e6):
        return float(value) if is_number else value
    said = str(value).lower() if isinstance(value, bool) else str(value)
    message = f"`embedding.scale` should be a number above 0 or sqrt_width, not `{cut(said)}`"
    raise Mistake("MOT023", message, "scale = sqrt_width, or a number of at most 1e6")


def selector_item(value: Any) -> Any:
    return {"groups": [value]} if isinstance(value, str) else value


def untie_list(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [selector_item(item) for item in items]


TRUE_OR_FALSE, SECTION = "[true or false]", "[section]"
LAYERS = r"\s*(\d{1,9})\s*\.\.\s*(\d{1,9})\s*(?:step\s+(\d{1,9})\s*)?"
NAME = {"type": "string", "allOf": [{"pattern": PATTERN}], "not": {"enum": REFUSED}}
Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema(NAME),
]
MODALITIES = Field(min_length=1, max_length=64)
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Eps = Annotated[float, Field(gt=0, lt=1)]
OF_MODALITIES = "names of modalities or towers"
"""Marks values that are such."""
Names = Annotated[list[str], OF_MODALITIES, BeforeValidator(one_name, json_schema_input_type=str | list[str])]
SomeNames = Annotated[Names | None, BeforeValidator(not_null, json_schema_input_type=str | list[str])]
LayerNumber = Annotated[int, Field(ge=0)]
LayerRange = Annotated[str, Field(pattern=f"^{LAYERS}$")]
Layers = Annotated[LayerNumbers, BeforeValidator(layer_range, json_schema_input_type=LayerNumber | LayerRange)]
SomeLayers = Annotated[
    LayerNumbers | None,
    BeforeValidator(some_layers, json_schema_input_type=LayerNumber | LayerRange | Literal["none"] | None),
]
AttentionKind = Literal["softmax", "none"]
TowerAttentionKind = Literal[AttentionKind, "keys"]
FfnKindName = Literal[FfnKind, "moe", "none"]
PatchSize = Annotated[int, Field(ge=1, le=64)]
Patch = Annotated[
    Annotated[PatchSize, Tag("number")] | Annotated[list[PatchSize], Field(min_length=1, max_length=3), Tag("list")],
    Discriminator(number_or_list),
]
ExpertCount = Annotated[int, Field(ge=1, le=1024)]
PositionNumber = Annotated[int, Field(ge=0, le=2**24)]
AXES = Field(min_length=2, max_length=8)
RopeTheta = Annotated[float, Field(gt=0, le=1e12)]
Turns = Annotated[float, Field(gt=0, le=1e6)]
CapacityFactor = Annotated[float, Field(gt=0, le=1024)]
BalanceWeight = Annotated[float, Field(ge=0, le=1000)]
Offset = Annotated[int, Field(ge=0, le=1)]
Period = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Reach = Annotated[int, Field(ge=2, le=MAX_SIZE)]
OutGate = Literal["none", "tanh"]
Window = Annotated[Reach | None, BeforeValidator(none_word, json_schema_input_type=Reach | Literal["none"] | None)]
EmbeddingScale = Annotated[
    float | str, BeforeValidator(embedding_scale, json_schema_input_type=Positive | Literal["sqrt_width"])
]
Softcap = Annotated[
    Positive | None, BeforeValidator(none_word, json_schema_input_type=Positive | Literal["none"] | None)
]
