"""Merge parallel convolutions and their normalisations into one convolution that computes the same function.

Sums are computed in float64 and rounded once. A normalisation is folded with its running statistics, so a merged
network is only for inference: it no longer uses the statistics of its batches.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replknet.ops import DepthwiseConv2d

__all__ = ["affine_of", "conv_with", "dense_kernel", "folded", "padded_to"]


def affine_of(norm: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and shift that a batch normalisation (or Identity) applies in eval mode.

    Args:
        norm: The normalisation.
        like: A vector (C,); the results have its shape and device, in float64.

    Raises: ValueError for a normalisation without running statistics.
    """
    if isinstance(norm, nn.Identity):
        return torch.ones_like(like, dtype=torch.float64), torch.zeros_like(like, dtype=torch.float64)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded: it depends on the batch")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    return scale, shift


def folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias (float64) of the convolution that equals `conv` followed by `norm`."""
    scale, shift = affine_of(norm, conv.weight[:, 0, 0, 0])
    if conv.bias is not None:
        shift = shift + scale * conv.bias.double()
    return conv.weight.double() * scale[:, None, None, None], shift


def conv_with(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Create a convolution like `conv` (type, geometry, mode, device and dtype) with the given weight and bias.

    If `conv` is a `DepthwiseConv2d`, the new one has the kernel size of `weight`.
    """
    place: dict[str, Any] = dict(device=conv.weight.device, dtype=conv.weight.dtype)
    if isinstance(conv, DepthwiseConv2d):
        height, width = weight.shape[2:]
        new: Any = DepthwiseConv2d(conv.in_channels, (height, width), bias=True, **place)
    else:
        size: Any = conv.kernel_size
        place |= dict(stride=conv.stride, padding=conv.padding, dilation=conv.dilation, groups=conv.groups)
        new = nn.Conv2d(conv.in_channels, conv.out_channels, size, bias=True, **place)
    with torch.no_grad():
        new.weight.copy_(weight)
        new.bias.copy_(bias)
    new.requires_grad_(conv.weight.requires_grad)
    return new.train(conv.training)


def dense_kernel(weight: Tensor, dilation: int) -> Tensor:
    """Convert a dilated kernel to the equivalent dense one, of side d·(k - 1) + 1, with zeros between its taps."""
    channels, _, height, width = weight.shape
    dense = weight.new_zeros((channels, 1, dilation * (height - 1) + 1, dilation * (width - 1) + 1))
    dense[:, :, ::dilation, ::dilation] = weight
    return dense


def padded_to(weight: Tensor, height: int, width: int) -> Tensor:
    """Pad a kernel with odd sides with zeros to height × width, so that it stays centred.

    Raises: ValueError if it is larger than that.
    """
    rows, columns = (height - weight.shape[2]) // 2, (width - weight.shape[3]) // 2
    if rows < 0 or columns < 0:
        raise ValueError(f"a kernel {tuple(weight.shape[2:])} does not fit into one of {height}×{width}")
    return F.pad(weight, [columns, columns, rows, rows])
