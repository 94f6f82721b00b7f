"""The units of a feature map that are measured, and how the maps of several units are superimposed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from erf.measures.sums import Centre

__all__ = ["AVERAGE", "CENTRE", "Position", "align", "centre_pixel", "positions_of", "unit_at"]


class Position(NamedTuple):
    """A position in an image as fractions of its height and width, each in [0, 1)."""

    down: float
    across: float


CENTRE = Position(0.5, 0.5)
AVERAGE = tuple(Position(down, across) for down in (0.25, 0.5, 0.75) for across in (0.25, 0.5, 0.75))


def positions_of(position: str | Sequence[float]) -> tuple[Position, ...]:
    """The positions for 'centre', 'average' (a 3 × 3 grid over the image's inner half) or fractions (down, across)."""
    if isinstance(position, str):
        return {"centre": (CENTRE,), "average": AVERAGE}[position]
    return (Position(*position),)


def unit_at(position: Position, feature_size: tuple[int, int]) -> tuple[int, int]:
    """Index of the unit that lies at a position. The unit of the centre is (h // 2, w // 2)."""
    return (int(position.down * feature_size[0]), int(position.across * feature_size[1]))


def centre_pixel(position: Position, feature_size: tuple[int, int], size: tuple[int, int]) -> Centre:
    """Pixel on which squares and circles are centred: the middle of the image, shifted as the unit is."""
    unit = unit_at(position, feature_size)
    moved = [round((i - n // 2) * length / n) for i, n, length in zip(unit, feature_size, size, strict=True)]
    return (size[0] // 2 + moved[0], size[1] // 2 + moved[1])


def align(maps: Sequence[np.ndarray], centres: Sequence[Centre]) -> np.ndarray:
    """Mean of maps after each has been shifted so that its centre is at the pixel (H // 2, W // 2).

    Args:
        maps: Maps of one batch for several positions, (N, H, W) each.
        centres: Their centre pixels.

    Returns: (N, H, W). The mean at a pixel is taken over the maps that cover it after the shift; it is 0 if none does.
    """
    height, width = maps[0].shape[-2:]
    total, count = np.zeros_like(maps[0]), np.zeros((height, width))
    for values, centre in zip(maps, centres, strict=True):
        rows, rows_from = _overlap(height, height // 2 - centre[0])
        columns, columns_from = _overlap(width, width // 2 - centre[1])
        total[:, rows, columns] += values[:, rows_from, columns_from]
        count[rows, columns] += 1
    return total / np.maximum(count, 1)


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Where the pixels of a side go when they are moved by `shift`, and where they come from."""
    return slice(max(shift, 0), length + min(shift, 0)), slice(max(-shift, 0), length + min(-shift, 0))
