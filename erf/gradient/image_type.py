"""The number format in which a network takes its images."""

import torch
from torch import nn

__all__ = ["image_type"]


def image_type(model: nn.Module, given: torch.dtype = torch.float32) -> torch.dtype:
    """The data type of a network's parameters and buffers.

    Args:
        given: Data type of the images as they are. It is returned if the network has no floating-point type, or has
            several of which it is one.

    Returns: If the network has several types and none of them is `given`, the most precise one.
    """
    types = {x.dtype for x in [*model.parameters(), *model.buffers()] if x.is_floating_point()}
    if given in types or not types:
        return given if len(types) != 1 else next(iter(types))
    return max(types, key=lambda dtype: -torch.finfo(dtype).eps)
