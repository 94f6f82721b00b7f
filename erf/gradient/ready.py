"""Prepare a network for contribution maps."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from erf.gradient.contribution import ForwardError, LayerError, NotDifferentiable, TrainModeError, UnsteadyForward
from erf.gradient.images import ImageSet
from erf.gradient.layers.find import find_feature_map
from erf.gradient.layers.layer import Layer, TakenLayer, as_layer
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.prepare import Prepared, prepare
from erf.gradient.positions import CENTRE, Position
from erf.gradient.precision import is_reduced, number_type, prepare_reduced
from erf.gradient.theoretical import TheoreticalField, field_and_layer
from erf.results.content import PrecisionDifference
from replknet.used_kernels import has_large_depthwise
from replknet.zoo import LoadedModel, Preprocessing, ResolvedWeights, WeightsRecord, load_model
from runkit import UserError
from runkit.compute.memory import available_memory
from runkit.sizes import Size, name_of_size, pixels_of

__all__ = ["LoadedNetwork", "Question", "ReadyNetwork", "check_size", "explained", "load_network", "to_input"]

_logger = logging.getLogger(__name__)
_BYTES_PER_PIXEL = 3 * (1 + 4 + 4) + 8 + 8
"""Memory for each pixel: an image, its normalised form and gradient in three colours, its map, and the sum of maps."""


@dataclass(frozen=True)
class Question:
    """Which map to compute with a network.

    Attributes:
        size: (height, width) to which images are resized.
        layer: As for `erf.gradient.contribution.feature_map`.
        positions: Positions of the units. The maps of several units are superimposed and averaged (`positions.align`).
    """

    size: tuple[int, int]
    layer: str | int | Layer = "last"
    positions: Sequence[Position] = (CENTRE,)


@dataclass(frozen=True)
class ReadyNetwork:
    """A network in eval mode, in the form and precision in which it runs.

    Attributes:
        prepared: The network, on `device`, in the data type of `precision`.
        preprocessing: Its mean and standard deviation.
        device: Device of the network.
        precision: A name that `erf.gradient.precision` knows.
        label: Name of the network in messages.
    """

    prepared: Prepared
    preprocessing: Preprocessing
    device: torch.device
    precision: str = "float32"
    label: str = "the network"

    @property
    def network(self) -> nn.Module | FastForm:
        """The network that runs."""
        return self.prepared.network

    def to_batch(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Convert images from `ImageSet.read` to the input of the network, (N, C, H, W)."""
        x = torch.stack([to_input(image, self.preprocessing) for image in images])
        return x.to(device=self.device, dtype=number_type(self.precision)).contiguous(
            memory_format=self.prepared.memory_format
        )


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, prepared to run, and what results say about it.

    Attributes:
        ready: The network.
        record: Record of its weights.
        model_args: Arguments that it was built with.
        field: Theoretical receptive field of its units.
        taken: The map that was taken for the requested layer.
        precision_difference: How much the reduced precision changes the map of one image; None if the precision is not
            reduced.
        large_depthwise: Whether it has large depthwise convolutions.
    """

    ready: ReadyNetwork
    record: WeightsRecord
    model_args: dict[str, Any]
    field: TheoreticalField
    taken: TakenLayer
    precision_difference: PrecisionDifference | None
    large_depthwise: bool = False


def load_network(
    weights: ResolvedWeights,
    question: Question,
    *,
    device: torch.device,
    precision: str,
    plain: bool,
    cuda_graphs: bool = False,
    images: ImageSet,
    label: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> LoadedNetwork:
    """Load a network and prepare it for a question.

    Args:
        plain: Whether to leave the network as it was published.
        cuda_graphs: Whether to record its operations on a GPU and replay them.
        images: A reduced precision is tested on the first readable image of these.
        mean, std: Mean and standard deviation of the images' channels; None for those that the network states.

    Raises: UserError if the weights do not fit, the network has no such layer or does not take such images, or a
        reduced precision cannot be tested because no image can be read.
    """
    loaded = load_model(weights, input_size=question.size)
    preprocessing = loaded.preprocessing.normalised_by(mean, std)
    record = _judge_head(loaded, question, preprocessing.channels, label)
    with explained(label, question.size):
        field, taken = field_and_layer(
            loaded.model, question.size, layer=question.layer, channels=preprocessing.channels
        )
        if taken is None:  # this needs data
            with torch.no_grad():
                black = torch.zeros(1, preprocessing.channels, *question.size, dtype=torch.float32, device="cpu")
                taken = find_feature_map(loaded.model, black, as_layer(question.layer)).taken
    model = loaded.model.to(device=device)
    large_depthwise = has_large_depthwise(model)
    if is_reduced(precision):
        name, x = _first_input(images, preprocessing, question.size)
        with explained(label, question.size):
            prepared, difference = prepare_reduced(
                model, precision, x.to(device), layer=question.layer, plain=plain, cuda_graphs=cuda_graphs
            )
        relative = difference["relative_l2"]
        said = "is not finite" if relative is None else f"differs from float32 by {relative:.2%}"
        _logger.info("%s: in %s the map of %s %s", label, precision, name, said)
        found: PrecisionDifference | None = {"image": name, **difference}
    else:
        model = model.to(number_type(precision))
        prepared, found = prepare(model, layer=question.layer, plain=plain, cuda_graphs=cuda_graphs), None
    ready = ReadyNetwork(prepared, preprocessing, device, precision, label)
    return LoadedNetwork(ready, record, loaded.model_args, field, taken, found, large_depthwise)


def _judge_head(loaded: LoadedModel, question: Question, channels: int, label: str) -> WeightsRecord:
    """Describe weights whose head is not that of the architecture; this does not matter for most maps.

    Raises: UserError if the map depends on a head that the file does not contain.
    """
    record = loaded.record
    if record.head is None:
        return record
    parameters = dict(loaded.model.named_parameters())
    head = [parameters[name].requires_grad_() for name in loaded.head if name in parameters]
    if head:
        with explained(label, question.size), torch.enable_grad():
            black = torch.zeros(1, channels, *question.size, dtype=torch.float32, device="cpu")
            values = find_feature_map(loaded.model, black, as_layer(question.layer)).values
            grads = torch.autograd.grad(values.sum(), head, allow_unused=True) if values.requires_grad else ()
        if any(grad is not None for grad in grads):
            if record.head == "none":
                raise UserError(
                    f"{label}: {record.file} holds no {', '.join(loaded.head)}, of which the map of layer "
                    f"{as_layer(question.layer).name!r} is made; name an earlier layer by --layer"
                )
            return record
    return replace(record, head=f"{record.head}, head not used")


def check_size(size: Size) -> None:
    """Raises: UserError if images of this size have no feature map, or a single one exceeds the memory."""
    (height, width), said = pixels_of(size), name_of_size(size)
    if min(height, width) < 32:
        raise UserError(f"--size {said}: feature maps need at least 32 pixels")
    needed, free = height * width * _BYTES_PER_PIXEL, available_memory(torch.device("cpu"))
    if needed > free:
        raise UserError(
            f"--size {said}: an image and its map need {needed / 1e9:,.0f} GB of memory, and {free / 1e9:,.0f} GB are "
            "free; choose a smaller --size"
        )


def to_input(image: np.ndarray, preprocessing: Preprocessing) -> torch.Tensor:
    """Normalise an image: (H, W, C) to float32 (C, H, W), by the same operations as torchvision's transforms.

    Args:
        image: uint8, which is divided by 255; or float32, which is used as it is.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1).to(torch.float32)
    if image.dtype == np.uint8:
        pixels = pixels.div(255)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device="cpu").view(-1, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float32, device="cpu").view(-1, 1, 1)
    return pixels.sub(mean).div(std)


@contextmanager
def explained(label: str, size: tuple[int, int]) -> Iterator[None]:
    """Turn errors about a layer, or about images that the network does not take, into a `UserError`."""
    try:
        yield
    except (LayerError, NotDifferentiable, TrainModeError, UnsteadyForward) as error:
        raise UserError(f"{label}: {error}") from error
    except ForwardError as error:
        message = f"{label} cannot take images of {size[0]} × {size[1]} pixels: {error}; {error.hint}"
        raise UserError(message) from error


def _first_input(images: ImageSet, preprocessing: Preprocessing, size: tuple[int, int]) -> tuple[str, torch.Tensor]:
    """Name of the first readable image, and the image as `to_input` returns it, (1, C, H, W).

    Raises: UserError if none can be read.
    """
    reason = ""
    for path in images.paths:
        pixels, why = images.try_read(path, size, preprocessing.channels)
        if pixels is not None:
            return images.name_of(path), to_input(pixels, preprocessing)[None]
        reason = reason or f"{images.name_of(path)}: {why}"
    raise UserError(f"no image could be used ({reason})")
