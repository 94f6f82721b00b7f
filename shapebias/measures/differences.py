"""Comparison of all pairs of observers: difference, paired interval, and p value corrected for all pairs."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import pandas as pd

from shapebias.answers.observers import Observer
from shapebias.measures.bootstrap import Resampling, estimate_difference
from shapebias.measures.content import PairDifference, PermutationTest
from shapebias.measures.permutation import PERMUTATIONS, correct_holm, permutation_test
from shapebias.measures.shape_bias import RATIOS, count_by_image

__all__ = ["MEASURES", "Difference", "compare_pairs", "describe_test"]

MEASURES = (
    "shape_bias",
    "fraction_correct_shape",
    "fraction_correct_texture",
    "coverage",
    "accuracy",
    "shape_reciprocal_rank",
    "texture_reciprocal_rank",
)


@dataclass(frozen=True)
class Difference:
    """Difference between two observers of the same stimuli in a measure.

    Attributes:
        measure: One of `MEASURES`.
        first, second: Names of the observers.
        difference: Measure of the first minus that of the second, in [-1, 1].
        low, high: Its paired 95% interval.
        p: p value of the paired permutation test, two-sided.
        p_holm: The same, corrected by Holm's method for all pairs of this measure.
    """

    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    def as_dict(self) -> PairDifference:
        """Return plain values for JSON and CSV."""
        return cast(PairDifference, asdict(self))


def compare_pairs(
    observers: Sequence[Observer],
    *,
    measures: Sequence[str] = MEASURES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Difference]:
    """Compare all pairs of observers, measure by measure, in the order of the observers.

    An observer's answers to a stimulus are averaged, so pooled people weigh no more than a network. A pair is left out
    if its difference in a measure is not defined.

    Args:
        observers: Observers of the same stimuli; people pooled into one.
        measures: Names of measures, from `shapebias.measures.shape_bias.RATIOS`.
        permutations: Number of permutations in the test.
        seed: Seed of the permutations.
    Raises: ValueError if two observers did not see the same stimuli.
    """
    tables = {observer.name: count_by_image(observer) for observer in observers}
    differences: list[Difference] = []
    for measure in measures:
        found = []
        for one, other in itertools.combinations(tables, 2):
            if list(tables[one]["image"]) != list(tables[other]["image"]):
                raise ValueError(f"{one} and {other} did not answer to the same images")
            groups = Resampling.of(list(tables[one]["image"]), seed=seed).groups
            first, second = (_sides(tables[name], measure) for name in (one, other))
            estimate = estimate_difference(first, second, groups)
            p = permutation_test(first, second, groups, permutations=permutations, seed=seed)
            if estimate is not None and p is not None:
                found.append((one, other, *estimate, p))
        corrected = correct_holm([row[-1] for row in found])
        differences += [Difference(measure, *row, p_holm) for row, p_holm in zip(found, corrected, strict=True)]
    return differences


def describe_test() -> PermutationTest:
    """Describe the test and the intervals for the `test` block next to the differences in a result file."""
    return {
        "interval": "paired 95% interval: quantile of Student's t times the square root of the two-way cluster-robust "
        "variance, to which one stimulus for which the observers differ is added",
        "method": "paired permutation test, the answers to all stimuli of a texture image exchanged together (with one "
        "cue: to a stimulus), studentised by the two-way cluster-robust variance; two-sided",
        "permutations": PERMUTATIONS,
        "seed": 0,
        "correction": "Holm, over all pairs of a measure",
    }


def _sides(table: pd.DataFrame, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a measure for each image, averaged over the answers to it (N,)."""
    answers = table["trials"].mean()
    top, bottom = (table[list(names)].sum(axis=1).to_numpy() / answers for names in RATIOS[measure])
    return top, bottom
