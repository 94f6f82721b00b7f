"""Functions for confidence intervals that both tools and the claims share."""

import math
from collections.abc import Iterable

__all__ = ["FEW", "normal_quantile", "note_on_few", "share_interval", "unseen_share"]

FEW = 10
"""An interval from fewer images than this is unreliable, and a note says so."""


def normal_quantile(confidence: float = 0.95) -> float:
    """Half-width of a two-sided interval of a normal variable, in standard deviations: 1.96 at 95%."""
    from scipy import special

    return float(special.ndtri(1 - (1 - confidence) / 2))


def note_on_few(counts: Iterable[int]) -> str:
    """A sentence that warns of intervals from few images; empty if none is needed.

    Args:
        counts: Number of images behind each result. A single image has no interval and needs no warning.
    """
    few = sorted({count for count in counts if 1 < count < FEW})
    if not few:
        return ""
    images = f"{few[0]}" if len(few) == 1 else f"{few[0]} to {few[-1]}"
    return f"Intervals from {images} images are unreliable: use at least {FEW} images."


def unseen_share(count: int, confidence: float = 0.95) -> float:
    """Upper end of the interval of Clopper and Pearson for a probability, where `count` trials had no success.

    Source: Clopper and Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    return float(1 - ((1 - confidence) / 2) ** (1 / count))


def share_interval(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a probability, given `successes` in `count` independent trials.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953.

    Returns: Its ends, from 0 to 1.
    Raises: ValueError if there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= count or not count:
        raise ValueError(f"{successes} successes of {count} trials")
    z, share = normal_quantile(confidence), successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)
