"""Types of the content of `benchmark.json`; `benchmark.schema.json` is generated from them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from runkit.content import Count, Interval, RunHead, Share
from runkit.schema import Keywords, make_schema

__all__ = [
    "BenchmarkConfig",
    "BenchmarkFile",
    "BenchmarkMeasures",
    "BenchmarkNumbers",
    "BenchmarkRawData",
    "ConditionContent",
    "Curves",
    "DatasetContent",
    "NetworkContent",
    "NetworkPairs",
    "PeopleContent",
    "PublishedNetwork",
    "ResamplingMethod",
    "benchmark_schema",
]

_Fraction = Annotated[float | None, Keywords(minimum=0, maximum=1, description="null where it is not defined")]
_Kappa = Annotated[float | None, Keywords(maximum=1, description="null where it is not defined")]
_Rank = Annotated[float | None, Keywords(minimum=1, description="ties share their mean; null without a rank")]
_P = Annotated[float | None, Keywords(minimum=0, maximum=1)]
_Persons = Annotated[
    Sequence[float] | None,
    Keywords(minItems=2, maxItems=2, description="at 95%, with other images and other persons; null without one"),
]


class BenchmarkNumbers(TypedDict):
    """The benchmark's four measures, with intervals for other images, and for other images and other persons."""

    ood_accuracy: _Fraction
    ood_accuracy_interval: Interval
    ood_accuracy_interval_persons: _Persons
    accuracy_difference: _Fraction
    accuracy_difference_interval: Interval
    accuracy_difference_interval_persons: _Persons
    accuracy_difference_bias: Annotated[
        float | None, Keywords(description="how much of it the limited number of images adds on average")
    ]
    observed_consistency: _Fraction
    observed_consistency_interval: Interval
    observed_consistency_interval_persons: _Persons
    error_consistency: _Kappa
    error_consistency_interval: Interval
    error_consistency_interval_persons: _Persons


class NetworkDataset(BenchmarkNumbers):
    """A network's measures in one dataset."""

    trials: Count
    missing_trials: Count
    kappa_is_one: Annotated[
        int,
        Keywords(
            minimum=0,
            description="for how many persons and conditions the two never differed: error consistency is 1 there by "
            "definition, also where it would be 0/0",
        ),
    ]


class NetworkRanks(TypedDict):
    """A network's ranks, with intervals, among the networks that have all measures for every dataset."""

    ood_accuracy_rank: _Rank
    ood_accuracy_rank_interval: Interval
    ood_accuracy_rank_interval_persons: _Persons
    accuracy_difference_rank: _Rank
    accuracy_difference_rank_interval: Interval
    accuracy_difference_rank_interval_persons: _Persons
    observed_consistency_rank: _Rank
    observed_consistency_rank_interval: Interval
    observed_consistency_rank_interval_persons: _Persons
    error_consistency_rank: _Rank
    error_consistency_rank_interval: Interval
    error_consistency_rank_interval_persons: _Persons
    mean_rank: Annotated[float | None, Keywords(minimum=1, description="of the three ranks after that of OOD accuracy")]
    mean_rank_interval: Interval
    mean_rank_interval_persons: _Persons


class NetworkContent(BenchmarkNumbers, NetworkRanks):
    """A network: means over its datasets, ranks, and its measures in each dataset."""

    label: str
    random: Annotated[bool, Keywords(description="whether its weights are random, by its name")]
    missing_trials: Count
    kappa_is_one: Count
    datasets: Mapping[str, NetworkDataset]


class PeopleDataset(BenchmarkNumbers):
    """People's measures in one dataset: accuracy over all trials, the others averaged over pairs of persons."""

    persons: Annotated[Mapping[str, Share], Keywords(description="OOD accuracy of each person")]
    kappa_is_one: Count


class PeopleContent(BenchmarkNumbers):
    """People: means over the datasets, and their measures in each dataset."""

    kappa_is_one: Count
    datasets: Mapping[str, PeopleDataset]


class ConditionContent(TypedDict):
    """A condition of a dataset."""

    token: str
    label: str
    kept: Annotated[bool, Keywords(description="whether it counts in the benchmark")]


class Curves(TypedDict):
    """A measure in each condition of a dataset, in the order of the conditions; null without a trial."""

    networks: Mapping[str, Sequence[float | None]]
    people: Sequence[float | None]
    persons: Mapping[str, Sequence[float | None]]


