"""What a spec says of modalities: vocabularies, latents, features, and where tokens are placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from motc.ir.denoising import (
    Moment,
    Objective,
    Prediction,
    Schedule,
    TimesKind,
    TokenShiftKind,
    Variance,
    WeightingKind,
)
from motc.ir.latent import EndsKind, Fit
from motc.ir.operators import Activation, NormKind
from motc.ir.positions import AdvanceWord, PlacingKind
from motc.schema.conditions import ConditionSpec
from motc.schema.norms import NormAttributes
from motc.schema.section import Section
from motc.schema.values import (
    Patch,
    Period,
    PositionNumber,
    Positive,
    Share,
    Size,
    SomeLayers,
    mask_word,
    none_word,
    norm_word,
)


class UnetSpec(Section):
    channels: Annotated[int, Field(ge=1, le=2**14)] = Field(576, description="channels at the first level")
    blocks: Annotated[int, Field(ge=1, le=64)] = Field(3, description="residual blocks a level, on each side")


class TimeSpec(Section):
    """How a token is told its timestep; which keys a kind has is checked when the spec is lowered."""

    kind: Literal["added", "concat", "none"] = Field(
        "added", description="added to the token, mixed with it by two maps, or not told to it"
    )
    min_period: Period | None = Field(None, description="for concat: of its sinusoids; default: 0.004")
    max_period: Period | None = Field(None, description="for concat: of its sinusoids; default: 4")
    scale: Positive | None = Field(None, description="for added: what the timestep is multiplied with; default: 1")


class ObjectiveSpec(Section):
    """What is predicted; which keys a kind has is checked when the spec is lowered."""

    kind: Objective = Field("ddpm", description="steps of added noise, or a straight line from data to noise")
    prediction: Prediction | None = Field(None, description="of ddpm: default: noise; flow predicts the velocity")
    variance: Variance | None = Field(None, description="of ddpm: whether a step's is predicted too; default: fixed")
    schedule: Schedule | None = Field(None, description="of ddpm: how much noise each step adds; default: cosine")
    beta_start: Share | None = Field(None, description="of other schedules than cosine: at first; default: 0.0001")
    beta_end: Share | None = Field(None, description="of other schedules than cosine: at last; default: 0.02")


class TokenShiftSpec(Section):
    """A shift of times that follows from how many tokens a latent has."""

    kind: TokenShiftKind = Field(..., description="the root of tokens / base_tokens, or e to a line through two points")
    base_tokens: Size | None = Field(None, description="tokens of the first point; of sqrt, which have a shift of 1")
    max_tokens: Size | None = Field(None, description="of exponential: tokens of the second point; default: 4096")
    base_shift: float | None = Field(None, ge=-20, le=20, description="of exponential: exponent there; default: 0.5")
    max_shift: float | None = Field(None, ge=-20, le=20, description="of exponential: at max_tokens; default: 1.15")


class TimesSpec(Section):
    """How times are drawn; which keys a kind has is checked when the spec is lowered."""

    kind: TimesKind = Field("uniform", description="the distribution of times between data, 0, and noise, 1")
    mean: float | None = Field(None, ge=-100, le=100, description="of logit_normal: of log(t / (1 - t)); default: 0")
    std: Annotated[float, Field(gt=0, le=100)] | None = Field(None, description="of logit_normal; default: 1")
    scale: float | None = Field(None, ge=-1, le=1.75, description="of mode: how far from even; default: 1.29")
    alpha: Annotated[float, Field(gt=0, le=1000)] | None = Field(None, description="of beta; default: 1.5")
    beta: Annotated[float, Field(gt=0, le=1000)] | None = Field(None, description="of beta; default: 1")
    low: float = Field(0.0, ge=0, lt=1, description="the time that 0 of the distribution is")
    high: float = Field(1.0, gt=0, le=1, description="the time that 1 of the distribution is")
    shift: Annotated[float, Field(gt=0, le=1000)] = Field(1.0, description="above 1 there is more noise")
    each: Moment = Field("span", description="of what one is drawn: a span, a frame of three axes, or a token")
    shift_by_tokens: TokenShiftSpec | None = Field(None, description="in place of `shift`: by a latent's tokens")


class WeightingSpec(Section):
    """What errors count by their time; which objective has a kind is checked when the spec is lowered."""

    kind: WeightingKind = Field(..., description="by signal over noise, or as SD3 by sigma")
    gamma: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="of min_snr: the most that signal over noise counts; default: 5"
    )


class SineSpec(Section):
    base: Size | None = Field(None, description="what places along a side are scaled to; default: they are counted")
    crop: Size | None = Field(None, description="with base: the grid is the middle of one of so many rows and columns")


class PlacesSpec(Section):
    """A table of places that are learnt."""

    rows: Size = Field(..., description="rows of patches that the table has")
    columns: Size | None = Field(None, description="columns of patches; default: rows")
    fit: Fit = Field("crop", description="an image of another size has its middle, or all of it interpolated")


class LatentSpec(Section):
    """What a continuous modality is made of; how its parts go together is checked when the spec is lowered."""

    channels: Size = Field(..., description="channels of a latent")
    patch: Patch = Field(
        ..., description="a token is a patch of so many rows and columns, or of so many along each axis of a list"
    )
    ends: EndsKind = Field("linear", description="what makes tokens of patches, and back")
    unet: UnetSpec | None = Field(None, description="sizes of a U-Net, for ends = unet")
    time: Annotated[
        TimeSpec, BeforeValidator(mask_word, json_schema_input_type=Literal["added", "concat", "none"] | TimeSpec)
    ] = Field(TimeSpec(), description="how linear ends are told the timestep: a word, or a section")
    learned: PlacesSpec | None = Field(None, description="for images: what is learnt of a token's place is added to it")
    sine: SineSpec | None = Field(None, description="for images: sines of a token's row and column are added to it")
    bias: bool | None = Field(None, description="of linear ends: a bias on what makes a token; default: true")
    out_bias: bool | None = Field(None, description="of linear ends: on what is predicted; default: as `bias`")
    objective: Annotated[
        ObjectiveSpec, BeforeValidator(mask_word, json_schema_input_type=Objective | ObjectiveSpec)
    ] = Field(ObjectiveSpec(), description="what is predicted: a word, or a section")
    times: Annotated[TimesSpec, BeforeValidator(mask_word, json_schema_input_type=TimesKind | TimesSpec)] = Field(
        TimesSpec(), description="how much noise is how likely in training: a word, or a section"
    )
    weighting: Annotated[
        WeightingSpec | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none"] | WeightingKind | WeightingSpec | None),
    ] = Field(None, description="what errors count by their time: a word, a section, or none")
    weight: float = Field(1.0, gt=0, le=1e6, description="of the denoising loss in the total")

    @property
    def has_out_bias(self) -> bool:
        """Whether what is predicted has a bias: unless said, as what makes tokens, which has one unless said."""
        return (self.bias is not False) if self.out_bias is None else self.out_bias


class ProjectorSpec(Section):
    """What is between a feature and the stream; how its parts go together is checked when the spec is lowered."""

    kind: Literal["linear", Activation] = Field(
        "linear", description="one linear map, or two with this activation between"
    )
    hidden: Size | None = Field(None, description="numbers between two maps; default: the width")
    bias: bool = Field(True, description="biases on the maps")
    norm: Annotated[
        NormAttributes | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none", NormKind] | NormAttributes | None),
    ] = Field(None, description="a norm of the feature before the maps: a word, a section, or none")


class FeaturesSpec(Section):
    """Vectors of an encoder of the user's."""

    size: Size = Field(..., description="numbers of a vector")
    projector: Annotated[
        ProjectorSpec | None, BeforeValidator(none_word, json_schema_input_type=ProjectorSpec | Literal["none"] | None)
    ] = Field(ProjectorSpec(), description="what brings a vector to the stream's width, or none")
    added_after: SomeLayers = Field(
        None, description="layers after each of which a further vector is added to a token's state, or none"
    )


