"""Cue ranks among all classes, for probabilities with a known order."""

import csv

import numpy as np
import pytest

from shapebias.measures.ranks import rank_cues, write_ranks
from shapebias.measures.shape_bias import measure
from shapebias.stimuli.categories import IMAGENET_INDICES

OUTSIDE = 0  # a class of no category


@pytest.fixture
def probabilities() -> np.ndarray:
    """Three images with these orders of classes: a cat before a dog; no category, dogs, then a cat; all equal."""
    cats, dogs = IMAGENET_INDICES["cat"], IMAGENET_INDICES["dog"]
    values = np.zeros((3, 1000), np.float32)
    values[0, [cats[2], dogs[5]]] = 0.6, 0.4
    values[1, [OUTSIDE, dogs[0], dogs[1], cats[0]]] = 0.4, 0.3, 0.2, 0.1
    values[2] = 0.001
    return values


def test_the_best_class_of_each_cue_is_ranked_among_all(probabilities):
    ranks = rank_cues(probabilities, ["cat1-dog1.png", "cat2-dog1.png", "dog1-cat1.png"])
    assert ranks.to_dict("list") == {
        "image": ["cat1-dog1.png", "cat2-dog1.png", "dog1-cat1.png"],
        "shape": ["cat", "cat", "dog"],
        "texture": ["dog", "dog", "cat"],
        "shape_rank": [1, 4, 1],
        "texture_rank": [2, 2, 1],
    }


def test_what_is_never_named_comes_after_all_that_is(probabilities):
    assert rank_cues(probabilities[:1], ["car1-dog1.png"])["shape_rank"].tolist() == [3]


def test_mean_reciprocal_rank_is_over_images_in_conflict(probabilities, make_observer):
    images = ["cat1-dog1.png", "cat2-dog1.png", "cat3-cat1.png"]
    observer = make_observer(dict.fromkeys(images, "cat"), ranks=rank_cues(probabilities, images))
    result = measure(observer)
    assert result.shape_reciprocal_rank.value == pytest.approx((1 + 1 / 4) / 2)
    assert result.texture_reciprocal_rank.value == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert measure(make_observer(dict.fromkeys(images, "cat"))).shape_reciprocal_rank.value is None


def test_order_of_the_stimuli_does_not_matter(probabilities, make_observer):
    images = ["dog2-cat1.png", "cat2-dog1.png", "cat1-car1.png"]
    ranks = rank_cues(probabilities, images)
    answers = dict.fromkeys(images, "cat")
    backwards = make_observer(dict(reversed(answers.items())), ranks=ranks.iloc[[1, 2, 0]])
    assert measure(backwards) == measure(make_observer(answers, ranks=ranks))


def test_ranks_are_written_a_row_a_stimulus(probabilities, tmp_path):
    images = ["cat1-dog1.png", "cat2-dog1.png", "dog1-cat1.png"]
    write_ranks(tmp_path / "a.csv", rank_cues(probabilities, images))
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "image": "cat2-dog1.png",
        "shape": "cat",
        "texture": "dog",
        "shape_rank": "4",
        "texture_rank": "2",
    }
