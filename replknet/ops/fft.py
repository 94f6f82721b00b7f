"""Depthwise convolution and its weight gradient through the Fourier transform.

A convolution is a product of spectra, so its cost hardly grows with the kernel. PyTorch's direct convolutions are
faster below about 31×31 if there are enough channels to fill their vectors; they are slower with few channels or in
float64.
"""

import torch
from torch import Tensor

from replknet.ops.layout import empty_output

__all__ = ["forward", "weight_grad"]


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Same-padding convolution of (N, C, H, W) with (C, 1, kh, kw), in the layout of `x`; float32 or float64."""
    height, width = x.shape[2:]
    pad_h, pad_w = weight.shape[2] // 2, weight.shape[3] // 2
    # the circular convolution is longer than the map by half a kernel, so that nothing wraps around into the map
    sides = (_fast_length(height + pad_h), _fast_length(width + pad_w))
    spectrum = torch.fft.rfft2(x.contiguous(), s=sides)
    spectrum *= _conjugate(torch.fft.rfft2(weight[:, 0], s=sides))
    circle = torch.fft.irfft2(spectrum, s=sides)
    y = empty_output(x)
    for rows, circle_rows in _unrolled(height, pad_h, sides[0]):
        for columns, circle_columns in _unrolled(width, pad_w, sides[1]):
            y[:, :, rows, columns] = circle[:, :, circle_rows, circle_columns]
    return y if bias is None else y.add_(bias[:, None, None])


def weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient (C, 1, kh, kw) of the filters from input and output gradient (N, C, H, W); float32 or float64."""
    height, width = x.shape[2:]
    pad_h, pad_w = kernel_height // 2, kernel_width // 2
    sides = (_fast_length(max(height + pad_h, kernel_height)), _fast_length(max(width + pad_w, kernel_width)))
    spectrum = torch.fft.rfft2(x.contiguous(), s=sides)
    spectrum *= _conjugate(torch.fft.rfft2(grad.contiguous(), s=sides))
    taps = torch.fft.irfft2(spectrum.sum(0), s=sides).roll((pad_h, pad_w), (1, 2))
    return taps[:, None, :kernel_height, :kernel_width].contiguous()


def _unrolled(length: int, pad: int, side: int) -> list[tuple[slice, slice]]:
    """Slices of the result and of the circle; the result starts `pad` before the circle's origin and wraps around."""
    before = min(pad, length)
    parts = [(slice(0, before), slice(side - pad, side - pad + before))]
    return [*parts, (slice(before, length), slice(0, length - before))]


def _conjugate(spectrum: Tensor) -> Tensor:
    """Conjugate in place: `Tensor.conj` only sets a flag, which products ignore if AOTAutograd runs the operator."""
    return spectrum.conj_physical_()


def _fast_length(length: int) -> int:
    """Smallest number >= `length` without prime factors above 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
