"""Paired permutation tests: exact on small tables, with their nominal level on simulated benchmarks."""

import itertools

import numpy as np
import pytest

from shapebias.answers.observers import pool_people
from shapebias.measures.bootstrap import two_way_variance
from shapebias.measures.differences import compare_pairs
from shapebias.measures.permutation import correct_holm, permutation_test


def test_all_exchanges_of_a_small_table_by_hand():
    """With six independent stimuli and differences of one sign, only exchanging none or all is as extreme."""
    first, second = np.ones(6), np.zeros(6)
    second[0] = 1  # the same answer: exchanging it changes nothing
    ones = np.ones(6)
    assert permutation_test((first, ones), (second, ones), [np.arange(6)]) == 2 * 2 / 2**6


def test_observers_that_agree_are_never_different():
    answers = (np.arange(20) % 3 == 0).astype(float)
    ones = np.ones(20)
    assert permutation_test((answers, ones), (answers, ones), [np.arange(20)]) == 1.0
    assert permutation_test((answers, ones), (answers, 0 * ones), [np.arange(20)]) is None
    assert permutation_test((answers, ones), (1 - answers, ones), [np.zeros(20, int)]) is None


def test_stimuli_of_an_image_are_exchanged_together():
    """The p-value is equal to that of an explicit enumeration: 6 textures, 64 exchanges."""
    rng = np.random.default_rng(1)
    shapes, textures = (index.ravel() for index in np.meshgrid(np.arange(10), np.arange(6), indexing="ij"))
    tops, bottoms = np.zeros((2, 2, 60))
    for observer in (0, 1):
        bottoms[observer] = rng.integers(0, 2, 60)
        tops[observer] = bottoms[observer] * (rng.random(60) < 0.3 + 0.5 * observer * (textures < 4))
    statistics = []
    for signs in itertools.product((False, True), repeat=6):
        turned = np.array(signs)[textures]
        ratios, residuals = [], 0
        for one, other, sign in ((0, 1, 1), (1, 0, -1)):
            top, bottom = (np.where(turned, side[other], side[one]) for side in (tops, bottoms))
            ratios.append(top.sum() / bottom.sum())
            residuals = residuals + sign * (top - ratios[-1] * bottom) / bottom.sum()
        variance, _ = two_way_variance(residuals, np.ones(60, dtype=bool), (shapes, textures))
        statistics.append(abs(ratios[0] - ratios[1]) / np.sqrt(variance))
    expected = np.mean([value >= statistics[0] - 1e-12 for value in statistics])
    assert 0 < expected < 1
    assert permutation_test((tops[0], bottoms[0]), (tops[1], bottoms[1]), (shapes, textures)) == expected


def test_holm_by_hand():
    assert correct_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x .01; 2 x .03; no less than that
    assert correct_holm([0.5, 0.6]) == [1.0, 1.0]
    assert correct_holm([]) == []


def test_a_true_null_hypothesis_is_rejected_as_often_as_it_should():
    """Two observers with the same mean accuracy, each with its own effects of shape and texture images."""
    rng = np.random.default_rng(4)
    shapes, textures = (index.ravel() for index in np.meshgrid(np.arange(40), np.arange(30), indexing="ij"))
    ones = np.ones(1200)

    def answers():
        log_odds = rng.normal(size=40)[shapes] + rng.normal(size=30)[textures]
        return (rng.random(1200) < 1 / (1 + np.exp(-log_odds))).astype(float), ones

    pairs = [(answers(), answers()) for _ in range(400)]
    p_values = [permutation_test(*pair, (shapes, textures), permutations=199) for pair in pairs]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.02)
    alone = [permutation_test(*pair, (np.arange(1200),), permutations=199) for pair in pairs[:50]]
    assert np.mean(np.array(alone) <= 0.05) > 0.4  # as if the stimuli were independent


def test_pairs_are_corrected_together_and_people_count_as_one(make_observer):
    images = [f"cat{i}-dog{j}.png" for i in range(1, 9) for j in range(1, 9)]

    def observer(name, every, **fields):
        answers = {image: "cat" if index % every == 0 else "dog" for index, image in enumerate(images)}
        return make_observer(answers, name=name, **fields)

    persons = [observer(f"subject-0{i}", 2, kind="person") for i in (1, 2, 3)]
    differences = compare_pairs([observer("a", 2), observer("b", 7), pool_people(persons)])
    bias = {(row.first, row.second): row for row in differences if row.measure == "shape_bias"}
    assert list(bias) == [("a", "b"), ("a", "people"), ("b", "people")]
    # people who answer like one network are not told from it, nor differ otherwise from another than it does
    assert (bias["a", "people"].difference, bias["a", "people"].p) == (0, 1)
    assert bias["b", "people"].difference == -bias["a", "b"].difference
    assert bias["b", "people"].p == bias["a", "b"].p < 0.03
    assert bias["a", "b"].p_holm == pytest.approx(3 * bias["a", "b"].p)
    assert bias["a", "b"].low <= bias["a", "b"].difference <= bias["a", "b"].high
    assert not any("rank" in row.measure for row in differences)  # no probabilities are known
    with pytest.raises(ValueError, match="did not answer to the same images"):
        compare_pairs([observer("a", 2), make_observer({"cat1-dog1.png": "cat"}, name="c")])
