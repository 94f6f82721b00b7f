"""Training in reduced precision: the network's forward pass and Muon's matrix products.

`runkit.compute.precision` determines which precision is fast on a device.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from unittest import mock

import timm.optim.muon
import torch
from torch import nn

__all__ = ["autocast", "keep_depthwise_in_float32", "orthogonalise_in"]

_ORTHOGONALISE = "zeropower_via_newtonschulz"  # its name in timm


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context manager for a forward pass in `precision`."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def keep_depthwise_in_float32(model: nn.Module) -> None:
    """Exclude depthwise (grouped) convolutions from autocast: on CPU, bfloat16 slows them down, unlike dense ones."""

    def in_float32(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(x.float())

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = partial(in_float32, module.forward)  # type: ignore[method-assign]


@contextmanager
def orthogonalise_in(precision: str) -> Iterator[None]:
    """Context manager within which timm's Muon multiplies its matrices in `precision`.

    timm's function takes the dtype as an argument (bfloat16 by default), but the optimiser has no option for it.
    Therefore the function is temporarily replaced by a version with this argument set.
    """
    original = getattr(timm.optim.muon, _ORTHOGONALISE)
    assert "dtype" in inspect.signature(original).parameters
    with mock.patch.object(timm.optim.muon, _ORTHOGONALISE, partial(original, dtype=getattr(torch, precision))):
        yield
