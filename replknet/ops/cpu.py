"""Depthwise convolution on CPU: the fastest of several exact formulations, chosen by shape from one table.

PyTorch has two compiled kernels worth calling. Up to 13 taps a row oneDNN generates one in either memory format;
beyond, only channels-last has a fast one, and contiguous tensors fall to a kernel that is 10 to 20 times slower. All
forms here are built on those two, on matrix products, or on the Fourier transform, so they need no compiler.

The weight gradient has no fast kernel beyond 3×3. It is computed by the forward kernel with changed roles: an image is
convolved with its own output gradient as the filter, one channel at a time, and the answer has the size of the filter.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops import fft, toeplitz
from replknet.ops.layout import as_format, crop, empty_output, format_of, turned

__all__ = [
    "FORWARD_TABLE",
    "INPUT_GRAD_TABLE",
    "STOCK_WIDTH",
    "WEIGHT_GRAD_TABLE",
    "forward",
    "input_grad",
    "select",
    "weight_grad",
]

_ANY = (0, 1 << 62)
STOCK_WIDTH = 9  # up to this kernel width PyTorch's own float32 kernel is the fastest in its layout
_NARROW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Row:
    """One line of a table: the form to use where every condition holds; ranges are inclusive."""

    form: str
    dtype: tuple[torch.dtype, ...] = (torch.float32,)
    layout: torch.memory_format | None = None  # None: either
    kernel_width: tuple[int, int] = _ANY
    taps: tuple[int, int] = _ANY  # kh · kw
    channels: tuple[int, int] = _ANY
    maps: tuple[int, int] = _ANY  # N · C
    batch: tuple[int, int] = _ANY
    area: tuple[int, int] = _ANY  # H · W


# The first row that fits is used; the kernel counts after `crop`. Measured with PyTorch 2.15 (oneDNN 3.13, MKL) on two
# cores of an AMD EPYC (Zen 4, AVX-512). Another processor moves the borders a little; no border changes the answer.
FORWARD_TABLE = (
    Row("stock_contiguous", dtype=(torch.float64,), taps=(0, 48)),
    Row("fft", dtype=(torch.float64,)),
    Row("float32", dtype=_NARROW),
    Row("stock", kernel_width=(0, 9)),
    Row("transposed", layout=torch.channels_last, kernel_width=(10, 13), channels=(16, 1 << 62), area=(100, 1 << 62)),
    Row("stock", kernel_width=(10, 13)),
    Row("fft", channels=(0, 15), taps=(700, 1 << 62), area=(4096, 1 << 62)),
    Row("channel_blocks", layout=torch.contiguous_format, channels=(64, 1 << 62), area=(4096, 1 << 62)),
    Row("channels_last"),
)
# For the gradient to the input: "turned" is the forward table with turned filters, which costs a copy of the filters;
# "transposed" is the kernel that PyTorch has for it.
INPUT_GRAD_TABLE = (
    Row("turned", dtype=(torch.float64, *_NARROW)),
    Row("transposed", kernel_width=(0, 13), batch=(1, 3)),
    Row("transposed", layout=torch.channels_last, kernel_width=(10, 13), channels=(16, 1 << 62)),
    Row("transposed", batch=(1, 1), area=(0, 256)),
    Row("transposed", layout=torch.contiguous_format, channels=(16, 63), area=(4096, 1 << 62)),
    Row("turned"),
)
WEIGHT_GRAD_TABLE = (
    Row("stock_contiguous", dtype=(torch.float64,), taps=(0, 9)),
    Row("fft", dtype=(torch.float64,)),
    Row("float32", dtype=_NARROW),
    Row("stock", taps=(0, 9)),
    Row("toeplitz", area=(0, 60), batch=(8, 1 << 62)),
    Row("toeplitz", area=(0, 150), batch=(32, 1 << 62)),
    Row("fft", maps=(0, 15)),
    Row("map_as_filter"),
)

# Channels that "channel_blocks" converts and convolves at a time: the copies stay in the cache and reuse their memory,
# where copies of a whole map of 1024×1024 images would be new pages each time.
_FORWARD_BLOCK = 32
# Numbers of one image block in "map_as_filter": with more channels at once, neighbouring pixels lie so far apart that a
# few of them fill their part of the first-level cache. At least 16 channels, at most 256.
_BLOCK_NUMBERS = 1 << 17
_VECTOR = 16


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`depthwise_conv2d` for checked CPU tensors."""
    if x.numel() == 0:
        return empty_output(x)
    weight = crop(weight, x.shape[2], x.shape[3])
    form = select("forward", x, weight.shape[2], weight.shape[3])
    return as_format(_FORWARD[form](x, weight, bias), format_of(x))


def input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient (N, C, H, W) to the input, in the format of `grad`, for checked CPU tensors."""
    if grad.numel() == 0:
        return empty_output(grad)
    weight = crop(weight, grad.shape[2], grad.shape[3])
    if select("input_grad", grad, weight.shape[2], weight.shape[3]) == "turned":
        return forward(grad, turned(weight), None)
    layout = format_of(grad)
    return as_format(_plain_transposed(as_format(grad, layout), weight, None), layout)


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient (C, 1, kh, kw) to the filters, for checked CPU tensors."""
    channels, (height, width) = x.shape[1], x.shape[2:]
    if x.numel() == 0:
        return x.new_zeros((channels, 1, kernel_height, kernel_width))
    kh, kw = min(kernel_height, 2 * height - 1), min(kernel_width, 2 * width - 1)
    form = select("weight_grad", x, kh, kw)
    taps = _WEIGHT_GRAD[form](x, grad, kh, kw)
    rim_h, rim_w = (kernel_height - kh) // 2, (kernel_width - kw) // 2
    return F.pad(taps, (rim_w, rim_w, rim_h, rim_h)) if rim_h or rim_w else taps.contiguous()


