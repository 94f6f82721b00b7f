"""What the probabilities file holds besides the probabilities, as types; most of it is also in the result's JSON."""

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
    """Which stimuli were asked."""

    images: Count
    content_sha256: str


class _ClassList(TypedDict, total=False):
    classes: Annotated[
        str, Keywords(description="'imagenet-1k' or the SHA-256 of the class list, where it was said (--classes)")
    ]


class ProbabilitiesIdentity(_ClassList, Normalisation):
    """What determines a network's probabilities."""

    model: str
    weights: WeightsIdentity
    preprocessing: Preprocessing
    precision: Precision
    stimuli: StimuliIdentity


class PrecisionDifference(TypedDict):
    """What a reduced precision changed on some stimuli."""

    images: Annotated[int, Keywords(minimum=1, description="asked in both precisions")]
    decisions_changed: Count
    largest_difference: Annotated[Share, Keywords(description="of a class probability")]


class StimuliPreprocessing(TypedDict):
    """What was done to an image before the network."""

    choice: Preprocessing
    mean: Sequence[float]
    std: Sequence[float]
    input_size_px: _Pair
    interpolation: str
    crop: None


class StimuliData(StimuliFiles):
    """The stimuli, and how they were made ready."""

    preprocessing: StimuliPreprocessing


class HeadClasses(TypedDict):
    """What a network's outputs are."""

    name: str
    outputs: Annotated[int, Keywords(minimum=2)]
    categories: Annotated[Sequence[str], Keywords(minItems=2, description="those that the head can answer")]
    comparable: Annotated[bool, Keywords(description="whether these are all 16")]


class _Head(TypedDict, total=False):
    classes: Annotated[HeadClasses, Keywords(description="where they are not the 1000 of ImageNet-1k")]


class NetworkRun(RunHead, Computation, _Head):
    """How a network was asked."""

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
    """What made a network's probabilities, without what determines them."""

    subject: str
    label: str


class NetworkProvenance(NetworkMaking):
    """What made a network's probabilities; stands in their file."""

    config: ProbabilitiesIdentity
