"""Depthwise convolution on CPU: several exact formulations, from which `replknet.ops.cpu.tables` chooses by shape.

If llvmlite is installed and the processor has AVX2 or AVX-512, most shapes are computed by our own kernel
(`replknet.ops.cpu.direct`). The rest of this text is about all other shapes. PyTorch has two fast compiled kernels. Up
to 13 taps a row, oneDNN generates one in either memory format. For longer rows only channels-last has a fast one, and
contiguous tensors fall back to a kernel that is 10 to 20 times slower. The forms in this module build on these two
kernels, on matrix products or on the Fourier transform, and need no compiler. Where none of them is clearly faster than
PyTorch's own call, that call is made without any overhead.

PyTorch has no fast kernel for weight gradients beyond 3×3. By default they are computed by the forward kernel with
exchanged roles: each image is convolved with its own output gradient as the filter, channel by channel, and the output
has the size of the filter.

How to compute a call depends on shapes, strides and dtype alone. It is decided once for each combination
(`plan_forward`, `plan_input_grad`), since deciding again would cost as much as a small convolution.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops import fft
from replknet.ops.cpu import direct, toeplitz
from replknet.ops.cpu.tables import WIDENED, select, select_form
from replknet.ops.layout import (
    as_format,
    channels_last_strides,
    check_shapes,
    contiguous_strides,
    crop,
    empty_output,
    format_of,
    format_of_strides,
    turned,
)

__all__ = [
    "Plan",
    "forward",
    "input_grad",
    "plan_forward",
    "plan_input_grad",
    "select",
    "weight_grad",
]

_NCHW, _NHWC = torch.contiguous_format, torch.channels_last
# Up to this many products, the gradient costs less in PyTorch's compiled code, even with its slow kernels, than in an
# operator written in Python. Measured as the break-even point of the two on 2 cores of an AMD EPYC (Zen 4).
_SMALL_WORK = 1 << 19
# Channels that "channel_blocks" converts and convolves at a time. The copies of a block stay in the cache and reuse
# their memory, whereas copies of whole maps of 1024×1024 images would need newly mapped pages each time.
_FORWARD_BLOCK = 32
# Numbers of one image block in "map_as_filter". With more channels at once, neighbouring pixels are so far apart in
# memory that a few of them fill their sets of the L1 cache. With fewer channels, the additional calls cost more than
# that saves.
_BLOCK_NUMBERS, _BLOCK_CHANNELS = 1 << 17, 512
_VECTOR = 16
# Addresses that differ by a multiple of 2 KiB (512 numbers) compete for a few sets of the L1 cache.
_CROWDED = 512

Form = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Plan:
    """How to compute inputs of one shape.

    Attributes:
        run: Function of input (or output gradient), filters and bias; its result has the layout that `format_of` gives.
        stock: PyTorch's own call, which brings its own gradients.
        native: Whether that call and its input gradient are the fastest.
        small: Whether there is so little work that its gradients are faster than any that pass through Python.
    """

    run: Form
    stock: Form
    native: bool = False
    small: bool = False


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`depthwise_conv2d` for CPU tensors.

    Raises: ValueError as `check_shapes`.
    """
    if bias is None:
        plan = plan_forward(x.shape, x.stride(), x.dtype, weight.shape, weight.dtype)
    else:
        plan = plan_forward(x.shape, x.stride(), x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype)
    return plan.run(x, weight, bias)


