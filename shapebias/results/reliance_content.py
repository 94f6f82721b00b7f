"""Types of the content of the JSON files of reliance; the JSON Schemas are generated from them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from runkit.content import (
    Computation,
    Count,
    Interval,
    IntervalMethod,
    ModelArguments,
    Normalisation,
    RunHead,
    Share,
    SkippedNetwork,
    Weights,
    WeightsIdentity,
)
from runkit.schema import Keywords, make_schema

__all__ = [
    "ControlContent",
    "RelianceComparison",
    "RelianceComparisonHead",
    "RelianceIdentity",
    "RelianceMeasures",
    "RelianceProvenance",
    "RelianceResult",
    "reliance_comparison_schema",
    "reliance_schema",
]

_WORDS = "docs/file-formats.md has it in words"
_Fraction = Annotated[float | None, Keywords(minimum=0, maximum=1, description="null without labels")]
_Pair = Annotated[Sequence[int], Keywords(minItems=2, maxItems=2)]
_Left = Annotated[float | None, Keywords(description="null where the images have nothing of it")]


class ImagesIdentity(TypedDict):
    """Identity of the images."""

    number: Annotated[int, Keywords(minimum=1)]
    sha256: Annotated[str, Keywords(description="of the names and the content of the files")]
    classes: Annotated[int, Keywords(minimum=0, description="how many; 0 without labels")]


class RelianceIdentity(Normalisation):
    """The settings that determine a network's answers."""

    model: str
    weights: WeightsIdentity
    images: ImagesIdentity
    suppressions: Annotated[Sequence[str], Keywords(description="labels of the variants, in their order")]
    own_code: Annotated[Mapping[str, str], Keywords(description="suppression of the user's -> SHA-256 of its file")]
    class_names: Annotated[
        Sequence[str] | None, Keywords(description="the lines of a class file that was named, one for each output")
    ]
    precision: str


class RelianceData(TypedDict):
    """The images, and their preprocessing."""

    name: str
    images_found: Count
    images_chosen: Annotated[int, Keywords(minimum=1)]
    classes: Annotated[Sequence[str], Keywords(description="names of the class folders; none without labels")]
    classes_matched: Annotated[str, Keywords(description="how folders and outputs were matched")]
    sha256: str
    mean: Sequence[float]
    std: Sequence[float]
    size_px: _Pair
    interpolation: str
    opencv: Annotated[str, Keywords(description="version")]


class RelianceProvenance(RunHead, Computation):
    """Provenance of a network's answers, which is also stored in their file."""

    config: RelianceIdentity
    seed: Annotated[int, Keywords(description="of random weights")]
    precision: str
    weights: Weights
    model_args: ModelArguments
    data: RelianceData


class VariantMeasures(TypedDict):
    """Measures of a network's answers to one variant."""

    variant: Annotated[str, Keywords(description="suppression and strength; 'none' for the images as they are")]
    suppression: str
    cues: Annotated[str, Keywords(description="what it removes, joined by '+'")]
    strength: float | None
    accuracy: _Fraction
    accuracy_interval: Interval
    relative_accuracy: Annotated[
        float | None, Keywords(description="share of the accuracy above chance that is left; null where there is none")
    ]
    relative_accuracy_interval: Interval
    changed: Annotated[Share, Keywords(description="images whose first answer differs from that to the image as it is")]
    changed_interval: Interval


class SuppressionArea(TypedDict):
    """Summary of a suppression."""

    area: Annotated[float, Keywords(description="under the curve of relative accuracy, 1 if nothing is lost")]
    area_interval: Interval


class CueReliance(TypedDict):
    """Summary of a cue."""

    reliance: Annotated[float, Keywords(description="1 - mean area of the suppressions that remove this cue alone")]
    reliance_interval: Interval


class RelianceMeasures(TypedDict):
    """All measures of a network (`shapebias.measures.reliance.Reliance`)."""

    name: str
    label: str
    chance: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="1 / number of outputs; null without labels")
    ]
    images: Annotated[int, Keywords(minimum=1)]
    variants: Sequence[VariantMeasures]
    suppressions: Mapping[str, SuppressionArea]
    cues: Mapping[str, CueReliance]


