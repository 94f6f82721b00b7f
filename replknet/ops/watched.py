"""Whether something observes the operations of a network while it runs."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["is_watched"]


def is_watched(x: Tensor) -> bool:
    """Whether operations on a tensor are traced, compiled, transformed or intercepted, rather than only computed.

    A layer that this package computes in an own way then has to run as PyTorch's own layer, so that it is recognised.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    modes = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()
    return type(x) is not Tensor or modes > 0