class SpanPositionsSpec(Section):
    """How a modality's tokens are placed where positions are not given; a span is an unbroken run of it."""

    kind: PlacingKind = Field("consecutive", description="how the tokens of a span are placed")
    start: PositionNumber | None = Field(None, description="where each span begins; default: at the next position")
    advance: PositionNumber | AdvanceWord | None = Field(
        None, description="how much further it goes on after a span; default: tokens; 1 for same; extent for grid"
    )
    noised_advance: PositionNumber | None = Field(
        None, description="for latents: how much further it goes on after a noised span; default: as any"
    )
    delimiters: bool = Field(False, description="for same: the tokens before and after a span are part of it")


class PositionsSpec(Section):
    first: PositionNumber = Field(0, description="the first position of each document")
    learned: Annotated[
        Size | None, BeforeValidator(none_word, json_schema_input_type=Size | Literal["none"] | None)
    ] = Field(None, description="a table of so many positions, whose rows are added to tokens; default: none")


class ModalitySpec(Section):
    vocab: Size | None = Field(None, description="rows of the modality's own vocabulary; ids are local to it")
    latent: LatentSpec | None = Field(None, description="makes it a continuous modality, which has no vocabulary")
    condition: ConditionSpec | None = Field(None, description="for latents: what adaptive norms know of each span")
    features: FeaturesSpec | None = Field(None, description="makes its tokens vectors that are given, not ids")
    weight: float | None = Field(
        None, ge=0, le=1e6, description="of each of its targets in the mean cross-entropy; default: 1"
    )
    seen_targets: bool | None = Field(
        None, description="whether a target counts that the token before it sees; default: false"
    )
    positions: SpanPositionsSpec | None = Field(None, description="how its tokens are placed; default: one by one")

    @property
    def continuous(self) -> Literal["latent", "features"] | None:
        """The section that makes it a continuous modality, if one does."""
        if self.latent is not None:
            return "latent"
        return None if self.features is None else "features"
