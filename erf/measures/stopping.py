"""When to stop: as soon as the interval of the side that holds half of the contribution is narrow enough.

The rule is applied after each image, from the tenth on, so it depends neither on the batch size nor on the number of
ranks. A rule that looks at the interval tends to stop when the interval happens to be narrow. Intervals after stopping
therefore contain the true value less often than 95%; `docs/how-to/own-images.md` says how much less.
"""

from collections.abc import Sequence

import numpy as np

from erf.measures.bootstrap import RESAMPLES, Resampled, choices
from erf.measures.centred import CentredSquares
from erf.measures.value import Value

__all__ = ["half_side", "is_narrow", "shuffled"]

_HALF = 0.5
_ORDER_SEED = 0


def half_side(rings: np.ndarray, squares: CentredSquares, *, resamples: int = RESAMPLES) -> Value:
    """Side of the square that holds half of the mean map, with its confidence interval over images.

    Args:
        rings: Sums of N maps over square rings (N, R), as in `MapSums`.
        squares: The squares around the same pixel of the maps.
        resamples: Number of bootstrap resamples.
    """
    drawn = choices(len(rings), resamples=resamples) @ rings
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample of images with zero maps has no side
        sides = squares.interpolated_side(squares.shares(drawn), (_HALF,))[:, 0]
    return Value.of(Resampled(sides[0], sides[1:], len(rings)), "px")


def is_narrow(side: Value, share: float) -> bool:
    """Whether the interval is narrower than a share of the value; False if either is not defined."""
    return bool(side.high - side.low < share * side)


def shuffled(count: int) -> Sequence[int]:
    """A shuffled order of `count` images, the same in every run, so that the first ones represent all of them."""
    return [int(index) for index in np.random.default_rng(_ORDER_SEED).permutation(count)]
