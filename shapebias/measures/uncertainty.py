"""Intervals, differences and ranks of the benchmark's measures, computed from bootstrap draws.

Intervals refer to the expected value of a measure for the benchmark's number of images. For three of the measures, this
value would be the same with more images. Accuracy difference would be smaller with more images, since random
differences between two accuracies increase their squared difference; `Number.bias` says by how much. An interval is the
measured value plus the 2.5% and 97.5% quantiles of the draws' deviations from their mean.

Networks are compared in pairs on the same draws. A comparison gives the difference, its interval, and the two-sided p
value of the difference divided by its standard deviation in the draws (normal distribution; Student's t if persons are
drawn as well). The p values are corrected by Holm's method for all pairs of a measure. A permutation test would not be
valid here: exchanging the answers of two networks moves both accuracies to their mean, where the variance of a squared
difference or of kappa is not the same as at the measured accuracies.

The interval of a rank follows from these comparisons (Mogstad, Romano, Shaikh & Wilhelm, Review of Economic Studies 91,
2024): a network ranks behind all networks that are significantly better, and before all that are significantly worse.
The intervals of a measure hold simultaneously with a confidence of 95%. The interval of the mean rank is the mean of
those of its three measures, with the pairs of all three corrected together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from runkit.intervals import normal_quantile
from shapebias.measures.benchmark import MEASURES, PAIRED_MEASURES
from shapebias.measures.bootstrap import CONFIDENCE
from shapebias.measures.permutation import correct_holm
from shapebias.measures.resampling import Draws

__all__ = ["LEVEL", "NetworkDifference", "Number", "Rank", "compare_networks", "estimate", "rank_networks"]

LEVEL = 1 - CONFIDENCE
_TAIL = LEVEL / 2
_NORMAL = normal_quantile(CONFIDENCE)
_LOWEST = {"ood_accuracy": 0.0, "accuracy_difference": 0.0, "observed_consistency": 0.0, "error_consistency": -1.0}
_KINDS = ("images", "persons")

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Number:
    """A measure of the benchmark with its intervals; None where one is not defined.

    Attributes:
        value: The value, as the toolbox computes it.
        images: Its interval for other images and the same persons.
        persons: Its interval for other images and other persons.
        bias: Amount by which the limited number of images increases the value on average.
    """

    value: float | None
    images: Interval = None
    persons: Interval = None
    bias: float | None = None

    def as_dict(self, name: str) -> dict[str, Any]:
        """Return `{name: ..., name_interval: ..., name_interval_persons: ...}`, and the bias of accuracy difference."""
        content: dict[str, Any] = {
            name: self.value,
            f"{name}_interval": self.images and list(self.images),
            f"{name}_interval_persons": self.persons and list(self.persons),
        }
        if name == "accuracy_difference":
            content[f"{name}_bias"] = self.bias
        return content

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> "Number":
        """The inverse of `as_dict`; the mapping may have further keys."""
        intervals = (content[f"{name}_interval{end}"] for end in ("", "_persons"))
        images, persons = (ends and (ends[0], ends[1]) for ends in intervals)
        return cls(content[name], images, persons, content.get(f"{name}_bias"))


@dataclass(frozen=True)
class Rank:
    """A rank, counted from 1, with its intervals of both kinds; tied networks have the mean of their ranks."""

    value: float
    images: Interval = None
    persons: Interval = None


@dataclass(frozen=True)
class NetworkDifference:
    """Difference between two networks in a measure of the benchmark.

    Attributes:
        measure: One of `MEASURES`.
        first, second: Names of the networks.
        difference: Measure of the first minus that of the second.
        low, high, p, p_holm: Paired 95% interval, p value, and p value corrected for all pairs of the measure, for
            other images and the same persons.
        low_persons, high_persons, p_persons, p_holm_persons: The same for other images and other persons; None if the
            measure compares with persons and a dataset has a single person.
    """

    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    low_persons: float | None
    high_persons: float | None
    p_persons: float | None
    p_holm_persons: float | None


def estimate(values: np.ndarray, draws: Sequence[Draws], images: int) -> list[list[Number]]:
    """Combine measures with their intervals.

    Args:
        values: (4, columns): the measures of networks and people, NaN where not defined.
        draws: Bootstrap draws of the datasets of which the values are the mean, in the same columns; empty for values
            without intervals.
        images: Number of images of a dataset, for the intervals of values of 0 or 1, where draws do not vary; 0 for
            several datasets.
    Returns: A list per measure, with a number for each column.
    """
    deviations = _Deviations(draws) if draws else None
    numbers: list[list[Number]] = []
    for measure, row in enumerate(values):
        numbers.append([])
        for column, value in enumerate(row):
            if np.isnan(value):
                numbers[-1].append(Number(None))
                continue
            name, number = MEASURES[measure], Number(float(value))
            if deviations is not None:
                of_images, of_persons = (
                    _fit(deviations.interval(measure, column, None, kind), float(value), name, images)
                    for kind in _KINDS
                )
                number = Number(float(value), of_images, of_persons, deviations.bias(measure, column))
            numbers[-1].append(number)
    return numbers


def compare_networks(
    names: Sequence[str], values: np.ndarray, draws: Sequence[Draws], columns: Sequence[int]
) -> list[NetworkDifference]:
    """Compare every pair of networks in every measure, in the order of the names.

    Args:
        names: Names of the networks. All must have answered the same datasets, at least one.
        values: (4, networks): their measures.
        draws: Bootstrap draws of the datasets of which the values are the mean.
        columns: Column of each network in the draws.
    """
    deviations = _Deviations(draws)
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    found: list[NetworkDifference] = []
    for measure, name in enumerate(MEASURES):
        rows: list[list[Any]] = []
        for i, j in pairs:
            difference = float(values[measure, i] - values[measure, j])
            row: list[Any] = []
            for kind in _KINDS:
                interval = deviations.interval(measure, columns[i], columns[j], kind)
                if interval is None:
                    row += [None, None, None]
                else:
                    p = deviations.p_value(difference, measure, columns[i], columns[j], kind)
                    row += [difference + interval[0], difference + interval[1], p]
            rows.append([difference, *row])
        holm, holm_persons = (_correct([row[place] for row in rows]) for place in (3, 6))
        for (i, j), row, p_holm, p_holm_persons in zip(pairs, rows, holm, holm_persons, strict=True):
            fields = [*row[:4], p_holm, *row[4:], p_holm_persons]
            found.append(NetworkDifference(name, names[i], names[j], *fields))
    return found


def rank_networks(
    names: Sequence[str], values: np.ndarray, differences: Sequence[NetworkDifference]
) -> dict[str, dict[str, Rank]]:
    """Rank networks in each measure and by the mean rank, as in the toolbox; ties share the mean of their ranks.

    Args:
        names: Names of the networks.
        values: (4, networks): their measures.
        differences: Differences of every pair, for the intervals; empty for no intervals.
    Returns: Network -> measure -> rank. The further key `mean` holds the mean rank over the three paired measures.
    """
    ranks: dict[str, dict[str, Rank]] = {name: {} for name in names}
    for measure, row in zip(MEASURES, values, strict=True):
        images, persons = (_bounds(names, differences, measure, kind, together=False) for kind in _KINDS)
        ordered = stats.rankdata(row if measure == "accuracy_difference" else -row)
        for name, rank in zip(names, ordered, strict=True):
            ranks[name][measure] = Rank(float(rank), images.get(name), persons.get(name))
    together = [[_bounds(names, differences, m, kind, together=True) for m in PAIRED_MEASURES] for kind in _KINDS]
    for name in names:
        value = float(np.mean([ranks[name][measure].value for measure in PAIRED_MEASURES]))
        images_mean, persons_mean = (_mean_interval([bounds.get(name) for bounds in kind]) for kind in together)
        ranks[name]["mean"] = Rank(value, images_mean, persons_mean)
    return ranks


class _Deviations:
    """Bootstrap deviations of measures that are means over datasets, and of their differences."""

    def __init__(self, draws: Sequence[Draws]) -> None:
        count = len(draws)
        images: np.ndarray = sum(one.images for one in draws) / count  # type: ignore[assignment]
        self._means = images.mean(axis=1)  # (4, columns)
        self._images = images - self._means[:, None]
        self._persons: np.ndarray = sum(one.persons for one in draws) / count  # type: ignore[assignment]
        self._parts = [(one.persons / count, one.freedom) for one in draws]
        self._covariances: dict[int, list[tuple[np.ndarray, int]]] = {}

    def bias(self, measure: int, column: int) -> float:
        """Mean of the draws minus the measured value."""
        return float(self._means[measure, column])

    def interval(self, measure: int, column: int, other: int | None, kind: str) -> Interval:
        """Quantiles of the deviations of a column, or of its difference from another column; None if not defined."""
        drawn = self._drawn(self._images, measure, column, other)
        if kind == "persons":
            persons = self._drawn(self._persons, measure, column, other)
            if not np.isfinite(persons).all():
                return None
            drawn = (drawn + persons - persons.mean()) * self._student(measure, column, other) / _NORMAL
        if not np.isfinite(drawn).all():
            return None
        low, high = np.quantile(drawn, [_TAIL, 1 - _TAIL])
        return float(low), float(high)

    def p_value(self, difference: float, measure: int, column: int, other: int, kind: str) -> float:
        """Two-sided p value of a difference. Without any variance in the draws, it is 1 for a difference of 0, and else
        1 / (draws + 1).
        """
        variance, freedom = self._variance(measure, column, other, kind)
        if variance == 0:
            return 1.0 if difference == 0 else 1 / (self._images.shape[1] + 1)
        return float(2 * stats.t.sf(abs(difference) / np.sqrt(variance), freedom))

    def _student(self, measure: int, column: int, other: int | None) -> float:
        return float(stats.t.ppf(1 - _TAIL, self._variance(measure, column, other, "persons")[1]))

    def _variance(self, measure: int, column: int, other: int | None, kind: str) -> tuple[float, float]:
        """Variance and its degrees of freedom by Welch and Satterthwaite; the part due to images is taken as known."""
        total = float(self._drawn(self._images, measure, column, other).var())
        if kind == "images":
            return total, np.inf
        if measure not in self._covariances:
            self._covariances[measure] = [
                (np.cov(part[measure].T, ddof=0).reshape(part.shape[2], -1), freedom) for part, freedom in self._parts
            ]
        squares = 0.0
        for covariance, freedom in self._covariances[measure]:
            variance = covariance[column, column]
            if other is not None:
                variance = variance + covariance[other, other] - 2 * covariance[column, other]
            total += float(variance)
            if variance > 0:
                squares += float(variance) ** 2 / freedom
        return total, total**2 / squares if squares > 0 else np.inf

    @staticmethod
    def _drawn(drawn: np.ndarray, measure: int, column: int, other: int | None) -> np.ndarray:
        return drawn[measure, :, column] - (0 if other is None else drawn[measure, :, other])


def _fit(deviation: Interval, value: float, measure: str, images: int) -> Interval:
    """Clip an interval to the range of its measure. Where the draws do not vary, use Clopper and Pearson's interval for
    a share of 0 or 1 over the images of one dataset, and none otherwise.
    """
    if deviation is None:
        return None
    if deviation == (0.0, 0.0):
        if measure in ("ood_accuracy", "observed_consistency") and value in (0.0, 1.0) and images:
            bound = _TAIL ** (1 / images)
            return (bound, 1.0) if value else (0.0, 1.0 - bound)
        return None
    return max(value + deviation[0], _LOWEST[measure]), min(value + deviation[1], 1.0)


def _correct(p_values: Sequence[float | None]) -> list[float | None]:
    """Apply Holm's correction; missing p values stay None."""
    known = [p for p in p_values if p is not None]
    corrected = iter(correct_holm(known))
    return [None if p is None else next(corrected) for p in p_values]


def _bounds(
    names: Sequence[str], differences: Sequence[NetworkDifference], measure: str, kind: str, *, together: bool
) -> dict[str, tuple[float, float]]:
    """Best and worst rank of each network in a measure; empty without p values.

    Args:
        together: Whether the pairs of the three paired measures are corrected together.
    """
    rows = [row for row in differences if (row.measure in PAIRED_MEASURES if together else row.measure == measure)]
    corrected = _correct([row.p if kind == "images" else row.p_persons for row in rows])
    if not rows or None in corrected:
        return {}
    better, worse = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for row, p in zip(rows, corrected, strict=True):
        if row.measure == measure and p is not None and p < LEVEL:
            first_wins = (row.difference < 0) == (measure == "accuracy_difference")
            winner, loser = (row.first, row.second) if first_wins else (row.second, row.first)
            better[loser] += 1
            worse[winner] += 1
    return {name: (1.0 + better[name], float(len(names) - worse[name])) for name in names}


def _mean_interval(intervals: Sequence[Interval]) -> Interval:
    """Mean of the lower and of the upper ends; None if an interval is missing."""
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    return float(np.mean([low for low, _ in known])), float(np.mean([high for _, high in known]))
