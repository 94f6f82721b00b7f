"""Gradient of the central unit with respect to the image, with the least work and memory that a network allows.

Three ideas, none of which changes the answer beyond rounding:

- The backward pass goes to the input alone, and each step keeps only what that needs (`erf.gradient.lean.steps`).
- The central unit sees a window of each feature map, its theoretical receptive field. Forward and backward pass stay
  within it: at 1024×1024 a window of 11×11 to 57×57 of the 64×64 pixels in the third stage of a ResNet-101.
- Pointwise steps between two spatial ones (1×1 convolutions, activations, sums) run through a few rows of pixels at a
  time, so that what lies between them never leaves the processor's cache.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from erf.gradient.lean.steps import Crop, PointwiseStep, Span, SpatialStep
from erf.gradient.positions import CENTRE, Position, unit_at
from runkit.compute.memory import return_freed_memory

__all__ = ["LeanNetwork", "Node"]

# Numbers in the widest of the tensors that go through a run of pointwise steps together on a CPU: enough for a matrix
# product at full speed, few enough to stay in the cache. Measured on two cores with AVX-512 and RepLKNet-31B.
_CHUNK_NUMBERS = 1 << 22
_IMAGE = 0
# Maps of this size find no room in the gaps that the way forward leaves between what is kept: free memory then goes
# back to the system at the turn, which takes a twentieth of the time and saves about a tenth of the peak.
_LARGE_BYTES = 1 << 27

Window = tuple[Span, Span]  # rows and columns of a feature map


class Node(NamedTuple):
    """A step at its place in a network. Values are numbered, 0 is the image."""

    step: PointwiseStep | SpatialStep
    inputs: tuple[int, ...]
    output: int


class LeanNetwork:
    """A network up to one feature map, for `central_gradient`; built by `erf.gradient.lean.trace.lean_form`.

    Args:
        nodes: In an order in which they can run; the last one makes the feature map.

    Attributes:
        signature: The kinds of its steps and how they hang together.
    """

    def __init__(self, nodes: Sequence[Node]):
        self._runs = _split_into_runs(nodes)
        self.signature = tuple((type(n.step).__name__, getattr(n.step, "geometry", None), n.inputs) for n in nodes)
        self._feature_map = nodes[-1].output
        self._plan = lru_cache(maxsize=16)(self._make_plan)

    def central_gradient(self, images: Tensor, position: Position = CENTRE) -> tuple[Tensor, tuple[int, int]]:
        """Gradient of the rectified central unit, summed over its channels.

        Args:
            images: (N, C, H, W), any memory format; not written to.
            position: Where in the image the unit lies.

        Returns: The gradient to each image (N, C, H, W), and the size (h, w) of the whole feature map.
        """
        height, width = images.shape[2:]
        plan, size = self._plan(height, width, position)
        seen = plan[0].windows[_IMAGE]
        values = {_IMAGE: _part(images, ((0, height), (0, width)), seen)}
        kept: list[Any] = []
        largest = 0
        with torch.no_grad():
            for stretch in plan:
                kept.append(stretch.forward(values))
                largest = max(largest, *(x.nbytes for x in values.values()))
            grads = {self._feature_map: (values.pop(self._feature_map) > 0).to(images.dtype)}
            del values
            if largest >= _LARGE_BYTES:
                return_freed_memory()
            for stretch in reversed(plan):
                stretch.backward(grads, kept.pop())
            (top, bottom), (left, right) = seen
            return F.pad(grads[_IMAGE], (left, width - right, top, height - bottom)), size

    def _make_plan(self, height: int, width: int, position: Position) -> "tuple[tuple[_Stretch, ...], tuple[int, int]]":
        """Stretches for images of a size, and the size of the feature map."""
        sizes = {_IMAGE: (height, width)}
        for step, inputs, output in (node for run in self._runs for node in run):
            sizes[output] = sizes[inputs[0]]
            if isinstance(step, SpatialStep):
                rows, columns = (g.output_size(n) for g, n in zip(step.geometry, sizes[inputs[0]], strict=True))
                sizes[output] = (rows, columns)
        h, w = sizes[self._feature_map]
        row, column = unit_at(position, (h, w))
        windows: dict[int, Window] = {self._feature_map: ((row, row + 1), (column, column + 1))}
        plan: list[_Stretch] = []
        used_later = {self._feature_map}
        for run in reversed(self._runs):
            made = {node.output for node in run}
            inputs = tuple(sorted({value for node in run for value in node.inputs} - made))
            outputs = tuple(sorted(made & used_later))
            window = _union(windows[value] for value in outputs)
            over = frozenset(set(inputs) - used_later)
            step = run[0].step
            stretch: _Stretch
            if isinstance(step, SpatialStep):
                sides = zip(step.geometry, window, sizes[inputs[0]], strict=True)
                across, along = (g.crop(span, n) for g, span, n in sides)
                read = (across.span, along.span)
                stretch = _Spatial(inputs, outputs, over, windows, window, read, step, across, along)
            else:
                nodes = tuple((n.step, n.inputs, n.output) for n in run if isinstance(n.step, PointwiseStep))
                unneeded = _last_uses(run, outputs)
                stretch = _Pointwise(inputs, outputs, over, windows, window, window, nodes, unneeded)
            windows.update((value, window) for value in outputs)
            for value in inputs:
                windows[value] = _union([stretch.read, windows.get(value, stretch.read)])
            used_later.update(inputs)
            plan.append(stretch)
        return tuple(reversed(plan)), (h, w)


@dataclass(frozen=True)
class _Stretch:
    """One spatial step, or a run of pointwise ones, on the part of the maps that the unit sees.

    Attributes:
        inputs: Values from outside.
        outputs: Values that later stretches use.
        over: Inputs that no later stretch uses.
        windows: Of every value of the network, the part that is computed.
        window: The part of the outputs that is computed.
        read: The part of the inputs that this needs.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    over: frozenset[int]
    windows: dict[int, Window]
    window: Window
    read: Window

    def forward(self, values: dict[int, Tensor]) -> Any:
        """Add the outputs to `values` and drop what is over; returns what the way back needs."""
        inputs = {
            value: _part(values[value], self.windows[value], self.read).contiguous(memory_format=torch.channels_last)
            for value in self.inputs
        }
        free = [x for value, x in inputs.items() if x is not values[value] or value in self.over - {_IMAGE}]
        for value in self.over:
            del values[value]
        return self._run(inputs, values, free)

    def backward(self, grads: dict[int, Tensor], kept: Any) -> None:
        """Replace the gradients of the outputs in `grads` by those of the inputs."""
        for value, grad in self._run_back(grads, kept).items():
            has = self.windows[value]
            if has != self.read and value not in grads:
                height, width = (last - first for first, last in has)
                grads[value] = grad.new_zeros((grad.shape[0], height, width, grad.shape[1])).permute(0, 3, 1, 2)
            if value in grads:
                _part(grads[value], has, self.read).add_(grad)
            else:
                grads[value] = grad

    def _run(self, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]) -> Any:
        """`forward` on the parts read; those in `free` may be written to."""
        raise NotImplementedError

    def _run_back(self, grads: dict[int, Tensor], kept: Any) -> dict[int, Tensor]:
        """Take the gradients of the outputs out of `grads`; returns those of the parts read."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Spatial(_Stretch):
    """One spatial step, and how it gets its rows and columns."""

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
class _Pointwise(_Stretch):
    """A run of pointwise steps, and for each the values that nothing after it uses."""

    nodes: tuple[tuple[PointwiseStep, tuple[int, ...], int], ...]
    unneeded: tuple[tuple[int, ...], ...]

    def _run(self, inputs: dict[int, Tensor], values: dict[int, Tensor], free: list[Tensor]) -> dict[int, Tensor]:
        like = next(iter(inputs.values()))
        wide = {value: _in_one(x) for value, x in inputs.items()}
        kept: dict[int, Tensor] = {}
        for rows in self._chunks(like):
            local = {value: x[:, :, rows] for value, x in wide.items()}
            for (step, sources, output), unneeded in zip(self.nodes, self.unneeded, strict=True):
                x = local[sources[0]]
                dtype = step.kept_type(x.dtype)
                if dtype is not None and output not in kept:
                    kept[output] = _in_one(_map_like(like, x.shape[1], dtype))
                keep = None if dtype is None else kept[output][:, :, rows]
                local[output] = step.forward(*(local[value] for value in sources), keep=keep)
                for value in unneeded:
                    del local[value]
            for value in self.outputs:
                if value not in values:  # in the memory of an input where one fits: each chunk is read before written
                    fits = [i for i, x in enumerate(free) if x.shape[1] == local[value].shape[1]]
                    values[value] = free.pop(fits[0]) if fits else _map_like(like, local[value].shape[1])
                _in_one(values[value])[:, :, rows] = local[value]
        return kept

    def _run_back(self, grads: dict[int, Tensor], kept: dict[int, Tensor]) -> dict[int, Tensor]:
        outputs = {value: grads.pop(value) for value in self.outputs}
        like = next(iter(outputs.values()))
        wide = {value: _in_one(grad) for value, grad in outputs.items()}
        found: dict[int, Tensor] = {}
        for rows in self._chunks(like):
            local = {value: grad[:, :, rows] for value, grad in wide.items()}
            for step, sources, output in reversed(self.nodes):
                keep = kept[output][:, :, rows] if output in kept else None
                for value, grad in zip(sources, step.backward(local.pop(output), keep), strict=True):
                    local[value] = local[value] + grad if value in local else grad
            for value in self.inputs:
                if value not in found:
                    found[value] = _map_like(like, local[value].shape[1])
                _in_one(found[value])[:, :, rows] = local[value]
        return found

    def _chunks(self, like: Tensor) -> list[slice]:
        """Rows of a map, all images one below the other, that are worked on together."""
        rows, width = like.shape[0] * like.shape[2], like.shape[3]
        if like.device.type != "cpu":
            return [slice(0, rows)]
        widest = max(like.shape[1], *(step.width for step, _, _ in self.nodes))
        count = max(1, _CHUNK_NUMBERS // (widest * width))
        return [slice(start, start + count) for start in range(0, rows, count)]


def _split_into_runs(nodes: Sequence[Node]) -> list[list[Node]]:
    """Spatial steps alone, pointwise steps together as long as they follow each other."""
    runs: list[list[Node]] = []
    for node in nodes:
        if runs and isinstance(node.step, PointwiseStep) and isinstance(runs[-1][0].step, PointwiseStep):
            runs[-1].append(node)
        else:
            runs.append([node])
    return runs


def _last_uses(run: Sequence[Node], outputs: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """For each node of a run, the inputs that nothing after it uses, outside the run or in it."""
    used = set(outputs)
    found = []
    for node in reversed(run):
        found.append(tuple(set(node.inputs) - used))
        used.update(node.inputs)
    return tuple(reversed(found))


def _union(windows: Iterable[Window]) -> Window:
    """Smallest window that holds all of them."""
    rows, columns = zip(*windows, strict=True)
    return (min(a for a, _ in rows), max(b for _, b in rows)), (min(a for a, _ in columns), max(b for _, b in columns))


def _part(x: Tensor, has: Window, wanted: Window) -> Tensor:
    """A window of a map of which `x` is the window `has`; `x` itself where both are the same."""
    if has == wanted:
        return x
    (top, bottom), (left, right) = ((a - first, b - first) for (a, b), (first, _) in zip(wanted, has, strict=True))
    return x[:, :, top:bottom, left:right]


def _in_one(x: Tensor) -> Tensor:
    """Images one below the other: (N, C, h, w) in channels-last memory as (1, C, N·h, w), without a copy."""
    n, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(1, n * height, width, channels).permute(0, 3, 1, 2)


def _map_like(like: Tensor, channels: int, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised channels-last map of the images, pixels and device of `like`."""
    n, _, height, width = like.shape
    return like.new_empty((n, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)
