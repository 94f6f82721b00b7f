"""Intervals for measures over stimuli that share images.

A cue-conflict image is made of a shape image and a texture image, and each of these occurs in many stimuli: 160 and 48
in the published 1280. Answers to stimuli that share one are alike, so 1280 of them tell less than 1280 independent ones
would, and a bootstrap over stimuli gives intervals that are far too short. Here:

1. Shape images and texture images are drawn with replacement, independently; a stimulus counts as often as its shape
   image was drawn times as often as its texture image was (the pigeonhole bootstrap: Owen, Annals of Applied Statistics
   1, 2007; Owen & Eckles, AoAS 6, 2012).
2. These draws count the variance that belongs to a stimulus alone three times, and no bootstrap of crossed groups is
   exact (McCullagh, Bernoulli 6, 2000). So their spread is rescaled to the two-way cluster-robust variance V_shape +
   V_texture - V_stimulus (Cameron, Gelbach & Miller, Journal of Business & Economic Statistics 29, 2011), with the
   factors G / (G - 1) and the quantile of Student's t that a small number of groups asks for. Shared images only add
   variance: where the difference falls below V_stimulus, V_stimulus is taken.
3. The interval is the percentiles of the rescaled draws, on the scale arcsin(sqrt(.)), so that it stays in [0, 1].

On simulated benchmarks with the published names and effects of both kinds of image, 94 to 97% of the intervals of all
stimuli hold the truth (a bootstrap over stimuli: 47 to 85%), and 92 to 99% of those of a category, which has ten shape
images only.

Images with one cue (edges, silhouettes) share nothing: each is a group, and the same recipe is the plain bootstrap with
Student's t. People are fixed: their intervals speak of other images, not of other persons.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from runkit.intervals import normal_quantile
from runkit.numbers import FRACTION

__all__ = [
    "CONFIDENCE",
    "METHOD",
    "RESAMPLES",
    "Estimate",
    "Resampling",
    "combine_variances",
    "estimate_difference",
    "estimate_ratios",
    "two_way_variance",
]

RESAMPLES = 2000
CONFIDENCE = 0.95
METHOD = (
    "pigeonhole bootstrap over shape and texture images, its spread rescaled to the two-way cluster-robust variance"
)

_TAIL = (1 - CONFIDENCE) / 2
_TWO_CUES = re.compile(r"[a-z]+\d+-[a-z]+\d+")
"""Shape image and texture image. A hyphen in any other name, such as that of a sketch, separates nothing."""


@dataclass(frozen=True)
class Estimate:
    """A fraction in [0, 1] and its 95% interval over stimuli; None where it is not defined (0/0)."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return str(FRACTION.write(self.value, self.low, self.high))

    def as_dict(self, name: str) -> dict[str, Any]:
        """`{name: value, name_interval: [low, high]}`; the interval is None where there is none."""
        interval = None if self.low is None else [self.low, self.high]
        return {name: self.value, f"{name}_interval": interval}

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> "Estimate":
        """The inverse of `as_dict`; the mapping may have further keys."""
        low, high = content[f"{name}_interval"] or (None, None)
        return cls(content[name], low, high)


@dataclass(frozen=True)
class Resampling:
    """The groups that stimuli fall in, and how often each stimulus is drawn.

    Attributes:
        groups: For each kind of image that stimuli share (shape; texture), the index of the one in each stimulus (N,).
        weights: How often each stimulus is drawn: (resamples, N), whole numbers as floats, so that products of them go
            through BLAS. Not to be written to.
    """

    groups: tuple[np.ndarray, ...]
    weights: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, images: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> "Resampling":
        """For stimuli of these names (`cat7-elephant1.png`: shape image, texture image; any other: one image).

        The draws depend on the names and the seed only, so every observer of the same stimuli meets the same draws.
        """
        return _resample(tuple(images), resamples, seed)


@lru_cache(maxsize=4)
def _resample(images: tuple[str, ...], resamples: int, seed: int) -> Resampling:
    rng = np.random.default_rng(seed)
    stems = [name.removesuffix(".png") for name in images]
    parts = [stem.split("-") if _TWO_CUES.fullmatch(stem) else [stem] for stem in stems]
    weights = np.ones((resamples, len(images)))
    groups = []
    for column in zip(*parts, strict=True):
        names, index = np.unique(column, return_inverse=True)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        weights *= drawn[:, index]
        groups.append(index)
    weights.flags.writeable = False
    return Resampling(tuple(groups), weights)


def estimate_ratios(tops: np.ndarray, bottoms: np.ndarray, resampling: Resampling) -> list[Estimate]:
    """Ratios of sums over stimuli, each with its interval.

    Args:
        tops, bottoms: (N, M), 0 <= top <= bottom: M ratios; a stimulus with bottom 0 has no part in that ratio.
        resampling: Resampling of the N stimuli.
    Returns: M estimates. Without any denominator there is no value, and with a single group no interval; draws in which
        the denominator is 0 are left out. Of 0 and 1, where all stimuli agree, it is Clopper and Pearson's interval for
        as many trials as there are groups of the rarer kind: a bootstrap knows nothing of what was never seen.
    """
    drawn_tops, drawn_bottoms = resampling.weights @ tops, resampling.weights @ bottoms
    columns = zip(tops.T, bottoms.T, drawn_tops.T, drawn_bottoms.T, strict=True)
    return [_estimate_ratio(*column, resampling) for column in columns]


