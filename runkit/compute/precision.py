"""Which precision is fast on a device: the rate of matrix products in each number type, measured once.

A processor without bfloat16 instructions emulates them: a matrix product in bfloat16 then takes 10 to 100 times as long
as in float32. PyTorch reports which instructions a processor has, but not whether its libraries use them. The products
are therefore timed against each other, once per process, which takes milliseconds.
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
"""Side of the matrices that are multiplied: as many rows as in a nano network, or enough to fill a GPU."""
_MAY_BE_EMULATED = ("bfloat16", "float16")
_logger = logging.getLogger(__name__)

Rate = Callable[[str, torch.device], float]


def resolve_precision(precision: str, device: torch.device, *, rate: "Rate | None" = None) -> str:
    """The precision that `precision` stands for on a device.

    A type of half the width that is requested by name is always used, with a warning if float32 is faster.

    Args:
        precision: Its name. 'auto' means bfloat16 if the device multiplies faster in it, and float32 otherwise.
        rate: Replaces `product_rate`: returns the rate of products in a type, given by name.

    Returns: `precision` itself; for 'auto', 'float32' or 'bfloat16'.
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
    """Whether a device supports a type, and the duration of products can be measured on it."""
    if precision == "bfloat16" and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type in _SIDE


@lru_cache
def product_rate(precision: str, device: torch.device) -> float:
    """Floating-point operations per second of a matrix product on a device, counting 2 n³ for n × n matrices.

    It is the rate of the fastest of three products after a warm-up, with PyTorch's number of threads at the first call.

    Args:
        precision: Name of a PyTorch data type.
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
