"""From bootstrap draws to intervals, differences and ranks of the benchmark's numbers.

Intervals are for what the benchmark gives on average with as many images as it has. Three of its numbers would be the
same with more; accuracy difference would be smaller, since chance alone sets two accuracies apart and a square counts
that upwards: `Number.bias` says by how much. An interval is the measured value plus the 2.5% and 97.5% quantiles of the
draws' deviations from their mean.

Networks are compared in pairs on the same draws: difference, interval, and the two-sided p value of the difference over
its standard deviation in the draws (normal; with persons drawn, too, Student's t), corrected by Holm's method for all
pairs of a measure. A permutation test would not do here: exchanging the answers of two networks brings both accuracies
to their mean, where a squared difference or kappa varies otherwise than where they were measured.

The interval of a rank follows from those comparisons (Mogstad, Romano, Shaikh & Wilhelm, Review of Economic Studies 91,
2024): a network ranks behind all that are significantly better, and before all that are significantly worse; all of a
measure's intervals hold together with 95%. The mean rank's is the mean of those of its three measures, the pairs of all
three corrected together.
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
    """One of the benchmark's numbers; None where it is not defined.

    Attributes:
        value: As the toolbox has it.
        images: Its interval with other images and the same persons.
        persons: Its interval with other images and other persons.
        bias: How much the limited number of images adds on average.
    """

    value: float | None
    images: Interval = None
    persons: Interval = None
    bias: float | None = None

    def as_dict(self, name: str) -> dict[str, Any]:
        """`{name: ..., name_interval: ..., name_interval_persons: ...}`, and the bias of accuracy difference."""
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
        """The inverse of `as_dict`, out of a mapping that may hold more."""
        intervals = (content[f"{name}_interval{end}"] for end in ("", "_persons"))
        images, persons = (ends and (ends[0], ends[1]) for ends in intervals)
        return cls(content[name], images, persons, content.get(f"{name}_bias"))


@dataclass(frozen=True)
class Rank:
    """A rank from 1, a mean of those that are tied, and the intervals of both kinds."""

    value: float
    images: Interval = None
    persons: Interval = None


@dataclass(frozen=True)
class NetworkDifference:
    """How two networks differ in one of the benchmark's numbers.

    Attributes:
        measure: One of `MEASURES`.
        first, second: Names of the networks.
        difference: Number of the first minus that of the second.
        low, high, p, p_holm: Paired 95% interval, p value, and p value corrected for all pairs of the measure, with
            other images and the same persons.
        low_persons, high_persons, p_persons, p_holm_persons: The same with other persons, too; None where a dataset has
            a single person.
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
    """Numbers with their intervals.

    Args:
        values: (4, columns): the numbers of networks and people, NaN where not defined.
        draws: Bootstrap draws of the datasets whose mean they are, in the same columns; empty for numbers without
            intervals.
        images: Number of images of a dataset, for values at 0 or 1, where draws know no variation; 0 for several
            datasets.
    Returns: For each measure, for each column.
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
    """Every pair of networks in every measure, in the order of the names.

    Args:
        names: Names of the networks, at least one dataset each and all the same ones.
        values: (4, networks): their numbers.
        draws: Bootstrap draws of the datasets whose mean they are.
        columns: Columns of each network in the draws.
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
    """Ranks of networks in each measure and the mean rank, `mean`, as the toolbox ranks: ties share their mean.

    Args:
        names: Names of the networks.
        values: (4, networks): their numbers.
        differences: Differences of every pair, for the intervals; empty for none.
    Returns: Network -> measure (and `mean`, of the three paired measures) -> rank.
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
    """Deviations of numbers that are means over datasets, and of their differences."""

    def __init__(self, draws: Sequence[Draws]) -> None:
        count = len(draws)
        images: np.ndarray = sum(one.images for one in draws) / count  # type: ignore[assignment]
        self._means = images.mean(axis=1)  # (4, columns)
        self._images = images - self._means[:, None]
        self._persons: np.ndarray = sum(one.persons for one in draws) / count  # type: ignore[assignment]
        self._parts = [(one.persons / count, one.freedom) for one in draws]
        self._covariances: dict[int, list[tuple[np.ndarray, int]]] = {}

    def bias(self, measure: int, column: int) -> float:
        """How much more the draws are on average than what was measured."""
        return float(self._means[measure, column])

    def interval(self, measure: int, column: int, other: int | None, kind: str) -> Interval:
        """Quantiles of the deviations of a column, or of it minus another one; None if persons cannot be drawn."""
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
        """Two-sided p value of a difference; 1 for two columns that do not differ at all."""
        variance, freedom = self._variance(measure, column, other, kind)
        if variance == 0:
            return 1.0 if difference == 0 else 1 / (self._images.shape[1] + 1)
        return float(2 * stats.t.sf(abs(difference) / np.sqrt(variance), freedom))

    def _student(self, measure: int, column: int, other: int | None) -> float:
        return float(stats.t.ppf(1 - _TAIL, self._variance(measure, column, other, "persons")[1]))

    def _variance(self, measure: int, column: int, other: int | None, kind: str) -> tuple[float, float]:
        """Variance, and its degrees of freedom by Welch and Satterthwaite: that of images is taken for known."""
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
    """The interval of a number within the range of its measure; of 0 or 1 in all images Clopper and Pearson's."""
    if deviation is None:
        return None
    if deviation == (0.0, 0.0):
        if measure in ("ood_accuracy", "observed_consistency") and value in (0.0, 1.0) and images:
            bound = _TAIL ** (1 / images)
            return (bound, 1.0) if value else (0.0, 1.0 - bound)
        return None
    return max(value + deviation[0], _LOWEST[measure]), min(value + deviation[1], 1.0)


def _correct(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction; None where there is no p value."""
    known = [p for p in p_values if p is not None]
    corrected = iter(correct_holm(known))
    return [None if p is None else next(corrected) for p in p_values]


def _bounds(
    names: Sequence[str], differences: Sequence[NetworkDifference], measure: str, kind: str, *, together: bool
) -> dict[str, tuple[float, float]]:
    """Lowest and highest rank of each network in a measure; empty without p values.

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
    """Mean of lower and of upper ends; None where one is missing."""
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    return float(np.mean([low for low, _ in known])), float(np.mean([high for _, high in known]))
