"""A depthwise convolution on small maps and its weight gradient, as one matrix product per channel.

The convolution of a map of P pixels is a product with a P×P Toeplitz matrix T, whose entry (q, p) is the tap that
connects input pixel q with output pixel p. T is built anew in each call, which pays off for many images. The gradient
of T is the product XᵀG of inputs (N, P) and output gradients (N, P), and the gradient of a tap is the sum over the
entries of T that hold it. Once the kernel spans the map, none of the P² products is wasted.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops.layout import empty_output

__all__ = ["forward", "weight_grad"]

# Size, in numbers, of the P×P matrices of the channels in one batch, so that they fit the L2 caches of both cores.
_CACHED_NUMBERS = 1 << 19


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Same-padding convolution of (N, C, H, W) with (C, 1, kh, kw), in the layout of `x`."""
    n, channels, height, width = x.shape
    pixels, table = height * width, _tap_table(height, width, *weight.shape[2:])
    taps = F.pad(weight.flatten(1), (0, 1))  # the last column is for pixels that no tap connects
    maps = _channel_first(x)
    product = x.new_empty((channels, n, pixels))
    step = max(1, _CACHED_NUMBERS // pixels**2)
    for start in range(0, channels, step):
        matrix = taps[start : start + step].index_select(1, table).view(-1, pixels, pixels)
        torch.bmm(maps[start : start + step], matrix, out=product[start : start + step])
    y = empty_output(x)
    if y.is_contiguous():
        y.flatten(2).copy_(product.transpose(0, 1))
    else:
        y.permute(0, 2, 3, 1).view(-1, channels).copy_(product.flatten(1).t())
    return y if bias is None else y.add_(bias[:, None, None])


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient (C, 1, kh, kw) of the filters from input and output gradient (N, C, H, W)."""
    channels, (height, width) = x.shape[1], x.shape[2:]
    pixels, taps = height * width, kernel_height * kernel_width
    table = _tap_table(height, width, kernel_height, kernel_width)
    left, right = _channel_first(x), _channel_first(grad)  # (C, N, P)
    sums = x.new_zeros((channels, taps + 1))  # the last column collects pixels that no tap connects
    step = max(1, _CACHED_NUMBERS // pixels**2)
    for start in range(0, channels, step):
        stop = min(start + step, channels)
        product = torch.bmm(left[start:stop].transpose(1, 2), right[start:stop])  # (c, P, P)
        sums[start:stop].index_add_(1, table, product.view(stop - start, -1))
    return sums[:, :taps].reshape(channels, 1, kernel_height, kernel_width)


def _channel_first(x: Tensor) -> Tensor:
    """Convert (N, C, H, W) to contiguous (C, N, H·W)."""
    n, channels, height, width = x.shape
    if x.is_contiguous():
        return x.transpose(0, 1).reshape(channels, n, height * width)
    # from channels-last this is a single matrix transposition, which PyTorch does block by block
    return x.permute(0, 2, 3, 1).reshape(-1, channels).t().contiguous().view(channels, n, height * width)


@lru_cache(maxsize=32)
def _tap_table(height: int, width: int, kernel_height: int, kernel_width: int) -> Tensor:
    """Index (row-major) of the tap between input pixel q and output pixel p, at q · P + p; kh · kw if there is none."""
    rows, columns = torch.arange(height, device="cpu"), torch.arange(width, device="cpu")
    i = (rows[:, None] - rows[None, :] + kernel_height // 2)[:, None, :, None]
    j = (columns[:, None] - columns[None, :] + kernel_width // 2)[None, :, None, :]
    inside = (i >= 0) & (i < kernel_height) & (j >= 0) & (j < kernel_width)
    return torch.where(inside, i * kernel_width + j, kernel_height * kernel_width).flatten()
