"""Stretches of a network: steps that are computed together, on the part of the maps that the central unit sees."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from erf.gradient.lean.steps.geometry import Crop, Span
from erf.gradient.lean.steps.pointwise import Keep, PointwiseStep
from erf.gradient.lean.steps.spatial import SpatialStep
from erf.gradient.lean.steps.vectors import Gate, VectorStep
from runkit.compute.heap import on_own_pages

__all__ = [
    "IMAGE",
    "PointwiseStretch",
    "SpatialStretch",
    "Stretch",
    "VectorStretch",
    "Window",
    "part",
    "union",
]

# Number of elements of the widest tensor that goes through a run of pointwise steps at a time on a CPU. It is large
# enough for matrix products at full speed and small enough to use little memory. Measured with RepLKNet-31B on two
# cores with AVX-512, and on one core with AVX2, where products take so long that the tensor may be smaller.
_CHUNK_NUMBERS = 1 << (22 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 20)
IMAGE = 0
_ALL = slice(None)

Window = tuple[Span, Span]  # rows and columns of a feature map


@dataclass(frozen=True)
class Stretch:
    """Steps that are computed together.

    Attributes:
        inputs: Values from earlier stretches.
        outputs: Values that later stretches use.
        over: Inputs that no later stretch uses.
        held: Inputs that a step keeps unchanged for the backward pass.
        windows: The computed part of every value of the network.
        window: The computed part of the outputs.
        reads: The part of each input that this requires.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    over: frozenset[int]
    held: frozenset[int]
    windows: dict[int, Window]
    window: Window
    reads: dict[int, Window]

    def forward(self, values: dict[int, Tensor]) -> Any:
        """Add the outputs to `values` and drop the inputs in `over`. Returns what the backward pass needs."""
        inputs = {
            value: part(values[value], self.windows[value], read).contiguous(memory_format=torch.channels_last)
            for value, read in self.reads.items()
        }
        owners: dict[int, list[int]] = {}
        for value, x in values.items():
            owners.setdefault(_address(x), []).append(value)
        free = [x for value, x in inputs.items() if self._is_free(value, owners.get(_address(x), []))]
        for value in self.over:
            del values[value]
        return self._run(inputs, values, free)

    def _is_free(self, value: int, owners: list[int]) -> bool:
        """Whether the part of a value is not read again, so that it may be overwritten.

        Args:
            owners: The values that lie in the same memory.
        """
        return not owners or (owners == [value] and value in self.over and value != IMAGE and value not in self.held)

    def backward(self, grads: dict[int, Tensor], kept: Any) -> None:
        """Replace the gradients of the outputs in `grads` by those of the inputs."""
        for value, grad in self._run_back(grads, kept).items():
            has, read = self.windows[value], self.reads[value]
            if has != read and value not in grads:
                height, width = (last - first for first, last in has)
                grads[value] = grad.new_zeros((grad.shape[0], height, width, grad.shape[1])).permute(0, 3, 1, 2)
            if value in grads:
                part(grads[value], has, read).add_(grad)
            else:
                grads[value] = grad

    def _run(self, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]) -> Any:
        """Do the work of `forward` on the parts that were read; those in `free` may be overwritten."""
        raise NotImplementedError

    def _run_back(self, grads: dict[int, Tensor], kept: Any) -> dict[int, Tensor]:
        """Remove the outputs' gradients from `grads`; returns those of the parts read, which may be overwritten."""
        raise NotImplementedError


@dataclass(frozen=True)
class SpatialStretch(Stretch):
    """One spatial step, and how it obtains its rows and columns."""

    step: SpatialStep
    rows: Crop
    columns: Crop

    def _run(self, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]) -> Any:
        y, kept = self.step.forward(inputs[self.inputs[0]], (self.rows.padding, self.columns.padding))
        height, width = (last - first for first, last in self.window)
        top, left = self.rows.skip, self.columns.skip
        values[self.outputs[0]] = y[:, :, top : top + height, left : left + width]
        return kept, y.shape[2:]

    def _run_back(self, grads: dict[int, Tensor], kept: Any) -> dict[int, Tensor]:
        kept, (height, width) = kept
        grad = grads.pop(self.outputs[0])
        top, left = self.rows.skip, self.columns.skip
        rim = (left, width - left - grad.shape[3], top, height - top - grad.shape[2])
        return {self.inputs[0]: self.step.backward(F.pad(grad, rim) if any(rim) else grad, kept)}


@dataclass(frozen=True)
class VectorStretch(Stretch):
    """A step on vectors, or the application of a vector to a map."""

    step: VectorStep | Gate

    def _run(self, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]) -> Any:
        values[self.outputs[0]], kept = self.step.forward(*(inputs[value] for value in self.inputs))
        return kept

    def _run_back(self, grads: dict[int, Tensor], kept: Any) -> dict[int, Tensor]:
        return dict(zip(self.inputs, self.step.backward(grads.pop(self.outputs[0]), kept), strict=True))


