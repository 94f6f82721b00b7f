"""Types of the content of the JSON files of shape bias; the JSON Schemas are generated from them."""

from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from runkit.content import (
    IntervalMethod,
    RunHead,
    SkippedNetwork,
)
from runkit.schema import Keywords, make_schema
from shapebias.answers.content import NetworkRun, ProbabilitiesIdentity
from shapebias.measures.content import ErrorConsistency, ObserverMeasures, PairDifference, PermutationTest

__all__ = [
    "AnswersIdentity",
    "ComparisonHead",
    "ComparisonResult",
    "NetworkHead",
    "NetworkResult",
    "ObserverResult",
    "RawData",
    "RecordedHead",
    "RecordedResult",
    "comparison_schema",
    "result_schema",
]

_WORDS = "docs/file-formats.md has it in words"


class SavedFile(TypedDict):
    """A file next to the result."""

    file: str
    sha256: str


class _Sessions(TypedDict, total=False):
    further_sessions: Sequence[SavedFile]


class RawData(_Sessions):
    """The file that holds an observer's answers; `further_sessions` is present only if there are several."""

    file: str
    sha256: str
    subject: str


class ObserverResults(ObserverMeasures):
    """The `results` block of an observer."""

    units: str
    interval: IntervalMethod


class AnswersIdentity(ProbabilitiesIdentity):
    """The settings that determine a network's answers."""

    aggregation: Annotated[str, Keywords(enum=["mean", "sum", "max"])]


class _Again(TypedDict, total=False):
    remeasured: Annotated[
        RunHead, Keywords(description="of the later run, where the result was made from saved probabilities")
    ]


class NetworkHead(NetworkRun, _Again):
    """Provenance of a network's answers."""

    config: AnswersIdentity
    probabilities: SavedFile
    ties: Annotated[int, Keywords(minimum=0, description="images in which two categories had the same highest score")]
    skipped: Sequence[SkippedNetwork]


class NetworkResult(NetworkHead):
    """Content of `<model>.json`, for a network that was run."""

    raw_data: RawData
    results: ObserverResults


class RecordedSource(TypedDict):
    """Source of recorded answers."""

    source: str


class RecordedHead(RunHead):
    """Provenance of answers that were read from a CSV."""

    config: RecordedSource


class RecordedResult(RecordedHead):
    """Content of `<observer>.json`, for answers that were read from a CSV."""

    raw_data: RawData
    results: ObserverResults


ObserverResult = NetworkResult | RecordedResult


class ComparedObservers(TypedDict):
    """The observers that were compared."""

    observers: Annotated[Sequence[str], Keywords(description="networks, and persons read from a CSV")]
    people: Annotated[int, Keywords(minimum=0, description="how many persons")]


class Differences(TypedDict):
    """Differences of all pairs of observers, measure by measure, and how they were tested."""

    test: PermutationTest
    pairs: Sequence[PairDifference]


class _Noted(TypedDict, total=False):
    note: Annotated[str, Keywords(description="warning of other images than the published ones, or of too few")]


class ComparisonResults(_Noted):
    """The `results` block of a comparison."""

    units: str
    interval: IntervalMethod
    observers: Annotated[Sequence[ObserverMeasures], Keywords(description="networks, people pooled, single persons")]
    error_consistency: Annotated[
        ErrorConsistency | None, Keywords(description="null where the observers saw different images")
    ]
    differences: Differences


class ComparisonHead(RunHead):
    """Provenance of a comparison."""

    config: ComparedObservers
    raw_data: Sequence[RawData]
    skipped: Sequence[SkippedNetwork]


class ComparisonResult(ComparisonHead):
    """Content of `shape-bias.json` or, with one cue, `accuracy.json`."""

    pictures: Sequence[str]
    results: ComparisonResults


def result_schema() -> dict[str, Any]:
    """Make the JSON Schema of an observer's file."""
    return make_schema(ObserverResult, title="Result of an observer of shapebias.run", description=_WORDS)


def comparison_schema() -> dict[str, Any]:
    """Make the JSON Schema of `shape-bias.json` and `accuracy.json`."""
    return make_schema(ComparisonResult, title="Comparison of shapebias.run", description=_WORDS)
