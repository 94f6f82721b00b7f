"""The option `--until`: stop measuring once an interval is narrower than a given share of its value."""

from runkit.intervals import FEW

__all__ = ["MIN_IMAGES", "read_share"]

MIN_IMAGES = FEW
"""Smallest number of images to measure. Intervals from fewer images are unreliable."""


def read_share(text: str) -> float:
    """Parse a share such as `5%` or `0.05`.

    Raises: ValueError if it is not a share between 0 and 1.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not rest and 0 < share < 1:
        return share
    raise ValueError(f"{text!r} is not a share between 0 and 1; write 5% or 0.05")
