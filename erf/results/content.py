"""Types of the JSON of a receptive field, from which `result.schema.json` is generated.

The `.npz` holds the same content without `results`, but with the network's `name`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from erf.measures.content import FieldMeasures, PixelPair
from runkit.content import Computation, Count, ModelArguments, RunHead, Weights, WeightsIdentity
from runkit.schema import Keywords, make_schema

__all__ = [
    "FieldForm",
    "FieldIdentity",
    "FieldMaking",
    "FieldProvenance",
    "FieldResult",
    "FieldUnits",
    "LayerTaken",
    "PrecisionDifference",
    "PrecisionLoss",
    "SkippedImage",
    "Stopping",
    "schema",
]

_Precision = Annotated[str, Keywords(enum=["float32", "float64", "bfloat16", "float16", "tf32"])]
_Pixels = Annotated[
    Sequence[PixelPair] | None, Keywords(description="first and last pixel, down and across", minItems=2, maxItems=2)
]


class _Asked(TypedDict, total=False):
    position: Annotated[
        str | Sequence[float], Keywords(description="of the unit that is asked, unless it is the centre")
    ]
    layout: Annotated[str, Keywords(description="of the layer's output, where it was said")]
    call: Annotated[int, Keywords(description="which call of the layer, where it was said")]
    prefix_tokens: Annotated[int, Keywords(minimum=0, description="tokens before the map, where it was said")]
    mean: Annotated[Sequence[float], Keywords(description="of the images' channels, where it was said")]
    std: Annotated[Sequence[float], Keywords(description="of the images' channels, where it was said")]
    until: Annotated[
        float,
        Keywords(description="share of a side that its interval had to be narrower than, where it was said"),
    ]


class FieldIdentity(_Asked):
    """What determines a result, regardless of the device and the batch size."""

    model: str
    weights: WeightsIdentity
    images: Annotated[str, Keywords(description="SHA-256 of the images' names and files")]
    num_images: Count
    size: Annotated[int | PixelPair, Keywords(description="side of the images, or height and width, in pixels")]
    layer: str
    precision: _Precision
    plain: bool


class PrecisionLoss(TypedDict):
    """How much a map in a reduced precision differs from that in float32."""

    relative_l2: Annotated[
        float | None,
        Keywords(
            minimum=0,
            description="norm of the difference over the norm of the map in float32; null where it is not finite",
        ),
    ]


class PrecisionDifference(PrecisionLoss):
    """How much a reduced precision changes the map of the first image."""

    image: str


class FieldImages(TypedDict):
    """The images whose maps were computed, and how they were preprocessed."""

    name: str
    images_found: Count
    images_chosen: Count
    images_used: Annotated[int, Keywords(minimum=1)]
    sha256: str
    size_px: PixelPair
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str


class SkippedImage(TypedDict):
    """An image that could not be used."""

    image: str
    reason: str


class Unit(TypedDict):
    """Which units of the feature map were measured."""

    feature_map: Annotated[PixelPair, Keywords(description="height and width of the feature map")]
    indices: Annotated[Sequence[PixelPair], Keywords(minItems=1, description="of the units, down and across")]
    covers_px: _Pixels
    centre_px: PixelPair


class TheoreticalExtent(TypedDict):
    """The largest region that a unit can see."""

    side_px: PixelPair | None
    stride_px: Annotated[
        Sequence[float] | None,
        Keywords(minItems=2, maxItems=2, description="a fraction for maps that are finer than the image"),
    ]
    centred_side_px: Annotated[
        int | None,
        Keywords(
            minimum=1,
            description="side of the smallest square round the centre pixel that holds the field: larger than side_px "
            "where the field does not lie round that pixel",
        ),
    ]
    covers_px: _Pixels
    reason: Annotated[str | None, Keywords(description="why there is none: 'no bound: ...' or 'not known: ...'")]


class LayerTaken(TypedDict):
    """The map that was taken for the requested layer."""

    module: Annotated[str, Keywords(description="name of the submodule whose map it is")]
    layout: Annotated[
        str | None, Keywords(description="letters of its dimensions, such as NHWC; null where timm arranges the map")
    ]
    call: Annotated[int | None, Keywords(description="which call of a submodule that runs several times")]
    prefix_tokens: Annotated[int, Keywords(minimum=0, description="tokens left out before those of the map")]
    note: Annotated[str | None, Keywords(description="what else has to be known of the map")]


class FieldUnits(TypedDict):
    """Where a map was measured."""

    unit: Unit
    theoretical_field: TheoreticalExtent


class FieldForm(TypedDict):
    """In which form the network was run."""

    form: Annotated[
        Literal["lean", "plain"] | None,
        Keywords(
            description="what computed the gradients: the network itself, or its lean form, which is proven to give "
            "the same; null if a continued run had no image left"
        ),
    ]
    form_reason: Annotated[str | None, Keywords(description="why this form")]


class Stopping(TypedDict):
    """How a run ended that was to use only as many images as needed."""

    until: Annotated[float, Keywords(description="share of the side that holds half of the contribution")]
    interval_width: Annotated[
        float | None,
        Keywords(description="of its 95% interval, as a share of the side, after the images used"),
    ]
    reached: Annotated[bool, Keywords(description="whether that was narrow enough before the images came to an end")]


class _Stopped(TypedDict, total=False):
    stopping: Annotated[Stopping, Keywords(description="where the run was to end by an interval (--until)")]


class FieldMaking(RunHead, FieldUnits, FieldForm, Computation, _Stopped):
    """How a map was made, without its identity."""

    config: Annotated[Mapping[str, Any], Keywords(description="all options of the command")]
    seed: int
    precision: _Precision
    plain: bool
    layer: str
    layer_taken: LayerTaken
    precision_difference: Annotated[
        PrecisionDifference | None, Keywords(description="of a reduced precision to float32, on the first image")
    ]
    weights: Weights
    model_args: ModelArguments
    data: FieldImages
    skipped: Sequence[SkippedImage]


class FieldProvenance(FieldMaking):
    """How a map was made."""

    identity: FieldIdentity


class FieldResult(FieldProvenance):
    """The content of the whole file."""

    results: FieldMeasures


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    return make_schema(FieldResult, title="Result of erf.visualize", description="docs/file-formats.md has it in words")
