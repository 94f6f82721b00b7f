"""Intervals, differences and ranks of the benchmark: closed forms, and coverage in simulated benchmarks."""

import numpy as np
import pytest

from shapebias.answers.datasets import Answers
from shapebias.measures.benchmark import MEASURES, measure_answers
from shapebias.measures.resampling import Draws, draw_dataset
from shapebias.measures.uncertainty import Number, compare_networks, estimate, rank_networks
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS

ROTATION = EXPERIMENTS["rotation"]
EACH = 60  # images of a condition in a simulated benchmark


def simulate(rng: np.random.Generator, networks: np.ndarray, persons: np.ndarray) -> Answers:
    """Simulate answers to new images with individual difficulties by observers of given abilities; 16 equal categories.

    Args:
        networks, persons: Ability of each in the conditions 90, 180, 270, (observers, 3).
    """
    abilities = np.concatenate([networks, persons])
    conditions = np.repeat([0, 1, 2, 3], [4, EACH, EACH, EACH])
    difficulty = rng.normal(0, 1.2, len(conditions))
    ability = np.concatenate([np.full((len(abilities), 1), 9.0), abilities], axis=1)[:, conditions]
    right = rng.random(ability.shape) < 1 / (1 + np.exp(difficulty - ability))
    return assemble(ROTATION, right, conditions, len(networks))


def assemble(experiment, right, conditions, networks, images=None) -> Answers:
    names = images or tuple(f"{i:05}.png" for i in range(len(conditions)))
    categories = np.ones(len(conditions), np.int8)
    persons = tuple(f"subject-{i:02}" for i in range(1, len(right) - networks + 1))
    given = np.where(right, 1, 2).astype(np.int8)
    return Answers(experiment, names, categories, conditions, tuple("abcdefgh"[:networks]), persons, given, ())


def values_of(answers: Answers) -> np.ndarray:
    """The four measures of the networks and of people, (4, networks + 1)."""
    return analyse(answers)[0]


def analyse(answers: Answers, *, resamples: int = 0, seed: int = 0) -> tuple[np.ndarray, list[Draws]]:
    """The measures (4, networks + 1), and bootstrap draws of them if requested."""
    measured = measure_answers(answers)
    values = np.concatenate([measured.networks, measured.people[:, None]], axis=1)
    return values, [draw_dataset(answers, measured, resamples=resamples, seed=seed)] if resamples else []


def holds(numbers: list[list[Number]], truth: np.ndarray, kind: str) -> np.ndarray:
    """Whether each interval covers the truth, (4, networks + 1)."""
    ends = np.array([[getattr(one, kind) for one in row] for row in numbers])
    return (ends[..., 0] <= truth) & (truth <= ends[..., 1])


PERSONS = np.random.default_rng(7).normal(0.8, 0.4, (4, 1)) + np.array([[0.5, 0.0, -0.5]])
NETWORKS = np.array([[1.2, 0.8, 0.2], [0.2, -0.2, -0.8], [1.2, 0.8, 0.2]])


@pytest.fixture(scope="module")
def simulated() -> dict[str, np.ndarray]:
    """Many simulated benchmarks of the same three networks and four persons; networks 0 and 2 are equal."""
    rng = np.random.default_rng(3)
    truth = np.mean([values_of(simulate(rng, NETWORKS, PERSONS)) for _ in range(400)], axis=0)
    ends, p, ranks = [], [], []
    for number in range(120):
        values, draws = analyse(simulate(rng, NETWORKS, PERSONS), resamples=250, seed=number)
        ends.append([[one.images for one in row] for row in estimate(values, draws, 0)])
        differences = compare_networks("abc", values[:, :3], draws, range(3))
        p.append([row.p for row in differences if (row.first, row.second) == ("a", "c")])
        found = rank_networks("abc", values[:, :3], differences)
        ranks.append([[found[name][measure].images for name in "abc"] for measure in (*MEASURES, "mean")])
    return {"truth": truth, "ends": np.array(ends), "p": np.array(p), "ranks": np.array(ranks)}


def test_intervals_hold_the_truth(simulated):
    low, high = simulated["ends"][..., 0], simulated["ends"][..., 1]
    covered = ((low <= simulated["truth"]) & (simulated["truth"] <= high)).mean(axis=0)  # (4, networks + 1)
    # of 120 benchmarks 95% with a standard error of 2%, for each number; squares near 0 get more than that
    assert covered.min() > 0.88
    assert covered[[0, 2, 3]].mean() > 0.92
    assert covered[[0, 2, 3]].mean() < 0.98


def test_networks_that_are_alike_are_seldom_told_apart(simulated):
    rejected = (simulated["p"] < 0.05).mean(axis=0)
    assert (rejected < 0.10).all()
    assert rejected.mean() > 0.02


def test_intervals_of_ranks_hold_together(simulated):
    """Networks 0 and 2 are equal, so that their true ranks are 1 and 2 in either order; network 1 is the third."""
    ranks = simulated["ranks"]  # (benchmarks, measures, networks, 2)
    within = (ranks[..., 0] <= [1, 3, 1]) & (ranks[..., 1] >= [2, 3, 2])
    together = within.all(axis=2).mean(axis=0)
    assert (together >= 0.92).all()
    assert (ranks[:, 0, 1] == [3, 3]).all(axis=1).mean() > 0.9  # and they say something