def input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient (N, C, H, W) of the input, in the layout of `grad`, for CPU tensors.

    Raises: ValueError as `check_shapes`.
    """
    return plan_input_grad(grad.shape, grad.stride(), grad.dtype, weight.shape, weight.dtype)(grad, weight, None)


@lru_cache(maxsize=4096)
def plan_forward(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: torch.dtype,
    weight_shape: tuple[int, ...],
    weight_dtype: torch.dtype,
    bias_shape: tuple[int, ...] | None = None,
    bias_dtype: torch.dtype | None = None,
) -> Plan:
    """Decide how to compute an input of these shapes and strides.

    Raises: ValueError as `check_shapes`.
    """
    check_shapes(shape, dtype, weight_shape, weight_dtype, bias_shape, bias_dtype)
    kernel = weight_shape[2:]
    stock = _stock_of(kernel, shape[1])
    if 0 in shape:
        return Plan(_nothing, stock)
    layout = format_of_strides(shape, strides)
    form = select_form("forward", dtype, layout, shape, *kernel)
    plain = form == "stock" and _plain_strides(shape, strides, layout)
    converted = form == "channels_last" and _plain_strides(shape, strides, _NHWC)
    back = select_form("input_grad", dtype, layout, shape, *kernel)
    return Plan(
        run=stock if plain or converted else _FORWARD[form],
        stock=stock,
        native=plain and back == "transposed",
        small=dtype not in WIDENED
        and math.prod(shape) * math.prod(kernel) <= _SMALL_WORK
        and _plain_strides(shape, strides, _NCHW),
    )


@lru_cache(maxsize=4096)
def plan_input_grad(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: torch.dtype,
    weight_shape: tuple[int, ...],
    weight_dtype: torch.dtype,
) -> Form:
    """Decide how to compute the input gradient for an output gradient of these shapes and strides.

    The returned form takes None for the bias.

    Raises: ValueError as `check_shapes`.
    """
    check_shapes(shape, dtype, weight_shape, weight_dtype)
    if 0 in shape:
        return _nothing
    layout, kernel = format_of_strides(shape, strides), weight_shape[2:]
    form = select_form("input_grad", dtype, layout, shape, *kernel)
    taken = {"transposed": layout, "transposed_channels_last": _NHWC}.get(form)  # the format that PyTorch receives
    if taken is not None and _plain_strides(shape, strides, taken):
        return _transposed_of(kernel, shape[1])
    return _INPUT_GRAD[form]


def _plain_strides(shape: tuple[int, ...], strides: tuple[int, ...], layout: torch.memory_format) -> bool:
    """Whether PyTorch's kernels recognise exactly these strides; a single channel may be in either format."""
    if layout is _NHWC or (shape[1] == 1 and strides[1] == 1):
        return strides == channels_last_strides(shape)
    return strides == contiguous_strides(shape)


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient (C, 1, kh, kw) of the filters, for CPU tensors whose shapes have been checked."""
    channels, (height, width) = x.shape[1], x.shape[2:]
    if x.numel() == 0:
        return x.new_zeros((channels, 1, kernel_height, kernel_width))
    # on a map of side s, at most 2s - 1 taps a side ever meet a pixel; the gradient of the others is zero
    kh, kw = min(kernel_height, 2 * height - 1), min(kernel_width, 2 * width - 1)
    form = _WEIGHT_GRAD[select("weight_grad", x, kh, kw)]
    if 2 * kh * kw > kernel_height * kernel_width:
        return form(x, grad, kernel_height, kernel_width).contiguous()  # computing a narrow rim is cheaper than padding
    rim_h, rim_w = (kernel_height - kh) // 2, (kernel_width - kw) // 2
    return F.pad(form(x, grad, kh, kw), (rim_w, rim_w, rim_h, rim_h))


def _nothing(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return empty_output(x)


def _same(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _stock_of(kernel: tuple[int, ...], channels: int) -> Form:
    """PyTorch's own call, with all arguments worked out in advance."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return lambda x, weight, bias: torch.conv2d(x, weight, bias, 1, padding, 1, channels)


def _transposed_of(kernel: tuple[int, ...], channels: int) -> Form:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return lambda grad, weight, bias: torch.conv_transpose2d(grad, weight, bias, 1, padding, 0, channels)


