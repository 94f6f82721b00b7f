"""Paired permutation test of the difference between two observers, which accounts for stimuli that share an image.

If two observers do not differ, their answers to a stimulus can be exchanged. Answers to stimuli that share an image are
dependent, so they are exchanged together: all stimuli of a texture image at once, since there are fewer texture images
than shape images (48 in the published benchmark). This accounts for the texture images. The statistic accounts for both
kinds: it is the difference of two ratios divided by the square root of its two-way variance
(`bootstrap.two_way_variance`), recomputed in every exchange. A test of a studentised statistic keeps its level
asymptotically even if two observers differ in other ways than in the measure, as pooled people and a network do
(Janssen, Statistics & Probability Letters 36, 1997; Chung & Romano, Annals of Statistics 41, 2013; for two-way groups
and the wild bootstrap MacKinnon, Nielsen & Webb, JBES 39, 2021). On simulated benchmarks, 4.3 to 5.3% of true null
hypotheses are rejected at the level of 5%; exchanging the stimuli one by one would reject up to 37%.

The p values of several pairs are corrected together by Holm's method (Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from shapebias.measures.bootstrap import combine_variances

__all__ = ["PERMUTATIONS", "correct_holm", "permutation_test"]

PERMUTATIONS = 9999


def permutation_test(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    groups: Sequence[np.ndarray],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float | None:
    """Compute the two-sided p value of the difference of two ratios over the same stimuli.

    Args:
        first, second: Numerator and denominator of each ratio, (N,), on the same scale (the mean of the answers to a
            stimulus).
        groups: For each kind of shared image, the index (from 0) of the image in each stimulus, (N,).
        permutations: Number of random exchanges. If there are no more possible ones than this, all of them are used.
        seed: Seed of the exchanges.
    Returns: The fraction of exchanges with a statistic at least as extreme as the observed one, which is included; None
        if a ratio is not defined, or there is a single group.
    """
    if first[1].sum() == 0 or second[1].sum() == 0:
        return None
    shared = [index for index in groups if index.max() > 0]
    if not shared:
        return None
    unit = min(shared, key=np.max)
    signs = _draw_signs(int(unit.max()) + 1, permutations, seed)
    statistic = np.abs(_studentise(first, second, signs, unit, shared))
    # the first exchange changes nothing; equal statistics may differ in their last digits by rounding
    return float(np.mean(statistic >= statistic[0] * (1 - 1e-9)))


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's method, which controls the family-wise error rate."""
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    scaled = [min(1.0, p_values[index] * (count - rank)) for rank, index in enumerate(order)]
    adjusted = np.empty(count)
    adjusted[order] = np.maximum.accumulate(scaled) if scaled else []
    return adjusted.tolist()


@lru_cache(maxsize=2)
def _draw_signs(groups: int, permutations: int, seed: int) -> np.ndarray:
    """Draw exchanges (P, groups): 1 leaves a group's answers as they are, -1 exchanges them. The first row is all 1."""
    if 2**groups <= permutations:
        bits = np.arange(2**groups)[:, None] >> np.arange(groups)
        signs = 1.0 - 2.0 * (bits & 1)
    else:
        signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(permutations + 1, groups))
        signs[0] = 1
    signs.flags.writeable = False
    return signs


def _studentise(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    signs: np.ndarray,
    unit: np.ndarray,
    groups: Sequence[np.ndarray],
) -> np.ndarray:
    """Difference of the ratios over the root of its two-way variance, after each exchange (P,); 0 if it is 0.

    An exchange reverses the sign of half the difference of the two observers' counts and leaves half of their sum
    unchanged. A stimulus' residual is therefore a sum of four terms. Each is a factor that depends on the exchange
    times a feature of the stimulus (two of them also times the sign of its unit). Everything can be computed from sums
    over units, without an array of exchanges by stimuli.
    """
    # features of numerators and denominators: an exchange keeps half the sum and negates half the difference
    features = np.stack([(first[i] + second[i]) / 2 for i in (0, 1)] + [(first[i] - second[i]) / 2 for i in (0, 1)])
    turns = (False, False, True, True)
    units = int(unit.max()) + 1

    def total(values: np.ndarray, turning: bool, index: np.ndarray) -> np.ndarray:
        """Sum values over the groups of `index` after each exchange: (P, groups), or (1, groups) if not `turning`."""
        count = int(index.max()) + 1
        table = np.bincount(unit * count + index, values, minlength=units * count).reshape(units, count)
        return signs @ table if turning else table.sum(axis=0, keepdims=True)

    everything = np.zeros(len(unit), dtype=int)
    top, bottom, top_turned, bottom_turned = (
        total(values, turning, everything)[:, 0] for values, turning in zip(features, turns, strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.stack([1 / (bottom + bottom_turned), 1 / (bottom - bottom_turned)])
        ratios = np.stack([top + top_turned, top - top_turned]) * inverse
        weighted = ratios * inverse
        factors = [inverse[0] - inverse[1], weighted[1] - weighted[0], inverse[0] + inverse[1], -weighted.sum(axis=0)]
        single = 0.0
        for i, one in enumerate(features):
            for j, other in enumerate(features):
                summed = total(one * other, turns[i] != turns[j], everything)[:, 0]
                single = single + factors[i] * factors[j] * summed
        sums = []
        for index in groups:
            residuals = sum(
                factor[:, None] * total(values, turning, index)
                for factor, values, turning in zip(factors, features, turns, strict=True)
            )
            sums.append((residuals**2).sum(axis=1))
        variance = combine_variances(sums, [int(index.max()) + 1 for index in groups], single)
        difference = ratios[0] - ratios[1]
        return np.where(difference == 0, 0.0, difference / np.sqrt(variance))
