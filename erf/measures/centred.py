"""The squares around a pixel of a map: how much of a map they hold, and how large they are.

A square is cut off where it leaves the map. What remains is a rectangle, and the area of the square is that of this
rectangle. A map that is uniform over the image therefore holds half of its mass in half of the area, whatever its shape
and wherever the pixel lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CentredSquares", "whole_side"]


@dataclass(frozen=True)
class CentredSquares:
    """The squares around a pixel of a map.

    Around the central pixel, the largest square has the longer side of the map, rounded down to an odd number. This is
    the limit of the released script (`erf/analyze_erf.py`), which leaves out the first row and column of a map with an
    even side. Around any other pixel, the largest square holds the whole map.

    Attributes:
        shape: Height and width of the map.
        centre: The pixel, (down, across).
    """

    shape: tuple[int, int]
    centre: tuple[int, int]

    @classmethod
    def around(cls, shape: Sequence[int], centre: tuple[int, int] | None = None) -> "CentredSquares":
        """The squares around a pixel of a map of this shape; the central pixel (H // 2, W // 2) if None."""
        height, width = shape
        return cls((height, width), centre or (height // 2, width // 2))

    @property
    def count(self) -> int:
        """Number of squares of side 1, 3, 5, ... up to the largest."""
        height, width = self.shape
        if self.centre == (height // 2, width // 2):
            return (max(self.shape) + 1) // 2
        return 1 + max(max(at, n - 1 - at) for n, at in zip(self.shape, self.centre, strict=True))

    @property
    def largest(self) -> int:
        """Side in pixels of the largest square."""
        return 2 * self.count - 1

    def extents(self, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Height and width in pixels of the part of squares of any side that lies within the map."""
        half = np.asarray(sides) / 2
        down, across = (
            np.minimum(half, at + 0.5) + np.minimum(half, n - at - 0.5)
            for n, at in zip(self.shape, self.centre, strict=True)
        )
        return down, across

    def ratio(self, sides: np.ndarray) -> np.ndarray:
        """Area of the part of squares that lies within the map, divided by the area of the map."""
        down, across = self.extents(sides)
        return down / self.shape[0] * across / self.shape[1]

    def shares(self, rings: np.ndarray) -> np.ndarray:
        """Share of the mass in squares of side 1, 3, 5, ... up to the largest: (B, L), 0..1.

        Args:
            rings: Sums of B maps over square rings around the pixel, (B, R), as in `erf.measures.sums.MapSums`.
        """
        held = np.cumsum(rings, axis=1)
        return held[:, : self.count] / held[:, -1:]

    def interpolated_side(self, shares: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
        """Side in pixels of the square that holds exactly a given share of the mass, (B, T).

        Between whole pixels, the mass of a square ring is taken to be uniform over its area.

        Args:
            shares: As returned by `shares`.
            thresholds: Shares, 0..1. The side is NaN if no square holds as much.
        """
        held = np.concatenate([np.zeros((len(shares), 1)), shares], axis=1)
        whole = np.append(0.0, 2.0 * np.arange(shares.shape[1]) + 1.0)
        down, across = self.extents(whole)
        row = np.arange(len(shares))
        sides = np.full((len(shares), len(thresholds)), np.nan)
        for column, threshold in enumerate(thresholds):
            reached = held[:, -1] >= threshold
            i = np.maximum((held >= threshold).argmax(axis=1), 1)
            part = (threshold - held[row, i - 1]) / np.where(reached, held[row, i] - held[row, i - 1], 1.0)
            wanted = part * (down[i] * across[i] - down[i - 1] * across[i - 1])
            # both extents grow linearly between two whole squares, so the area is a quadratic function of the side
            step = whole[i] - whole[i - 1]
            taller, wider = (down[i] - down[i - 1]) / step, (across[i] - across[i - 1]) / step
            linear = down[i - 1] * wider + across[i - 1] * taller
            root = linear + np.sqrt(linear**2 + 4 * taller * wider * wanted)
            more = np.divide(2 * wanted, root, out=np.zeros_like(root), where=root > 0)
            side = whole[i - 1] + more
            sides[reached, column] = side[reached]
        return sides


def whole_side(shares: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Side in pixels, odd and at least 3, of the smallest centred square that holds more than a given share, (B, T).

    Args: As for `CentredSquares.interpolated_side`.
    """
    above = shares[:, 1:, None] > np.asarray(thresholds)
    return np.where(above.any(axis=1), 2.0 * above.argmax(axis=1) + 3.0, np.nan)