class DatasetCurves(TypedDict):
    """The measures that the figures over conditions show."""

    accuracy: Annotated[Curves, Keywords(description="people: of all trials")]
    error_consistency: Annotated[
        Curves, Keywords(description="kappa with people: the mean over persons, of a person over the others")
    ]
    entropy: Annotated[Curves, Keywords(description="of the distribution of answers, in bits; people: the mean")]


class DatasetMatrix(TypedDict):
    """Error consistency of every pair of observers over all trials of a dataset."""

    observers: Annotated[Sequence[str], Keywords(description="networks, then persons")]
    error_consistency: Sequence[Sequence[_Kappa]]


class DatasetConfusion(TypedDict):
    """Numbers of trials in conditions that count: a row per answer ('na', then categories), a column per category."""

    networks: Mapping[str, Sequence[Sequence[Count]]]
    people: Sequence[Sequence[Count]]


class DatasetContent(TypedDict):
    """A dataset of the benchmark, with measures of all its observers."""

    title: str
    images: Count
    published_list: Annotated[bool, Keywords(description="whether images, categories, conditions are the published")]
    source: str
    axis: str
    conditions: Annotated[Sequence[ConditionContent], Keywords(description="empty where there is one kind of image")]
    curves: Annotated[DatasetCurves | None, Keywords(description="null where there is one kind of image")]
    matrix: DatasetMatrix
    confusion: DatasetConfusion


class NetworkPair(TypedDict):
    """Difference between two networks in a measure (`shapebias.measures.uncertainty.NetworkDifference`)."""

    measure: str
    first: str
    second: str
    difference: Annotated[float, Keywords(description="first minus second")]
    low: Annotated[float, Keywords(description="lower end of its paired 95% interval, with other images")]
    high: float
    p: _P
    p_holm: Annotated[
        float | None, Keywords(minimum=0, maximum=1, description="corrected for all pairs of the measure")
    ]
    low_persons: Annotated[float | None, Keywords(description="the same with other images and other persons")]
    high_persons: float | None
    p_persons: _P
    p_holm_persons: _P


class NetworkPairs(TypedDict):
    """Differences of every pair of networks that have all measures, and how they were tested."""

    test: str
    correction: str
    pairs: Sequence[NetworkPair]


class _Few(TypedDict, total=False):
    note: Annotated[str, Keywords(description="a warning, only where a dataset has too few images")]


class ResamplingMethod(_Few):
    """Description of how intervals were computed."""

    level: Share
    images: str
    persons: str
    ranks: str
    resamples: Count
    seed: int


class PublishedNetwork(TypedDict):
    """A row of the toolbox's printed table, rounded as printed."""

    model: str
    ood_accuracy: float | None
    accuracy_difference: float | None
    observed_consistency: float | None
    error_consistency: float | None
    source: str


class BenchmarkMeasures(TypedDict):
    """The measures, without the run that computed them."""

    scope: Annotated[str, Keywords(description="how many of the 17 datasets; a part is not comparable with others")]
    comparable: Annotated[bool, Keywords(description="whether all 17 datasets are there, with their published images")]
    units: str
    interval: Annotated[ResamplingMethod | None, Keywords(description="null if no intervals were asked for")]
    networks: Mapping[str, NetworkContent]
    people: PeopleContent
    datasets: Mapping[str, DatasetContent]
    differences: NetworkPairs
    faults: Annotated[Sequence[str], Keywords(description="what was wrong with the answers, as it was warned")]


class BenchmarkRawData(TypedDict):
    """A file of answers."""

    dataset: str
    subject: str
    file: str
    sha256: str
    trials: Count


class BenchmarkConfig(TypedDict):
    """The options of the run."""

    datasets: Annotated[Sequence[str], Keywords(description="asked for; empty for all that there are")]
    intervals: bool
    resamples: Count
    seed: int
    with_published: bool


class BenchmarkFile(RunHead, BenchmarkMeasures):
    """Content of `benchmark.json`."""

    config: BenchmarkConfig
    raw_data: Sequence[BenchmarkRawData]
    published: Annotated[Sequence[PublishedNetwork], Keywords(description="empty unless asked for")]
    pictures: Sequence[str]


def benchmark_schema() -> dict[str, Any]:
    """Make the JSON Schema of `benchmark.json`."""
    return make_schema(
        BenchmarkFile, title="Result of shapebias.benchmark", description="docs/file-formats.md has it in words"
    )
