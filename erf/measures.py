"""What a contribution map says about the extent of a receptive field: numbers from arrays, no network.

Two families stand side by side. The published measure (arXiv:2203.06717, Table 8; the authors' `erf/analyze_erf.py`)
takes the map's logarithm first, so it depends on the scale of the gradients. The scale-free measures are taken on the
map itself: multiplying it by a constant changes nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from erf.sums import ring_index

__all__ = [
    "LOG_THRESHOLDS",
    "MASS_THRESHOLDS",
    "SquareArea",
    "check_map",
    "log_area",
    "log_map",
    "mass_area",
    "measure",
    "ring_mass",
    "rms_radius",
]

LOG_THRESHOLDS = (0.2, 0.3, 0.5, 0.99)  # those of the paper's table
MASS_THRESHOLDS = (0.2, 0.3, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class SquareArea:
    """Smallest centred square that holds more than a share of a map.

    Attributes:
        threshold: The share, 0..1.
        side_px: Side of the square in pixels, odd; None if no square within the map holds that much.
        ratio: Area of the square over area of the map; None as above.
    """

    threshold: float
    side_px: int | None
    ratio: float | None

    @property
    def reached(self) -> bool:
        return self.side_px is not None


def check_map(contribution: np.ndarray) -> np.ndarray:
    """The map as float64 (H, W).

    Raises: ValueError if it has not two dimensions of at least 3 pixels, holds a negative or a not-finite value, or is
        zero everywhere, with the cause.
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
    """log10(score + 1) divided by its maximum: the published transform, float64 (H, W) in 0..1."""
    scores = np.log10(check_map(contribution) + 1.0)
    return scores / scores.max()


def ring_mass(values: np.ndarray) -> np.ndarray:
    """Sum of a map over square rings around its centre (H // 2, W // 2).

    Returns: float64 (R,): entry i sums the pixels whose larger distance to the centre, down or across, is i; so the
        square of side 2i + 1 holds the sum of the first i + 1 entries.
    """
    height, width = values.shape
    return np.bincount(ring_index((height, width), (height // 2, width // 2)), weights=values.ravel())


def _square_area(values: np.ndarray, thresholds: Sequence[float]) -> list[SquareArea]:
    """Smallest squares of side 3, 5, 7, ... around (H // 2, W // 2), within the map, holding more than each share."""
    height, width = values.shape
    held = np.cumsum(ring_mass(values))
    largest = (min(height, width) - 1) // 2  # beyond, a square would leave the map
    shares = held[1 : largest + 1] / held[-1]
    areas = []
    for threshold in thresholds:
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold {threshold} must lie between 0 and 1")
        above = np.flatnonzero(shares > threshold)
        if above.size == 0:
            areas.append(SquareArea(threshold, None, None))
            continue
        side = 2 * (int(above[0]) + 1) + 1
        areas.append(SquareArea(threshold, side, side / height * side / width))
    return areas


def log_area(contribution: np.ndarray, thresholds: Sequence[float] = LOG_THRESHOLDS) -> list[SquareArea]:
    """The published high-contribution area ratio: squares on log10(score + 1).

    It depends on the scale of the gradients: the same map, multiplied by a constant, gives another ratio. The smallest
    square considered has side 3, as in the released script.

    Source: arXiv:2203.06717, Table 8; `erf/analyze_erf.py`, `get_rectangle`, which fails where a threshold is not
    reached, and takes rectangles out of bounds in a map that is wider than high.
    """
    return _square_area(log_map(contribution), thresholds)


def mass_area(contribution: np.ndarray, thresholds: Sequence[float] = MASS_THRESHOLDS) -> list[SquareArea]:
    """Squares that hold shares of the map itself, without a logarithm: free of the scale of the gradients."""
    return _square_area(check_map(contribution), thresholds)


def rms_radius(contribution: np.ndarray) -> float:
    """Root of the mean squared distance to the centre (H // 2, W // 2), weighted by contribution, in pixels."""
    contribution = check_map(contribution)
    height, width = contribution.shape
    down = (np.arange(height) - height // 2) ** 2
    across = (np.arange(width) - width // 2) ** 2
    mass = contribution.sum()
    return float(np.sqrt((contribution.sum(1) @ down + contribution.sum(0) @ across) / mass))


def measure(contribution: np.ndarray) -> dict[str, Any]:
    """All measures of a map, ready for JSON; a threshold that no square reaches has null side and ratio.

    Raises: ValueError as `check_map`.
    """
    contribution = check_map(contribution)
    height, width = contribution.shape
    return {
        "area_ratio": [asdict(area) for area in log_area(contribution)],
        "area_ratio_definition": "log10(score + 1) / max, centred squares; depends on the scale of the gradients",
        "mass_area_ratio": [asdict(area) for area in mass_area(contribution)],
        "mass_area_ratio_definition": "score, centred squares; free of the scale of the gradients",
        "rms_radius_px": rms_radius(contribution),
        "centre_px": [height // 2, width // 2],
        "score_max": float(contribution.max()),
        "score_sum": float(contribution.sum()),
    }
