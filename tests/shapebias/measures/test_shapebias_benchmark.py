"""The benchmark's numbers: computed by hand, and on all 17 datasets equal to those of the toolbox's functions."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from shapebias.answers.datasets import MISSING, Answers, read_answers
from shapebias.answers.raw_folders import list_raw_data
from shapebias.measures.benchmark import (
    MEASURES,
    Counts,
    compare_counts,
    confusion_counts,
    consistency_matrix,
    count_pairs,
    measure_answers,
    response_entropy,
)
from shapebias.stimuli.experiments import EXPERIMENTS, Experiment

TOOLBOX = ("OOD accuracy", "accuracy difference", "observed consistency", "error consistency")


def make_answers(
    experiment: Experiment, given: np.ndarray, categories: np.ndarray, conditions: np.ndarray, networks: int
) -> Answers:
    images = tuple(f"{i:05}.png" for i in range(len(categories)))
    persons = tuple(f"subject-{i:02}" for i in range(1, len(given) - networks + 1))
    names = tuple(f"net{i}" for i in range(networks))
    return Answers(experiment, images, categories, conditions, names, persons, given.astype(np.int8), ())


def test_numbers_by_hand():
    """Two conditions of four images that count; the control condition would change every number if it counted."""
    experiment = EXPERIMENTS["rotation"]
    conditions = np.repeat([0, 1, 2], 4)
    categories = np.ones(12, int)
    right = np.array(
        [
            [1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0],  # network: 2/4 and 1/4
            [0, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1],  # first person: 3/4 and 2/4
            [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1],  # second: 1/4 and 1/4
        ]
    )
    answers = make_answers(experiment, np.where(right, 1, 2), categories, conditions, 1)
    with pytest.raises(ValueError, match="rotation: no trial"):
        measure_answers(answers)  # of 270 degrees
    conditions = np.repeat([0, 1, 2, 3], [4, 4, 2, 2])
    answers = make_answers(experiment, np.where(right, 1, 2), categories, conditions, 1)
    measured = measure_answers(answers)
    # 90, 180, 270 degrees have 4, 2, 2 images: accuracies of the network 2/4, 1/2, 0; of people 3/4, 1/2, 1/2 and
    # 1/4, 0, 1/2
    assert measured.networks[0, 0] == 3 / 8
    assert measured.people[0] == (5 + 2) / 16
    first, second = np.mean([1 / 16, 0, 1 / 4]), np.mean([1 / 16, 1 / 4, 1 / 4])
    np.testing.assert_allclose(measured.pairs[0, 0], [first, second])
    assert measured.networks[1, 0] == pytest.approx((first + second) / 2)
    assert measured.people[1] == pytest.approx(np.mean([1 / 4, 1 / 4, 0]))
    assert measured.networks[2, 0] == pytest.approx(np.mean([3 / 4, 1, 1 / 2, 3 / 4, 1 / 2, 1 / 2]))
    # kappa of the network and the first person: (3/4 - 1/2) / (1/2), 1 as they never differ, (1/2 - 1/2) / (1/2);
    # and the second: (3/4 - 1/2) / (1/2), (1/2 - 1/2) / (1/2), 0
    assert measured.networks[3, 0] == pytest.approx(np.mean([1 / 2, 1, 0, 1 / 2, 0, 0]))
    assert (measured.borders[0], measured.people_borders) == (1, 1)
    np.testing.assert_array_equal(measured.accuracy[0], [1, 1 / 2, 1 / 2, 0])


def test_kappa_of_observers_who_never_differ_is_one():
    counts = Counts(*(np.array([[value]], float) for value in (10, 10, 10, 10)))
    assert compare_counts(counts)[:, 0, 0].tolist() == [0, 1, 1]  # 0/0 on paper
    counts = Counts(*(np.array([[value]], float) for value in (10, 4, 4, 4)))
    assert compare_counts(counts)[:, 0, 0].tolist() == [0, 1, 1]


def test_pairs_with_missing_trials_are_compared_on_what_both_answered():
    rng = np.random.default_rng(0)
    right, there = rng.random((2, 5, 40)) < 0.7
    right &= there
    first, second = ((right[rows].astype(float), there[rows].astype(float)) for rows in (slice(2), slice(2, None)))
    counts = count_pairs(first, second)
    for i in range(2):
        for j in range(3):
            both = there[i] & there[2 + j]
            assert counts.trials[i, j] == both.sum()
            assert counts.first[i, j] == right[i, both].sum()
            assert counts.second[i, j] == right[2 + j, both].sum()
            assert counts.both[i, j] == (right[i] & right[2 + j]).sum()
    weights = rng.integers(0, 3, (4, 40)).astype(float)
    weighted = count_pairs(first, second, weights)
    repeated = [np.repeat(np.arange(40), row.astype(int)) for row in weights]
    for draw, index in enumerate(repeated):
        plain = count_pairs(tuple(a[:, index] for a in first), tuple(a[:, index] for a in second))
        for name in vars(plain):
            np.testing.assert_array_equal(getattr(weighted, name)[draw], getattr(plain, name))


def test_a_condition_without_trials_leaves_no_number():
    experiment = EXPERIMENTS["rotation"]
    given = np.ones((3, 16), int)
    given[0, 8:] = MISSING
    answers = make_answers(experiment, given, np.ones(16, int), np.repeat([0, 1, 2, 3], 4), 1)
    measured = measure_answers(answers)
    assert np.isnan(measured.networks[:, 0]).all()
    assert not np.isnan(measured.people).any()


def test_entropy_is_of_answers_over_the_categories_shown():
    categories = np.array([1, 2, 3, 4])
    given = np.array([[1, 2, 3, 4], [1, 1, 2, 2], [1, 1, 0, 0], [1, 1, 1, 1], [5, 5, 5, 5]])
    np.testing.assert_allclose(response_entropy(given, categories), [2, 1, 0.5, 0, 0], atol=1e-15)
    given[0, 0] = MISSING
    assert response_entropy(given, categories)[0] == pytest.approx(np.log2(3))


def test_confusion_counts():
    given = np.array([[1, 0, 16, MISSING], [1, 2, 16, 16]])
    counts = confusion_counts(given, np.array([1, 2, 3, 16]))
    assert counts.shape == (17, 16)
    assert counts.sum() == 7
    assert (counts[1, 0], counts[0, 1], counts[2, 1], counts[16, 2], counts[16, 15]) == (2, 1, 1, 2, 1)


@pytest.fixture(scope="module")
def published() -> dict:
    folder = Path(os.environ.get("REPLKNET_TEST_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set REPLKNET_TEST_DATA")
    files = list_raw_data([folder / "networks", folder / "human"])
    answers = {name: read_answers(EXPERIMENTS[name], paths) for name, paths in files.items()}
    toolbox = json.loads((folder / "networks" / "benchmark.json").read_text(encoding="utf-8"))["content"]
    return {"answers": answers, "measured": {n: measure_answers(a) for n, a in answers.items()}, "toolbox": toolbox}


@pytest.mark.data
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_dataset_is_as_the_toolbox_has_it(published, name):
    measured, toolbox = published["measured"][name], published["toolbox"]["by_dataset"][name]
    observers = [*published["answers"][name].networks, "humans"]
    expected = np.array([[toolbox[observer][key] for observer in observers] for key in TOOLBOX])
    found = np.concatenate([measured.networks, measured.people[:, None]], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.data
def test_the_table_is_as_the_toolbox_has_it(published):
    assert len(published["measured"]) == 17
    names = published["answers"]["edge"].networks
    found = np.mean([measured.networks for measured in published["measured"].values()], axis=0)
    people = np.mean([measured.people for measured in published["measured"].values()], axis=0)
    table = published["toolbox"]["table"]
    for column, name in enumerate(names):
        np.testing.assert_allclose(found[:, column], [table[name][key] for key in TOOLBOX], rtol=0, atol=1e-12)
    np.testing.assert_allclose(people, [table["humans"][key] for key in TOOLBOX], rtol=0, atol=1e-12)
    assert len(MEASURES) == 4


@pytest.mark.data
def test_matrices_agree_with_the_shape_bias_tool(published, data_dir):
    from shapebias.answers.observers import read_observer
    from shapebias.measures.shape_bias import error_consistency

    answers = published["answers"]["cue-conflict"]
    matrix = consistency_matrix(answers)
    one, other = (read_observer(answers.sources[i].path) for i in (1, 12))
    assert matrix[1, 12] == matrix[12, 1] == error_consistency(one, other).kappa
    assert (np.diag(matrix) == 1).all()
