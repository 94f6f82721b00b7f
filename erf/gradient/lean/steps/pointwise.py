"""Steps on the channels of each pixel, which work on any part of the pixels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops.products import ONEDNN_IS_FASTER

__all__ = [
    "Activation",
    "Add",
    "Affine",
    "ChannelMean",
    "Clamp",
    "Concatenate",
    "Dense",
    "Keep",
    "LayerNorm",
    "Linear",
    "Multiply",
    "PointwiseStep",
    "ReLU",
    "Select",
    "Slice",
    "Weights",
    "all_in_full_precision",
    "as_for_large_images",
]

_FOLDED_NUMBERS = 1 << 16
"""Number of weight elements folded with a normalisation at a time; their float64 form then fits the cache."""
_FEW = 1 << 22
"""Number of multiplications below which PyTorch's matrix product is as fast as the convolution by oneDNN."""


_keeps_in_half = ContextVar("keeps_in_half", default=True)
_small_by_onednn = ContextVar("small_by_onednn", default=False)


@contextmanager
def _set_to(switch: ContextVar[bool], value: bool) -> Iterator[None]:
    token = switch.set(value)
    try:
        yield
    finally:
        switch.reset(token)


def all_in_full_precision() -> AbstractContextManager[None]:
    """Context in which activations keep nothing in half precision."""
    return _set_to(_keeps_in_half, False)


def as_for_large_images() -> AbstractContextManager[None]:
    """Context in which small products are computed in the same way as large ones."""
    return _set_to(_small_by_onednn, True)


class Keep(NamedTuple):
    """Channels and type of a map that is kept for the backward pass."""

    channels: int
    dtype: torch.dtype


class PointwiseStep:
    """An operation on the channels of each pixel."""

    width = 1  # channels of the output, if the step rather than its input determines them
    keeps_input = False  # whatever it keeps is a copy

    def channels_of(self, *inputs: int) -> int:
        """Number of channels of the output, given those of the inputs."""
        return inputs[0]

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        """The maps that `backward` needs, of as many pixels as the inputs, of which only shapes and types are used."""
        return ()

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        """Compute the output and write what `backward` needs to `keep`, as `keeps` declares; inputs stay unmodified."""
        raise NotImplementedError

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradient with respect to each input. `grad` is not modified, but may be returned as it is."""
        raise NotImplementedError


class Affine(PointwiseStep):
    """Computes x * scale + shift, both float64 (C,) or (1,): batch normalisation in eval mode. It keeps nothing."""

    def __init__(self, scale: Tensor, shift: Tensor):
        self.scale, self.shift = scale.detach().double(), shift.detach().double()

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        scale, shift = (v.to(inputs[0].dtype)[None, :, None, None] for v in (self.scale, self.shift))
        return torch.addcmul(shift, inputs[0], scale)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (grad * self.scale.to(grad.dtype)[None, :, None, None],)


class Weights:
    """Weight and bias of a convolution. The weight is in channels-last memory format."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().contiguous()  # oneDNN would not notice other strides

    def fold(self, norm: Affine) -> None:
        """Fold the normalisation that follows into the convolution, with a single rounding."""
        bias = norm.shift if self.bias is None else norm.shift + norm.scale * self.bias.double()
        weight = torch.empty_like(self.weight)
        count = max(1, _FOLDED_NUMBERS // weight[0].numel())
        for start in range(0, len(weight), count):
            rows = slice(start, start + count)
            scale = norm.scale[rows] if len(norm.scale) > 1 else norm.scale
            weight[rows] = self.weight[rows].double() * scale[:, None, None, None]
        self.weight, self.bias = weight, bias.expand(len(weight)).to(weight.dtype).contiguous()


class Dense(Weights, PointwiseStep):
    """A 1×1 convolution with stride 1, or a linear layer on the channels; it keeps nothing."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int = 1):
        super().__init__(weight, bias)
        self.width = len(weight)
        self.groups = groups
        self._transposed: Tensor | None = None

    def fold(self, norm: Affine) -> None:
        super().fold(norm)
        self._transposed = None

    def channels_of(self, *inputs: int) -> int:
        return self.width

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        if self.groups == 1 and _is_for_onednn(inputs[0], self.weight):
            return _onednn_product(inputs[0], self.weight, self.bias)
        return F.conv2d(inputs[0], self.weight, self.bias, groups=self.groups)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self.groups == 1:
            if _is_for_onednn(grad, self.weight):
                return (_onednn_product(grad, self._turned(), None),)
            # on AVX2 up to a quarter faster than the transposed convolution
            return (torch.matmul(grad.permute(0, 2, 3, 1), self.weight.flatten(1)).permute(0, 3, 1, 2),)
        return (F.conv_transpose2d(grad, self.weight, groups=self.groups),)

    def _turned(self) -> Tensor:
        """The weight with its inputs and outputs exchanged. It is kept, since many strips of pixels need it."""
        if self._transposed is None:
            self._transposed = self.weight.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return self._transposed


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to multiply the pixels of `x` (N, C, H, W) by a weight (D, C, 1, 1), or (C, D, 1, 1)."""
    n, _, height, width = x.shape
    count = n * height * width * weight.numel()
    large = ONEDNN_IS_FASTER and (count >= _FEW or _small_by_onednn.get())
    exact = large and x.dtype == torch.float32 and x.device.type == "cpu"
    return exact and x.is_contiguous(memory_format=torch.channels_last)


def _onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 1×1 convolution by oneDNN, which `conv2d` takes only with several threads."""
    return torch.mkldnn_convolution(x, weight, bias, (0, 0), (1, 1), (1, 1), 1)


class Linear(Dense):
    """A linear layer on the channels, as a matrix product on pixels; it keeps nothing.

    Args:
        weight: (channels of the output, channels of the input).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight[:, :, None, None], bias)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        if _is_for_onednn(inputs[0], self.weight):
            return _onednn_product(inputs[0], self.weight, self.bias)
        pixels = inputs[0].permute(0, 2, 3, 1)
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class ReLU(PointwiseStep):
    """max(x, 0). It keeps the sign of its output, one bit for each number."""

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        return (_keep_bits(inputs[0]),)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        y = inputs[0].relu()
        _write_bits(keep[0], _positive(y.permute(0, 2, 3, 1)))
        return y

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (_read_bits(kept[0], grad),)


