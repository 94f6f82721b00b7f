"""Measures, on tables of decisions computed by hand and on the published answers."""

import numpy as np
import pytest

from shapebias.answers.observers import find_people, pool_people, read_observers
from shapebias.measures.shape_bias import Estimate, Measurement, consistency_table, error_consistency, measure

# 3 shape decisions, 2 texture decisions, 1 neither, 2 without conflict (one right, one wrong), 8 trials
HAND_MADE = {
    "cat1-dog1.png": "cat",
    "cat2-dog1.png": "cat",
    "cat3-car1.png": "car",
    "cat4-cat1.png": "cat",
    "dog1-cat1.png": "dog",
    "dog2-cat1.png": "cat",
    "dog3-bird1.png": "knife",
    "dog4-dog1.png": "oven",
}


@pytest.fixture
def hand_made(make_observer):
    return make_observer(HAND_MADE)


def test_overall_fractions_by_hand(hand_made):
    result = measure(hand_made)
    assert (result.trials, result.conflict_trials) == (8, 6)
    assert result.fraction_correct_shape.value == 3 / 8  # of all trials, as the toolbox divides
    assert result.fraction_correct_texture.value == 2 / 8
    assert result.shape_bias.value == 3 / 5
    assert result.coverage.value == 5 / 6  # of the trials with a conflict
    assert result.neither.value == 1 / 6
    assert result.accuracy.value == 4 / 8  # the three shape decisions and the right answer without conflict
    assert result.no_answer == 0


def test_category_points_take_the_trials_of_that_shape(hand_made):
    result = measure(hand_made)
    assert list(result.categories) == ["cat", "dog"]
    assert result.categories["cat"]["shape_bias"].value == 2 / 3
    assert result.categories["cat"]["fraction_correct_shape"].value == 2 / 4
    assert result.categories["dog"]["shape_bias"].value == 1 / 2
    assert result.categories["dog"]["fraction_correct_texture"].value == 1 / 4


def test_average_line_is_not_the_mean_of_the_category_points(hand_made):
    result = measure(hand_made)
    assert result.shape_bias_category_mean == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.shape_bias.value != pytest.approx(result.shape_bias_category_mean)


def test_confusion_counts(hand_made):
    confusion = np.array(measure(hand_made).confusion)
    assert confusion.shape == (17, 16)
    assert confusion.sum() == 8
    answers = ["na", *["airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat"]]
    assert confusion[answers.index("cat"), 7] == 3  # cats called cat
    assert confusion[answers.index("car"), 7] == 1


def test_where_neither_cue_is_named_shape_bias_is_not_a_number(make_observer):
    result = measure(make_observer({"cat1-dog1.png": "knife", "dog1-cat1.png": "na"}))
    assert result.shape_bias == Estimate(None, None, None)
    assert result.categories["cat"]["shape_bias"] == Estimate(None, None, None)
    assert result.shape_bias_category_mean is None
    assert result.coverage.value == 0
    assert result.no_answer == 0.5


@pytest.mark.parametrize(("cue", "expected"), [("shape", (1.0, 0.881, 1.0)), ("texture", (0.0, 0.0, 0.119))])
def test_pure_observers_leave_room_for_what_was_not_seen(make_observer, cue, expected):
    shapes = {f"cat{i}-dog{i}.png": "cat" if cue == "shape" else "dog" for i in range(1, 30)}
    bias = measure(make_observer(shapes)).shape_bias
    # Clopper and Pearson: of 29 trials without a failure the chance is 0.025 where a failure has 0.119
    assert (bias.value, bias.low, bias.high) == pytest.approx(expected, abs=1e-3)


def test_pooled_people_weigh_trials_not_persons(make_observer):
    def person(number, answers):
        return make_observer(answers, name=f"subject-{number:02d}", kind="person")

    # one person names a cue four times (all shape), the other once (texture): 4/5, not the mean of 1 and 0
    images = [f"cat{i}-dog1.png" for i in range(1, 5)]
    first = person(1, dict.fromkeys(images, "cat"))
    second = person(2, dict(zip(images, ["dog", "na", "na", "na"], strict=True)))
    assert measure(pool_people([first, second])).shape_bias.value == 4 / 5