def _stock(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(as_format(x, format_of(x)), weight, bias, padding=_same(weight), groups=x.shape[1])


def _cropped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _stock(x, crop(weight, x.shape[2], x.shape[3]), bias)


def _stock_contiguous(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = F.conv2d(x.contiguous(), weight, bias, padding=_same(weight), groups=x.shape[1])
    return as_format(y, format_of(x))


def _channels_last(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = F.conv2d(as_format(x, _NHWC), weight, bias, padding=_same(weight), groups=x.shape[1])
    return as_format(y, format_of(x))


def _channel_blocks(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = empty_output(x)
    for start in range(0, x.shape[1], _FORWARD_BLOCK):
        block = slice(start, start + _FORWARD_BLOCK)
        pixels = as_format(x[:, block], _NHWC)
        y[:, block] = _stock(pixels, weight[block], None if bias is None else bias[block])
    return y


def _transposed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the same sum as a transposed convolution with rotated filters (oneDNN's backward-data kernel)."""
    return _plain_transposed(x, turned(weight), bias)


def _plain_transposed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    layout = format_of(x)
    y = F.conv_transpose2d(as_format(x, layout), weight, bias, padding=_same(weight), groups=x.shape[1])
    return as_format(y, layout)


def _stock_input_grad(grad: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    grad = as_format(grad, format_of(grad))
    return _stock_backward(grad, grad, weight, [True, False, False])[0]  # only the shape of the input matters


def _transposed_channels_last(grad: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = F.conv_transpose2d(as_format(grad, _NHWC), weight, bias, padding=_same(weight), groups=grad.shape[1])
    return as_format(y, format_of(grad))


def _turned(grad: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return forward(grad, turned(weight), bias)


def _fft(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return fft.forward(x, crop(weight, x.shape[2], x.shape[3]), bias)


def _float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return forward(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)


def _stock_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    layout = format_of(x)
    shape_only = x.new_empty((x.shape[1], 1, kernel_height, kernel_width))
    return _stock_backward(as_format(grad, layout), as_format(x, layout), shape_only, [False, True, False])[1]


def _stock_backward(grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """The backward function of `F.conv2d` in autograd: gradients of input, filters and bias, as far as `wanted`."""
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], list(_same(weight)), [1, 1], False, [0, 0], x.shape[1], wanted
    )


def _stock_contiguous_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return _stock_weight_grad(x.contiguous(), grad, kernel_height, kernel_width)


def _float32_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return weight_grad(x.float(), grad.float(), kernel_height, kernel_width).to(x.dtype)


def _map_as_filter(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Convolve each image with its own output gradient, in blocks of images and channels that fit the cache."""
    n, channels, height, width = x.shape
    room = min(max(_BLOCK_NUMBERS // (height * width), _VECTOR), _BLOCK_CHANNELS)
    images = max(1, room // channels)
    part = math.ceil(channels / math.ceil(channels / room) / _VECTOR) * _VECTOR  # so that no small block is left over
    taps = x.new_empty((channels, kernel_height, kernel_width))
    for start in range(0, channels, part):
        blocks = [(slice(first, first + images), slice(start, start + part)) for first in range(0, n, images)]
        sums = reduce(Tensor.add_, (_convolve_with_grad(x[b], grad[b], kernel_height, kernel_width) for b in blocks))
        _put_channels_first(sums, taps[start : start + part])
    return taps[:, None]


def _convolve_with_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Weight gradient (kh, kw, C), from one convolution whose channels are all channels of all images.

    Its filter is the output gradient, and with a padding of kh // 2 and kw // 2 its output has kh × kw pixels. They are
    summed over images.
    """
    n, channels, height, width = x.shape
    filters = grad.reshape(n * channels, 1, height, width)
    maps = x if n == 1 else x.permute(2, 3, 0, 1).reshape(1, height, width, n * channels).permute(0, 3, 1, 2)
    spare = -(n * channels) % _VECTOR  # oneDNN's kernel needs full vectors of channels
    if spare:
        filters, maps = F.pad(filters, (0, 0, 0, 0, 0, 0, 0, spare)), F.pad(maps, (0, 0, 0, 0, 0, spare))
    padding = (kernel_height // 2, kernel_width // 2)
    y = F.conv2d(as_format(maps, _NHWC), filters, padding=padding, groups=n * channels + spare)
    sums = y[0].permute(1, 2, 0)[:, :, : n * channels]
    return sums if n == 1 else sums.unflatten(2, (n, channels)).sum(2)


def _put_channels_first(source: Tensor, target: Tensor) -> None:
    """Copy (h, w, C) to (C, h, w) by the faster of PyTorch's two ways."""
    if source.shape[2] % _CROWDED:
        target.copy_(source.permute(2, 0, 1))  # row by row, on all cores
    else:
        target.flatten(1).copy_(source.flatten(0, 1).t())  # as a matrix, block by block, on one core


_FORWARD: dict[str, Form] = {
    "stock": _stock,
    "cropped": _cropped,
    "stock_contiguous": _stock_contiguous,
    "channels_last": _channels_last,
    "channel_blocks": _channel_blocks,
    "transposed": _transposed,
    "fft": _fft,
    "float32": _float32,
    "toeplitz": toeplitz.forward,
    "direct": direct.forward,
}
_INPUT_GRAD: dict[str, Form] = {
    "stock": _stock_input_grad,
    "turned": _turned,
    "transposed": _plain_transposed,
    "transposed_channels_last": _transposed_channels_last,
    "direct": direct.input_grad,
}
_WEIGHT_GRAD = {
    "stock": _stock_weight_grad,
    "stock_contiguous": _stock_contiguous_weight_grad,
    "toeplitz": toeplitz.weight_grad,
    "direct": direct.weight_grad,
    "map_as_filter": _map_as_filter,
    "fft": fft.weight_grad,
    "float32": _float32_weight_grad,
}
