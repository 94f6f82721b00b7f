"""The number format in which a network takes its images."""

import torch
from torch import nn

__all__ = ["image_type"]


def image_type(model: nn.Module, given: torch.dtype = torch.float32) -> torch.dtype:
    """The type of a network's parameters and buffers.

    Args:
        given: Of the images as they are: it stays where a network has several types, one of which it is, and where it
            has none.

    Returns: Of several types without that of the images the one with the most digits.
    """
    types = {x.dtype for x in [*model.parameters(), *model.buffers()] if x.is_floating_point()}
    if given in types or not types:
        return given if len(types) != 1 else next(iter(types))
    return max(types, key=lambda dtype: -torch.finfo(dtype).eps)
