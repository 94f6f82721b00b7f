"""In which precision a training computes: what is fast on its device, for the network and for Muon's matrix products.

A processor without bfloat16 instructions emulates them: there a matrix product in bfloat16 takes 10 to 100 times as
long as in float32. PyTorch says by name which instructions a processor has, but not whether its libraries use them, so
the two products are timed against each other, once, in milliseconds.
"""

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from unittest import mock

import timm.optim.muon
import torch
from torch import nn

__all__ = ["autocast", "keep_depthwise_in_float32", "orthogonalise_in", "resolve_precision"]

_SIDE = 256  # of the matrices that are multiplied to see which type is faster: as large as a nano network's
_ORTHOGONALISE = "zeropower_via_newtonschulz"  # timm's name


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision meant by `precision`: 'auto' is 'bfloat16' where the device multiplies faster in it.

    Returns: 'float32' or 'bfloat16'.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and _bfloat16_is_faster_on_cpu() else "float32"


@lru_cache(maxsize=1)
def _bfloat16_is_faster_on_cpu() -> bool:
    return _seconds_of_product(torch.bfloat16) < _seconds_of_product(torch.float32)


def _seconds_of_product(dtype: torch.dtype) -> float:
    """Shortest of three matrix products, after one that warms up."""
    a = torch.ones(_SIDE, _SIDE, dtype=dtype)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


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