def estimate_difference(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], resampling: Resampling
) -> tuple[float, float, float] | None:
    """Difference of two ratios over the same stimuli and its paired interval, in [-1, 1].

    Args:
        first, second: Top and bottom of each, (N,).
        resampling: Resampling of the N stimuli.
    Returns: Difference, low, high; None where it is not defined.
    """
    ratios, residuals, seen = [], [], np.zeros(len(first[0]), dtype=bool)
    drawn = np.zeros(len(resampling.weights))
    for sign, (top, bottom) in ((1, first), (-1, second)):
        if bottom.sum() == 0:
            return None
        ratios.append(float(top.sum()) / float(bottom.sum()))
        residuals.append(sign * (top - ratios[-1] * bottom) / bottom.sum())
        seen |= bottom > 0
        with np.errstate(invalid="ignore"):
            drawn += sign * (resampling.weights @ top) / (resampling.weights @ bottom)
    difference = float(ratios[0] - ratios[1])
    scale = _rescale(residuals[0] + residuals[1], seen, resampling)
    defined = np.isfinite(drawn)
    if scale is None or not defined.any():
        return None
    spread = scale * (np.quantile(drawn[defined], [_TAIL, 1 - _TAIL]) - difference)
    low, high = np.clip(difference + spread, -1, 1)
    return difference, float(low), float(high)


def two_way_variance(residuals: np.ndarray, seen: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[float, int]:
    """Variance of a sum of residuals over stimuli that share images, and its degrees of freedom.

    Args:
        residuals: (N,), of mean 0.
        seen: (N,), which stimuli have a part in it.
        groups: As in `Resampling`; those of a single group are passed over.
    Returns: Variance, and the smallest number of groups minus 1; 0 and 0 where no grouping is left.
    """
    sums, counts = [], []
    for index in groups:
        count = len(np.unique(index[seen]))
        if count > 1:
            sums.append(float((np.bincount(index, residuals) ** 2).sum()))
            counts.append(count)
    if not sums:
        return 0.0, 0
    return float(combine_variances(sums, counts, float((residuals**2).sum()))), min(counts) - 1


def combine_variances(sums: Sequence[Any], counts: Sequence[int], single: Any) -> Any:
    """The two-way variance from its parts, numbers or arrays of one shape.

    Args:
        sums: For each kind of image, the sum over its groups of the squared sum of residuals in a group.
        counts: How many groups there are of each kind, at least 2.
        single: The sum of squared residuals.
    """
    parts = [value * count / (count - 1) for value, count in zip(sums, counts, strict=True)]
    return np.maximum(parts[0] + parts[1] - single, single) if len(parts) == 2 else parts[0]


def _estimate_ratio(
    top: np.ndarray, bottom: np.ndarray, drawn_top: np.ndarray, drawn_bottom: np.ndarray, resampling: Resampling
) -> Estimate:
    total = float(bottom.sum())
    if total == 0:
        return Estimate(None, None, None)
    value = float(top.sum()) / total
    residuals = (top - value * bottom) / total
    if value in (0.0, 1.0):
        _, freedom = two_way_variance(residuals, bottom > 0, resampling.groups)
        bound = _TAIL ** (1 / (freedom + 1))
        ends = (bound, 1.0) if value else (0.0, 1.0 - bound)
        return Estimate(value, *(ends if freedom else (None, None)))
    scale = _rescale(residuals, bottom > 0, resampling)
    defined = drawn_bottom > 0
    if scale is None or not defined.any():
        return Estimate(value, None, None)
    centre = np.arcsin(np.sqrt(value))
    drawn = np.arcsin(np.sqrt(np.clip(drawn_top[defined] / drawn_bottom[defined], 0, 1)))
    ends = centre + scale * (np.quantile(drawn, [_TAIL, 1 - _TAIL]) - centre)
    low, high = np.sin(np.clip(ends, 0, np.pi / 2)) ** 2
    return Estimate(value, float(low), float(high))


def _rescale(residuals: np.ndarray, seen: np.ndarray, resampling: Resampling) -> float | None:
    """What the spread of the draws is multiplied by; None where a single group leaves nothing to draw from."""
    variance, freedom = two_way_variance(residuals, seen, resampling.groups)
    if freedom == 0:
        return None
    drawn = _drawn_variance(residuals, resampling.groups)
    if drawn == 0:
        return 0.0
    from scipy import special  # takes a third of a second, which help and wrong arguments need not wait for

    student = special.stdtrit(freedom, 1 - _TAIL) / normal_quantile(CONFIDENCE)
    return float(student * np.sqrt(variance / drawn))


def _drawn_variance(residuals: np.ndarray, groups: Sequence[np.ndarray]) -> float:
    """Variance of the sum of residuals (of mean 0) over the draws of `Resampling`, in closed form."""
    sums = [float((np.bincount(index, residuals) ** 2).sum()) for index in groups]
    if len(groups) == 1:
        return sums[0]
    counts = [int(index.max()) + 1 for index in groups]
    return sums[0] * (1 - 1 / counts[1]) + sums[1] * (1 - 1 / counts[0]) + float((residuals**2).sum())
