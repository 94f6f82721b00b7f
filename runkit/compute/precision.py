"""Which arithmetic is fast on a device: the rate of a matrix product in each number type, measured once.

A processor without bfloat16 instructions emulates them: there a matrix product in bfloat16 takes 10 to 100 times as
long as in float32. PyTorch says by name which instructions a processor has, but not whether its libraries use them, so
the products are timed against each other, once in a process, in milliseconds.
"""

import logging
import time
from collections.abc import Callable
from functools import lru_cache

import torch

__all__ = ["AUTO", "product_rate", "resolve_precision"]

AUTO = "auto"
"""The precision that stands for the faster of float32 and bfloat16."""

_SIDE = {"cpu": 256, "cuda": 2048}
"""Rows and columns of the matrices that are multiplied: as many as a nano network's, on a GPU enough to fill it."""
_MAY_BE_EMULATED = ("bfloat16", "float16")
_logger = logging.getLogger(__name__)

Rate = Callable[[str, torch.device], float]


def resolve_precision(precision: str, device: torch.device, *, rate: "Rate | None" = None) -> str:
    """The precision that `precision` stands for on a device.

    A type of half the width that is asked for by name is taken, with a warning where float32 is faster.

    Args:
        precision: Its name; 'auto' is bfloat16 where the device multiplies faster in it, and float32 elsewhere.
        rate: Instead of `product_rate`: the rate of products in a type, by its name.

    Returns: `precision` itself, or of 'auto' 'float32' or 'bfloat16'.
    """
    rate = rate or product_rate
    if precision == AUTO:
        return "bfloat16" if _is_faster("bfloat16", device, rate) else "float32"
    if precision in _MAY_BE_EMULATED and _can_be_timed(precision, device):
        reduced, exact = rate(precision, device), rate("float32", device)
        if reduced < exact:
            _logger.warning(
                "%s is slower than float32 on this %s: a matrix product runs at %.3g GFLOP/s in %s and at %.3g GFLOP/s "
                "in float32; precision auto takes the faster one",
                precision,
                "GPU" if device.type == "cuda" else "processor",
                reduced / 1e9,
                precision,
                exact / 1e9,
            )
    return precision


def _is_faster(precision: str, device: torch.device, rate: Rate) -> bool:
    return _can_be_timed(precision, device) and rate(precision, device) > rate("float32", device)


def _can_be_timed(precision: str, device: torch.device) -> bool:
    """Whether a device has a type at all, and its products end when a clock can tell."""
    if precision == "bfloat16" and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type in _SIDE


@lru_cache
def product_rate(precision: str, device: torch.device) -> float:
    """Floating-point operations per second of a matrix product on a device, 2 n³ of n × n matrices.

    The fastest of three products, after one that warms up, with the threads that PyTorch has at the first call.

    Args:
        precision: Name of a type of PyTorch.
        device: A CPU or a CUDA device.
    """
    side = _SIDE[device.type]
    a = torch.ones(side, side, dtype=getattr(torch, precision), device=device)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds[1:])