def select(purpose: str, x: Tensor, kernel_height: int, kernel_width: int) -> str:
    """Name of the form that a table gives for input `x` and a kernel that already went through `crop`.

    Args:
        purpose: "forward", "input_grad" or "weight_grad".
    """
    return _select(purpose, x.dtype, format_of(x), tuple(x.shape), kernel_height, kernel_width)


@lru_cache(maxsize=4096)
def _select(
    purpose: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    shape: tuple[int, ...],
    kernel_height: int,
    kernel_width: int,
) -> str:
    n, channels, height, width = shape
    facts = {
        "kernel_width": kernel_width,
        "taps": kernel_height * kernel_width,
        "channels": channels,
        "maps": n * channels,
        "batch": n,
        "area": height * width,
    }
    for row in {"forward": FORWARD_TABLE, "input_grad": INPUT_GRAD_TABLE, "weight_grad": WEIGHT_GRAD_TABLE}[purpose]:
        if dtype not in row.dtype or row.layout not in (None, layout):
            continue
        if all(low <= facts[name] <= high for name, (low, high) in _ranges(row)):
            return row.form
    raise AssertionError(f"no row of the table fits {dtype}, {facts}")


def _ranges(row: Row) -> list[tuple[str, tuple[int, int]]]:
    names = ("kernel_width", "taps", "channels", "maps", "batch", "area")
    return [(name, getattr(row, name)) for name in names]


def _same(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _stock(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(as_format(x, format_of(x)), weight, bias, padding=_same(weight), groups=x.shape[1])


def _stock_contiguous(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x.contiguous(), weight, bias, padding=_same(weight), groups=x.shape[1])


def _channels_last(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = as_format(x, torch.channels_last)
    return F.conv2d(x, weight, bias, padding=_same(weight), groups=x.shape[1])


def _channel_blocks(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = empty_output(x)
    for start in range(0, x.shape[1], _FORWARD_BLOCK):
        block = slice(start, start + _FORWARD_BLOCK)
        y[:, block] = _channels_last(x[:, block], weight[block], None if bias is None else bias[block])
    return y


def _transposed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The stride-1 transposed convolution with turned filters is the same sum, by oneDNN's backward-data kernel."""
    return _plain_transposed(as_format(x, torch.channels_last), turned(weight), bias)


def _plain_transposed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv_transpose2d(x, weight, bias, padding=_same(weight), groups=x.shape[1])


def _float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return forward(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)


def _stock_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    channels = x.shape[1]
    layout, padding = format_of(x), [kernel_height // 2, kernel_width // 2]
    shape_only = x.new_empty((channels, 1, kernel_height, kernel_width))
    return torch.ops.aten.convolution_backward(
        as_format(grad, layout),
        as_format(x, layout),
        shape_only,
        None,
        [1, 1],
        padding,
        [1, 1],
        False,
        [0, 0],
        channels,
        [False, True, False],
    )[1]


def _stock_contiguous_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return _stock_weight_grad(x.contiguous(), grad, kernel_height, kernel_width)


def _float32_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return weight_grad(x.float(), grad.float(), kernel_height, kernel_width).to(x.dtype)


def _map_as_filter(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Convolve each image with its output gradient as the filter: padded by kh // 2, kw // 2, kh × kw numbers remain.

    Images and channels together are the channels of that convolution, in blocks that suit the cache; the answers of
    different images are added.
    """
    n, channels, height, width = x.shape
    room = _BLOCK_NUMBERS // (height * width) // _VECTOR * _VECTOR
    room = min(max(room, _VECTOR), 256)
    images, part = max(1, room // channels), min(room, channels)
    total = x.new_zeros((kernel_height, kernel_width, channels))
    for first in range(0, n, images):
        for start in range(0, channels, part):
            few = (slice(first, first + images), slice(start, start + part))
            maps, filters = x[few], grad[few]
            m, c = maps.shape[:2]
            spare = -(m * c) % _VECTOR  # oneDNN's kernel wants whole vectors of channels
            pixels = maps.permute(2, 3, 0, 1).reshape(1, height, width, m * c)
            filters = filters.reshape(m * c, 1, height, width)
            if spare:
                pixels, filters = F.pad(pixels, (0, spare)), F.pad(filters, (0, 0, 0, 0, 0, 0, 0, spare))
            pixels = as_format(pixels.permute(0, 3, 1, 2), torch.channels_last)
            padding = (kernel_height // 2, kernel_width // 2)
            y = F.conv2d(pixels, filters, padding=padding, groups=m * c + spare)
            y = y[0].permute(1, 2, 0)[:, :, : m * c].reshape(kernel_height, kernel_width, m, c)
            total[:, :, start : start + c] += y.sum(2)
    return total.permute(2, 0, 1)[:, None].contiguous()


_FORWARD = {
    "stock": _stock,
    "stock_contiguous": _stock_contiguous,
    "channels_last": _channels_last,
    "channel_blocks": _channel_blocks,
    "transposed": _transposed,
    "fft": fft.forward,
    "float32": _float32,
}
_WEIGHT_GRAD = {
    "stock": _stock_weight_grad,
    "stock_contiguous": _stock_contiguous_weight_grad,
    "toeplitz": toeplitz.weight_grad,
    "map_as_filter": _map_as_filter,
    "fft": fft.weight_grad,
    "float32": _float32_weight_grad,
}
