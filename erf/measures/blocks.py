"""Measures of receptive fields that are not sums over pixels: participation and entropy area, published logarithm.

The participation and entropy area of a mean of N noisy maps grow with N, because noise makes a map look peaked. What is
reported is the value that the mean map tends to as images are added. The noise of the mean is known from the scatter of
the images' maps. It is removed exactly from the sum of squares, and to second order from the entropy.

Bootstrap resamples need the map of each image, which is kept as sums over blocks. A resampled map is approximated by
the mean map, with every block scaled by the ratio of its mass in the resample to its mass over all images. For the
original images this is exactly the mean map. In resamples, the fine structure within a block remains that of the mean
map.
"""

from dataclasses import dataclass
from math import comb

import numpy as np

from erf.measures.sums import MapSums, block_edges, ring_index

__all__ = ["BlockMeasures", "entropy_area", "measure_blocks", "participation_area"]

_CHUNK = 250  # resamples at a time
_IN_CACHE = 16  # number of resamples whose blocks fit into a processor's cache


def participation_area(contribution: np.ndarray) -> float:
    """(sum a)² / sum a², in pixels: for a disc, a square or any other patch of constant height, its area."""
    return float(contribution.sum() ** 2 / (contribution**2).sum())


def entropy_area(contribution: np.ndarray) -> float:
    """exp(-sum p ln p) in pixels, with p the map over its sum: the area of a flat patch with the same entropy."""
    shares = contribution[contribution > 0] / contribution.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@dataclass(frozen=True)
class BlockMeasures:
    """Measures of B weighted selections of images.

    Attributes:
        participation_area_px, entropy_area_px: (B,), after removal of the noise of the mean.
        log_rings: (B, R): log10(score + 1) summed over square rings around the centre.
    """

    participation_area_px: np.ndarray
    entropy_area_px: np.ndarray
    log_rings: np.ndarray


def measure_blocks(
    contribution: np.ndarray, sums: MapSums, weights: np.ndarray, centre: tuple[int, int]
) -> BlockMeasures:
    """Measure weighted means of the images' maps.

    Args:
        contribution: Mean map (H, W) of all images, none of which has a map of zeros.
        sums: Sums of the maps of N images, N >= 2.
        weights: (B, N). Every row adds up to 1. The first row weights all images equally; the others are resamples.
        centre: Centre of the rings.
    """
    blocks = _Blocks(contribution, centre, repeats=_repeats(weights))
    chunks = [weights[i : i + _CHUNK] for i in range(0, len(weights), _CHUNK)]
    parts = [blocks.measure((chunk * sums.mass) @ sums.shares.reshape(len(sums), -1)) for chunk in chunks]
    squares, entropy, log_rings = (np.concatenate(column) for column in zip(*parts, strict=True))
    mass = weights @ sums.mass
    noise = blocks.noise(sums)
    clean_squares = _recentred(squares / mass**2, (squares[0] - noise.sum()) / mass[0] ** 2)
    clean_entropy = _recentred(entropy, entropy[0] + (noise / blocks.mean_or_one).sum() / (2 * mass[0]))
    return BlockMeasures(1 / clean_squares, np.exp(clean_entropy), log_rings)


def _recentred(values: np.ndarray, estimate: float) -> np.ndarray:
    """The estimate, then the resamples scaled to have it as their mean: they contain the noise of a mean twice."""
    return np.append(estimate, values[1:] * (estimate / values[1:].mean()))


def _repeats(weights: np.ndarray) -> bool:
    """Whether most resamples occur several times, because there are only few ways to draw N images from N."""
    images = weights.shape[1]
    return 4 * comb(2 * images - 1, images) <= len(weights)


class _Blocks:
    """Fine structure of a mean map a, summed over K = h * w blocks.

    Args:
        repeats: Whether the same masses will be measured several times, so that results are worth caching.

    Attributes:
        first, second, log: Sums of a, a² and a ln a, (K,) each.
        mean_or_one: Mean of a, or 1 where that is 0, (K,).
        log_rings: Sparse (K, R): ln(1 + a) summed over the part of each block in each ring, divided by ln(1 + mean).
    """

    def __init__(self, contribution: np.ndarray, centre: tuple[int, int], *, repeats: bool = False) -> None:
        from scipy import sparse  # takes a third of a second, for which --help and error messages should not wait

        shape = (contribution.shape[0], contribution.shape[1])
        rows, columns = (np.repeat(np.arange(len(e) - 1), np.diff(e)) for e in map(block_edges, shape))
        block = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
        a = contribution.ravel()
        self.first = np.bincount(block, weights=a)
        self.second = np.bincount(block, weights=a**2)
        self.log = np.bincount(block, weights=a * np.log(np.where(a > 0, a, 1.0)))
        mean = self.first / np.bincount(block)
        self.mean_or_one = np.where(mean > 0, mean, 1.0)
        ring = ring_index(shape, centre)
        weight = np.log1p(a) / np.log1p(self.mean_or_one)[block]
        self._known: dict[bytes | int, tuple[float, np.ndarray]] | None = {} if repeats else None
        self.log_rings = sparse.coo_array((weight, (block, ring)), shape=(len(mean), ring.max() + 1)).tocsr()

    def noise(self, sums: MapSums) -> np.ndarray:
        """Variance of the mean over images, summed over the pixels of each block: (K,)."""
        count = len(sums)
        of_images = sums.mass**2 @ sums.squares.reshape(count, -1) / count
        return np.maximum(of_images - self.second, 0.0) / (count - 1)

    def measure(self, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum of squares, entropy and rings of log10(score + 1) from the mass of each block, (B, K)."""
        ratio = np.divide(mass, self.first, out=np.zeros_like(mass), where=self.first > 0)
        total = mass.sum(axis=1)
        sums, log_rings = self._of_logarithms(mass, ratio)
        entropy = np.log(total) - (ratio @ self.log + sums) / total
        return ratio**2 @ self.second, entropy, log_rings

    def _of_logarithms(self, mass: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum of mass * ln(ratio), (B,), and rings of log10(score + 1), (B, R). The logarithms take most of the time.

        A few rows are processed at a time, so that they stay in the cache. For repeated rows, the cached result is
        used.
        """
        keys = [row.tobytes() for row in mass] if self._known is not None else range(len(mass))
        known = self._known if self._known is not None else {}
        new = list({key: i for i, key in enumerate(keys) if key not in known}.values())
        for start in range(0, len(new), _IN_CACHE):
            rows = new[start : start + _IN_CACHE]
            some, of_some = mass[rows], ratio[rows]
            sums = (some * np.log(np.where(of_some > 0, of_some, 1.0))).sum(axis=1)
            log_rings = np.log1p(of_some * self.mean_or_one) @ self.log_rings / np.log(10)
            known.update(zip((keys[i] for i in rows), zip(sums, log_rings, strict=True), strict=True))
        sums, log_rings = zip(*(known[key] for key in keys), strict=True)
        return np.array(sums), np.array(log_rings)
