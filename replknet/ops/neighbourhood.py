"""Weighted sum of each pixel's neighbourhood, with different weights for every pixel.

    y[n, g, c, i, j] = sum over a, b of weights[n, a * k + b, g, i, j] * x[n, g, c, top(i) + a, left(j) + b]

where top(i) is i - k // 2, shifted into the map where the window would cross its edge. These are the windows of
NATTEN's `na2d_av` (Hassani et al., "Neighborhood Attention Transformer", CVPR 2023, arXiv:2204.07143), which OverLoCK's
dynamic convolution uses. The code uses only PyTorch's functions and runs on any device. Forward and backward pass
process the k² positions of a window one at a time and save only the inputs, since all windows together are k² times as
large as the map.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["neighbourhood_sum"]


def _window_start(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """First row (or column) of the window of each of `size` pixels, int64 (size,)."""
    return (torch.arange(size, device=device) - kernel_size // 2).clamp(0, size - kernel_size)


def neighbourhood_sum(weights: Tensor, x: Tensor) -> Tensor:
    """Weighted sum of each pixel's neighbourhood; differentiable once. Works in TorchScript and `torch.compile`.

    Args:
        weights: (N, k·k, G, H, W) with k odd, at most H and W; one set for each of G groups of channels.
        x: (N, C, H, W), C a multiple of G, dtype and device of `weights`.

    Returns: (N, C, H, W), contiguous.
    Raises: ValueError for shapes that do not match.
    """
    return torch.ops.replknet.neighbourhood_sum(weights, x)


def _check(weights: Tensor, x: Tensor) -> int:
    """Check the shapes and return the side k of the windows."""
    side = round(weights.shape[1] ** 0.5)
    n, places, groups, height, width = weights.shape
    fits = places == side * side and side % 2 == 1 and side <= min(height, width)
    if not fits or x.shape[0] != n or x.shape[1] % groups or tuple(x.shape[2:]) != (height, width):
        raise ValueError(
            f"weights {tuple(weights.shape)} and x {tuple(x.shape)}: they must be (N, k·k, G, H, W) and (N, C, H, W) "
            "with k odd and at most H and W, and C a multiple of G"
        )
    return side


def _starts(x: Tensor, side: int) -> tuple[Tensor, Tensor]:
    return _window_start(x.shape[2], side, x.device), _window_start(x.shape[3], side, x.device)


def _grouped(x: Tensor, groups: int) -> Tensor:
    """Reshape (N, C, H, W) to (N, G, C / G, H, W), contiguous."""
    return x.contiguous().unflatten(1, (groups, -1))


@torch.library.custom_op("replknet::neighbourhood_sum", mutates_args=())
def _forward(weights: Tensor, x: Tensor) -> Tensor:
    side = _check(weights, x)
    top, left = _starts(x, side)
    values = _grouped(x, weights.shape[2])
    out = torch.zeros_like(values)
    for a in range(side):
        rows = values.index_select(3, top + a)
        for b in range(side):
            out.addcmul_(rows.index_select(4, left + b), weights[:, a * side + b].unsqueeze(2))
    return out.flatten(1, 2)


@torch.library.custom_op("replknet::neighbourhood_sum_backward", mutates_args=())
def _backward(grad: Tensor, weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    side = _check(weights, x)
    top, left = _starts(x, side)
    values, grads = _grouped(x, weights.shape[2]), _grouped(grad, weights.shape[2])
    grad_weights, grad_values = torch.empty_like(weights), torch.zeros_like(values)
    for a in range(side):
        rows = values.index_select(3, top + a)
        grad_rows = torch.zeros_like(rows)
        for b in range(side):
            grad_weights[:, a * side + b] = (grads * rows.index_select(4, left + b)).sum(2)
            grad_rows.index_add_(4, left + b, grads * weights[:, a * side + b].unsqueeze(2))
        grad_values.index_add_(3, top + a, grad_rows)
    return grad_weights, grad_values.flatten(1, 2)


@_forward.register_fake
def _forward_fake(weights: Tensor, x: Tensor) -> Tensor:
    _check(weights, x)
    return x.new_empty(x.shape)


@_backward.register_fake
def _backward_fake(grad: Tensor, weights: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(weights), x.new_empty(x.shape)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.replknet.neighbourhood_sum_backward(grad, *ctx.saved_tensors)


_forward.register_autograd(_autograd, setup_context=_setup)
