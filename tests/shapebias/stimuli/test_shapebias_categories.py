"""The 16 categories: their classes, and decisions on hand-made probabilities."""

import re

import numpy as np
import pytest

from shapebias.answers.decisions import aggregate_categories, count_ties, decide
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_INDICES


def one_hot(**classes: float) -> np.ndarray:
    """Probabilities (1, 1000), given as `c404=0.5`; the others are 0."""
    row = np.zeros((1, 1000), np.float32)
    for name, value in classes.items():
        row[0, int(name[1:])] = value
    return row


def test_there_are_sixteen_categories_in_alphabetical_order():
    assert len(CATEGORIES) == 16
    assert list(CATEGORIES) == sorted(CATEGORIES)


def test_no_class_belongs_to_two_categories():
    indices = [index for members in IMAGENET_INDICES.values() for index in members]
    assert len(indices) == len(set(indices)) == 207
    assert min(indices) >= 0
    assert max(indices) < 1000


@pytest.mark.parametrize(
    ("category", "members"),
    [
        ("airplane", ["n02690373"]),
        ("bear", ["n02132136", "n02133161", "n02134084", "n02134418"]),
        ("bicycle", ["n02835271", "n03792782"]),
        ("boat", ["n02951358", "n03344393", "n03662601", "n04273569", "n04612504"]),
        ("bottle", ["n02823428", "n03937543", "n03983396", "n04557648", "n04560804", "n04579145", "n04591713"]),
        ("car", ["n02814533", "n03100240", "n04285008"]),
        ("cat", ["n02123045", "n02123159", "n02123394", "n02123597", "n02124075", "n02125311"]),
        ("chair", ["n02791124", "n03376595", "n04099969", "n04429376"]),
        ("clock", ["n02708093", "n03196217", "n04548280"]),
        ("elephant", ["n02504013", "n02504458"]),
        ("keyboard", ["n03085013", "n04505470"]),
        ("knife", ["n03041632"]),
        ("oven", ["n04111531"]),
        (
            "truck",
            ["n03345487", "n03417042", "n03770679", "n03796401", "n03930630", "n03977966", "n04461696", "n04467665"],
        ),
    ],
)
def test_indices_name_the_published_wordnet_ids(category, members):
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    assert [info.index_to_label_name(index) for index in IMAGENET_INDICES[category]] == members


@pytest.mark.parametrize(("category", "count", "first", "last"), [("bird", 49, 8, 145), ("dog", 109, 152, 268)])
def test_indices_of_the_large_categories(category, count, first, last):
    members = IMAGENET_INDICES[category]
    assert (len(members), members[0], members[-1]) == (count, first, last)


def test_dogs_and_birds_leave_out_their_wild_neighbours():
    assert not {151, 192, 204, 227, 242, 251, 258, 260, 264} & set(IMAGENET_INDICES["dog"])
    assert not {7, 9, 17, 21, 84, 85, 86, 97, 134} & set(IMAGENET_INDICES["bird"])


def test_mean_weighs_a_class_by_the_size_of_its_category():
    # 0.6 on one of 109 dogs has a smaller mean than 0.1 on the only airplane; by sum and maximum the dog wins
    row = one_hot(c200=0.6, c404=0.1)
    assert decide(row) == ["airplane"]
    assert decide(row, aggregation="sum") == ["dog"]
    assert decide(row, aggregation="max") == ["dog"]


def test_sum_and_maximum_differ_where_a_category_is_spread():
    row = one_hot(c281=0.2, c282=0.2, c283=0.2, c404=0.3)
    assert decide(row, aggregation="sum") == ["cat"]
    assert decide(row, aggregation="max") == ["airplane"]


def test_scores_are_the_reductions_of_the_members():
    scores = aggregate_categories(one_hot(c444=0.4, c671=0.2))
    assert scores.shape == (1, 16)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[0, CATEGORIES.index("bicycle")], 0.3, rtol=1e-6)
    assert np.count_nonzero(scores) == 1


def test_classes_outside_the_categories_do_not_count():
    assert decide(one_hot(c0=0.9, c499=0.01)) == ["knife"]


def test_exact_ties_are_counted_and_go_to_one_of_the_tied():
    tied = one_hot(c404=0.2, c499=0.2)
    assert count_ties(tied) == 1
    assert decide(tied)[0] in {"airplane", "knife"}
    assert count_ties(one_hot(c404=0.2, c499=0.1)) == 0


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.zeros((2, 21841)), "must have 1000 classes.*(2, 21841)"),
        (np.full((1, 1000), 1.5), "must lie in [0, 1]"),
        (np.full((1, 1000), -0.1), "must lie in [0, 1]"),
        (np.full((1, 1000), np.nan), "must lie in [0, 1]"),
    ],
)
def test_what_is_not_probabilities_is_refused(probabilities, message):
    with pytest.raises(ValueError, match=re.escape(message).replace(r"\.\*", ".*")):
        decide(probabilities)


def test_unknown_aggregation_is_named():
    with pytest.raises(ValueError, match="must be one of mean, sum, max, not 'median'"):
        decide(np.zeros((1, 1000)), aggregation="median")
