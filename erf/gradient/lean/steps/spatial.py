"""Steps that read a neighbourhood of each pixel, as described by their geometry."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from erf.gradient.lean.steps.geometry import Geometry, WholeMap
from erf.gradient.lean.steps.pointwise import Weights
from replknet.ops import depthwise_conv2d, depthwise_conv2d_input_grad

__all__ = [
    "AveragePool",
    "Convolution",
    "GlobalMean",
    "GlobalNorm",
    "LargeDepthwise",
    "MaxPool",
    "Pad",
    "SpatialStep",
]

Padding = tuple[tuple[int, int], tuple[int, int]]  # for rows and columns, each (before, after)
Pair = tuple[int, int]  # for rows and columns


class SpatialStep:
    """An operation that reads a neighbourhood of each pixel, as described by its geometry (for rows and columns)."""

    geometry: tuple[Geometry | WholeMap, Geometry | WholeMap]
    keeps_input = False  # whether `backward` reads the numbers of the input, which then must not be overwritten

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        """The output for an input with this padding, and what `backward` needs. The input is not modified."""
        raise NotImplementedError

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        """Gradient with respect to the input. `grad` is not modified."""
        raise NotImplementedError


class Convolution(Weights, SpatialStep):
    """Any convolution with zero padding. It keeps the size of its input."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ):
        super().__init__(weight, bias)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.geometry = _geometry(weight.shape[2:], stride, padding, dilation)

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        before = _before(padding)
        y = F.conv2d(x, self.weight, self.bias, self.stride, before, self.dilation, self.groups)
        return y, (x.shape[2:], before)

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        size, padding = kept
        # the transposed convolution returns the smallest possible input; a stride may have left further pixels unread
        sides = zip(size, grad.shape[2:], self.weight.shape[2:], self.stride, padding, self.dilation, strict=True)
        rest = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in sides]
        return F.conv_transpose2d(grad, self.weight, None, self.stride, padding, rest, self.groups, self.dilation)


class LargeDepthwise(Convolution):
    """A depthwise convolution by the project's operator, which always pads. It keeps the size of the excess padding."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        height, width = weight.shape[2:]
        padding = (height // 2, width // 2)
        super().__init__(weight, bias, stride=(1, 1), padding=padding, dilation=(1, 1), groups=len(weight))

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        rows, columns = (k // 2 - p for k, p in zip(self.weight.shape[2:], _before(padding), strict=True))
        y = depthwise_conv2d(x, self.weight, self.bias)
        rim = (columns, columns, rows, rows)
        return (F.pad(y, [-n for n in rim]) if any(rim) else y), rim

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        grad = F.pad(grad, kept) if any(kept) else grad
        return depthwise_conv2d_input_grad(grad, self.weight)


class Pad(SpatialStep):
    """Zeros around a map, such as those of a 'same' convolution. It keeps the amount of padding.

    Args:
        padding: For rows and columns, each before and after; not negative.
    """

    def __init__(self, padding: Padding):
        rows, columns = (Geometry(1, 1, ends) for ends in padding)
        self.geometry = (rows, columns)

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        rows, columns = padding
        return F.pad(x, (*columns, *rows)), (padding, x.shape[2:])

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        ((top, _), (left, _)), (height, width) = kept
        return grad[:, :, top : top + height, left : left + width]


class MaxPool(SpatialStep):
    """Maximum pooling; it keeps which pixel was the largest."""

    def __init__(self, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair):
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.geometry = _geometry(kernel, stride, padding, dilation)

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        before = _before(padding)
        y, indices = F.max_pool2d(x, self.kernel, self.stride, before, self.dilation, return_indices=True)
        return y, (x.shape, before, indices)

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        shape, padding, indices = kept
        arguments = (self.kernel, self.stride, padding, self.dilation, False, indices)
        return torch.ops.aten.max_pool2d_with_indices_backward(grad, _unread(grad, shape), *arguments)


class AveragePool(SpatialStep):
    """Average pooling; it keeps the size of its input."""

    def __init__(self, *, kernel: Pair, stride: Pair, padding: Pair, count_padding: bool, divisor: int | None):
        self.kernel, self.stride = kernel, stride
        self.count_padding, self.divisor = count_padding, divisor
        self.geometry = _geometry(kernel, stride, padding, (1, 1))

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        before = _before(padding)
        y = F.avg_pool2d(x, self.kernel, self.stride, before, False, self.count_padding, self.divisor)
        return y, (x.shape, before)

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        shape, padding = kept
        arguments = (self.kernel, self.stride, padding, False, self.count_padding, self.divisor)
        return torch.ops.aten.avg_pool2d_backward(grad, _unread(grad, shape), *arguments)


class GlobalMean(SpatialStep):
    """Mean of each channel over the whole map; it keeps the size of its input."""

    geometry = (WholeMap(), WholeMap())

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        return x.mean((2, 3), keepdim=True), x.shape[2:]

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        height, width = kept
        spread = (grad / (height * width)).expand(-1, -1, height, width)
        return spread.contiguous(memory_format=torch.channels_last)


class GlobalNorm(SpatialStep):
    """Root of the sum of squares of each channel over the whole map; it keeps its input and its output."""

    geometry = (WholeMap(), WholeMap())
    keeps_input = True

    def forward(self, x: Tensor, padding: Padding) -> tuple[Tensor, Any]:
        y = torch.linalg.vector_norm(x, 2, (2, 3), keepdim=True)
        return y, (x, y)

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        x, y = kept
        return x * (grad / y).masked_fill_(y == 0, 0)


def _geometry(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[Geometry, Geometry]:
    sides = zip(kernel, stride, padding, dilation, strict=True)
    rows, columns = (Geometry(d * (k - 1) + 1, s, (p, p)) for k, s, p, d in sides)
    return rows, columns


def _before(padding: Padding) -> Pair:
    """Symmetric padding in the form that PyTorch's operations take."""
    return padding[0][0], padding[1][0]


def _unread(grad: Tensor, shape: torch.Size) -> Tensor:
    """A placeholder for an input whose numbers PyTorch's backward pass does not read."""
    return torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
