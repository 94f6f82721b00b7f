"""The estimated cost of a job, for a dry run."""

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True)
class Cost:
    """The estimated cost of one job.

    Attributes:
        parameters: Number of parameters of the network.
        macs: Counted multiply-accumulate operations of the forward pass for one image.
        seconds: Estimated time for all remaining images.
        peak_bytes: Estimated peak memory of the process, or of the device on CUDA; None if unknown.
    """

    parameters: int
    macs: int
    seconds: float
    peak_bytes: int | None
