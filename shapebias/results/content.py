"""What the JSON files of shape bias hold, as types; the JSON Schemas beside this file are made of them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from runkit.content import (
    Count,
    IntervalMethod,
    ModelArguments,
    PeakMemory,
    RunHead,
    Share,
    Weights,
    WeightsIdentity,
)
from runkit.schema import Keywords, make_schema
from shapebias.measures.content import ErrorConsistency, ObserverMeasures, PairDifference, PermutationTest

__all__ = [
    "AnswersIdentity",
    "ComparisonHead",
    "ComparisonResult",
    "NetworkHead",
    "NetworkProvenance",
    "NetworkResult",
    "ObserverResult",
    "RawData",
    "RecordedHead",
    "RecordedResult",
    "SkippedNetwork",
    "comparison_schema",
    "result_schema",
]

_WORDS = "docs/file-formats.md has it in words"
_Pair = Annotated[Sequence[int], Keywords(minItems=2, maxItems=2)]
_Precision = Literal["float32", "bfloat16", "float16"]


class RawData(TypedDict):
    """Which file holds an observer's answers."""

    file: str
    sha256: str
    subject: str


class SavedFile(TypedDict):
    """A file beside the result."""

    file: str
    sha256: str


class SkippedNetwork(TypedDict):
    """A network that was left out."""

    model: str
    reason: str


class ObserverResults(ObserverMeasures):
    """The `results` of an observer."""

    units: str
    interval: IntervalMethod


class StimuliIdentity(TypedDict):
    """Which stimuli were asked."""

    images: Count
    content_sha256: str


class ProbabilitiesIdentity(TypedDict):
    """What decides a network's probabilities."""

    model: str
    weights: WeightsIdentity
    preprocessing: Literal["model", "toolbox"]
    precision: _Precision
    stimuli: StimuliIdentity


class AnswersIdentity(ProbabilitiesIdentity):
    """What decides a network's answers."""

    aggregation: Literal["mean", "sum", "max"]


class PrecisionDifference(TypedDict):
    """What a reduced precision changed on some stimuli."""

    images: Annotated[int, Keywords(minimum=1, description="asked in both precisions")]
    decisions_changed: Count
    largest_difference: Annotated[Share, Keywords(description="of a class probability")]


class StimuliPreprocessing(TypedDict):
    """What was done to an image before the network."""

    choice: Literal["model", "toolbox"]
    mean: Sequence[float]
    std: Sequence[float]
    input_size_px: _Pair
    interpolation: str
    crop: None


class StimuliFiles(TypedDict):
    """Which images those are, and whether they are the published ones."""

    name: str
    images: Count
    file_list_sha256: str
    content_sha256: str
    sha256_verified: Literal["full", "none"]
    published_list: bool


class StimuliData(StimuliFiles):
    """The stimuli, and how they were made ready."""

    preprocessing: StimuliPreprocessing


class _NetworkRun(RunHead):
    seed: int
    device: str
    precision: _Precision
    precision_check: Annotated[
        PrecisionDifference | None, Keywords(description="what a reduced precision changed; null in float32")
    ]
    ranks: Annotated[int, Keywords(minimum=1)]
    threads: Annotated[int, Keywords(minimum=1)]
    batch_size: Annotated[int, Keywords(minimum=1)]
    images_per_second: Annotated[float, Keywords(minimum=0)]
    peak_memory: PeakMemory
    weights: Weights
    model_args: ModelArguments
    data: StimuliData


class NetworkProvenance(_NetworkRun):
    """What made a network's probabilities; stands in their file."""

    subject: str
    label: str
    config: ProbabilitiesIdentity


class _Again(TypedDict, total=False):
    remeasured: Annotated[
        RunHead, Keywords(description="of the later run, where the result was made from saved probabilities")
    ]


class NetworkHead(_NetworkRun, _Again):
    """What made a network's answers."""

    config: AnswersIdentity
    probabilities: SavedFile
    ties: Annotated[int, Keywords(minimum=0, description="images in which two categories had the same highest score")]
    skipped: Sequence[SkippedNetwork]


class NetworkResult(NetworkHead):
    """`<model>.json` of a network that was asked."""

    raw_data: RawData
    results: ObserverResults


class RecordedSource(TypedDict):
    """Where answers came from that were not asked for."""

    source: str


class RecordedHead(RunHead):
    """What is known of answers read from a CSV."""

    config: RecordedSource


class RecordedResult(RecordedHead):
    """`<observer>.json` of answers read from a CSV."""

    raw_data: RawData
    results: ObserverResults


ObserverResult = NetworkResult | RecordedResult


class ComparedObservers(TypedDict):
    """Who was compared."""

    observers: Annotated[Sequence[str], Keywords(description="networks, and persons read from a CSV")]
    people: Annotated[int, Keywords(minimum=0, description="how many persons")]


class Differences(TypedDict):
    """Every pair of observers, measure by measure, and how they were tested."""

    test: PermutationTest
    pairs: Sequence[PairDifference]


class ComparisonResults(TypedDict):
    """The `results` of a comparison."""

    units: str
    interval: IntervalMethod
    observers: Annotated[Sequence[ObserverMeasures], Keywords(description="networks, people pooled, single persons")]
    error_consistency: Annotated[
        ErrorConsistency | None, Keywords(description="null where the observers saw different images")
    ]
    differences: Differences


class ComparisonHead(RunHead):
    """What was compared."""

    config: ComparedObservers
    raw_data: Sequence[RawData]
    skipped: Sequence[SkippedNetwork]


class ComparisonResult(ComparisonHead):
    """`shape-bias.json`, with one cue `accuracy.json`."""

    pictures: Sequence[str]
    results: ComparisonResults


def result_schema() -> dict[str, Any]:
    """The JSON Schema of an observer's file."""
    return make_schema(ObserverResult, title="Result of an observer of shapebias.run", description=_WORDS)


def comparison_schema() -> dict[str, Any]:
    """The JSON Schema of `shape-bias.json` and `accuracy.json`."""
    return make_schema(ComparisonResult, title="Comparison of shapebias.run", description=_WORDS)