@dataclass(frozen=True)
class PointwiseStretch(Stretch):
    """A run of pointwise steps, and for each step the values that are not used after it."""

    nodes: tuple[tuple[PointwiseStep, tuple[int, ...], int], ...]
    unneeded: tuple[tuple[int, ...], ...]

    def _run(self, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]) -> Any:
        like = next(iter(inputs.values()))
        wide = {value: _in_one(x) for value, x in inputs.items()}
        kept = self._make_room(like, inputs, values, free)
        several = len(self.outputs) > 1
        overwritten = [
            x for x in inputs.values() if several and any(_share_memory(x, values[value]) for value in self.outputs)
        ]
        for rows in self._chunks(like):
            local = {value: _at(rows, x) for value, x in wide.items()}
            for (step, sources, output), unneeded in zip(self.nodes, self.unneeded, strict=True):
                given = [local[value] for value in sources]
                local[output] = step.forward(*given, keep=[_at(rows, whole) for whole in kept[output]])
                for value in unneeded:
                    del local[value]
            for value in self.outputs if overwritten else ():  # an output may be a part of an input
                if any(_share_memory(x, local[value]) for x in overwritten):
                    local[value] = local[value].clone()
            for value in self.outputs:
                _at(rows, _in_one(values[value])).copy_(local[value])
        return kept

    def _make_room(
        self, like: Tensor, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]
    ) -> dict[int, list[Tensor]]:
        """Add uninitialised outputs to `values`, and return the maps that the steps will keep.

        All of them are allocated at once, before any temporary tensor. Otherwise these long-lived tensors would lie
        between temporary ones, and the memory that the temporary ones release would be fragmented.
        """
        channels = {value: x.shape[1] for value, x in inputs.items()}
        kept: dict[int, list[Tensor]] = {}
        for step, sources, output in self.nodes:
            given = [torch.empty((1, channels[value], 1, 1), dtype=like.dtype, device="meta") for value in sources]
            kept[output] = [_in_one(_kept_map(like, keep)) for keep in step.keeps(*given)]
            channels[output] = step.channels_of(*(channels[value] for value in sources))
        for value in self.outputs:  # reuses an input's memory if it fits: chunks are read before they are written
            fits = [i for i, x in enumerate(free) if x.shape[1] == channels[value]]
            values[value] = free.pop(fits[0]) if fits else _map_like(like, channels[value])
        return kept

    def _run_back(self, grads: dict[int, Tensor], kept: Any) -> dict[int, Tensor]:
        outputs = {value: grads.pop(value) for value in self.outputs}
        like = next(iter(outputs.values()))
        wide = {value: _in_one(grad) for value, grad in outputs.items()}
        found: dict[int, Tensor] = {}
        for rows in self._chunks(like):
            local = {value: _at(rows, grad) for value, grad in wide.items()}
            for step, sources, output in reversed(self.nodes):
                keep = [_at(rows, whole) for whole in kept[output]]
                for value, grad in zip(sources, step.backward(local.pop(output), keep), strict=True):
                    local[value] = local[value] + grad if value in local else grad
            for value in self.inputs:
                if value not in found:
                    found[value] = _map_like(like, local[value].shape[1])
                _at(rows, _in_one(found[value])).copy_(local[value])
        return found

    def _chunks(self, like: Tensor) -> list[slice]:
        """Ranges of rows that are processed together, with all images stacked one below the other."""
        rows, width = like.shape[0] * like.shape[2], like.shape[3]
        if like.device.type != "cpu":
            return [_ALL]
        widest = max(like.shape[1], *(step.width for step, _, _ in self.nodes))
        count = max(1, _CHUNK_NUMBERS // (widest * width))
        return [slice(start, start + count) for start in range(0, rows, count)] if rows > count else [_ALL]


def union(windows: Iterable[Window]) -> Window:
    """Smallest window that contains all of the given windows."""
    rows, columns = zip(*windows, strict=True)
    return (min(a for a, _ in rows), max(b for _, b in rows)), (min(a for a, _ in columns), max(b for _, b in columns))


def part(x: Tensor, has: Window, wanted: Window) -> Tensor:
    """The window `wanted` of a map, of which `x` is the window `has`; `x` itself if both are the same."""
    if has == wanted:
        return x
    (top, bottom), (left, right) = ((a - first, b - first) for (a, b), (first, _) in zip(wanted, has, strict=True))
    return x[:, :, top:bottom, left:right]


def _share_memory(a: Tensor, b: Tensor) -> bool:
    return _address(a) == _address(b)


def _address(x: Tensor) -> int:
    """Address of the memory that a tensor is a part of."""
    return x.untyped_storage().data_ptr()


def _in_one(x: Tensor) -> Tensor:
    """Stack images one below the other without a copy: (N, C, h, w) in channels-last memory as (1, C, N·h, w)."""
    n, channels, height, width = x.shape
    if n == 1:
        return x
    return x.permute(0, 2, 3, 1).reshape(1, n * height, width, channels).permute(0, 3, 1, 2)


def _at(rows: slice, x: Tensor) -> Tensor:
    """Some rows of a map; `x` itself for all rows, since thousands of views take too long for a small map."""
    return x if rows is _ALL else x[:, :, rows]


def _map_like(like: Tensor, channels: int) -> Tensor:
    """Uninitialised channels-last map with the images, pixels, type and device of `like`."""
    n, _, height, width = like.shape
    return like.new_empty((n, height, width, channels)).permute(0, 3, 1, 2)


def _kept_map(like: Tensor, keep: Keep) -> Tensor:
    """Uninitialised channels-last map with the images, pixels and device of `like`, to keep for the backward pass."""
    n, _, height, width = like.shape
    shape = (n, height, width, keep.channels)
    if like.device.type != "cpu":
        return like.new_empty(shape, dtype=keep.dtype).permute(0, 3, 1, 2)
    return on_own_pages(n * height * width * keep.channels, keep.dtype).view(shape).permute(0, 3, 1, 2)
