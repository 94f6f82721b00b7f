"""What a job would take, as a dry run foresees it."""

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True)
class Cost:
    """What one job would take.

    Attributes:
        parameters: Number of parameters of the network.
        macs: Multiply-accumulates of one image's forward pass, counted.
        seconds: Estimated time for all images that are left.
        peak_bytes: Estimated peak of memory of the process, on CUDA of the device; None if unknown.
    """

    parameters: int
    macs: int
    seconds: float
    peak_bytes: int | None
