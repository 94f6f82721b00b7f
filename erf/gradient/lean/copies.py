"""Copies of a network that share its numbers, so that the network itself stays as it is."""

import copy

import torch
from torch import Tensor, nn

__all__ = ["copy_network"]


def copy_network(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A second network of the same structure, which can be changed without changing the first.

    Args:
        model: Left as it is.
        dtype: Of the copy's floating-point numbers; None to share the tensors themselves, which takes no memory.

    Returns: In the modes of `model`; none of its parameters needs a gradient.
    """
    copies: dict[int, object] = {}
    for module in model.modules():
        held = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        for tensor in held:
            if isinstance(tensor, Tensor) and id(tensor) not in copies:
                copies[id(tensor)] = _copy_tensor(tensor, dtype)
    return copy.deepcopy(model, copies)


def _copy_tensor(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    data = tensor.detach()
    if dtype is not None and tensor.is_floating_point():
        data = data.to(dtype)
    return nn.Parameter(data, requires_grad=False) if isinstance(tensor, nn.Parameter) else data
