"""Record which code computed the large depthwise convolutions of a network, for the provenance of results."""

from importlib import metadata

import torch
from torch import nn

from replknet.ops.cpu import direct
from runkit.content import DepthwiseKernels, UsedKernels

__all__ = ["describe_kernels", "has_large_depthwise", "large_depthwise"]

# Smallest kernel side at which PyTorch's depthwise convolution on CPU is faster in channels-last (12 times at 31×31 on
# 256² maps, measured on two cores with AVX-512).
_LARGE_KERNEL = 11


def large_depthwise(model: nn.Module, at_least: int = _LARGE_KERNEL) -> list[nn.Conv2d]:
    """List the depthwise convolutions of a network whose longer kernel side has `at_least` pixels or more."""
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1)
    return [conv for conv in convolutions if max(conv.kernel_size) >= at_least]


def has_large_depthwise(model: nn.Module) -> bool:
    """Whether a network has a depthwise convolution whose kernel has a side of 11 pixels or more."""
    return bool(large_depthwise(model))


def describe_kernels(device: torch.device, *, large_depthwise: bool, plain: bool = False) -> UsedKernels:
    """Return the entry `depthwise_kernels` of a result, for a network with large depthwise convolutions on a CPU.

    Args:
        device: Device on which the network ran.
        large_depthwise: Whether it has large depthwise convolutions, see `has_large_depthwise`.
        plain: Whether PyTorch's own convolutions were requested.

    Returns: A dictionary with this entry; empty for other networks and devices.
    """
    if device.type != "cpu" or not large_depthwise:
        return {}
    compiled = direct.in_use() and not plain
    kernels: DepthwiseKernels = {
        "compiled": compiled,
        "llvmlite": metadata.version("llvmlite") if compiled else None,
    }
    return {"depthwise_kernels": kernels}
