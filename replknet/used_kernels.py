"""Which code computed the large depthwise convolutions of a network, for the provenance of results."""

from importlib import metadata

import torch
from torch import nn

from replknet.ops.cpu import direct
from runkit.content import DepthwiseKernels, UsedKernels

__all__ = ["describe_kernels", "has_large_depthwise", "large_depthwise"]

# Smallest side from which PyTorch's CPU convolution gains by channels-last in a depthwise layer (12 times at 31×31 on
# 256² maps, measured on two cores with AVX-512).
_LARGE_KERNEL = 11


def large_depthwise(model: nn.Module, at_least: int = _LARGE_KERNEL) -> list[nn.Conv2d]:
    """The depthwise convolutions of a network with a kernel of `at_least` pixels along a side."""
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1)
    return [conv for conv in convolutions if max(conv.kernel_size) >= at_least]


def has_large_depthwise(model: nn.Module) -> bool:
    """Whether a network has depthwise convolutions with a kernel of 11 pixels or more along a side."""
    return bool(large_depthwise(model))


def describe_kernels(device: torch.device, *, large_depthwise: bool, plain: bool = False) -> UsedKernels:
    """`depthwise_kernels` of a result, for a network that ran on a CPU and has large depthwise convolutions.

    Args:
        device: On which it ran.
        large_depthwise: As `has_large_depthwise` says of it.
        plain: Whether PyTorch's own convolutions were asked for.

    Returns: Nothing for other networks and devices.
    """
    if device.type != "cpu" or not large_depthwise:
        return {}
    compiled = direct.in_use() and not plain
    kernels: DepthwiseKernels = {
        "compiled": compiled,
        "llvmlite": metadata.version("llvmlite") if compiled else None,
    }
    return {"depthwise_kernels": kernels}
