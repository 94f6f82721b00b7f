"""The four measures of the model-vs-human benchmark, identical to those of its toolbox.

Three of them compare a network with a person, on the trials of a condition. Let p and q be their accuracies (no answer
in time counts as wrong):

- accuracy difference: (p - q)^2;
- observed consistency: the fraction of images that both got right or both got wrong;
- error consistency: Cohen's kappa, (observed - expected) / (1 - expected) with expected = pq + (1 - p)(1 - q); it is 1
  if they never differ (Geirhos, Meding & Wichmann, NeurIPS 2020, arXiv:2006.16736).

Each is averaged over the conditions that count (`Experiment.kept`), then over persons, then over datasets. For people,
it is averaged over unordered pairs of persons instead. The fourth, OOD accuracy, is averaged differently: over all
trials of these conditions together (for people, of all persons), then over datasets. On cue-conflict images, the right
answer is the shape. (Geirhos et al., NeurIPS 2021, arXiv:2106.07411; `get_raw_benchmark_df`, `format_benchmark_df` and
`get_mean_over_datasets` in the toolbox's `modelvshuman/plotting/plot.py`.)

Two observers are compared on the images with which both have trials; in the published files, no trial is missing.
"""

from dataclasses import dataclass, field

import numpy as np

from shapebias.answers.datasets import Answers
from shapebias.stimuli.categories import CATEGORIES

__all__ = [
    "MEASURES",
    "PAIRED_MEASURES",
    "Counts",
    "DatasetMeasures",
    "compare_counts",
    "confusion_counts",
    "consistency_matrix",
    "count_pairs",
    "mean_of_pairs",
    "measure_answers",
    "response_entropy",
]

PAIRED_MEASURES = ("accuracy_difference", "observed_consistency", "error_consistency")
"""Measures that compare two observers."""
MEASURES = ("ood_accuracy", *PAIRED_MEASURES)
"""The four measures of the benchmark, in the order in which all arrays hold them."""
_SMALLEST = 1e-5  # the toolbox treats shares up to this as zero


@dataclass(frozen=True)
class Counts:
    """Counts for every pair of observers from two groups, on the images with which both have trials.

    All are arrays (..., A, B) of whole numbers, for groups of A and B observers.

    Attributes:
        trials: Number of images.
        first, second: Number of right answers of the observer of the first and of the second group.
        both: Number of images that both got right.
    """

    trials: np.ndarray
    first: np.ndarray
    second: np.ndarray
    both: np.ndarray


@dataclass(frozen=True)
class DatasetMeasures:
    """Measures of the answers to one dataset.

    Attributes:
        accuracy: (observers, conditions): accuracy in every condition, NaN without a trial. A dataset without
            conditions has a single column.
        entropy: (observers, conditions): entropy of the distribution of answers over the categories, in bits.
        kappa: (observers, conditions): mean error consistency with the persons, or with the other persons.
        networks: (4, networks): the `MEASURES`; NaN if a condition that counts has no trial.
        people: (4,): the `MEASURES` of people; the `PAIRED_MEASURES` are NaN with a single person.
        pairs: (3, networks, persons): the `PAIRED_MEASURES`, averaged over the conditions that count.
        people_pairs: (3, persons, persons): the same for pairs of persons; the diagonal has no meaning.
        accuracies: (observers,): OOD accuracy of each observer.
        borders: (networks,): number of persons and conditions for which the network never differed from the person.
            There kappa is 1 by definition, even if it would be 0/0.
        people_borders: The same number for unordered pairs of persons.
    """

    accuracy: np.ndarray = field(repr=False)
    entropy: np.ndarray = field(repr=False)
    kappa: np.ndarray = field(repr=False)
    networks: np.ndarray
    people: np.ndarray
    pairs: np.ndarray = field(repr=False)
    people_pairs: np.ndarray = field(repr=False)
    accuracies: np.ndarray
    borders: np.ndarray
    people_borders: int