class Clamp(PointwiseStep):
    """x limited to two bounds, as in ReLU6. It keeps which numbers were inside, one bit for each number.

    Args:
        low: Lower bound.
        high: Upper bound.
        at_bounds: Whether the gradient passes where x equals a bound, as in `torch.clamp` but not in `F.hardtanh`.
    """

    def __init__(self, low: float, high: float, *, at_bounds: bool):
        self.low, self.high, self.at_bounds = low, high, at_bounds

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        return (_keep_bits(inputs[0]),)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        x = inputs[0]
        inside = (x >= self.low) & (x <= self.high) if self.at_bounds else (x > self.low) & (x < self.high)
        _write_bits(keep[0], inside.permute(0, 2, 3, 1).numpy())
        return x.clamp(self.low, self.high)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (_read_bits(kept[0], grad),)


class Activation(PointwiseStep):
    """A smooth function of each number. It keeps its input, or its derivative in half precision.

    Half precision has a relative error of at most 2⁻¹¹, and so has the gradient then. Keeping the input in half
    precision would not bound the error: near a zero of the derivative, it could exceed the derivative itself.

    Args:
        function: Function of the input.
        gradient: Function of the gradient to the output and of the input.
        half: Whether to keep the derivative in half precision where the network uses float32.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], gradient: Callable[[Tensor, Tensor], Tensor], *, half: bool = False
    ):
        self.function, self.gradient, self.half = function, gradient, half

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        x = inputs[0]
        half = self.half and x.dtype == torch.float32 and _keeps_in_half.get()
        return (Keep(x.shape[1], torch.float16 if half else x.dtype),)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        x = inputs[0]
        keep[0].copy_(x if keep[0].dtype == x.dtype else self.gradient(torch.ones_like(x), x))
        return self.function(x)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if kept[0].dtype == grad.dtype:
            return (self.gradient(grad, kept[0]),)
        return (kept[0].to(grad.dtype).mul_(grad),)


class LayerNorm(PointwiseStep):
    """Normalisation over the channels of each pixel. It keeps its input, and the mean and deviation of each pixel."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None, eps: float):
        self.weight, self.bias = (None if v is None else v.detach() for v in (weight, bias))
        self.eps = eps

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        x = inputs[0]
        return (Keep(x.shape[1], x.dtype), Keep(1, x.dtype), Keep(1, x.dtype))

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        x = inputs[0].permute(0, 2, 3, 1)
        y, *statistics = torch.native_layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        for kept, value in zip(keep, (x, *statistics), strict=True):
            kept.copy_(value.permute(0, 3, 1, 2))
        return y.permute(0, 3, 1, 2)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        grad, x, mean, deviation = (v.permute(0, 2, 3, 1).contiguous() for v in (grad, *kept))
        arguments = (x.shape[-1:], mean, deviation, self.weight, self.bias, [True, False, False])
        found, _, _ = torch.ops.aten.native_layer_norm_backward(grad, x, *arguments)
        return (found.permute(0, 3, 1, 2),)


