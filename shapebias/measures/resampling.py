"""Bootstrap of the benchmark's measures over images and over persons, with joint draws of all measures.

In the first kind of draws, persons are fixed, and images are drawn with replacement within dataset and condition. The
draws are the same for all networks and persons, so differences between networks are paired. Datasets are drawn
independently of each other. Cue-conflict images need a correction: 1280 of them are made of 160 shape images and 48
texture images, and answers to images that share one of these are correlated. The resulting additional covariance of all
measures (the two-way cluster-robust covariance of Cameron, Gelbach & Miller, Journal of Business & Economic Statistics
29, 2011, minus that of independent images) is added to the draws as Gaussian noise.

In the second kind, persons are drawn as well. Each dataset is drawn independently, since it is unknown whether
`subject-01` of two datasets is the same person. With only four to ten persons P, a bootstrap is too narrow by the
factor sqrt((P - 1) / P), which is corrected. The deviations of both kinds are added. The variance of the interaction
between images and persons is then counted twice, so intervals are too wide rather than too narrow.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shapebias.answers.datasets import Answers
from shapebias.measures.benchmark import (
    MEASURES,
    PAIRED_MEASURES,
    DatasetMeasures,
    compare_counts,
    count_pairs,
    mean_of_pairs,
)

__all__ = ["Draws", "draw_dataset"]

_CHUNK = 250  # number of draws at a time, to limit memory
_SHARES = 1e-12  # eigenvalues below this share of the largest are rounding errors


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of the benchmark's measures, as deviations from the measured values.

    Attributes:
        images: (4, draws, networks + 1): deviations of the `MEASURES` of each network, then of people, for resampled
            images.
        persons: The same for resampled persons. Zero where a measure does not depend on persons; otherwise NaN if there
            is a single person.
        freedom: Degrees of freedom of the variance in `persons`: persons minus 1.
    """

    images: np.ndarray = field(repr=False)
    persons: np.ndarray = field(repr=False)
    freedom: int

    def choose(self, columns: Sequence[int]) -> "Draws":
        """Return the draws of the given columns."""
        return Draws(self.images[:, :, columns], self.persons[:, :, columns], self.freedom)


def draw_dataset(answers: Answers, measured: DatasetMeasures, *, resamples: int, seed: int = 0) -> Draws:
    """Draw the measures of one dataset.

    The resampled images and persons depend on the dataset's name, the numbers of its images and persons, and the seed,
    but not on the networks.

    Args:
        answers: Answers to the dataset.
        measured: Result of `measure_answers` for them.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    value = np.concatenate([measured.networks, measured.people[:, None]], axis=1)[:, None]
    images = _draw_images(answers, _generator(answers, seed, "images"), resamples) - value
    if answers.experiment.two_cues:
        images += _draw_shared(answers, _generator(answers, seed, "shared"), resamples)
    persons = _draw_persons(answers, measured, _generator(answers, seed, "persons"), resamples)
    return Draws(images, persons, len(answers.persons) - 1)


def _generator(answers: Answers, seed: int, kind: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{answers.experiment.name} {kind}".encode())])


def _draw_images(answers: Answers, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Compute the measures for resampled images, (4, draws, networks + 1)."""
    count, kept = len(answers.networks), answers.experiment.kept
    drawn = np.empty((len(MEASURES), resamples, count + 1))
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        pairs = np.zeros((len(PAIRED_MEASURES), size, count + 1))
        right, there = np.zeros((2, size, count + 1))
        for condition in kept:
            seen = answers.conditions == condition
            number = int(seen.sum())
            weights = rng.multinomial(number, np.full(number, 1 / number), size=size).astype(float)
            correct, answered = answers.correct[:, seen].astype(float), answers.answered[:, seen].astype(float)
            networks, persons = ((correct[part], answered[part]) for part in (slice(count), slice(count, None)))
            for both, first in ((False, networks), (True, persons)):
                values = compare_counts(count_pairs(first, persons, weights))
                if both:
                    pairs[:, :, count] += mean_of_pairs(values) / len(kept)
                else:
                    pairs[:, :, :count] += values.mean(axis=3) / len(kept)
            for sums, rows in ((right, correct), (there, answered)):
                sums[:, :count] += weights @ rows[:count].T
                sums[:, count] += weights @ rows[count:].sum(axis=0)
        with np.errstate(invalid="ignore"):
            drawn[0, start : start + size] = right / there
        drawn[1:, start : start + size] = pairs
    return drawn


