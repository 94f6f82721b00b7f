"""Ranks over several datasets, from the CSVs to the content of the file, compared with results by hand."""

from pathlib import Path

import pytest

from shapebias.answers.datasets import read_folders
from shapebias.answers.raw_data import COLUMNS
from shapebias.results.benchmark import measure_benchmark
from shapebias.stimuli.categories import CATEGORIES

EACH = {"edge": 1, "silhouette": 3}
"""Images of each category: a dataset counts as much as any other, however many images it has."""


def write(folder: Path, dataset: str, subject: str, right: set[str]) -> None:
    """Write answers that are right for the images of some categories and wrong for the others."""
    rows = [",".join(COLUMNS)]
    for number, category in enumerate(CATEGORIES):
        answer = category if category in right else CATEGORIES[(number + 1) % 16]
        time = "0.5" if subject.startswith("subject-") else "NaN"
        rows += [
            f"{subject},1,{len(rows) + i},{time},{answer},{category},0,{category}{i + 1}.png"
            for i in range(EACH[dataset])
        ]
    (folder / dataset).mkdir(parents=True, exist_ok=True)
    (folder / dataset / f"{subject}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict:
    """Two persons are right on the first 8 categories; a network is right on `a` of these and on `b` of the other 8.

    The network's accuracy p is (a + b) / 16, and its observed consistency with either person is (a + 8 - b) / 16. The
    expected consistency is 1/2 for any p. Therefore kappa is (a - b) / 8, and the accuracy difference (p - 1/2)².
    """
    folder = tmp_path_factory.mktemp("ranks")
    right = {
        "scatter": {"edge": (8, 8), "silhouette": (0, 0)},
        "timid": {"edge": (4, 0), "silhouette": (8, 0)},
        "bold": {"edge": (8, 4), "silhouette": (6, 2)},
        "swing": {"edge": (8, 0), "silhouette": (0, 8)},
        "part": {"edge": (8, 0)},
    }
    for network, numbers in right.items():
        for dataset, (a, b) in numbers.items():
            write(folder, dataset, network, {*CATEGORIES[:a], *CATEGORIES[8 : 8 + b]})
    for dataset in EACH:
        for person in ("subject-01", "subject-02"):
            write(folder, dataset, person, set(CATEGORIES[:8]))
    return measure_benchmark(read_folders([folder]), resamples=100)["networks"]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("scatter", (8 / 16, 1 / 4, 8 / 16, 0)),
        ("timid", (6 / 16, 1 / 32, 14 / 16, 3 / 4)),
        ("bold", (10 / 16, 1 / 32, 12 / 16, 1 / 2)),
        ("swing", (8 / 16, 0, 8 / 16, 0)),
        ("part", (8 / 16, 0, 1, 1)),
    ],
)
def test_numbers_are_means_over_datasets(networks, name, numbers):
    keys = ("ood_accuracy", "accuracy_difference", "observed_consistency", "error_consistency")
    assert tuple(networks[name][key] for key in keys) == numbers


@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("scatter", (2.5, 4, 3.5, 3.5)),
        ("timid", (4, 2.5, 1, 1)),
        ("bold", (1, 2.5, 2, 2)),
        ("swing", (2.5, 1, 3.5, 3.5)),
    ],
)
def test_ranks_are_those_of_the_means_and_ties_share_theirs(networks, name, ranks):
    """They are not means of the datasets' ranks: `swing` is first on edges and last on silhouettes."""
    keys = ("ood_accuracy", "accuracy_difference", "observed_consistency", "error_consistency")
    assert tuple(networks[name][f"{key}_rank"] for key in keys) == ranks
    assert networks[name]["mean_rank"] == pytest.approx(sum(ranks[1:]) / 3)
    low, high = networks[name]["mean_rank_interval"]
    assert 1 <= low <= networks[name]["mean_rank"] <= high <= 4


def test_a_network_without_all_datasets_has_no_rank_and_takes_none(networks):
    """`part` is better than all others on its only dataset."""
    assert networks["part"]["mean_rank"] is None
    assert networks["part"]["observed_consistency_rank"] is None
