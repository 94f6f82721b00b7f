"""Reliance on cues: closed-form cases, coverage of the intervals, paired differences."""

from dataclasses import replace

import numpy as np
import pytest

from runkit import UserError
from shapebias.answers.suppressed import SuppressedAnswers, keep_top, load_answers, save_answers
from shapebias.measures.reliance import Draws, compare_reliance, measure_reliance
from shapebias.stimuli.suppressions import Strength, Suppression, Variant, choose_variants, suppress

VARIANTS = choose_variants(["greyscale", "channel-shuffle", "patch-shuffle"])


def answers_of(first: np.ndarray, labels: np.ndarray | None, variants=VARIANTS, outputs=10, name="net"):
    return SuppressedAnswers(
        name=name,
        label=name,
        outputs=outputs,
        variants=tuple(variant.label for variant in variants),
        images=tuple(f"{i}.png" for i in range(first.shape[1])),
        labels=labels,
        top_outputs=first[..., None].astype(np.int32),
        top_probabilities=np.ones((*first.shape, 1), np.float32),
        label_probability=None if labels is None else np.ones(first.shape, np.float32),
        provenance={
            "data": {"size_px": [32, 32]},
            "config": {"images": {"classes": 0 if labels is None else outputs}},
        },
    )


def draws_of(answers, resamples=200):
    return Draws.of(len(answers.images), resamples=resamples)


def test_a_network_that_loses_nothing_relies_on_nothing():
    labels = np.arange(50) % 10
    answers = answers_of(np.tile(labels, (len(VARIANTS), 1)), labels)
    measured = measure_reliance(answers, VARIANTS, draws=draws_of(answers))
    assert {cue: one.value for cue, one in measured.reliance.items()} == {"shape": 0.0, "colour": 0.0}
    assert all(point.accuracy.value == 1.0 and point.changed.value == 0.0 for point in measured.points)
    assert measured.chance == 0.1


def test_agreement_of_a_few_images_is_not_certainty():
    """The interval of Clopper and Pearson for 0 of 20 is 0 to 0.168; here 0.9 of the accuracy is above chance."""
    labels = np.arange(20) % 10
    answers = answers_of(np.tile(labels, (len(VARIANTS), 1)), labels)
    measured = measure_reliance(answers, VARIANTS, draws=draws_of(answers))
    original, first, *_ = measured.points
    assert (original.relative_accuracy.low, original.relative_accuracy.high) == (1, 1)
    assert (original.changed.low, original.changed.high) == (0, 0)
    assert (original.accuracy.low, original.accuracy.high) == (pytest.approx(1 - 0.1684, abs=1e-4), 1)
    assert (first.changed.low, first.changed.high) == (0, pytest.approx(0.1684, abs=1e-4))
    assert (first.relative_accuracy.low, first.relative_accuracy.high) == (pytest.approx(1 - 0.1684 / 0.9, abs=1e-4), 1)
    reliance = measured.reliance["shape"]
    assert (reliance.low, reliance.value, reliance.high) == (0, 0, pytest.approx(0.1684 / 0.9, abs=1e-4))
    (networks, *_, cues) = compare_reliance([answers, replace(answers, name="b")], VARIANTS, draws=draws_of(answers))
    for one in (networks, cues):
        assert (one.low, one.difference, one.p) == (pytest.approx(-0.1684 / 0.9, abs=1e-4), 0, 1)
    unlabelled = replace(answers, labels=None, label_probability=None)
    measured = measure_reliance(unlabelled, VARIANTS, draws=draws_of(answers))
    assert (measured.points[1].left.low, measured.points[1].left.high) == (pytest.approx(1 - 0.1684, abs=1e-4), 1)


def test_areas_and_reliance_by_hand():
    """Full accuracy without suppression and chance at every strength: only the first trapezoid has an area."""
    labels = np.zeros(100, int)
    wrong = np.arange(100) % 10  # right for one in ten
    first = np.tile(wrong, (len(VARIANTS), 1))
    first[0] = labels
    measured = measure_reliance(answers_of(first, labels), VARIANTS, draws=Draws.of(100, resamples=50))
    assert measured.areas["greyscale"].value == pytest.approx(0.5 / 5)
    assert measured.areas["channel-shuffle"].value == pytest.approx(0.5)
    assert measured.reliance["colour"].value == pytest.approx(1 - (0.1 + 0.5) / 2)
    assert measured.reliance["shape"].value == pytest.approx(1 - 0.5 / 8)
    by_label = {point.variant: point for point in measured.points}
    assert by_label["greyscale-1"].relative_accuracy.value == pytest.approx(0.0)
    assert by_label["greyscale-1"].changed.value == pytest.approx(0.9)
    assert by_label["none"].relative_accuracy.value == 1.0