def _draw_persons(answers: Answers, measured: DatasetMeasures, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Compute the deviations of the measures for resampled persons, (4, draws, networks + 1)."""
    count, persons = len(answers.networks), len(answers.persons)
    drawn = np.zeros((len(MEASURES), resamples, count + 1))
    if persons < 2:
        drawn[1:] = np.nan
        drawn[0, :, count] = np.nan
        return drawn
    weights = rng.multinomial(persons, np.full(persons, 1 / persons), size=resamples)
    while (lonely := (weights == persons).any(axis=1)).any():  # a single person forms no pair
        weights[lonely] = rng.multinomial(persons, np.full(persons, 1 / persons), size=int(lonely.sum()))
    drawn[1:, :, :count] = np.einsum("bp,kmp->kbm", weights / persons, measured.pairs)
    rows, columns = np.triu_indices(persons, 1)
    products = (weights[:, rows] * weights[:, columns]).astype(float)
    products /= products.sum(axis=1, keepdims=True)
    drawn[1:, :, count] = (products @ measured.people_pairs[:, rows, columns].T).T
    drawn[0, :, count] = weights @ measured.accuracies[count:] / persons
    centre = np.concatenate([measured.networks, measured.people[:, None]], axis=1)
    centre[0, :count] = 0
    return (drawn - centre[:, None]) * np.sqrt(persons / (persons - 1))


def _draw_shared(answers: Answers, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Draw the noise that shared shape and texture images add to the deviations, (4, draws, networks + 1).

    Its covariance is V_shape + V_texture - 2 V_image, so that together with the draws over images (V_image), the total
    covariance is V_shape + V_texture - V_image. Directions in which it is negative are left out, since shared images
    can only add variance.
    """
    influence = _influence(answers)  # (4, networks + 1, N)
    flat = influence.reshape(-1, influence.shape[-1])
    known = np.isfinite(flat).all(axis=1)
    single = flat[known] @ flat[known].T
    excess = -2 * single
    for column in zip(*(image.removesuffix(".png").split("-") for image in answers.images), strict=True):
        names, index = np.unique(column, return_inverse=True)
        if len(names) > 1:
            membership = np.equal.outer(index, np.arange(len(names))).astype(float)
            sums = flat[known] @ membership
            excess += sums @ sums.T * (len(names) / (len(names) - 1))
    values, vectors = np.linalg.eigh(excess)
    root = vectors * np.sqrt(np.where(values > _SHARES * max(values.max(), 0), values, 0))
    drawn = np.zeros((resamples, len(flat)))
    drawn[:, known] = rng.standard_normal((resamples, len(root))) @ root.T
    return drawn.reshape(resamples, *influence.shape[:2]).transpose(1, 0, 2)


def _influence(answers: Answers) -> np.ndarray:
    """Influence of each image on each measure of a dataset without conditions, (4, networks + 1, N), with mean 0.

    It is the derivative of the measure with respect to the image's weight. Kappa is 1 - (1 - observed) / (1 -
    expected), where the expected consistency depends on both accuracies.
    """
    count = len(answers.networks)
    correct, answered = answers.correct.astype(float), answers.answered.astype(float)
    found = np.zeros((len(MEASURES), count + 1, len(answers.images)))
    with np.errstate(invalid="ignore", divide="ignore"):
        for network in range(count):
            found[0, network] = (correct[network] - answered[network] * _share(correct, answered, network)) / max(
                answered[network].sum(), 1
            )
        pooled, trials = correct[count:].sum(axis=0), answered[count:].sum(axis=0)
        found[0, count] = (pooled - trials * pooled.sum() / trials.sum()) / trials.sum()
        persons = range(count, len(correct))
        for row in range(len(correct)):
            column = min(row, count)
            others = [person for person in persons if person > row or row < count]
            pairs = len(persons) if row < count else len(persons) * (len(persons) - 1) / 2
            for person in others:
                found[1:, column] += _pair_influence(correct, answered, row, person) / pairs
    return found


def _share(correct: np.ndarray, answered: np.ndarray, row: int) -> float:
    return correct[row].sum() / answered[row].sum()


def _pair_influence(correct: np.ndarray, answered: np.ndarray, row: int, other: int) -> np.ndarray:
    """Influence of each image on the `PAIRED_MEASURES` of one pair of observers, (3, N)."""
    there = answered[row] * answered[other]
    trials = there.sum()
    p, q = correct[row] @ there / trials, correct[other] @ there / trials
    of_p, of_q = (correct[row] - p) * there / trials, (correct[other] - q) * there / trials
    agreeing = (correct[row] == correct[other]) * there
    observed, expected = agreeing.sum() / trials, p * q + (1 - p) * (1 - q)
    of_observed = (agreeing - observed * there) / trials
    of_expected = (2 * q - 1) * of_p + (2 * p - 1) * of_q
    if observed == 1:
        of_kappa = np.zeros_like(there)
    else:
        of_kappa = of_observed / (1 - expected) - (1 - observed) / (1 - expected) ** 2 * of_expected
    return np.stack([2 * (p - q) * (of_p - of_q), of_observed, of_kappa])