def measure_answers(answers: Answers) -> DatasetMeasures:
    """Compute all measures of the benchmark for one dataset.

    Raises: ValueError if there are no persons, or no observer has a trial in a condition that counts.
    """
    if not answers.persons:
        raise ValueError(f"{answers.experiment.name}: no person to compare with")
    absent = set(answers.experiment.kept) - set(answers.conditions.tolist())
    if absent:
        tokens = ", ".join(answers.experiment.conditions[position].token for position in sorted(absent))
        raise ValueError(f"{answers.experiment.name}: no trial in the conditions {tokens}")
    count = len(answers.networks)
    correct: np.ndarray = answers.correct.astype(float)
    answered: np.ndarray = answers.answered.astype(float)
    numbers = range(max(1, len(answers.experiment.conditions)))
    accuracy, entropy, kappa, by_condition = [], [], [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for condition in numbers:
            seen = answers.conditions == condition
            right, there = correct[:, seen], answered[:, seen]
            accuracy.append(right.sum(axis=1) / there.sum(axis=1))
            entropy.append(response_entropy(answers.given[:, seen], answers.categories[seen]))
            counts = count_pairs((right, there), (right[count:], there[count:]))
            found = compare_counts(counts)
            kappa.append(_mean_with_people(found[2], count))
            by_condition.append((found, found[1] == 1.0))
        kept = list(answers.experiment.kept)
        pairs = np.mean([by_condition[condition][0] for condition in kept], axis=0)
        borders = np.sum([by_condition[condition][1] for condition in kept], axis=0)
        counted = np.isin(answers.conditions, kept)
        right, there = correct[:, counted].sum(axis=1), answered[:, counted].sum(axis=1)
        accuracies = right / there
        networks = np.stack([accuracies[:count], *pairs[:, :count].mean(axis=2)])
        people = np.array([float(right[count:].sum()) / float(there[count:].sum()), *mean_of_pairs(pairs[:, count:])])
        if np.isnan(pairs[:, :count]).any(axis=(0, 2)).any():  # a network without a mean has no accuracy either
            networks[0, np.isnan(networks[1])] = np.nan
    upper = np.triu_indices(len(answers.persons), 1)
    return DatasetMeasures(
        np.array(accuracy).T,
        np.array(entropy).T,
        np.array(kappa).T,
        networks,
        people,
        pairs[:, :count],
        pairs[:, count:],
        accuracies,
        borders[:count].sum(axis=1),
        int(borders[count:][upper].sum()),
    )


def count_pairs(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], weights: np.ndarray | None = None
) -> Counts:
    """Compute the counts for every pair of observers from two groups.

    Args:
        first, second: Right answers and trials of each group as 0 and 1, float (A, N) and (B, N).
        weights: How often each image is drawn, (draws, N), for resampling; None counts each image once.
    Returns: Arrays (A, B); with weights, (draws, A, B).
    """
    (right, there), (other_right, other_there) = first, second

    def total(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        if weights is None:
            return one @ other.T
        products = (one[:, None] * other).reshape(-1, one.shape[1])
        return (weights @ products.T).reshape(len(weights), len(one), len(other))

    both = total(right, other_right)
    if there.all() and other_there.all():  # no trial is missing
        if weights is None:
            sums = right.sum(axis=1)[:, None], other_right.sum(axis=1)[None], np.array([[float(right.shape[1])]])
        else:
            trials = weights.sum(axis=1)[:, None, None]
            sums = (weights @ right.T)[:, :, None], (weights @ other_right.T)[:, None], trials
        one, other, trials = (np.broadcast_to(values, both.shape) for values in sums)
        return Counts(trials, one, other, both)
    return Counts(total(there, other_there), total(right, other_there), total(there, other_right), both)


def compare_counts(counts: Counts) -> np.ndarray:
    """Compute the `PAIRED_MEASURES` of every pair, (3, ..., A, B); NaN for pairs without a common trial."""
    trials = counts.trials
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = counts.first / trials, counts.second / trials
        agreeing = trials - counts.first - counts.second + 2 * counts.both  # whole numbers: exact
        observed, expected = agreeing / trials, p * q + (1 - p) * (1 - q)
        kappa = np.where(agreeing == trials, np.where(trials > 0, 1.0, np.nan), (observed - expected) / (1 - expected))
    return np.stack([(p - q) ** 2, observed, kappa])


def mean_of_pairs(values: np.ndarray) -> np.ndarray:
    """Average over the unordered pairs of the last two axes, (..., P, P) -> (...,); NaN if P is less than 2."""
    rows, columns = np.triu_indices(values.shape[-1], 1)
    if not len(rows):
        return np.full(values.shape[:-2], np.nan)
    return values[..., rows, columns].mean(axis=-1)


def response_entropy(given: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Compute the entropy of each observer's answers over the shown categories, in bits; NaN without a trial.

    As in the toolbox, a trial without an answer in time counts as a trial but not as a category, so the shares of a
    person may sum to less than 1.

    Args:
        given: (observers, N) as `Answers.given`.
        categories: (N,), 1 to 16.
    """
    shown = np.unique(categories)
    trials = (given >= 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (given[:, :, None] == shown).sum(axis=1) / trials[:, None]
        terms = np.where(shares > _SMALLEST, shares * np.log2(shares), np.where(np.isnan(shares), np.nan, 0.0))
    return -terms.sum(axis=1)


def consistency_matrix(answers: Answers) -> np.ndarray:
    """Compute the error consistency of every pair of observers over all trials of a dataset, (observers, observers)."""
    both = (answers.correct.astype(float), answers.answered.astype(float))
    return compare_counts(count_pairs(both, both))[2]


def confusion_counts(given: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Count answers, (17, 16): one row per answer ("na", then the categories), one column per category that was shown.

    Args:
        given: (observers, N) as `Answers.given`; the trials of all observers are counted together.
        categories: (N,), 1 to 16.
    """
    width = len(CATEGORIES)
    there = given >= 0
    cells = given[there].astype(int) * width + np.broadcast_to(categories - 1, given.shape)[there]
    return np.bincount(cells, minlength=(width + 1) * width).reshape(width + 1, width)


def _mean_with_people(kappa: np.ndarray, networks: int) -> np.ndarray:
    """Average over persons, (observers, persons) -> (observers,); a person's over the others, NaN if there is none."""
    own = np.arange(len(kappa))[:, None] - networks == np.arange(kappa.shape[1])
    return np.where(own, 0.0, kappa).sum(axis=1) / (~own).sum(axis=1)
