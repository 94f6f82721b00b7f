"""Centred squares that hold shares of a contribution map: the published measure, and a variant without the logarithm.

The published measure (arXiv:2203.06717, Table 8; the authors' `erf/analyze_erf.py`) first takes the logarithm of the
map, so it depends on the scale of the gradients. The scale-free measure uses the map itself, so multiplying the map by
a constant changes nothing.

Squares are cut off where they leave the map (`erf.measures.centred`). This happens in maps that are not square, and
around units that are not central.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from erf.measures.centred import CentredSquares, whole_side
from erf.measures.sums import Centre, ring_index

__all__ = [
    "LOG_THRESHOLDS",
    "MASS_THRESHOLDS",
    "SquareArea",
    "check_map",
    "log_area",
    "log_map",
    "mass_area",
    "ring_mass",
    "square_areas",
]

LOG_THRESHOLDS = (0.2, 0.3, 0.5, 0.99)  # those of the paper's table
MASS_THRESHOLDS = (0.2, 0.3, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class SquareArea:
    """Smallest centred square that holds more than a given share of a map.

    Attributes:
        threshold: The share, 0..1.
        side_px: Side of the square in pixels, odd, with the part outside the map; None if no square holds that much.
        ratio: Area of the part of the square within the map, divided by the area of the map; None if there is no
            square.
    """

    threshold: float
    side_px: int | None
    ratio: float | None

    @property
    def reached(self) -> bool:
        return self.side_px is not None


def check_map(contribution: np.ndarray) -> np.ndarray:
    """Check a map and return it as float64 (H, W).

    Raises: ValueError if it does not have two dimensions of at least 3 pixels, has a value that is negative or not
        finite, or is zero everywhere. The message names the cause.
    """
    contribution = np.asarray(contribution, dtype=np.float64)
    if contribution.ndim != 2 or min(contribution.shape) < 3:
        raise ValueError(f"a contribution map has two dimensions of at least 3 pixels, not shape {contribution.shape}")
    if not np.isfinite(contribution).all():
        count = int((~np.isfinite(contribution)).sum())
        raise ValueError(f"the contribution map has {count} values that are not finite: a gradient overflowed")
    if (contribution < 0).any():
        raise ValueError("the contribution map has negative values: it is meant to be rectified")
    if not contribution.any():
        raise ValueError(
            "the contribution map is zero everywhere: no channel of the central unit was positive, or no gradient "
            "reached the input"
        )
    return contribution


def log_map(contribution: np.ndarray) -> np.ndarray:
    """log10(score + 1) divided by its maximum: the published transform, float64 (H, W) in 0..1.

    The natural logarithm is used, of which the base cancels: `log1p` is also accurate for scores far below 1e-10, for
    which score + 1 has lost most of its digits.
    """
    scores = np.log1p(check_map(contribution))
    return scores / scores.max()


def ring_mass(values: np.ndarray, centre: Centre | None = None) -> np.ndarray:
    """Sum of a map over square rings around a pixel; None means (H // 2, W // 2).

    Returns: float64 (R,). Entry i sums the pixels whose larger distance to the centre, down or across, is i. The square
        of side 2i + 1 therefore holds the sum of the first i + 1 entries.
    """
    height, width = values.shape
    return np.bincount(ring_index((height, width), centre or (height // 2, width // 2)), weights=values.ravel())


def _square_area(values: np.ndarray, thresholds: Sequence[float], centre: Centre | None) -> list[SquareArea]:
    """Smallest squares of side 3, 5, 7, ... around a pixel that hold more than each share."""
    for threshold in thresholds:
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
    squares = CentredSquares.around(values.shape, centre)
    sides = whole_side(squares.shares(ring_mass(values, centre)[None]), thresholds)[0]
    ratios = squares.ratio(sides)
    return [
        SquareArea(t, None, None) if np.isnan(side) else SquareArea(t, int(side), ratio)
        for t, side, ratio in zip(thresholds, sides.tolist(), ratios.tolist(), strict=True)
    ]


def log_area(
    contribution: np.ndarray, thresholds: Sequence[float] = LOG_THRESHOLDS, *, centre: Centre | None = None
) -> list[SquareArea]:
    """The published high-contribution area ratio, from squares on log10(score + 1).

    It depends on the scale of the gradients: multiplying the map by a constant changes the ratio. The smallest square
    considered has side 3, as in the released script.

    Source: arXiv:2203.06717, Table 8; `erf/analyze_erf.py`, `get_rectangle`, which fails if a threshold is not reached
    and supports square maps only.
    """
    return _square_area(log_map(contribution), thresholds, centre)


def mass_area(
    contribution: np.ndarray, thresholds: Sequence[float] = MASS_THRESHOLDS, *, centre: Centre | None = None
) -> list[SquareArea]:
    """Squares that hold shares of the map itself, without a logarithm: independent of the scale of the gradients."""
    return _square_area(check_map(contribution), thresholds, centre)


def square_areas(
    contribution: np.ndarray, thresholds: Sequence[float], *, of: str, centre: Centre | None = None
) -> list[SquareArea]:
    """Squares of one kind: those of `log_area` for 'published', those of `mass_area` for 'mass'."""
    return {"published": log_area, "mass": mass_area}[of](contribution, thresholds, centre=centre)
