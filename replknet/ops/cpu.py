"""Depthwise convolution on CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops.layout import as_format, empty_output, format_of

__all__ = ["forward", "weight_grad"]


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.numel() == 0:
        return empty_output(x)
    if x.dtype in (torch.float16, torch.bfloat16):
        return forward(x.float(), weight.float(), None if bias is None else bias.float()).to(x.dtype)
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    y = F.conv2d(as_format(x, torch.channels_last), weight, bias, padding=padding, groups=x.shape[1])
    return as_format(y, format_of(x))


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    n, c, h, w = x.shape
    if x.numel() == 0:
        return x.new_zeros((c, 1, kernel_height, kernel_width))
    if x.dtype in (torch.float16, torch.bfloat16):
        return weight_grad(x.float(), grad.float(), kernel_height, kernel_width).to(x.dtype)
    xx = x.permute(2, 3, 0, 1).contiguous().view(1, h, w, n * c).permute(0, 3, 1, 2)
    maps = F.conv2d(xx, grad.reshape(n * c, 1, h, w), padding=(kernel_height // 2, kernel_width // 2), groups=n * c)
    return maps.reshape(n, c, 1, kernel_height, kernel_width).sum(0)
