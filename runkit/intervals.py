"""What intervals of both tools and of the claims have in common."""

from collections.abc import Iterable

__all__ = ["FEW", "normal_quantile", "note_on_few"]

FEW = 10
"""An interval from fewer images than this is unreliable, and a note says so."""


def normal_quantile(confidence: float = 0.95) -> float:
    """Half the width of a two-sided interval of a normal variable, in standard deviations: 1.96 at 95%."""
    from scipy import stats

    return float(stats.norm.ppf(1 - (1 - confidence) / 2))


def note_on_few(counts: Iterable[int]) -> str:
    """A sentence that warns of intervals from few images; empty where none is needed.

    Args:
        counts: The number of images behind each result. A single image has no interval and needs no warning.
    """
    few = sorted({count for count in counts if 1 < count < FEW})
    if not few:
        return ""
    images = f"{few[0]}" if len(few) == 1 else f"{few[0]} to {few[-1]}"
    return f"Intervals from {images} images are unreliable: use at least {FEW} images."
