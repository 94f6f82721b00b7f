"""Provenance of a computation."""

from typing import cast

import torch

from runkit.compute.device import device_label
from runkit.compute.memory import peak_memory
from runkit.compute.rounds import Loop
from runkit.content import Computation

__all__ = ["describe_computation"]


def describe_computation(loop: Loop, device: torch.device) -> Computation:
    """Device, ranks, threads, batch size, and peak memory since the computation began."""
    return {
        "device": device_label(device),
        "ranks": loop.world.size,
        "threads": torch.get_num_threads(),
        "batch_size": cast(int, loop.batch_size),  # known since the loop has run
        "peak_memory": peak_memory(device),
    }