def test_without_labels_changes_take_the_place_of_accuracy():
    first = np.zeros((len(VARIANTS), 40), int)
    first[1:6, :10] = 1  # every step of greyscale changes a quarter
    measured = measure_reliance(answers_of(first, None), VARIANTS, draws=Draws.of(40, resamples=50))
    assert measured.chance is None
    assert measured.points[0].accuracy is None
    assert measured.points[1].changed.value == 0.25
    assert measured.areas["greyscale"].value == pytest.approx((0.875 + 4 * 0.75) / 5)
    assert measured.reliance["shape"].value == 0.0


def test_a_network_at_chance_has_no_relative_accuracy():
    labels = np.arange(60) % 10
    first = np.zeros((len(VARIANTS), 60), int)
    measured = measure_reliance(answers_of(first, labels), VARIANTS, draws=Draws.of(60, resamples=50))
    assert measured.points[1].relative_accuracy is None
    assert measured.areas == {}
    assert measured.reliance == {}


def test_a_network_that_reads_the_mean_colour():
    """Shuffled patches keep the mean colour, grey pixels have none: a closed form with actual filters and a network."""
    pytest.importorskip("cv2")
    variants = choose_variants(["patch-shuffle", "greyscale"])
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    images = []
    for i, label in enumerate(labels):
        image = rng.integers(40, 120, (32, 32, 3))
        image[..., label] += 60
        images.append((f"{i}.png", image.astype(np.uint8)))

    def network(image: np.ndarray) -> int:
        means = image.astype(float).mean(axis=(0, 1))
        return int(means.argmax()) if np.ptp(means) > 1e-9 else 0

    first = np.array([[network(suppress(image, v, image_name=name)) for name, image in images] for v in variants])
    answers = answers_of(first, labels, variants, outputs=3)
    measured = measure_reliance(answers, variants, draws=Draws.of(30, resamples=100))
    assert measured.reliance["shape"].value == 0.0
    full = next(point for point in measured.points if point.variant == "greyscale-1")
    assert full.accuracy.value == pytest.approx(1 / 3)
    assert full.relative_accuracy.value == pytest.approx(0.0)


def test_intervals_cover_the_truth():
    """95% intervals of 300 simulated studies, with networks that are right with probability 0.8 and 0.6."""
    variants = [Variant(), choose_variants(["channel-shuffle"])[1]]
    rng = np.random.default_rng(0)
    labels = np.zeros(200, int)
    truth = {"accuracy": 0.6, "relative": 0.5 / 0.7}
    hits = {"accuracy": 0, "relative": 0}
    for study in range(300):
        common = rng.random(200)
        first = np.stack([common > 0.8, (common + rng.normal(0, 0.2, 200)) > 0.0])
        first[1] = rng.random(200) > np.where(first[0], 0.4, 0.65)  # dependent on the first, right for 0.6 in all
        answers = answers_of(first.astype(int), labels, variants)
        point = measure_reliance(answers, variants, draws=Draws.of(200, resamples=300, seed=study)).points[1]
        hits["accuracy"] += point.accuracy.low <= truth["accuracy"] <= point.accuracy.high
        hits["relative"] += point.relative_accuracy.low <= truth["relative"] <= point.relative_accuracy.high
    assert all(0.91 <= count / 300 <= 0.985 for count in hits.values()), hits


def test_intervals_of_reliance_and_of_paired_differences_cover_the_truth():
    """300 studies of two networks that find the same images hard, with 150 images and two strengths of a suppression.

    Each network is right for 0.85 of the unchanged images. Of these, the first one still recognises 0.8 and 0.6 at the
    two strengths, and the second one 0.7 and 0.4. Other images are guessed, with a chance of 0.1.
    """
    step = Strength(1, {})
    suppression = Suppression("mine", ("colour",), "", (step, Strength(2, {})), lambda image, rng: image)
    variants = [Variant(), *(Variant(suppression, strength) for strength in suppression.strengths)]
    kept = {"a": (0.8, 0.6), "b": (0.7, 0.4)}
    whole = 0.85 - 0.1

    def truth(name: str) -> float:
        left = [(0.85 * (part + (1 - part) * 0.1) - 0.1) / whole for part in kept[name]]
        return 1 - ((1 + left[0]) / 2 + (left[0] + left[1]) / 2) / 2

    rng = np.random.default_rng(0)
    labels = np.zeros(150, int)
    hits = {"a": 0, "difference": 0}
    for study in range(300):
        hard, networks = rng.random(150), []
        for name, parts in kept.items():
            known = np.where(rng.random(150) < 0.7, hard, rng.random(150)) < 0.85
            fate, guess = rng.random(150), rng.random(150) < 0.1
            first = np.stack([known, *(known & ((fate < part) | guess) for part in parts)])
            networks.append(answers_of(1 - first.astype(int), labels, variants, name=name))
        draws = Draws.of(150, resamples=300, seed=study)
        one = measure_reliance(networks[0], variants, draws=draws).reliance["colour"]
        hits["a"] += one.low <= truth("a") <= one.high
        (pair,) = [d for d in compare_reliance(networks, variants, draws=draws) if d.kind == "networks"]
        hits["difference"] += pair.low <= truth("a") - truth("b") <= pair.high
    assert all(0.91 <= count / 300 <= 0.985 for count in hits.values()), hits


