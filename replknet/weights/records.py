"""Records of networks and their weights, which are part of every result."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from torch import nn

from replknet.weights.checkpoint import Checkpoint
from replknet.weights.sources import WeightsFile
from runkit import UserError
from runkit.content import Weights, WeightsIdentity

__all__ = ["LoadedModel", "Preprocessing", "ResolvedWeights", "WeightsRecord"]


@dataclass(frozen=True)
class WeightsRecord:
    """Record of a network's weights.

    Attributes:
        model: `arch.tag` of published weights, else the architecture alone.
        source: 'random', 'file', 'package', 'cache' or 'download'; 'built' if the user's own code gave the network its
            weights, 'given' if the network was handed over from Python.
        file: Name of the checkpoint file, None for random weights.
        sha256: SHA-256 of that file, 64 hexadecimal digits; for weights from the user's code, that of the state dict.
        sha256_verified: How much of it was compared with a published hash ('full', 'prefix', 'none'); None for random
            weights.
        seed: Seed of random weights, else None.
        init: How random weights were drawn, else None.
        part: The part of a user's file that holds the weights, such as 'state_dict_ema'; None if there is only one.
        averaged: Whether that part is a moving average of the weights.
        head: Classification head of a user's file, where it is not the architecture's default one.
        code_sha256: SHA-256 of the user's source file that built the network, if one did.
        random: Whether the network is untrained.
    """

    model: str
    source: str
    file: str | None = None
    sha256: str | None = None
    sha256_verified: str | None = None
    seed: int | None = None
    init: str | None = None
    part: str | None = None
    averaged: bool = False
    head: str | None = None
    code_sha256: str | None = None

    @classmethod
    def of_file(cls, model: str, file: WeightsFile) -> "WeightsRecord":
        """Record the weights of a file, before a part of it is chosen."""
        return cls(model, file.source, file.path.name, file.sha256, file.sha256_verified)

    def with_part(self, checkpoint: Checkpoint) -> "WeightsRecord":
        """Name the part that the weights come from, if they are those of a user's file."""
        if self.source != "file":
            return self
        return replace(self, part=checkpoint.part or None, averaged=checkpoint.averaged)

    @property
    def random(self) -> bool:
        return self.source == "random"

    @property
    def label(self) -> str:
        """Short text for titles and tables; random weights are written in capitals."""
        if self.random:
            return f"RANDOM WEIGHTS (seed {self.seed})"
        if self.source == "built":
            return f"weights as built by {self.model}"
        if self.source == "given":
            return "weights as given"
        if self.source != "file":
            return f"weights {self.model}"
        if not self.part:
            return f"weights {self.file}"
        return f"weights {self.file} ({'averaged, ' if self.averaged else ''}{self.part})"

    @property
    def identity(self) -> WeightsIdentity:
        """The facts that determine the tensors, wherever they came from: equal identities mean the same weights."""
        identity: WeightsIdentity = {
            "model": self.model,
            "random": self.random,
            "sha256": self.sha256,
            "seed": self.seed,
        }
        if self.part:
            identity["part"] = self.part
        if self.code_sha256:
            identity["code_sha256"] = self.code_sha256
        return identity

    def as_dict(self) -> Weights:
        """Convert to a dictionary for JSON, with `random` and `label` included so that readers need not infer them."""
        return cast(Weights, {**asdict(self), "random": self.random, "label": self.label})


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a network's images.

    Attributes:
        mean: Mean of each channel (such as red, green, blue) in 0..1, which is subtracted.
        std: Standard deviation of each channel, by which the difference is divided.
        input_size: (height, width) in pixels that the weights were evaluated at.
        interpolation: Name of the resizing filter in timm.
        crop_pct: Side of the centre crop divided by the side after resizing, in timm's evaluation.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]
    interpolation: str
    crop_pct: float

    @property
    def channels(self) -> int:
        """Number of channels of the images that the network takes."""
        return len(self.mean)

    def normalised_by(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> "Preprocessing":
        """Return a copy with another mean or deviation, given as one number or one per channel; None keeps the value.

        Raises: UserError for another count of numbers.
        """

        def of_channels(name: str, values: Sequence[float]) -> tuple[float, ...]:
            if len(values) not in (1, self.channels):
                raise UserError(
                    f"--{name} has {len(values)} numbers, and the network takes {self.channels} channels; give one, or "
                    "one for each"
                )
            return tuple(values) * (self.channels if len(values) == 1 else 1)

        return replace(
            self,
            mean=self.mean if mean is None else of_channels("mean", mean),
            std=self.std if std is None else of_channels("std", std),
        )


@dataclass(frozen=True)
class LoadedModel:
    """A network with known weights.

    Attributes:
        model: The network, in eval mode.
        preprocessing: Preprocessing of its images.
        record: Record of its weights.
        model_args: Arguments with which it was built.
        head: Names of the parameters of its classification head, if the head of the checkpoint differs from that of the
            architecture (`record.head`). If the checkpoint has no head ("none"), the network has these parameters as
            built, which are random, or it has been built without them.
    """

    model: nn.Module
    preprocessing: Preprocessing
    record: WeightsRecord
    model_args: dict[str, Any]
    head: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line, unlike the representation of the network itself, which lists all its modules."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        height, width = self.preprocessing.input_size
        kind, size = type(self.model).__name__, f"{height} x {width} pixels"
        return f"LoadedModel({kind}, {self.record.label}, {parameters / 1e6:.1f} M parameters, {size})"


@dataclass(frozen=True)
class ResolvedWeights:
    """The weights that a network will get, determined before it is built.

    Attributes:
        name: Name of the network.
        record: Record of the weights.
        file: The checkpoint; None for random weights and for weights that the user's code gives the network.
        warning: Why the weights are not the trained ones; None if they are, or if random ones were requested.
        build: For networks not created by timm's registry: builds the network for images of a size (height, width), or
            of its own size if None.
        trial: Whether they only stand in for others, to find out what a run costs. Nothing is logged about them then.
    """

    name: str
    record: WeightsRecord
    file: WeightsFile | None
    warning: str | None = None
    build: Callable[[tuple[int, int] | None], LoadedModel] | None = None
    trial: bool = False