class RelianceResults(RelianceMeasures):
    """The `results` block of a network."""

    units: str
    interval: IntervalMethod


class SavedAnswers(TypedDict):
    """The file with a network's answers."""

    file: str
    sha256: str


class RelianceResult(RelianceProvenance):
    """Content of `<model>.json`."""

    label: str
    probabilities: SavedAnswers
    results: RelianceResults


class RelianceDifferenceContent(TypedDict):
    """A paired difference in reliance."""

    kind: Annotated[
        Literal["networks", "cues"],
        Keywords(description="one cue of two networks, or two cues of one network"),
    ]
    first: str
    second: str
    of: Annotated[str, Keywords(description="the cue, or the network, that both have in common")]
    difference: Annotated[float, Keywords(description="reliance of the first minus that of the second")]
    low: Annotated[float, Keywords(description="lower end of its paired 95% interval")]
    high: Annotated[float, Keywords(description="upper end")]
    p: Annotated[float, Keywords(minimum=0, maximum=1, description="of the paired bootstrap, two-sided")]
    p_holm: Annotated[float, Keywords(minimum=0, maximum=1, description="corrected for all comparisons of this kind")]


class BootstrapTest(TypedDict):
    """Description of the test of the differences."""

    method: str
    resamples: Count
    seed: int
    correction: str


class RelianceDifferences(TypedDict):
    """Differences between networks and between cues."""

    test: BootstrapTest
    pairs: Sequence[RelianceDifferenceContent]


class ControlVariant(TypedDict):
    """Properties of the images that are left under one variant (`shapebias.measures.suppression_control`)."""

    variant: str
    suppression: str
    cues: str
    strength: float | None
    high_frequencies: _Left
    high_frequencies_interval: Interval
    edge_strength: _Left
    edge_strength_interval: Interval
    edges_in_place: Annotated[_Left, Keywords(minimum=-1, maximum=1.0001)]
    edges_in_place_interval: Interval
    chroma: _Left
    chroma_interval: Interval
    colours: Annotated[_Left, Keywords(minimum=0, maximum=1)]
    colours_interval: Interval


class ControlContent(TypedDict):
    """What suppressions do to the images themselves."""

    images: Annotated[int, Keywords(minimum=1, description="how many were measured")]
    size_px: _Pair
    definitions: Annotated[Mapping[str, str], Keywords(description="measure -> its definition")]
    variants: Sequence[ControlVariant]


class RelianceComparisonResults(TypedDict):
    """The `results` block of a comparison."""

    units: str
    interval: IntervalMethod
    networks: Sequence[RelianceMeasures]
    differences: RelianceDifferences
    control: Annotated[ControlContent | None, Keywords(description="null where no images were measured")]


class ComparedNetworks(TypedDict):
    """The networks, images and suppressions that were compared."""

    networks: Annotated[Sequence[str], Keywords(description="in the order of `results.networks`")]
    weights: Annotated[Sequence[WeightsIdentity], Keywords(description="of each network")]
    images: ImagesIdentity
    suppressions: Sequence[str]


class RelianceComparisonHead(RunHead):
    """Provenance of a comparison."""

    config: ComparedNetworks
    probabilities: Annotated[Sequence[SavedAnswers], Keywords(description="of each network")]
    skipped: Sequence[SkippedNetwork]


class RelianceComparison(RelianceComparisonHead):
    """Content of `reliance.json`."""

    pictures: Sequence[str]
    results: RelianceComparisonResults


def reliance_schema() -> dict[str, Any]:
    """Make the JSON Schema of a network's file."""
    return make_schema(RelianceResult, title="Result of a network of shapebias.reliance", description=_WORDS)


def reliance_comparison_schema() -> dict[str, Any]:
    """Make the JSON Schema of `reliance.json`."""
    return make_schema(RelianceComparison, title="Comparison of shapebias.reliance", description=_WORDS)
