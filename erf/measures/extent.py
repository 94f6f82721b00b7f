"""Extent and shape of receptive fields, computed exactly and for many maps at once from the sums of the maps.

Arrays have one row for each of B maps of shape (H, W); the sums are those of `sums.MapSums`. No measure depends on the
scale of the gradients. Undefined values, such as the orientation of a round map, are NaN. Squares are in
`erf.measures.centred`.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

from erf.measures.sums import MOMENTS, annulus_index

__all__ = [
    "GaussianFit",
    "SecondMoments",
    "fit_gaussian",
    "radial_density",
    "second_moments",
]

Pixels = tuple[int, int]
_WIDTHS = 400  # steps of the search for a Gaussian's width, spaced evenly on a logarithmic scale
_NARROWEST = 0.3  # pixels; a narrower Gaussian is a single pixel


@dataclass(frozen=True)
class SecondMoments:
    """Location and spread of the mass. Every field has shape (B,).

    Attributes:
        rms_radius_px: Root mean square distance to the centre pixel.
        offset_down_px, offset_right_px: Centre of mass relative to the centre pixel.
        offset_px: Distance of the centre of mass from the centre pixel.
        sigma_major_px, sigma_minor_px: Standard deviations about the centre of mass along the principal axes.
        anisotropy: Major over minor standard deviation, >= 1; NaN if the mass lies on a line or a point.
        orientation_deg: Orientation of the major axis, anticlockwise from the horizontal, in (-90, 90]; NaN if the map
            is round.
        excess_kurtosis: Mardia's kurtosis minus 8, its value for any Gaussian (a disc has -8/3); NaN whenever the
            anisotropy is.
    """

    rms_radius_px: np.ndarray
    offset_down_px: np.ndarray
    offset_right_px: np.ndarray
    offset_px: np.ndarray
    sigma_major_px: np.ndarray
    sigma_minor_px: np.ndarray
    anisotropy: np.ndarray
    orientation_deg: np.ndarray
    excess_kurtosis: np.ndarray


def second_moments(moments: np.ndarray) -> SecondMoments:
    """Location, spread and kurtosis from moments (B, 15), with the powers of `erf.measures.sums.MOMENTS`."""
    raw = {powers: moments[:, i] / moments[:, 0] for i, powers in enumerate(MOMENTS)}
    down, right = raw[1, 0], raw[0, 1]

    def central(p: int, q: int) -> np.ndarray:
        terms = (
            comb(p, i) * comb(q, j) * (-down) ** (p - i) * (-right) ** (q - j) * raw[i, j]
            for i in range(p + 1)
            for j in range(q + 1)
        )
        return sum(terms, np.zeros_like(down))

    # what remains after cancellation is not spread: a map of one pixel away from the centre has none
    rounding = 1e-12 * (raw[2, 0] + raw[0, 2])
    yy, xx, yx = (np.where(np.abs(v) > rounding, v, 0.0) for v in (central(2, 0), central(0, 2), central(1, 1)))
    middle, half = (yy + xx) / 2, np.hypot((xx - yy) / 2, yx)
    major, minor = middle + half, np.maximum(middle - half, 0.0)
    is_line = minor <= 1e-9 * np.maximum(major, 1e-9)
    determinant = np.where(is_line, np.nan, major * minor)
    a, b, c = xx / determinant, -yx / determinant, yy / determinant  # the inverse covariance; the first axis is down
    kurtosis = (
        a**2 * central(4, 0)
        + 4 * a * b * central(3, 1)
        + (2 * a * c + 4 * b**2) * central(2, 2)
        + 4 * b * c * central(1, 3)
        + c**2 * central(0, 4)
    )
    angle = np.degrees(np.arctan2(-2 * yx, xx - yy)) / 2
    return SecondMoments(
        rms_radius_px=np.sqrt(raw[2, 0] + raw[0, 2]),
        offset_down_px=down,
        offset_right_px=right,
        offset_px=np.hypot(down, right),
        sigma_major_px=np.sqrt(major),
        sigma_minor_px=np.sqrt(minor),
        anisotropy=np.sqrt(major / np.where(is_line, np.nan, minor)),
        orientation_deg=np.where(half <= 1e-9 * middle, np.nan, np.where(angle <= -90, 90.0, angle)),
        excess_kurtosis=kurtosis - 8,
    )


@lru_cache(maxsize=4)
def _annuli(shape: Pixels, centre: Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Pixels within the map and mean squared distance to the centre, of each circular ring: float64 (Q,) each."""
    index = annulus_index(shape, centre)
    down, across = (np.arange(n, dtype=np.float64) - c for n, c in zip(shape, centre, strict=True))
    squared = (down[:, None] ** 2 + across[None, :] ** 2).ravel()
    pixels = np.bincount(index).astype(np.float64)
    return pixels, np.divide(np.bincount(index, weights=squared), pixels, out=np.zeros_like(pixels), where=pixels > 0)