def test_interval_matches_the_binomial_and_depends_on_the_seed(make_observer):
    answers = {f"cat{i}-dog1.png": "cat" if i % 2 else "dog" for i in range(1, 401)}
    estimate = measure(make_observer(answers)).shape_bias
    assert estimate.value == 0.5
    half_width = 1.96 * np.sqrt(0.25 / 400)  # the normal interval of 200 in 400
    # tolerance: the Monte Carlo error of a percentile of 2000 draws
    assert estimate.low == pytest.approx(0.5 - half_width, abs=0.006)
    assert estimate.high == pytest.approx(0.5 + half_width, abs=0.006)
    assert measure(make_observer(answers)).shape_bias == estimate
    assert measure(make_observer(answers), seed=1).shape_bias != estimate


def test_interval_of_people_draws_images_not_answers(make_observer):
    answers = {f"cat{i}-dog1.png": "cat" if i % 2 else "dog" for i in range(1, 401)}
    people = [make_observer(answers, name=f"subject-{i:02d}", kind="person") for i in range(1, 11)]
    # ten persons who answer alike tell no more about images than one
    assert measure(pool_people(people)).shape_bias == measure(people[0]).shape_bias


def test_no_trials_is_an_error(make_observer):
    with pytest.raises(ValueError, match="net has no trials"):
        measure(make_observer({}))


def test_measurements_survive_json(hand_made):
    import json

    result = measure(hand_made)
    assert Measurement.from_dict(json.loads(json.dumps(result.as_dict()))) == result


def test_error_consistency_by_hand(make_observer):
    # right/wrong: first + + - -, second + - - -; both right or both wrong in 3 of 4
    images = ["cat1-dog1.png", "cat2-dog1.png", "cat3-dog1.png", "cat4-dog1.png"]
    first = make_observer(dict(zip(images, ["cat", "cat", "dog", "na"], strict=True)))
    second = make_observer(dict(zip(images[::-1], ["dog", "dog", "dog", "cat"], strict=True)))
    result = error_consistency(first, second)
    assert result.observed == 3 / 4
    assert result.expected == pytest.approx(0.5 * 0.25 + 0.5 * 0.75)
    assert result.kappa == pytest.approx((0.75 - 0.5) / (1 - 0.5))


def test_an_observer_agrees_with_itself_even_if_always_right(make_observer):
    always_right = make_observer({"cat1-dog1.png": "cat", "cat2-dog1.png": "cat"})
    assert error_consistency(always_right, always_right).kappa == 1.0


def test_observers_of_other_images_cannot_be_compared(make_observer):
    with pytest.raises(ValueError, match="did not answer to the same images"):
        error_consistency(make_observer({"cat1-dog1.png": "cat"}), make_observer({"cat2-dog1.png": "cat"}))


def test_consistency_with_people_leaves_out_oneself(make_observer):
    images = [f"cat{i}-dog1.png" for i in range(1, 5)]

    def observer(name, kind, right):
        answers = {image: "cat" if ok == "+" else "dog" for image, ok in zip(images, right, strict=True)}
        return make_observer(answers, name=name, kind=kind)

    one, two = observer("subject-01", "person", "++--"), observer("subject-02", "person", "++--")
    net = observer("net", "network", "--++")
    table = consistency_table([net, one, two])
    assert table["observers"] == ["net", "subject-01", "subject-02"]
    assert table["kappa"] == [[1, -1, -1], [-1, 1, 1], [-1, 1, 1]]
    assert table["with_people"] == {"net": -1, "subject-01": 1, "subject-02": 1}
    assert consistency_table([net])["with_people"] == {}


@pytest.mark.parametrize(
    ("name", "shape", "texture"),
    [("alexnet", 283, 376), ("vgg", 130, 625), ("googlenet", 228, 503), ("resnet50", 162, 572)],
)
def test_published_networks(data_dir, name, shape, texture):
    observer = next(o for o in read_observers([data_dir / "cnn" / "cue-conflict"]) if o.name == name)
    result = measure(observer)
    assert result.fraction_correct_shape.value == shape / 1280
    assert result.fraction_correct_texture.value == texture / 1280
    assert result.shape_bias.value == shape / (shape + texture)
    assert result.shape_bias.low < result.shape_bias.value < result.shape_bias.high


def test_published_people(data_dir):
    result = measure(pool_people(find_people(data_dir / "human" / "cue-conflict")))
    assert result.trials == 12800
    assert result.shape_bias.value == 9236 / (9236 + 398)
    assert round(result.shape_bias.value, 2) == 0.96
