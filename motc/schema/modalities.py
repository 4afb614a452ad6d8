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
    channels: Annotated[int, Field(ge=1, le=2**14)] = Field(
        576, description="channels at the first level; they double a level"
    )
    blocks: Annotated[int, Field(ge=1, le=64)] = Field(3, description="residual blocks a level, on each side")


class TimeSpec(Section):
    """How a token is told its timestep; which keys a kind has is checked when the spec is lowered."""

    kind: Literal["added", "concat", "none"] = Field(
        "added",
        description=(
            "`added`: its vector is added to each token; `concat`: its sinusoids and the token go through two"
            " maps together, as in π0; `none`: tokens are not told it, as where norms are"
        ),
    )
    min_period: Period | None = Field(
        None, description="for `concat`: the shortest period of a sinusoid, 1 being all of the noise; default: `0.004`"
    )
    max_period: Period | None = Field(None, description="for `concat`: the longest; default: `4`")
    scale: Positive | None = Field(
        None,
        description=(
            "for `added`: what the timestep is multiplied with; `0.001` makes its sinusoids those of a time "
            "from 0 to 1; default: `1`"
        ),
    )
    size: Size | None = Field(
        None, description="for `added`: how many cosines and sines of it there are together; default: `256`"
    )


class ObjectiveSpec(Section):
    """What is predicted; which keys a kind has is checked when the spec is lowered."""

    kind: Objective = Field(
        "ddpm",
        description=(
            "`ddpm`: at one of 1,000 steps of added noise; `flow`: the velocity from data to noise, on a straight line"
        ),
    )
    prediction: Prediction | None = Field(
        None, description="of `ddpm`: the `noise`, the `velocity` or the `sample`; default: `noise`"
    )
    variance: Variance | None = Field(
        None,
        description=(
            "of `ddpm`: `learned`: that of a step is predicted too, by as many channels more; default: `fixed`"
        ),
    )
    schedule: Schedule | None = Field(
        None,
        description=(
            "of `ddpm`: how much noise each step adds, `cosine`, `linear` or `scaled_linear`; default: `cosine`"
        ),
    )
    beta_start: Share | None = Field(
        None, description="of `linear` and `scaled_linear`: what the first step adds; default: `0.0001`"
    )
    beta_end: Share | None = Field(
        None, description="of `linear` and `scaled_linear`: what the last one adds; default: `0.02`"
    )


class TokenShiftSpec(Section):
    """A shift of times that follows from how many tokens a latent has."""

    kind: TokenShiftKind = Field(
        ..., description="`sqrt`: the root of tokens / base_tokens; `exponential`: e to a line through two points"
    )
    base_tokens: Size | None = Field(None, description="the first point's tokens; required for `sqrt`; default: `256`")
    max_tokens: Size | None = Field(None, description="of `exponential`: the second point's tokens; default: `4096`")
    base_shift: float | None = Field(
        None, ge=-20, le=20, description="of `exponential`: the exponent at the first; default: `0.5`"
    )
    max_shift: float | None = Field(
        None, ge=-20, le=20, description="of `exponential`: the exponent at the second; default: `1.15`"
    )


class TimesSpec(Section):
    """How times are drawn; which keys a kind has is checked when the spec is lowered."""

    kind: TimesKind = Field(
        "uniform",
        description="the distribution of times, 0 being data and 1 noise: `uniform`, `logit_normal`, `mode` or `beta`",
    )
    mean: float | None = Field(
        None, ge=-100, le=100, description="of `logit_normal`: the mean of log(t / (1 - t)); default: `0`"
    )
    std: Annotated[float, Field(gt=0, le=100)] | None = Field(
        None, description="of `logit_normal`: its standard deviation; default: `1`"
    )
    scale: float | None = Field(None, ge=-1, le=1.75, description="of `mode`: how far from even it is; default: `1.29`")
    alpha: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="of `beta`: its first parameter; default: `1.5`"
    )
    beta: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="of `beta`: its second parameter; default: `1`"
    )
    low: float = Field(0.0, ge=0, lt=1, description="the time that a 0 of the distribution is")
    high: float = Field(1.0, gt=0, le=1, description="the time that a 1 of the distribution is")
    shift: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="s: a time t becomes s t / (1 + (s - 1) t), so that above 1 there is more noise"
    )
    each: Moment = Field(
        "span",
        description=(
            "of what one is drawn: of each `span`, `frame` (the patches along the first of three axes) or "
            "`token`; not for a `unet`"
        ),
    )
    shift_by_tokens: TokenShiftSpec | None = Field(
        None, description="in place of `shift`, one that follows from how many tokens a latent has"
    )