def radial_density(annuli: np.ndarray, shape: Pixels, centre: Pixels) -> np.ndarray:
    """Mean of the map at distances 0, 1, 2, ... from the centre, over the mean of the whole map: (B, Q)."""
    pixels, _ = _annuli(shape, centre)
    mean = annuli.sum(axis=1, keepdims=True) / pixels.sum()
    return annuli / np.where(pixels > 0, pixels, np.nan) / mean


@dataclass(frozen=True)
class GaussianFit:
    """Round Gaussian around the centre pixel, fitted to the map by least squares. Every field has shape (B,).

    Attributes:
        sigma_px: Width of the Gaussian; NaN if no width fits best (a single pixel, a map that does not fall off).
        r2: Share of the variance of the radial profile over the pixels that it explains, <= 1; NaN whenever `sigma_px`
            is.
        mass_beyond_2_sigma: Share of the map's mass farther than two widths from the centre.
        fit_mass_beyond_2_sigma: The same share for the fitted Gaussian within the image: exp(-2) = 0.135 unless
            clipped.
    """

    sigma_px: np.ndarray
    r2: np.ndarray
    mass_beyond_2_sigma: np.ndarray
    fit_mass_beyond_2_sigma: np.ndarray


def fit_gaussian(annuli: np.ndarray, shape: Pixels, centre: Pixels) -> GaussianFit:
    """Fit amplitude and width of a Gaussian to maps, using the sums over circular rings (B, Q).

    For a round Gaussian, least squares over pixels is equivalent to least squares over the radial profile, weighted by
    the number of pixels: no round Gaussian can fit the variation of the map along a ring. The rings are one pixel wide,
    which makes very narrow Gaussians too wide: by 1% for a width of one pixel, by 4% for 0.7 and by 11% for 0.4 pixels.
    The width is searched on a fine grid, and then refined between grid points.
    """
    pixels, squared = _annuli(shape, centre)
    annuli = annuli / annuli.sum(axis=1, keepdims=True)
    steps = np.linspace(np.log(_NARROWEST), np.log(4.0 * max(shape)), _WIDTHS)
    grid = np.exp(-squared[:, None] / (2 * np.exp(2 * steps)))
    explained = (annuli @ grid) ** 2 / (pixels @ grid**2)
    best = explained.argmax(axis=1)
    inside = (best > 0) & (best < _WIDTHS - 1)
    i, row = np.clip(best, 1, _WIDTHS - 2), np.arange(len(annuli))
    left, peak, right = (explained[row, i + k] for k in (-1, 0, 1))
    curvature = left - 2 * peak + right
    shift = np.divide(left - right, 2 * curvature, out=np.zeros_like(peak), where=inside & (curvature < 0))
    sigma = np.where(inside, np.exp(steps[i] + shift * (steps[1] - steps[0])), np.nan)

    gaussian = np.exp(-squared / (2 * sigma[:, None] ** 2))
    amplitude = (annuli * gaussian).sum(axis=1) / (pixels * gaussian**2).sum(axis=1)
    profile = np.divide(annuli, pixels, out=np.zeros_like(annuli), where=pixels > 0)
    residual = (pixels * (profile - amplitude[:, None] * gaussian) ** 2).sum(axis=1)
    variance = (pixels * (profile - 1 / pixels.sum()) ** 2).sum(axis=1)
    fitted = pixels * gaussian
    return GaussianFit(
        sigma_px=sigma,
        r2=1 - residual / variance,
        mass_beyond_2_sigma=_beyond(annuli, 2 * sigma),
        fit_mass_beyond_2_sigma=_beyond(fitted / fitted.sum(axis=1, keepdims=True), 2 * sigma),
    )


def _beyond(shares: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Share beyond `radius` (B,), from shares (B, Q) of circular rings that are uniform between i - 1/2 and i + 1/2."""
    held = np.concatenate([np.zeros((len(shares), 1)), np.cumsum(shares, axis=1)], axis=1)
    edge = np.nan_to_num(radius) + 0.5  # ring i lies between edges i and i + 1
    i = np.minimum(edge.astype(np.intp), shares.shape[1] - 1)
    row = np.arange(len(shares))
    within = held[row, i] + np.minimum(edge - i, 1.0) * shares[row, i]
    return np.where(np.isnan(radius), np.nan, np.maximum(1 - within, 0.0))  # against rounding errors
