"""The cost of a network before it runs on many images: counted multiplications, and time and memory of a short run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from runkit.compute.memory import peak_memory, reset_peak_memory

__all__ = ["Probe", "count_macs", "extrapolate", "probe"]


@dataclass(frozen=True)
class Probe:
    """One short run.

    Attributes:
        macs: Multiply-accumulate operations of the forward pass, for all images together.
        pixels: Number of pixels of all images together.
        seconds: Duration of the whole run, for example of forward and backward pass.
        peak_bytes: Peak memory of the process, or of the device on CUDA; None if the system does not report it.
    """

    macs: int
    pixels: int
    seconds: float
    peak_bytes: int | None


def count_macs(forward: Callable[[], object]) -> int:
    """Multiply-accumulate operations of convolutions and matrix products as PyTorch counts them, including padding.

    Args:
        forward: A forward pass that creates its own input. No numbers are computed, and no memory is allocated.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), counter:
        forward()
    return counter.get_total_flops() // 2


def probe(run: Callable[[], object], device: torch.device, *, macs: int, pixels: int) -> Probe:
    """Time and memory of `run`: the better of two runs after a warm-up.

    Args:
        macs, pixels: Size of the work of `run`, stored in the result.
    """

    def seconds() -> float:
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    seconds()
    reset_peak_memory(device)
    best = min(seconds(), seconds())
    memory = peak_memory(device)
    return Probe(macs, pixels, best, memory["cuda_bytes"] if device.type == "cuda" else memory["resident_bytes"])


def extrapolate(probes: Sequence[Probe], *, macs: int, pixels: int) -> Probe:
    """Estimate another run by linear extrapolation from the last two probes.

    Time is extrapolated over the number of multiplications, memory over the number of pixels. If there is a single
    probe, its time is scaled and its memory is used as it is. The same is done with the last probe if the line does not
    rise.
    """
    small, large = probes[-2:] if len(probes) > 1 else (probes[0], probes[0])
    seconds, peak = large.seconds * macs / large.macs, large.peak_bytes
    if large.macs > small.macs:
        step = (large.seconds - small.seconds) / (large.macs - small.macs)
        overhead = small.seconds - step * small.macs
        if step > 0 and overhead > 0:
            seconds = overhead + step * macs
    if large.pixels > small.pixels and small.peak_bytes is not None and large.peak_bytes is not None:
        growth = (large.peak_bytes - small.peak_bytes) / (large.pixels - small.pixels)
        peak = large.peak_bytes + round(max(growth, 0.0) * (pixels - large.pixels))
    return Probe(macs, pixels, seconds, peak)
