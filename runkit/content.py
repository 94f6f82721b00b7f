"""Types of what the JSON files of both tools have in common: the head of a result, its weights, its memory.

`Annotated` adds the keywords of the JSON Schema that `runkit.schema` generates from these types.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from runkit.schema import Keywords

__all__ = [
    "Computation",
    "Count",
    "DepthwiseKernels",
    "Environment",
    "Interval",
    "IntervalMethod",
    "Machine",
    "ModelArguments",
    "Normalisation",
    "PeakMemory",
    "RunHead",
    "Share",
    "SkippedNetwork",
    "UsedKernels",
    "Weights",
    "WeightsIdentity",
    "normalisation_said",
]

Share = Annotated[float, Keywords(minimum=0, maximum=1)]
Count = Annotated[int, Keywords(minimum=0)]
Interval = Annotated[
    Sequence[float | None] | None,
    Keywords(
        minItems=2,
        maxItems=2,
        description="lower and upper end at 95%; an end not reached is null, the whole where there is no interval",
    ),
]


class Machine(TypedDict):
    """The machine on which a run took place."""

    system: str
    processor: str
    cores: int | None


class Environment(TypedDict):
    """The software and the machine of a run."""

    versions: Annotated[
        Mapping[str, str | None], Keywords(description="of Python and of packages; null where one is not installed")
    ]
    git_commit: Annotated[str | None, Keywords(description="null where the code is not run from a checkout")]
    git_clean: bool | None
    machine: Machine


class RunHead(Environment):
    """The first entries of every result file."""

    schema: Annotated[Literal[2], Keywords(description="version of the form of all result files")]
    command: str
    started: Annotated[str, Keywords(description="UTC, ISO 8601")]
    seconds: Annotated[
        float, Keywords(minimum=0, description="of computing, earlier parts of a continued run included")
    ]


class _Few(TypedDict, total=False):
    note: Annotated[str, Keywords(description="a warning, only where the images are too few for reliable intervals")]


class IntervalMethod(_Few):
    """How intervals were computed."""

    level: Share
    method: str
    resamples: Count
    seed: int


class _Part(TypedDict, total=False):
    part: Annotated[str, Keywords(description="of a user's file, where it holds several sets of weights")]
    code_sha256: Annotated[str, Keywords(description="of the user's source file that built the network, if one did")]


class WeightsIdentity(_Part):
    """Which weights a network has. Equal values mean that all tensors are the same."""

    model: str
    random: bool
    sha256: str | None
    seed: int | None


class SkippedNetwork(TypedDict):
    """A network that was left out."""

    model: str
    reason: str


class Weights(TypedDict):
    """Description of a network's weights (`replknet.WeightsRecord`)."""

    model: Annotated[str, Keywords(description="arch.tag of published weights, else the architecture")]
    source: Literal["random", "file", "package", "cache", "download", "built", "given"]
    file: Annotated[str | None, Keywords(description="name of the checkpoint; null for random weights")]
    sha256: Annotated[str | None, Keywords(description="of that file")]
    sha256_verified: Annotated[
        Literal["full", "prefix", "none"] | None,
        Keywords(description="how much of it was compared with a published one; null for random weights"),
    ]
    seed: Annotated[int | None, Keywords(description="of random weights")]
    init: Annotated[str | None, Keywords(description="how random weights were drawn")]
    part: Annotated[
        str | None, Keywords(description="of a user's file, such as 'state_dict_ema'; null if it has only one")
    ]
    averaged: Annotated[bool, Keywords(description="whether that part is a moving average of the weights")]
    head: Annotated[
        str | None, Keywords(description="of a user's file, where it is not the default head of the architecture")
    ]
    code_sha256: Annotated[
        str | None, Keywords(description="of the user's source file that built the network; null for the zoo's")
    ]
    random: Annotated[bool, Keywords(description="whether the network is untrained")]
    label: Annotated[str, Keywords(description="words for titles and tables")]


class PeakMemory(TypedDict):
    """Peak memory; null if it is not known."""

    resident_bytes: int | None
    cuda_bytes: int | None


class DepthwiseKernels(TypedDict):
    """The implementation that computed large depthwise convolutions on a CPU."""

    compiled: Annotated[
        bool, Keywords(description="whether the kernels that this program compiles served; otherwise PyTorch's own did")
    ]
    llvmlite: Annotated[str | None, Keywords(description="version of the library that compiled them")]


class UsedKernels(TypedDict, total=False):
    """Properties of the kernels that ran which do not follow from the version of PyTorch alone."""

    depthwise_kernels: Annotated[
        DepthwiseKernels, Keywords(description="only of a network with large depthwise kernels on a CPU")
    ]


class Computation(UsedKernels):
    """How a network was run."""

    device: str
    ranks: Annotated[int, Keywords(minimum=1)]
    threads: Annotated[int, Keywords(minimum=1)]
    batch_size: Annotated[int, Keywords(minimum=1)]
    peak_memory: PeakMemory


ModelArguments = Annotated[Mapping[str, Any], Keywords(description="what the network was built with besides its name")]


class Normalisation(TypedDict, total=False):
    """The normalisation of the images that the user requested. It contains only what was given."""

    mean: Annotated[Sequence[float], Keywords(description="of the images' channels, where it was said")]
    std: Annotated[Sequence[float], Keywords(description="of the images' channels, where it was said")]


def normalisation_said(mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation:
    """The entries that `--mean` and `--std` add to an identity; none if the options were not given."""
    said: Normalisation = {}
    if mean is not None:
        said["mean"] = list(mean)
    if std is not None:
        said["std"] = list(std)
    return said