@pytest.mark.slow
def test_intervals_hold_with_other_persons():
    """Persons are drawn anew as well; six of them, with intervals from their own dataset alone."""
    rng = np.random.default_rng(5)

    def fresh() -> Answers:
        persons = rng.normal(0.8, 0.8, (6, 1)) + np.array([[0.5, 0.0, -0.5]])
        return simulate(rng, NETWORKS[:1], persons)

    truth = np.mean([values_of(fresh()) for _ in range(1000)], axis=0)
    covered, narrow = [], []
    for number in range(120):
        values, draws = analyse(fresh(), resamples=250, seed=number)
        numbers = estimate(values, draws, 0)
        covered.append(holds(numbers, truth, "persons"))
        narrow.append(holds(numbers, truth, "images"))
    covered, narrow = np.mean(covered, axis=0), np.mean(narrow, axis=0)
    # a squared difference of few persons is skew, and people's own is hardest
    assert (covered[[0, 2, 3]] > 0.90).all()
    assert (covered[1] > 0.84).all()
    assert narrow[0, 1] < 0.75  # of people's accuracy, with persons fixed


@pytest.mark.slow
def test_shared_images_widen_the_intervals_of_cue_conflict():
    """Shape and texture images have their own difficulties; intervals for independent stimuli would be too narrow."""
    rng = np.random.default_rng(11)
    pairs = [(shape, texture) for shape in range(20) for texture in range(12)]
    images = tuple(f"{CATEGORIES[s % 16]}{s + 1}-{CATEGORIES[t % 16]}{t + 1}.png" for s, t in pairs)
    shapes, textures = np.array(pairs).T

    def fresh() -> Answers:
        difficulty = rng.normal(0, 1, 20)[shapes] + rng.normal(0, 1, 12)[textures]
        ability = np.array([0.4, 0.0, 0.8, 0.6])[:, None]
        right = rng.random((4, len(pairs))) < 1 / (1 + np.exp(difficulty - ability))
        return assemble(CUE_CONFLICT, right, np.zeros(len(pairs), np.int8), 2, images)

    truth = np.mean([values_of(fresh()) for _ in range(400)], axis=0)
    covered = []
    for number in range(120):
        values, draws = analyse(fresh(), resamples=250, seed=number)
        numbers = estimate(values, draws, 0)
        covered.append(holds(numbers, truth, "images"))
    covered = np.mean(covered, axis=0)
    assert (covered[0] > 0.88).all()
    assert covered.mean() > 0.90


def test_draws_do_not_depend_on_the_networks():
    rng = np.random.default_rng(0)
    answers = simulate(rng, NETWORKS, PERSONS)
    fewer = Answers(**{**vars_of(answers), "networks": answers.networks[1:], "given": answers.given[1:]})
    one, other = (draw_dataset(a, measure_answers(a), resamples=20) for a in (answers, fewer))
    np.testing.assert_allclose(one.images[:, :, 1:], other.images, rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.persons[:, :, 1:], other.persons, rtol=0, atol=1e-12)


def vars_of(answers: Answers) -> dict:
    return {name: getattr(answers, name) for name in answers.__dataclass_fields__}


def test_a_permutation_of_answers_would_reject_where_the_difference_is_zero():
    """Accuracies of 0.3 and 0.9 are equally far from people's 0.6, so that both networks have the same difference."""
    rng = np.random.default_rng(2)
    persons = np.full((4, 3), 0.47)
    networks = np.array([[-1.03] * 3, [2.55] * 3])
    rejected = 0
    truth = np.mean([values_of(simulate(rng, networks, persons))[1] for _ in range(200)], axis=0)
    assert truth[0] == pytest.approx(truth[1], rel=0.15)
    for number in range(80):
        values, draws = analyse(simulate(rng, networks, persons), resamples=150, seed=number)
        row = compare_networks("ab", values[:, :2], draws, range(2))[1]
        rejected += row.p < 0.05
    assert rejected <= 12


def test_ranks_share_ties_and_point_the_right_way():
    values = np.array([[0.5, 0.7, 0.7], [0.1, 0.2, 0.3], [0.6, 0.5, 0.4], [0.3, 0.2, 0.1]])
    ranks = rank_networks(["a", "b", "c"], values, [])
    assert [ranks[name]["ood_accuracy"].value for name in "abc"] == [3, 1.5, 1.5]
    assert [ranks[name]["mean"].value for name in "abc"] == [1, 2, 3]
    assert ranks["a"]["mean"].images is None


def test_values_at_the_border():
    draws = [Draws(np.zeros((4, 10, 1)), np.zeros((4, 10, 1)), 3)]
    numbers = [row[0] for row in estimate(np.array([[1.0], [0.0], [1.0], [1.0]]), draws, 160)]
    assert numbers[0].images == (pytest.approx(0.025 ** (1 / 160)), 1.0)
    assert numbers[1].images is None
    assert (numbers[3].value, numbers[3].images) == (1.0, None)
    assert estimate(np.array([[np.nan]]), draws, 0) == [[Number(None)]]


def test_numbers_survive_the_way_through_a_file():
    number = Number(0.5, (0.4, 0.6), None, 0.01)
    content = number.as_dict("accuracy_difference")
    assert content["accuracy_difference_interval_persons"] is None
    assert Number.from_dict("accuracy_difference", content) == number
    assert "ood_accuracy_bias" not in Number(0.5).as_dict("ood_accuracy")


def test_a_single_person_gives_no_interval_over_persons():
    answers = simulate(np.random.default_rng(0), NETWORKS, PERSONS[:1])
    draws = [draw_dataset(answers, measure_answers(answers), resamples=50)]
    values = values_of(answers)
    numbers = estimate(values, draws, 0)
    assert numbers[0][0].persons is not None  # a network's accuracy does not depend on persons
    assert numbers[1][0].persons is None
    assert numbers[1][3].value is None
    differences = compare_networks("abc", values[:, :3], draws, range(3))
    assert [row.p_persons is None for row in differences if row.first == "a"] == [False] * 2 + [True] * 6
