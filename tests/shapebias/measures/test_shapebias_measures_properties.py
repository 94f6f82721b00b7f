"""Properties of the shape bias of all sets of answers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapebias.answers.observers import Observer, make_trials, pool_people, read_observer, write_raw_data
from shapebias.measures.shape_bias import error_consistency, measure
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.images import Stimulus, parse_image_name

SOME = CATEGORIES[:4]
IMAGES = [f"{shape}{number}-{texture}{number}.png" for shape in SOME for texture in SOME for number in (1, 2)]
ANSWERS = st.dictionaries(st.sampled_from(IMAGES), st.sampled_from([*SOME, CATEGORIES[9], "na"]), min_size=1)
several = settings(max_examples=15, deadline=None)


def observer(answers, name="net", **fields) -> Observer:
    return Observer(name, make_trials(name, list(answers), list(answers.values())), **fields)


def fractions(answers):
    """The measures without their intervals, whose draws depend on the order of the images' names."""
    found = measure(observer(answers), resamples=2)
    names = ("shape_bias", "fraction_correct_shape", "fraction_correct_texture", "coverage", "accuracy")
    return {name: getattr(found, name).value for name in names}


@several
@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_trials_does_not_matter(answers, rng):
    shuffled = list(answers.items())
    rng.shuffle(shuffled)
    assert measure(observer(dict(shuffled)), resamples=20) == measure(observer(answers), resamples=20)


@several
@given(ANSWERS)
def test_bounds(answers):
    found = measure(observer(answers), resamples=50)
    for name in ("shape_bias", "fraction_correct_shape", "fraction_correct_texture", "coverage", "neither", "accuracy"):
        estimate = getattr(found, name)
        if estimate.value is not None:
            assert 0 <= estimate.value <= 1
        if estimate.low is not None:
            assert 0 <= estimate.low <= estimate.high <= 1
    shape, texture = found.fraction_correct_shape.value, found.fraction_correct_texture.value
    assert shape + texture <= 1
    if shape + texture > 0:
        assert found.shape_bias.value == pytest.approx(shape / (shape + texture), rel=1e-12)
    else:
        assert found.shape_bias.value is None


@several
@given(ANSWERS)
def test_shape_and_texture_exchanged_give_the_opposite_bias(answers):
    """The same answers to images in which the cues are exchanged."""
    exchanged = {f"{name[:-4].partition('-')[2]}-{name.partition('-')[0]}.png": said for name, said in answers.items()}
    one, other = fractions(answers), fractions(exchanged)
    assert one["fraction_correct_shape"] == other["fraction_correct_texture"]
    assert one["coverage"] == other["coverage"]
    if one["shape_bias"] is not None:
        assert one["shape_bias"] == pytest.approx(1 - other["shape_bias"], abs=1e-12)


@several
@given(ANSWERS)
def test_people_who_answer_alike_measure_as_one(answers):
    people = [observer(answers, f"subject-{number:02d}", kind="person") for number in (1, 2, 3)]
    assert measure(pool_people(people), resamples=2).shape_bias.value == fractions(answers)["shape_bias"]


@several
@given(ANSWERS)
def test_pooled_people_lie_between_the_persons(answers):
    """For two persons who saw different images, the pooled bias is a mean of theirs."""
    one = {name: said for name, said in answers.items() if "1-" in name}
    other = {name: said for name, said in answers.items() if "1-" not in name}
    if not one or not other:
        return
    apart = [fractions(part)["shape_bias"] for part in (one, other)]
    persons = [observer(part, f"subject-{i}", kind="person") for i, part in enumerate((one, other))]
    pooled = measure(pool_people(persons), resamples=2).shape_bias.value
    defined = [bias for bias in apart if bias is not None]
    assert (pooled is None) == (not defined)
    if defined:
        assert min(defined) - 1e-12 <= pooled <= max(defined) + 1e-12


@several
@given(st.lists(st.booleans(), min_size=8, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_error_consistency_is_symmetric_and_at_most_one(first, second):
    images = [f"cat{number}-dog1.png" for number in range(8)]

    def answering(right):
        return observer(dict(zip(images, ["cat" if ok else "dog" for ok in right], strict=True)))

    one, other = answering(first), answering(second)
    assert error_consistency(one, other) == error_consistency(other, one)
    assert error_consistency(one, other).kappa <= 1
    assert error_consistency(one, one).kappa == 1


@several
@given(answers=ANSWERS)
def test_what_is_written_is_read_again(answers, tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "net.csv"
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in answers]
    write_raw_data(path, "net", stimuli, list(answers.values()))
    assert read_observer(path).trials.equals(observer(answers).trials)
