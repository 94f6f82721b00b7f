"""Gradient of the central unit with respect to the image, with as little work and memory as the network allows.

It uses three ideas, none of which changes the result beyond rounding:

- The backward pass computes only the gradient to the input, and each step keeps only what that requires
  (`erf.gradient.lean.steps`).
- The central unit sees a window of each feature map, its theoretical receptive field. The forward and backward passes
  are restricted to it: at 1024×1024, a window of 11×11 to 57×57 of the 64×64 pixels in the third stage of a ResNet-101.
- Consecutive pointwise steps (1×1 convolutions, activations, sums) between two spatial ones are run together on a few
  rows of pixels at a time, so that intermediate results never leave the processor's cache.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from erf.gradient.finite import spoil_not_finite
from erf.gradient.lean.again import choose_again, put_together
from erf.gradient.lean.node import Node, Step
from erf.gradient.lean.steps.pointwise import Activation, Multiply, PointwiseStep
from erf.gradient.lean.steps.spatial import SpatialStep
from erf.gradient.lean.steps.vectors import Gate, VectorStep
from erf.gradient.lean.stretches import (
    IMAGE,
    PointwiseStretch,
    SpatialStretch,
    Stretch,
    VectorStretch,
    Window,
    part,
    union,
)
from erf.gradient.positions import CENTRE, Position, unit_at
from runkit.compute.heap import FreedMemory, bytes_of

__all__ = ["LeanNetwork"]

# For maps of at least this size, free memory is returned to the system whenever it exceeds a part of the largest map.
_LARGE_BYTES = 1 << 27
_HELD_PART = 3 / 8
_ONE: Window = ((0, 1), (0, 1))  # the window of a vector


class LeanNetwork:
    """A network up to one feature map, for `central_gradient`; built by `erf.gradient.lean.read.lean_form`.

    Args:
        nodes: Nodes, in an order in which they can run.
        feature_map: The value that is the feature map.

    Attributes:
        signature: The kinds of its steps and how they are connected.
        needs_whole_maps: Whether a step takes a mean or a norm over a whole map, so that the maps before it must be
            computed beyond the window of the unit.
        multiplies_maps: Whether a step multiplies two maps, both of which must be kept.
        keeps_in_half: Whether a step keeps something in half precision where the network uses float32.
    """

    def __init__(self, nodes: Sequence[Node], feature_map: int):
        self._runs = _split_into_runs(nodes)
        self._feature_map = feature_map
        self._held = frozenset(value for step, inputs, _ in nodes if step.keeps_input for value in inputs)
        self._plan = lru_cache(maxsize=16)(self._make_plan)
        kinds = [(type(step).__name__, getattr(step, "geometry", None), inputs) for step, inputs, _ in nodes]
        self.signature = (feature_map, *kinds)
        self.needs_whole_maps = any(isinstance(node.step, VectorStep) for node in nodes)
        self.multiplies_maps = any(isinstance(node.step, Multiply) for node in nodes)
        self.keeps_in_half = any(isinstance(node.step, Activation) and node.step.half for node in nodes)

    def central_gradient(self, images: Tensor, position: Position = CENTRE) -> tuple[Tensor, tuple[int, int]]:
        """Gradient of the rectified central unit, summed over its channels.

        Args:
            images: (N, C, H, W), any memory format; not written to.
            position: Position of the unit in the image.

        Returns: The gradient with respect to each image (N, C, H, W), and the size (h, w) of the whole feature map.
        """
        height, width = images.shape[2:]
        plan, size = self._plan(height, width, position)
        seen = plan[0].windows[IMAGE]
        values = {IMAGE: part(images, ((0, height), (0, width)), seen)}
        kept: list[Any] = []
        freed = FreedMemory()
        largest = 0

        def tidy(maps: dict[int, Tensor]) -> None:
            nonlocal largest
            largest = max(largest, *(x.nbytes for x in maps.values()))
            if largest >= _LARGE_BYTES:
                freed.keep_within(int(_HELD_PART * largest), bytes_of([maps, kept]))

        with torch.no_grad():
            for stretch in plan:
                kept.append(stretch.forward(values))
                tidy(values)
            unit = values.pop(self._feature_map)
            grads = {self._feature_map: (unit > 0).to(images.dtype)}
            del values
            for stretch in reversed(plan):
                stretch.backward(grads, kept.pop())
                tidy(grads)
            (top, bottom), (left, right) = seen
            gradient = F.pad(grads[IMAGE], (left, width - right, top, height - bottom))
            return spoil_not_finite(gradient, unit), size

    def _make_plan(self, height: int, width: int, position: Position) -> tuple[tuple[Stretch, ...], tuple[int, int]]:
        """The stretches for images of a size, and the size of the feature map."""
        nodes = [node for run in self._runs for node in run]
        sizes = {IMAGE: (height, width)}
        for node in nodes:
            sizes[node.output] = _output_size(node.step, sizes[node.inputs[0]])
        h, w = sizes[self._feature_map]
        row, column = unit_at(position, (h, w))
        windows: dict[int, Window] = {self._feature_map: ((row, row + 1), (column, column + 1))}
        plan: list[Stretch] = []
        used_later = {self._feature_map}
        again = choose_again(nodes, sizes, self._feature_map)
        for run in (put_together(run, again) for run in reversed(self._runs)):
            stretch = _stretch(run, sizes, windows, used_later, self._held)
            windows.update((value, stretch.window) for value in stretch.outputs)
            for value, read in stretch.reads.items():
                windows[value] = union([read, windows.get(value, read)])
            used_later.update(stretch.inputs)
            plan.append(stretch)
        return tuple(reversed(plan)), (h, w)


def _output_size(step: Step, size: tuple[int, int]) -> tuple[int, int]:
    if isinstance(step, SpatialStep):
        rows, columns = step.geometry
        return rows.output_size(size[0]), columns.output_size(size[1])
    return (1, 1) if isinstance(step, VectorStep) else size


def _stretch(
    run: Sequence[Node],
    sizes: dict[int, tuple[int, int]],
    windows: dict[int, Window],
    used_later: set[int],
    kept: frozenset[int],
) -> Stretch:
    """The stretch for a run of nodes, on the windows of its outputs given in `windows`; adds those of its other values.

    Args:
        kept: Values that some step keeps as they are.
    """
    made = {node.output for node in run}
    inputs = tuple(sorted({value for node in run for value in node.inputs} - made))
    outputs = tuple(sorted(made & used_later))
    window = union(windows[value] for value in outputs)
    over = frozenset(set(inputs) - used_later)
    held = kept & set(inputs)
    step = run[0].step
    if isinstance(step, SpatialStep):
        sides = zip(step.geometry, window, sizes[inputs[0]], strict=True)
        rows, columns = (geometry.crop(span, size) for geometry, span, size in sides)
        reads = {inputs[0]: (rows.span, columns.span)}
        return SpatialStretch(inputs, outputs, over, held, windows, window, reads, step, rows, columns)
    if isinstance(step, (VectorStep, Gate)):
        inputs = run[0].inputs
        reads = dict.fromkeys(inputs, _ONE)
        if isinstance(step, Gate):
            reads[inputs[0]] = window  # the input that is a map
        return VectorStretch(inputs, outputs, over, held, windows, window, reads, step)
    nodes = tuple((n.step, n.inputs, n.output) for n in run if isinstance(n.step, PointwiseStep))
    unneeded = _last_uses(run, outputs)
    return PointwiseStretch(
        inputs, outputs, over, held, windows, window, dict.fromkeys(inputs, window), nodes, unneeded
    )


def _split_into_runs(nodes: Sequence[Node]) -> list[list[Node]]:
    """Split nodes into runs of consecutive, connected pointwise steps on maps of one size; other steps stay alone."""
    runs: list[list[Node]] = []
    values: set[int] = set()  # the values of the current run
    for node in nodes:
        touched = {*node.inputs, node.output}
        pointwise = isinstance(node.step, PointwiseStep)
        if runs and pointwise and isinstance(runs[-1][0].step, PointwiseStep) and values & touched:
            runs[-1].append(node)
            values |= touched
        else:
            runs.append([node])
            values = touched
    return runs


def _last_uses(run: Sequence[Node], outputs: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """For each node of a run, the inputs that are not used after it, inside or outside of the run."""
    used = set(outputs)
    found = []
    for node in reversed(run):
        found.append(tuple(set(node.inputs) - used))
        used.update(node.inputs)
    return tuple(reversed(found))