class WeightingSpec(Section):
    """What errors count by their time; which objective has a kind is checked when the spec is lowered."""

    kind: WeightingKind = Field(..., description="of `ddpm`: `snr` or `min_snr`; of `flow`: `sigma_sqrt` or `cosmap`")
    gamma: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="of `min_snr`: the most that signal over noise counts; default: `5`"
    )


class SineSpec(Section):
    base: Size | None = Field(
        None,
        description=(
            "places along a side go from 0 to below this, however many patches there are; without it they are counted"
        ),
    )
    crop: Size | None = Field(
        None,
        description=(
            "with `base`: the grid is the middle of one of so many rows and columns, whose places do, as in SD3"
        ),
    )


class PlacesSpec(Section):
    """A table of places that are learnt."""

    rows: Size = Field(..., description="rows of patches that the table has")
    columns: Size | None = Field(None, description="columns of patches that it has; default: `learned.rows`")
    fit: Fit = Field(
        "crop",
        description=(
            "what an image of another size has: `crop`: the middle of the table; `interpolate`: all of it, "
            "bicubically, as in ViT"
        ),
    )


class LatentSpec(Section):
    """What a continuous modality is made of; how its parts go together is checked when the spec is lowered."""

    channels: Size = Field(..., description="channels of a latent")
    patch: Patch = Field(
        ...,
        description=(
            "a token is a patch of so many rows and columns, at most 64; `[1]`, `[2, 4]` or `[1, 2, 2]`: of "
            "so many along each axis of a sequence, an image or a volume"
        ),
    )
    ends: EndsKind = Field("linear", description="what makes tokens of patches, and back: `linear` maps or a `unet`")
    unet: UnetSpec | None = Field(None, description="with `ends = unet`: its sizes")
    time: Annotated[
        TimeSpec, BeforeValidator(mask_word, json_schema_input_type=Literal["added", "concat", "none"] | TimeSpec)
    ] = Field(
        TimeSpec(), description="how `linear` ends are told the timestep; `time = concat` is `time { kind = concat }`"
    )
    learned: PlacesSpec | None = Field(
        None, description="for images: what is learnt of its row and column is added to a token, as in AuraFlow"
    )
    sine: SineSpec | None = Field(
        None, description="for images: sines of its row and column are added to a token, as in ViT and DiT"
    )
    bias: bool | None = Field(
        None, description="of linear ends: a bias on the map from patches to tokens; default: `true`"
    )
    out_bias: bool | None = Field(
        None, description="of linear ends: a bias on the map from states to what is predicted; default: `latent.bias`"
    )
    objective: Annotated[
        ObjectiveSpec, BeforeValidator(mask_word, json_schema_input_type=Objective | ObjectiveSpec)
    ] = Field(ObjectiveSpec(), description="what is predicted; `objective = flow` is `objective { kind = flow }`")
    times: Annotated[TimesSpec, BeforeValidator(mask_word, json_schema_input_type=TimesKind | TimesSpec)] = Field(
        TimesSpec(), description="how likely how much noise is in training; `times = beta` is `times { kind = beta }`"
    )
    weighting: Annotated[
        WeightingSpec | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none"] | WeightingKind | WeightingSpec | None),
    ] = Field(
        None, description="what errors count by their time; `weighting = cosmap` is `weighting { kind = cosmap }`"
    )
    weight: float = Field(1.0, gt=0, le=1e6, description="of the denoising loss in the total")

    @property
    def has_out_bias(self) -> bool:
        """Whether what is predicted has a bias: unless said, as what makes tokens, which has one unless said."""
        return (self.bias is not False) if self.out_bias is None else self.out_bias


