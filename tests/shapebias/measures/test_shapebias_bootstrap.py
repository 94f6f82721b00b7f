"""Intervals: closed forms, and coverage in simulated benchmarks."""

import numpy as np
import pytest
from scipy import stats

from shapebias.measures.bootstrap import (
    Estimate,
    Resampling,
    _drawn_variance,
    estimate_difference,
    estimate_ratios,
    two_way_variance,
)
from shapebias.stimuli.categories import CATEGORIES


def ratio(top, bottom, resampling) -> Estimate:
    (estimate,) = estimate_ratios(np.array(top, float)[:, None], np.array(bottom, float)[:, None], resampling)
    return estimate


@pytest.fixture(scope="module")
def design() -> list[str]:
    """As in the published names: 10 shape and 3 texture images per category, each pair of categories five times."""
    rng = np.random.default_rng(5)
    names = []
    for shape in CATEGORIES:
        for texture in CATEGORIES:
            cells = rng.permutation(30)[:5]
            names += [f"{shape}{cell // 3 + 1}-{texture}{cell % 3 + 1}.png" for cell in cells]
    return names


def test_a_stimulus_counts_as_often_as_both_its_images_were_drawn():
    names = [f"cat{i}-dog{j}.png" for i in (1, 2, 3) for j in (1, 2)]
    resampling = Resampling.of(names, resamples=200)
    weights = resampling.weights.reshape(200, 3, 2)
    shapes, textures = weights.sum(axis=2) / 2, weights.sum(axis=1) / 3
    np.testing.assert_array_equal(weights, shapes[:, :, None] * textures[:, None, :])
    assert set(shapes.sum(axis=1)) == {3.0}
    assert set(textures.sum(axis=1)) == {2.0}
    assert Resampling.of(names, resamples=200) is resampling
    assert not np.array_equal(Resampling.of(names, resamples=200, seed=1).weights, resampling.weights)


def test_two_way_variance_by_hand():
    # residuals of a 2 x 2 table: rows sum to 3 and -3, columns to 1 and -1, squares to 4 + 1 + 1 + 4
    residuals = np.array([2.0, 1.0, -1.0, -2.0])
    rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    everything = np.ones(4, dtype=bool)
    variance, freedom = two_way_variance(residuals, everything, (rows, columns))
    assert (variance, freedom) == ((9 + 9) * 2 + (1 + 1) * 2 - 10, 1)
    assert two_way_variance(residuals, everything, (rows,)) == (36, 1)
    assert two_way_variance(residuals, everything, (rows, np.zeros(4, int))) == (36, 1)  # one texture for all
    assert two_way_variance(residuals, everything, (np.zeros(4, int),)) == (0, 0)
    # where images share less than nothing, the stimuli's own variance is left
    opposed = np.array([1.0, -1.0, -1.0, 1.0])
    assert two_way_variance(opposed, everything, (rows, columns)) == (4, 1)


def test_the_draws_vary_as_the_closed_form_says(design):
    """The rescaling, which divides by the closed form, therefore gives the two-way variance."""
    rng = np.random.default_rng(0)
    resampling = Resampling.of(design, resamples=4000)
    y = rng.normal(size=48)[resampling.groups[1]] + rng.normal(size=160)[resampling.groups[0]] + rng.normal(size=1280)
    residuals = (y - y.mean()) / 1280

    # tolerance: the standard error of a variance of 4000 draws is 2%
    assert (resampling.weights @ residuals).var() == pytest.approx(
        _drawn_variance(residuals, resampling.groups), rel=0.1
    )


def test_independent_stimuli_have_the_binomial_interval():
    names = [f"cat{i}.png" for i in range(400)]
    top = np.arange(400) % 2
    estimate = ratio(top, np.ones(400), Resampling.of(names))
    half = stats.t.ppf(0.975, 399) * np.sqrt(0.25 / 399)
    # tolerance: the Monte Carlo error of a percentile of 2000 draws
    assert estimate.value == 0.5
    assert estimate.low == pytest.approx(0.5 - half, abs=0.006)
    assert estimate.high == pytest.approx(0.5 + half, abs=0.006)


def test_stimuli_of_one_image_count_as_one():
    """A thousand answers that are copies of a hundred have the same information as the hundred."""
    answers = np.arange(100) % 2
    alone = ratio(answers, np.ones(100), Resampling.of([f"cat{i}.png" for i in range(100)]))
    names = [f"cat{i}-dog{j}.png" for i in range(100) for j in range(10)]
    copies = ratio(np.repeat(answers, 10), np.ones(1000), Resampling.of(names))
    naive = ratio(np.repeat(answers, 10), np.ones(1000), Resampling.of([f"cat{i}.png" for i in range(1000)]))
    # ten textures leave nine degrees of freedom, and are alike to a digit: V_texture - V_stimulus = -V_shape / 10
    expected = stats.t.ppf(0.975, 9) / stats.t.ppf(0.975, 99) * np.sqrt(0.9)
    assert (copies.high - copies.low) / (alone.high - alone.low) == pytest.approx(expected, rel=0.06)
    assert (naive.high - naive.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(0.1), rel=0.06)


