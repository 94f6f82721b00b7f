"""Verification of kernels that were compiled on this machine, before they are used.

Each variant is run on a small random input with its kernel size, dtype and tile, and compared with `F.conv2d` in
float64, once per process. The input is just large enough that the same tile is chosen for it as for the actual tensors.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SWITCH", "WrongResult", "can_prove_now", "prove", "small_shape", "turned_off"]

SWITCH = "REPLKNET_CUDA_KERNELS"
"""Environment variable: 0 turns the kernels off."""
_SIDE = 71  # pixels; from this side on, the tile does not depend on the side
_PLANES = 33  # more than the planes of any tile
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest error divided by the largest value of the result; a value in the wrong place gives an error of about 1."""
_TF32_TOLERANCE = 1e-2
_proven: set[tuple[Any, ...]] = set()

Kernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class WrongResult(RuntimeError):
    """The result of a kernel is wrong."""


def turned_off() -> bool:
    """Whether the user has turned the kernels off."""
    return os.environ.get(SWITCH, "1") == "0"


def can_prove_now(x: Tensor) -> bool:
    """Whether a comparison is possible now; it is not while a CUDA graph is captured."""
    return not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def prove(name: str, kernel: Kernel, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Compare a kernel with `F.conv2d` in float64, unless its variant was compared before.

    Args:
        name: Name of the kernel.
        kernel: Function of images (N, C, H, W), filters (C, 1, kh, kw) and biases (C,) or None; all contiguous.
        x, weight, bias: Tensors that the kernel is to be used for; only their shapes, dtype and device matter.

    Raises: WrongResult if the two differ by more than rounding; also any error that the kernel raises.
    """
    shape = small_shape(tuple(x.shape))
    taps = tuple(weight.shape[2:])
    exact = torch.get_float32_matmul_precision() == "highest"
    key = (name, x.device, x.dtype, exact, shape, taps, bias is None)
    if key in _proven:
        return
    small, filters, shifts = _inputs(shape, taps, x, bias is not None)
    found = kernel(small, filters, shifts).double()
    padding = (taps[0] // 2, taps[1] // 2)
    doubled = None if shifts is None else shifts.double()
    expected = F.conv2d(small.double(), filters.double(), doubled, padding=padding, groups=shape[1])
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    tolerance = _TOLERANCES[x.dtype] if exact or x.dtype != torch.float32 else _TF32_TOLERANCE
    if not error <= tolerance:
        dtype = str(x.dtype).removeprefix("torch.")
        raise WrongResult(
            f"a kernel of {taps[0]} x {taps[1]} in {dtype} differs from PyTorch's convolution in float64 by {error:.1e}"
        )
    _proven.add(key)


def small_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Shape (N, C, H, W) of small images for which the same tile is chosen as for images of the given shape."""
    n, channels, height, width = shape
    few = min(channels, _PLANES)
    return (min(n, -(-_PLANES // few)), few, min(height, _SIDE), min(width, _SIDE))


def _inputs(
    shape: tuple[int, int, int, int], taps: tuple[int, ...], like: Tensor, with_bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Random images, filters and biases; the filters are scaled so that the outputs are about 1."""
    generator = torch.Generator().manual_seed(0)

    def noise(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float32, device="cpu")

    filters = noise(shape[1], 1, *taps) / (taps[0] * taps[1]) ** 0.5
    made = [noise(*shape), filters, noise(shape[1])]
    images, filters, shifts = (one.to(device=like.device, dtype=like.dtype) for one in made)
    return images, filters, shifts if with_bias else None
