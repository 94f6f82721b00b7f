"""A training in a reduced precision: the network's forward pass, and Muon's matrix products.

Which precision is fast on a device is measured in `runkit.compute.precision`.
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

_ORTHOGONALISE = "zeropower_via_newtonschulz"  # timm's name


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The surroundings of a forward pass in `precision`."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def keep_depthwise_in_float32(model: nn.Module) -> None:
    """Take depthwise convolutions out of autocast: on CPU bfloat16 speeds up the dense ones and slows these down."""

    def in_float32(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(x.float())

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = partial(in_float32, module.forward)  # type: ignore[method-assign]


@contextmanager
def orthogonalise_in(precision: str) -> Iterator[None]:
    """While it lasts, timm's Muon multiplies its matrices in `precision`.

    Its function takes the type as an argument, bfloat16 if nothing is said, and its optimiser has no option that says
    anything; so the function is replaced by itself with the argument given.
    """
    original = getattr(timm.optim.muon, _ORTHOGONALISE)
    assert "dtype" in inspect.signature(original).parameters
    with mock.patch.object(timm.optim.muon, _ORTHOGONALISE, partial(original, dtype=getattr(torch, precision))):
        yield