def test_paired_differences():
    rng = np.random.default_rng(0)
    labels = np.zeros(400, int)
    strong = np.zeros((len(VARIANTS), 400), int)
    weak = (rng.random((len(VARIANTS), 400)) < 0.4).astype(int)
    weak[0] = 0
    networks = [answers_of(strong, labels, name="a"), answers_of(weak, labels, name="b")]
    draws = Draws.of(400, resamples=300)
    differences = compare_reliance(networks, VARIANTS, draws=draws)
    between = {d.of: d for d in differences if d.kind == "networks"}
    assert set(between) == {"shape", "colour"}
    assert between["shape"].difference < -0.3
    assert between["shape"].high < 0
    assert between["shape"].p_holm == pytest.approx(2 * 2 / 301)
    same = [d for d in differences if d.kind == "cues" and d.of == "a"]
    assert same[0].difference == 0.0
    assert same[0].p == 1.0
    for answers in networks:
        assert measure_reliance(answers, VARIANTS, draws=draws).reliance["shape"].value == pytest.approx(
            {"a": 0.0, "b": -between["shape"].difference}[answers.name]
        )


def test_what_does_not_belong_together_is_refused():
    labels = np.zeros(20, int)
    answers = answers_of(np.zeros((len(VARIANTS), 20), int), labels)
    with pytest.raises(ValueError, match="draws of 30 images do not fit answers to 20"):
        measure_reliance(answers, VARIANTS, draws=Draws.of(30, resamples=5))
    with pytest.raises(ValueError, match="variants are not those of the answers"):
        measure_reliance(answers, VARIANTS[::-1], draws=Draws.of(20, resamples=5))


def test_what_is_kept_of_probabilities(tmp_path):
    probabilities = np.array([[0.1, 0.4, 0.4, 0.1], [0.7, 0.1, 0.1, 0.1]], np.float32)
    kept = keep_top(probabilities, np.array([2, 3]))
    assert kept["top_outputs"].tolist() == [[1, 2, 0, 3], [0, 1, 2, 3]]  # as argmax, the first of equals
    np.testing.assert_allclose(kept["label_probability"], [0.4, 0.1])
    answers = answers_of(np.zeros((2, 3), int), np.array([0, 1, 0]), VARIANTS[:2])
    save_answers(answers, tmp_path / "net.probabilities.npz")
    again = load_answers(tmp_path / "net.probabilities.npz")
    assert (again.name, again.variants, again.images) == (answers.name, answers.variants, answers.images)
    np.testing.assert_array_equal(again.labels, answers.labels)
    np.testing.assert_array_equal(again.first, answers.first)


SAVED = answers_of(np.zeros((2, 3), int), np.array([0, 1, 0]), VARIANTS[:2], outputs=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.array([0, 1])}, r"labels of the shape \(2,\) for 3 images"),
        ({"labels": np.array([0, 7, 0])}, "a label is the output 7, and the network has 2"),
        ({"labels": np.array([0, -1, 0])}, "a label is the output -1"),
        ({"labels": np.array([0.0, 1.0, 0.0])}, "a label is no whole number"),
        ({"labels": None, "label_probability": None}, "its labels, .* are missing"),
        ({"label_probability": np.full((2, 3), np.nan, np.float32)}, "a probability is not a number in"),
        ({"label_probability": np.ones((2, 2), np.float32)}, "probabilities of the labels are not of 2 variants"),
        ({"top_probabilities": np.full((2, 3, 1), -0.1, np.float32)}, "a probability is not a number in"),
        ({"top_probabilities": np.full((2, 3, 1), 1.1, np.float32)}, "a probability is not a number in"),
        ({"top_outputs": np.full((2, 3, 1), 2, np.int32)}, "an answer is the output 2"),
        ({"top_outputs": np.zeros((2, 3), np.int32)}, "its answers are not of 2 variants and 3 images"),
        ({"images": ("a", "b")}, "its answers are not of 2 variants and 2 images"),
        ({"outputs": "many"}, "of another kind"),
        ({"provenance": {}}, "it has no 'data'"),
    ],
)
def test_answers_that_do_not_fit_together_are_refused(tmp_path, changed, message):
    path = tmp_path / "net.probabilities.npz"
    save_answers(SAVED, path)
    assert load_answers(path).labels.tolist() == [0, 1, 0]
    save_answers(replace(SAVED, **changed), path)
    with pytest.raises(UserError, match=rf"net\.probabilities\.npz holds no answers .*{message}"):
        load_answers(path)