class Add(PointwiseStep):
    """A residual sum, or a difference. It keeps nothing.

    Args:
        channels: Channels of both inputs. An input with a single channel is added to all channels of the other.
        sign: Sign of the second input.
    """

    def __init__(self, channels: tuple[int, int], sign: float = 1.0):
        self.channels, self.sign = channels, sign

    def channels_of(self, *inputs: int) -> int:
        return max(self.channels)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        return torch.add(*inputs, alpha=self.sign)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        second = grad if self.sign == 1 else grad * self.sign
        return _summed(grad, self.channels[0]), _summed(second, self.channels[1])


class Multiply(PointwiseStep):
    """The product of two maps, such as a gate. It keeps both.

    Args:
        channels: Channels of both inputs. An input with a single channel is multiplied with all channels of the other.
    """

    def __init__(self, channels: tuple[int, int]):
        self.channels = channels

    def channels_of(self, *inputs: int) -> int:
        return max(self.channels)

    def keeps(self, *inputs: Tensor) -> Sequence[Keep]:
        return [Keep(x.shape[1], x.dtype) for x in inputs]

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        for kept, x in zip(keep, inputs, strict=True):
            kept.copy_(x)
        return torch.mul(*inputs)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        first, second = kept
        return _summed(grad * second, self.channels[0]), _summed(grad * first, self.channels[1])


class ChannelMean(PointwiseStep):
    """Mean over the channels of each pixel, one channel wide; it keeps nothing."""

    def __init__(self, channels: int):
        self.channels = channels

    def channels_of(self, *inputs: int) -> int:
        return 1

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        return inputs[0].mean(1, keepdim=True)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return ((grad / self.channels).expand(-1, self.channels, -1, -1),)


class Concatenate(PointwiseStep):
    """Channels of several maps one after the other; it keeps nothing."""

    def __init__(self, channels: Sequence[int]):
        self.channels = list(channels)
        self.width = sum(channels)

    def channels_of(self, *inputs: int) -> int:
        return self.width

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        return torch.cat(inputs, 1)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return grad.split(self.channels, 1)


class Slice(PointwiseStep):
    """A range of the channels. It keeps nothing.

    Args:
        channels: Number of channels of the input.
        start: First channel of the range.
        stop: Channel after the last of the range.
    """

    def __init__(self, channels: int, start: int, stop: int):
        self.channels, self.start, self.stop = channels, start, stop

    def channels_of(self, *inputs: int) -> int:
        return self.stop - self.start

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        return inputs[0][:, self.start : self.stop]

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        n, _, height, width = grad.shape
        found = grad.new_zeros((n, height, width, self.channels)).permute(0, 3, 1, 2)
        found[:, self.start : self.stop] = grad
        return (found,)


class Select(PointwiseStep):
    """Channels selected by index, in any order. It keeps nothing.

    Args:
        channels: Number of channels of the input.
        index: Indices of the channels, int64; none occurs twice.
    """

    def __init__(self, channels: int, index: Tensor):
        self.channels, self.index = channels, index

    def channels_of(self, *inputs: int) -> int:
        return len(self.index)

    def forward(self, *inputs: Tensor, keep: Sequence[Tensor]) -> Tensor:
        return inputs[0].index_select(1, self.index)

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
        n, _, height, width = grad.shape
        found = grad.new_zeros((n, height, width, self.channels)).permute(0, 3, 1, 2)
        return (found.index_copy_(1, self.index, grad),)


def _summed(grad: Tensor, channels: int) -> Tensor:
    """The gradient for an input with this many channels: summed over channels if a single one was used for all."""
    return grad if channels == grad.shape[1] else grad.sum(1, keepdim=True)


def _positive(x: Tensor) -> np.ndarray:
    """Which numbers are positive. NumPy compares five times as fast as PyTorch, but does not support bfloat16."""
    return x.numpy() > 0 if x.dtype in (torch.float32, torch.float64) else (x > 0).numpy()


def _keep_bits(x: Tensor) -> Keep:
    """Space for one bit for each number of `x`. The bits of 8 neighbouring channels share a byte."""
    return Keep(-(-x.shape[1] // 8), torch.uint8)


def _write_bits(kept: Tensor, truths: np.ndarray) -> None:
    """Store booleans (1, h, w, C) as bits in bytes (1, C / 8, h, w) in channels-last memory format."""
    kept.permute(0, 2, 3, 1).numpy()[...] = np.packbits(truths, axis=-1)


def _read_bits(kept: Tensor, grad: Tensor) -> Tensor:
    """`grad` where the bits are set, and 0 elsewhere."""
    bits = np.unpackbits(kept.permute(0, 2, 3, 1).numpy(), axis=-1, count=grad.shape[1])
    return torch.from_numpy(bits).permute(0, 3, 1, 2).to(grad.dtype).mul_(grad)
