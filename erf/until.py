"""The option `--until`: the width of an interval, as a share of the value, at which enough images are measured."""

from runkit.intervals import FEW

__all__ = ["MIN_IMAGES", "read_share"]

MIN_IMAGES = FEW
"""The smallest number of images that are measured: intervals from fewer are unreliable."""


def read_share(text: str) -> float:
    """`5%` or `0.05` as a share.

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