class ProjectorSpec(Section):
    """What is between a feature and the stream; how its parts go together is checked when the spec is lowered."""

    kind: Literal["linear", Activation] = Field(
        "linear",
        description=(
            "`linear`: one linear map; `silu`, `gelu`, `gelu_tanh`, `quick_gelu`, `relu`, `relu2`: two, with "
            "this activation between"
        ),
    )
    hidden: Size | None = Field(None, description="numbers between two maps; default: the width")
    bias: bool = Field(True, description="biases on the maps")
    norm: Annotated[
        NormAttributes | None,
        BeforeValidator(norm_word, json_schema_input_type=Literal["none", NormKind] | NormAttributes | None),
    ] = Field(None, description="a norm of the vector before the maps: `none`, `rms`, `layer`, or a section")


class FeaturesSpec(Section):
    """Vectors of an encoder of the user's."""

    size: Size = Field(..., description="numbers of a vector")
    projector: Annotated[
        ProjectorSpec | None, BeforeValidator(none_word, json_schema_input_type=ProjectorSpec | Literal["none"] | None)
    ] = Field(ProjectorSpec(), description="what brings a vector to the stream's width, or `none`")
    added_after: SomeLayers = Field(
        None,
        description=(
            "layers after each of which a further vector is added to a token's state: `3`, `0..3` with both "
            "ends included, or `0..9 step 3`"
        ),
    )


class SpanPositionsSpec(Section):
    """How a modality's tokens are placed where positions are not given; a span is an unbroken run of it."""

    kind: PlacingKind = Field(
        "consecutive",
        description=(
            "of a span's tokens: `consecutive`; `same`: all at one position; `grid`: by row and column; "
            "`centred`: the same, around the middle"
        ),
    )
    start: PositionNumber | None = Field(None, description="where each span begins; default: the next position")
    advance: PositionNumber | AdvanceWord | None = Field(
        None,
        description=(
            "how much further it goes on after a span: `tokens`, `extent`, `spatial` or a number; default: by kind"
        ),
    )
    noised_advance: PositionNumber | None = Field(
        None, description="for latents: how much further it goes on after a noised span; default: as `advance`"
    )
    delimiters: bool = Field(
        False, description="for `same`: the tokens before and after a span are at its position too"
    )


class PositionsSpec(Section):
    first: PositionNumber = Field(0, description="the first position of each document")
    learned: Annotated[
        Size | None, BeforeValidator(none_word, json_schema_input_type=Size | Literal["none"] | None)
    ] = Field(None, description="a table of so many positions, whose rows are added to tokens")


class ModalitySpec(Section):
    vocab: Size | None = Field(None, description="rows of this modality's own vocabulary; its ids start at 0")
    latent: LatentSpec | None = Field(None, description="makes it a continuous modality")
    condition: ConditionSpec | None = Field(
        None, description="for latents: what adaptive norms know of each span, the sum of its parts"
    )
    features: FeaturesSpec | None = Field(None, description="makes its tokens vectors that are given")
    weight: float | None = Field(
        None, ge=0, le=1e6, description="of each of its targets in the mean that cross-entropy is; default: `1`"
    )
    seen_targets: bool | None = Field(
        None, description="whether a target counts that the token before it sees; default: `false`"
    )
    positions: SpanPositionsSpec | None = Field(
        None, description="how its tokens are placed where positions are not given; default: one by one"
    )

    @property
    def continuous(self) -> Literal["latent", "features"] | None:
        """The section that makes it a continuous modality, if one does."""
        if self.latent is not None:
            return "latent"
        return None if self.features is None else "features"
