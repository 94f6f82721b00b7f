"""Record the operations of a map on a GPU once, as a CUDA graph, and replay them for further images of the same kind.

At a batch of one image, a GPU often waits for the Python code that launches its kernels. A replay launches all of them
at once. It runs the same kernels on the same numbers, so the map is the same. A network whose Python code reads numbers
from the GPU, for example to choose a branch, cannot be recorded: CUDA refuses that, and the network then runs as usual.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from erf.gradient.finite import spoil_not_finite
from erf.gradient.plain import PlainNetwork
from erf.gradient.positions import CENTRE, Position
from runkit.plugins import words_of

__all__ = ["CannotRecord", "CudaGraphs", "RecordedNetwork"]

_logger = logging.getLogger(__name__)
_MOST_RECORDINGS = 32
"""Kinds of images of which recordings are kept. A grid of 3 x 3 units needs nine for each batch size."""

Maps = tuple[Tensor, Tensor]
Compute = Callable[[Tensor], Maps]
Record = Callable[[Compute, Tensor], Compute]


class CannotRecord(RuntimeError):
    """The operations of a network cannot be recorded on the device."""


class CudaGraphs:
    """Records functions of images as CUDA graphs. All of them share the memory of their intermediate results."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, compute: Compute, images: Tensor) -> Compute:
        """Record a function of images.

        Args:
            compute: Called twice: once to warm up, once to be recorded.
            images: On a CUDA device; later images must have the same shape, type and strides.

        Returns: The function, which replays the recorded operations. Its results belong to the caller.
        Raises: CannotRecord if CUDA does not allow an operation while it records, or has no memory for the recording.
        """
        with torch.inference_mode(False):
            static = images.detach().clone()
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.device(images.device):
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    compute(static)
                torch.cuda.current_stream().wait_stream(side)
                with torch.cuda.graph(graph, pool=self._pool):
                    gradient, unit = compute(static)
        except Exception as error:  # what CUDA refuses comes through the network's own code, as any kind of error
            raise CannotRecord(words_of(error)) from error

        def replay(images: Tensor) -> Maps:
            with torch.no_grad():
                static.copy_(images)
            graph.replay()
            return gradient.clone(), unit.clone()  # the next replay overwrites them

        return replay


@dataclass
class _Kind:
    """What is known about one kind of images.

    Attributes:
        size: (h, w) of the feature map.
        replay: The recorded function; None until the second images of this kind arrive.
    """

    size: tuple[int, int]
    replay: Compute | None = None


class RecordedNetwork:
    """A network up to one feature map whose operations are recorded and replayed; otherwise as `PlainNetwork`.

    The first images of a kind (a shape, a type, a memory format and a position) run as usual, so that everything is
    compiled, allocated and checked. The second ones are recorded, and all others replayed.

    Args:
        network: The network, which must not be changed between two maps.
        record: Records a function of images, as `CudaGraphs` does.

    Attributes:
        reason: Why the network is not recorded, in a few words; '' as long as it may be.
    """

    def __init__(self, network: PlainNetwork, record: Record | None = None):
        self._network, self._record = network, record or CudaGraphs()
        self._kinds: dict[tuple[Any, ...], _Kind] = {}
        self.reason = ""

    def check_steady(self, images: Tensor) -> None:
        """As `PlainNetwork.check_steady`."""
        self._network.check_steady(images)

    def central_gradient(self, images: Tensor, position: Position = CENTRE) -> tuple[Tensor, tuple[int, int]]:
        """As `PlainNetwork.central_gradient`."""
        key = (images.shape, images.stride(), images.dtype, images.device, position)
        kind = self._kinds.get(key)
        if self.reason or (len(images) > 1 and self._network.by_batch):
            return self._network.central_gradient(images, position)
        if kind is None:
            gradient, size = self._network.central_gradient(images, position)
            if len(self._kinds) == _MOST_RECORDINGS:
                del self._kinds[next(iter(self._kinds))]
            self._kinds[key] = _Kind(size)
            return gradient, size
        if kind.replay is None:
            try:
                kind.replay = self._record(lambda x: self._network.gradient_and_unit(x, position)[:2], images)
            except CannotRecord as error:
                self.reason = str(error)
                self._kinds.clear()
                _logger.warning("maps are computed without a CUDA graph, which cannot be recorded: %s", error)
                return self._network.central_gradient(images, position)
        gradient, unit = kind.replay(images)
        return spoil_not_finite(gradient, unit), kind.size
