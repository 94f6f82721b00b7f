"""The operations of convolutional networks, each with a backward pass to its input alone.

Autograd keeps what any gradient might need. For the gradient to the input a convolution needs nothing but its weight, a
sum nothing at all, a ReLU where it was open (a byte a number), and only a smooth activation its input (for which half
precision is enough). Each step says what it keeps; `erf.gradient.lean.network` runs the steps.

Tensors are (N, C, h, w) in channels-last memory. A pointwise step works on any part of the pixels, a spatial one looks
beyond each pixel.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replknet.ops import DepthwiseConv2d, depthwise_conv2d, depthwise_conv2d_input_grad

__all__ = [
    "GELU",
    "Add",
    "Affine",
    "Convolution",
    "Crop",
    "Dense",
    "Geometry",
    "MaxPool",
    "PointwiseStep",
    "ReLU",
    "Span",
    "SpatialStep",
    "convolution",
]

Span = tuple[int, int]  # first pixel and the one after the last, along one axis


class Crop(NamedTuple):
    """How to get a span of the output: from which span of the input, padded by how much, dropping how many outputs."""

    span: Span
    padding: int
    skip: int


@dataclass(frozen=True)
class Geometry:
    """Kernel side (dilation included), stride and padding along one axis."""

    kernel: int
    stride: int
    padding: int

    def output_size(self, size: int) -> int:
        """Pixels of the output for an input of `size` pixels."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def crop(self, span: Span, size: int) -> Crop:
        """Smallest part of an input of `size` pixels that the outputs in `span` look at.

        Inside the map no padding is needed. At its border both ends are padded as ever, and outputs that come out
        beside the span are dropped.
        """
        first = span[0] * self.stride - self.padding
        last = (span[1] - 1) * self.stride - self.padding + self.kernel
        if first >= 0 and last <= size:
            return Crop((first, last), 0, 0)
        start = max(first, 0) // self.stride * self.stride
        return Crop((start, min(last, size)), self.padding, span[0] - start // self.stride)


class PointwiseStep:
    """An operation on the channels of each pixel."""

    width = 1  # channels of the output, where the step and not its input decides

    def kept_type(self, dtype: torch.dtype) -> torch.dtype | None:
        """Type of what is kept of each number of the output, in a network of type `dtype`; None for nothing."""
        return None

    def forward(self, *inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        """Output; what `backward` needs is written to `keep`, of the output's shape. Inputs are not written to."""
        raise NotImplementedError

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        """Gradient to each input. `grad` is not written to, but may be handed on as it is."""
        raise NotImplementedError


class SpatialStep:
    """An operation that looks beyond each pixel, as far as its geometry (of rows and columns) says."""

    geometry: tuple[Geometry, Geometry]

    def forward(self, x: Tensor, padding: tuple[int, int]) -> tuple[Tensor, Any]:
        """Output for an input padded so much, and what `backward` needs. The input is not written to."""
        raise NotImplementedError

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        """Gradient to the input. `grad` is not written to."""
        raise NotImplementedError


class _Weights:
    """Weight and bias of a convolution, the weight in channels-last memory."""

    def __init__(self, conv: nn.Conv2d):
        self.weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach()

    def fold(self, norm: "Affine") -> None:
        """Let the convolution do the work of a normalisation after it; rounded once."""
        bias = norm.shift if self.bias is None else norm.shift + norm.scale * self.bias.double()
        weight = self.weight.double() * norm.scale[:, None, None, None]
        self.weight, self.bias = weight.to(self.weight), bias.to(self.weight.dtype)


class Dense(_Weights, PointwiseStep):
    """A 1×1 convolution with stride 1; it keeps nothing."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.width = conv.out_channels
        self.groups = conv.groups

    def forward(self, *inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        return F.conv2d(inputs[0], self.weight, self.bias, groups=self.groups)

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        return (F.conv_transpose2d(grad, self.weight, groups=self.groups),)


class ReLU(PointwiseStep):
    """max(x, 0); it keeps the sign of its output, a byte a number.

    Signs are taken and applied in the tensor's own type: PyTorch's comparison into booleans and its product with them
    are five times slower.
    """

    def kept_type(self, dtype: torch.dtype) -> torch.dtype:
        return torch.int8

    def forward(self, *inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        y = inputs[0].relu()
        if keep is not None:
            keep.copy_(y.sign())
        return y

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        return (kept.to(grad.dtype).mul_(grad),)


class GELU(PointwiseStep):
    """x times the normal distribution function of x; it keeps x, in half precision where the network has float32."""

    def __init__(self, approximate: str):
        self.approximate = approximate

    def kept_type(self, dtype: torch.dtype) -> torch.dtype:
        return torch.float16 if dtype == torch.float32 else dtype

    def forward(self, *inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        if keep is not None:
            keep.copy_(inputs[0])
        return F.gelu(inputs[0], approximate=self.approximate)

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        return (torch.ops.aten.gelu_backward(grad, kept.to(grad.dtype), approximate=self.approximate),)


class Affine(PointwiseStep):
    """x times a scale plus a shift, float64 (C,): batch normalisation in eval mode; it keeps nothing."""

    def __init__(self, scale: Tensor, shift: Tensor):
        self.scale, self.shift = scale, shift

    def forward(self, *inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        scale, shift = (v.to(inputs[0].dtype)[None, :, None, None] for v in (self.scale, self.shift))
        return torch.addcmul(shift, inputs[0], scale)

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        return (grad * self.scale.to(grad.dtype)[None, :, None, None],)


class Add(PointwiseStep):
    """A residual sum; it keeps nothing."""

    def forward(self, *inputs: Tensor, keep: Tensor | None = None) -> Tensor:
        return torch.add(*inputs)

    def backward(self, grad: Tensor, kept: Any) -> tuple[Tensor, ...]:
        return grad, grad


class Convolution(_Weights, SpatialStep):
    """A convolution of any kind with zero padding; it keeps the size of its input."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv)
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.geometry = _geometry(conv.kernel_size, conv.stride, conv.padding, conv.dilation)

    def forward(self, x: Tensor, padding: tuple[int, int]) -> tuple[Tensor, Any]:
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y, (x.shape[2:], padding)

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        size, padding = kept
        # the transposed convolution gives the smallest input that fits; a stride may have left pixels over
        sides = zip(size, grad.shape[2:], self.weight.shape[2:], self.stride, padding, self.dilation, strict=True)
        rest = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in sides]
        return F.conv_transpose2d(grad, self.weight, None, self.stride, padding, rest, self.groups, self.dilation)


class LargeDepthwise(Convolution):
    """A depthwise convolution by the project's operator, which always pads; it keeps by how much too much."""

    def forward(self, x: Tensor, padding: tuple[int, int]) -> tuple[Tensor, Any]:
        rows, columns = (k // 2 - p for k, p in zip(self.weight.shape[2:], padding, strict=True))
        y = depthwise_conv2d(x, self.weight, self.bias)
        rim = (columns, columns, rows, rows)
        return (F.pad(y, [-n for n in rim]) if any(rim) else y), rim

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        grad = F.pad(grad, kept) if any(kept) else grad
        return depthwise_conv2d_input_grad(grad, self.weight)


class MaxPool(SpatialStep):
    """Maximum pooling; it keeps which pixel was the largest."""

    def __init__(self, pool: nn.MaxPool2d):
        pairs = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        self.kernel, self.stride, padding, self.dilation = (v if isinstance(v, tuple) else (v, v) for v in pairs)
        self.geometry = _geometry(self.kernel, self.stride, padding, self.dilation)

    def forward(self, x: Tensor, padding: tuple[int, int]) -> tuple[Tensor, Any]:
        y, indices = F.max_pool2d(x, self.kernel, self.stride, padding, self.dilation, return_indices=True)
        return y, (x.shape, padding, indices)

    def backward(self, grad: Tensor, kept: Any) -> Tensor:
        shape, padding, indices = kept
        like = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)  # not read
        arguments = (self.kernel, self.stride, padding, self.dilation, False, indices)
        return torch.ops.aten.max_pool2d_with_indices_backward(grad, like, *arguments)


def _geometry(kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Geometry, Geometry]:
    sides = zip(kernel, stride, padding, dilation, strict=True)
    rows, columns = (Geometry(d * (k - 1) + 1, s, p) for k, s, p, d in sides)
    return rows, columns


def convolution(conv: nn.Conv2d) -> Dense | Convolution:
    """The step for a convolution."""
    if isinstance(conv, DepthwiseConv2d):
        return LargeDepthwise(conv)
    pointwise = set(conv.kernel_size) == set(conv.stride) == {1} and not any(conv.padding)
    return Dense(conv) if pointwise else Convolution(conv)
