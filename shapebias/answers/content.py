"""Types of the metadata in a probabilities file; most of it also appears in the JSON of the result."""

from collections.abc import Sequence
from typing import Annotated, TypedDict

from runkit.content import Computation, Count, ModelArguments, Normalisation, RunHead, Share, Weights, WeightsIdentity
from runkit.schema import Keywords
from shapebias.stimuli.images import StimuliFiles

__all__ = [
    "HeadClasses",
    "NetworkMaking",
    "NetworkProvenance",
    "NetworkRun",
    "PrecisionDifference",
    "ProbabilitiesIdentity",
]

Precision = Annotated[str, Keywords(enum=["float32", "bfloat16", "float16"])]
Preprocessing = Annotated[str, Keywords(enum=["model", "toolbox"])]
_Pair = Annotated[Sequence[int], Keywords(minItems=2, maxItems=2)]


class StimuliIdentity(TypedDict):
    """Which stimuli were shown to the network."""

    images: Count
    content_sha256: str


class _ClassList(TypedDict, total=False):
    classes: Annotated[
        str, Keywords(description="'imagenet-1k' or the SHA-256 of the class list, where it was said (--classes)")
    ]


class ProbabilitiesIdentity(_ClassList, Normalisation):
    """The settings that determine a network's probabilities."""

    model: str
    weights: WeightsIdentity
    preprocessing: Preprocessing
    precision: Precision
    stimuli: StimuliIdentity


class PrecisionDifference(TypedDict):
    """How answers in a reduced precision differ from those in float32, on some of the stimuli."""

    images: Annotated[int, Keywords(minimum=1, description="asked in both precisions")]
    decisions_changed: Count
    largest_difference: Annotated[Share, Keywords(description="of a class probability")]


class StimuliPreprocessing(TypedDict):
    """How an image was preprocessed for the network."""

    choice: Preprocessing
    mean: Sequence[float]
    std: Sequence[float]
    input_size_px: _Pair
    interpolation: str
    crop: None


class StimuliData(StimuliFiles):
    """The stimuli and their preprocessing."""

    preprocessing: StimuliPreprocessing


class HeadClasses(TypedDict):
    """The classes of a network's outputs."""

    name: str
    outputs: Annotated[int, Keywords(minimum=2)]
    categories: Annotated[Sequence[str], Keywords(minItems=2, description="those that the head can answer")]
    comparable: Annotated[bool, Keywords(description="whether these are all 16")]


class _Head(TypedDict, total=False):
    classes: Annotated[HeadClasses, Keywords(description="where they are not the 1000 of ImageNet-1k")]


class NetworkRun(RunHead, Computation, _Head):
    """How a network's answers were computed."""

    seed: int
    precision: Precision
    precision_check: Annotated[
        PrecisionDifference | None, Keywords(description="what a reduced precision changed; null in float32")
    ]
    images_per_second: Annotated[float, Keywords(minimum=0)]
    weights: Weights
    model_args: ModelArguments
    data: StimuliData


class NetworkMaking(NetworkRun):
    """Provenance of a network's probabilities, without the settings that determine them (`ProbabilitiesIdentity`)."""

    subject: str
    label: str


class NetworkProvenance(NetworkMaking):
    """Full provenance of a network's probabilities, as stored in their file."""

    config: ProbabilitiesIdentity
