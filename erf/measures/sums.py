"""Sums of each image's contribution map, from which all measures can be computed for any selection of images.

Rings, annuli and moments are linear in the map, so those of a weighted mean of maps are the weighted means of those of
the maps. Squares, moments and the radial profile of any such mean therefore follow exactly. Measures that are not sums
(participation and entropy area, the published logarithm) need a map. For these, each image's map is kept as sums over
blocks, at most `MAX_BLOCKS` along each side, which `erf.measures.blocks` uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

__all__ = [
    "MAX_BLOCKS",
    "MOMENTS",
    "Centre",
    "MapSums",
    "annulus_index",
    "block_edges",
    "map_sums",
    "ring_index",
    "stack_sums",
]

MAX_BLOCKS = 128
# powers (down, across) of the moments: all up to the fourth order
MOMENTS = tuple((order - across, across) for order in range(5) for across in range(order + 1))
Centre = tuple[int, int]  # a pixel: down, across


@dataclass(frozen=True)
class MapSums:
    """Sums of N maps of the same size (H, W) around the same centre pixel.

    Attributes:
        rings: float64 (N, R): sums over square rings. Entry i sums the pixels whose larger distance to the centre, down
            or across, is i.
        annuli: float64 (N, Q): sums over circular rings. Entry i sums the pixels whose distance to the centre rounds
            to i.
        moments: float64 (N, 15): sums of y^p x^q times the map, with (p, q) as in `MOMENTS`; y and x are in pixels from
            the centre, down and to the right. Entry 0 is the mass.
        shares: float32 (N, h, w): share of each map's mass that lies in each block; see `block_edges`.
        squares: float32 (N, h, w): sum of the squared map in each block, divided by the square of the map's mass.
    """

    rings: np.ndarray
    annuli: np.ndarray
    moments: np.ndarray
    shares: np.ndarray
    squares: np.ndarray

    def __len__(self) -> int:
        return len(self.moments)

    @property
    def mass(self) -> np.ndarray:
        """Sum of each map, float64 (N,)."""
        return self.moments[:, 0]

    def as_arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """The fields by name, as they are stored in files."""
        return {prefix + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> "MapSums":
        """The inverse of `as_arrays`; KeyError if a field is missing."""
        return cls(**{field.name: arrays[prefix + field.name] for field in fields(cls)})

    def of_each(self) -> list["MapSums"]:
        """The sums of each map separately."""
        return [MapSums(*(getattr(self, field.name)[i : i + 1] for field in fields(self))) for i in range(len(self))]


def map_sums(contribution: np.ndarray, centre: Centre | None = None) -> MapSums:
    """The sums of one map (N = 1).

    Args:
        contribution: (H, W), finite.
        centre: Pixel (down, across) around which to sum; (H // 2, W // 2) if None.
    """
    values = np.asarray(contribution, dtype=np.float64)
    centre = centre or (values.shape[0] // 2, values.shape[1] // 2)
    flat = values.ravel()
    down, across = (np.arange(n, dtype=np.float64) - c for n, c in zip(values.shape, centre, strict=True))
    powers = np.vander(down, 5, increasing=True).T @ values @ np.vander(across, 5, increasing=True)
    mass = powers[0, 0]
    shares = values / mass if mass else values
    return MapSums(
        rings=np.bincount(ring_index(values.shape, centre), weights=flat)[None],
        annuli=np.bincount(annulus_index(values.shape, centre), weights=flat)[None],
        moments=np.array([[powers[p, q] for p, q in MOMENTS]]),
        shares=_block_sums(shares).astype(np.float32)[None],
        squares=_block_sums(shares**2).astype(np.float32)[None],
    )


def _block_sums(values: np.ndarray) -> np.ndarray:
    rows, columns = (block_edges(n)[:-1] for n in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def stack_sums(sums: Sequence[MapSums]) -> MapSums:
    """Combine the sums of at least one map into one object, in their order."""
    return MapSums(*(np.concatenate([getattr(one, field.name) for one in sums]) for field in fields(MapSums)))


@lru_cache(maxsize=4)
def ring_index(shape: tuple[int, int], centre: Centre) -> np.ndarray:
    """Square ring of each pixel: its larger distance to the centre, down or across; whole numbers (H * W,)."""
    down, across = (np.abs(np.arange(n) - c) for n, c in zip(shape, centre, strict=True))
    return np.maximum(down[:, None], across[None, :]).ravel()


@lru_cache(maxsize=4)
def annulus_index(shape: tuple[int, int], centre: Centre) -> np.ndarray:
    """Circular ring of each pixel: its distance to the centre, rounded; whole numbers (H * W,)."""
    down, across = (np.arange(n) - c for n, c in zip(shape, centre, strict=True))
    return np.rint(np.hypot(down[:, None], across[None, :])).astype(np.intp).ravel()


def block_edges(length: int) -> np.ndarray:
    """Starts of the blocks along a side, then `length`; at most `MAX_BLOCKS` blocks, the last may be shorter."""
    step = -(-length // MAX_BLOCKS)
    return np.append(np.arange(0, length, step), length)