def test_where_there_is_nothing_to_draw_from_there_is_no_interval():
    one = Resampling.of(["cat1-dog1.png"])
    assert ratio([1], [1], one) == Estimate(1.0, None, None)
    assert ratio([0], [0], one) == Estimate(None, None, None)
    assert estimate_difference((np.ones(1), np.ones(1)), (np.zeros(1), np.ones(1)), one.groups) is None


def test_a_difference_is_paired():
    """Two observers that differ for one image only are distinguished better than their own intervals suggest."""
    names = [f"cat{i}.png" for i in range(200)]
    resampling = Resampling.of(names)
    first = (np.arange(200) % 2).astype(float)
    second = first.copy()
    second[:20] = 0
    bottom = np.ones(200)
    difference, low, high = estimate_difference((first, bottom), (second, bottom), resampling.groups)
    assert difference == pytest.approx(0.05)
    assert 0 < low < difference < high
    assert high - low < 0.5 * (ratio(first, bottom, resampling).high - ratio(first, bottom, resampling).low)


@pytest.mark.parametrize("of", [1, 16, 1000])
def test_the_interval_of_a_difference_agrees_with_the_exact_test_where_few_answers_differ(of):
    """McNemar's test rejects equality at the 5% level from six stimuli on that only one of two observers gets right."""
    count = 16 * of
    _, groups = np.unique(np.arange(count), return_inverse=True)
    bottom, neither = np.ones(count), np.zeros(count)
    for differ in range(9):
        first = (np.arange(count) < differ).astype(float)
        difference, low, high = estimate_difference((first, bottom), (neither, bottom), (groups,))
        assert difference == differ / count
        assert low < difference < high
        if differ != 5:  # p = 0.063
            assert (low > 0) == (2 * 0.5**differ < 0.05)


def simulate(design: list[str], spread: float, draws: int, rng) -> tuple[np.ndarray, np.ndarray, float]:
    """Shape and texture decisions (N, draws) with effects of both images on the log-odds, and the true bias."""

    def chances(of_shape, of_texture):
        weight = np.exp(np.array([-1.0, 0.2]) + of_shape + of_texture)  # of naming the shape, the texture; 1 of neither
        return weight / (1 + weight.sum(axis=-1, keepdims=True))

    shapes, textures = Resampling.of(design).groups
    conflict = [name.split("-")[0].rstrip("0123456789") not in name.split("-")[1] for name in design]
    shape_hits, texture_hits = np.empty((2, len(design), draws))
    for draw in range(draws):
        chance = chances(rng.normal(0, spread, (160, 2))[shapes], rng.normal(0, spread, (48, 2))[textures])
        answer = rng.random(len(design))
        shape_hits[:, draw] = (answer < chance[:, 0]) & conflict
        texture_hits[:, draw] = (answer >= chance[:, 0]) & (answer < chance.sum(axis=1)) & conflict
    many = chances(rng.normal(0, spread, (1_000_000, 2)), rng.normal(0, spread, (1_000_000, 2))).mean(axis=0)
    return shape_hits, texture_hits, many[0] / many.sum()


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_95_percent_of_intervals_hold_the_truth(design, spread):
    rng = np.random.default_rng(3)
    shape, texture, truth = simulate(design, spread, 500, rng)
    estimates = estimate_ratios(shape, shape + texture, Resampling.of(design))
    held = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert held == pytest.approx(0.95, abs=0.02)
    if spread > 0:  # as if the stimuli were independent
        alone = Resampling.of([f"cat{index}.png" for index in range(len(design))])
        naive = estimate_ratios(shape, shape + texture, alone)
        assert np.mean([estimate.low <= truth <= estimate.high for estimate in naive]) < 0.85


def test_a_hyphen_in_the_name_of_a_photograph_separates_nothing():
    sketches = ["boat-0068-sketch-23.png", "boat-0069-sketch-24.png", "dog-0068-sketch-23.png"]
    (group,) = Resampling.of(sketches, resamples=10).groups
    assert sorted(group) == [0, 1, 2]
    assert len(Resampling.of(["cat7-elephant1.png", "cat7-dog2.png"], resamples=10).groups) == 2
