"""The benchmark of networks against people: from the answers of all observers to `benchmark.json`.

Networks are ranked and compared in pairs only if they have all measures for every dataset to which any network has
answers; the others are in the table without a rank. A part of the 17 datasets can be measured as well; the result then
says that it is not comparable with published values. Tables and figures are made only from the content of the file
(`shapebias.results.benchmark_tables`, `shapebias.figures.benchmark`).
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from runkit import UserError, atomic_write, load_json
from runkit.intervals import note_on_few
from shapebias.answers.datasets import Answers, warn_of_faults
from shapebias.answers.raw_data import RANDOM_SUFFIX, label_of
from shapebias.measures.benchmark import (
    MEASURES,
    DatasetMeasures,
    confusion_counts,
    consistency_matrix,
    measure_answers,
)
from shapebias.measures.bootstrap import CONFIDENCE, RESAMPLES
from shapebias.measures.resampling import Draws, draw_dataset
from shapebias.measures.uncertainty import (
    NetworkDifference,
    Number,
    Rank,
    compare_networks,
    estimate,
    rank_networks,
)
from shapebias.results.benchmark_content import BenchmarkFile, BenchmarkMeasures, BenchmarkRawData
from shapebias.stimuli.experiments import EXPERIMENTS

__all__ = ["describe_sources", "measure_benchmark", "read_benchmark", "write_benchmark"]

_UNITS = (
    "accuracies and consistencies: fractions of trials; accuracy difference: square of a difference of fractions; "
    "error consistency: Cohen's kappa; entropy: bits; ranks: from 1, the best"
)
_IMAGES = (
    "images drawn with replacement within dataset and condition, persons fixed; on cue-conflict images a Gaussian adds "
    "what shared shape and texture images add to the covariance; quantiles of the deviations from the draws' mean, for "
    "what the benchmark gives on average with as many images"
)
_PERSONS = (
    "the same, and persons drawn with replacement within each dataset, their deviations scaled by sqrt(P / (P - 1)) "
    "and, for their few degrees of freedom, Student's t (Welch and Satterthwaite)"
)
_RANKS = (
    "from 1 and all that are significantly better to the last but all that are significantly worse, in pairs corrected "
    "by Holm for all of a measure (mean rank: of its three measures): the intervals of a measure hold together"
)
_TEST = (
    "paired difference over its standard deviation in the draws, two-sided: normal with persons fixed, Student's t "
    "with persons drawn"
)

_NO_NETWORKS = (
    "there are answers of people only, none of a network: the numbers are those of people among themselves, and no "
    "network is measured, ranked or compared; python -m shapebias.run --experiment asks networks, and --with-published "
    "adds the toolbox's"
)

_logger = logging.getLogger(__name__)


def measure_benchmark(
    answers: Mapping[str, Answers], *, intervals: bool = True, resamples: int = RESAMPLES, seed: int = 0
) -> BenchmarkMeasures:
    """Compute the benchmark's measures of all networks and of people, with intervals, ranks and differences.

    Args:
        answers: Dataset -> answers, as `read_answers` returns them. Datasets without a network are left out, unless no
            dataset has one.
        intervals: Whether to resample; otherwise there are neither intervals nor differences.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.
    Raises: UserError if there are no answers, or a dataset has no person, or no trial in a condition that counts.
    """
    known = {name: answers[name] for name in EXPERIMENTS if name in answers}
    chosen = {name: one for name, one in known.items() if one.networks} or known
    if not chosen:
        raise UserError("there are no answers to any dataset of the benchmark")
    faults = [fault for one in chosen.values() for fault in warn_of_faults(one)]
    faults += _warn_of_copies(chosen)
    if any(one.networks for one in chosen.values()):
        if left_out := [name for name in known if name not in chosen]:
            _logger.warning("left out, since no network has answers: %s", ", ".join(left_out))
    else:
        faults.append(_NO_NETWORKS)
        _logger.warning("%s", _NO_NETWORKS)
    measured = {name: _measure(one) for name, one in chosen.items()}
    draws: dict[str, Draws] = {}
    if intervals:
        draws = {
            name: draw_dataset(one, measured[name], resamples=resamples, seed=seed) for name, one in chosen.items()
        }
    table = _Table(chosen, measured, draws)
    complete = [name for name in table.networks if np.isfinite(table.overall(name)).all() and table.has_all(name)]
    differences, ranks = _compare(table, complete)
    comparable = len(chosen) == len(EXPERIMENTS) and all(one.is_published_list for one in chosen.values())
    content: dict[str, Any] = {
        "scope": _say_scope(chosen, comparable),
        "comparable": comparable,
        "units": _UNITS,
        "interval": {
            "level": CONFIDENCE,
            "images": _IMAGES,
            "persons": _PERSONS,
            "ranks": _RANKS,
            "resamples": resamples,
            "seed": seed,
            **({"note": few} if (few := note_on_few(len(one.images) for one in chosen.values())) else {}),
        }
        if intervals
        else None,
        "networks": {name: table.describe_network(name, ranks.get(name, {})) for name in table.networks},
        "people": table.describe_people(),
        "datasets": {name: _describe_dataset(chosen[name], measured[name], table.names[name]) for name in chosen},
        "differences": {
            "test": _TEST,
            "correction": "Holm, over all pairs of a measure",
            "pairs": [asdict(difference) for difference in differences],
        },
        "faults": faults,
    }
    return cast(BenchmarkMeasures, content)


def _warn_of_copies(answers: Mapping[str, Answers]) -> list[str]:
    """Log files that are identical in several datasets, so wrong in all but one, and return the logged lines."""
    places: dict[str, list[tuple[str, Path]]] = {}
    for name, one in answers.items():
        for source in (part for whole in one.sources for part in whole.parts or (whole,)):
            places.setdefault(source.sha256, []).append((name, source.path))
    faults = []
    for found in places.values():
        if len({name for name, _ in found}) > 1:
            shown = " and ".join(f"{name} ({path})" for name, path in found)
            faults.append(f"the same answers, byte for byte, are given to {shown}: they can be to one of them only")
    for fault in faults:
        _logger.warning("%s", fault)
    return faults


def describe_sources(answers: Mapping[str, Answers]) -> list[BenchmarkRawData]:
    """Describe every file of answers, for the `raw_data` block."""
    return [
        {
            "dataset": name,
            "subject": part.subject,
            "file": part.path.name,
            "sha256": part.sha256,
            "trials": part.trials,
        }
        for name, one in answers.items()
        for source in one.sources
        for part in source.parts or (source,)
    ]


def write_benchmark(path: Path, content: BenchmarkFile) -> None:
    """Write `benchmark.json` atomically, with each list of plain values on one line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[[^][{}]*\]", lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_benchmark(path: Path) -> BenchmarkFile:
    """Read `benchmark.json`.

    Raises: UserError if the file cannot be read or is not a `benchmark.json`.
    """
    content = load_json(path)
    missing = [key for key in (*BenchmarkMeasures.__required_keys__, "raw_data", "published") if key not in content]
    if missing:
        raise UserError(f"{path} is not a result of shapebias.benchmark: it has no {sorted(missing)[0]!r}")
    return cast(BenchmarkFile, content)


class _Table:
    """Measures of networks and people in each dataset and over all datasets.

    Attributes:
        networks: Name of every network, spelled as in the first dataset that has it (`-` and `_` are equivalent).
        names: Dataset -> names, in this spelling, of the networks with answers to it, in the order of its answers.
    """

    def __init__(
        self, answers: Mapping[str, Answers], measured: Mapping[str, DatasetMeasures], draws: Mapping[str, Draws]
    ) -> None:
        self._answers, self._measured, self._draws = answers, measured, draws
        spelled: dict[str, str] = {}
        self.names = {
            dataset: [spelled.setdefault(name.replace("_", "-"), name) for name in one.networks]
            for dataset, one in answers.items()
        }
        self.networks = list(spelled.values())

    def datasets_of(self, name: str) -> list[str]:
        """The datasets to which a network has answers."""
        return [dataset for dataset, names in self.names.items() if name in names]

    def has_all(self, name: str) -> bool:
        """Whether a network has answers to every dataset."""
        return len(self.datasets_of(name)) == len(self._answers)

    def overall(self, name: str) -> np.ndarray:
        """A network's measures, averaged over its datasets, (4,)."""
        columns = [self._measured[d].networks[:, self.names[d].index(name)] for d in self.datasets_of(name)]
        return np.mean(columns, axis=0)

    def draws_of(self, names: Sequence[str], datasets: Iterable[str]) -> list[Draws]:
        """The draws of the datasets for the given networks, in that order; empty without resampling."""
        return [self._draws[d].choose([self.names[d].index(name) for name in names]) for d in datasets if self._draws]

    def describe_network(self, name: str, ranks: Mapping[str, Rank]) -> dict[str, Any]:
        """Describe a network for the file."""
        datasets: dict[str, dict[str, Any]] = {}
        for dataset in self.datasets_of(name):
            answers, column = self._answers[dataset], self.names[dataset].index(name)
            numbers = estimate(
                self._measured[dataset].networks[:, [column]], self.draws_of([name], [dataset]), len(answers.images)
            )
            datasets[dataset] = {
                **_describe_numbers([row[0] for row in numbers]),
                "trials": answers.sources[column].trials,
                "missing_trials": answers.missing(answers.networks[column]),
                "kappa_is_one": int(self._measured[dataset].borders[column]),
            }
        numbers = estimate(self.overall(name)[:, None], self.draws_of([name], datasets), 0)
        return {
            **_describe_numbers([row[0] for row in numbers]),
            **_describe_ranks(ranks),
            "label": label_of(name),
            "random": name.endswith(RANDOM_SUFFIX),
            "missing_trials": sum(one["missing_trials"] for one in datasets.values()),
            "kappa_is_one": sum(one["kappa_is_one"] for one in datasets.values()),
            "datasets": datasets,
        }

    def describe_people(self) -> dict[str, Any]:
        """Describe people for the file."""
        datasets: dict[str, dict[str, Any]] = {}
        for dataset, answers in self._answers.items():
            measured, count = self._measured[dataset], len(answers.networks)
            draws = [self._draws[dataset].choose([count])] if self._draws else []
            numbers = estimate(measured.people[:, None], draws, len(answers.images))
            accuracies = measured.accuracies[count:].tolist()
            datasets[dataset] = {
                **_describe_numbers([row[0] for row in numbers]),
                "persons": dict(zip(answers.persons, accuracies, strict=True)),
                "kappa_is_one": measured.people_borders,
            }
        values = np.mean([measured.people for measured in self._measured.values()], axis=0)
        draws = [self._draws[d].choose([len(one.networks)]) for d, one in self._answers.items() if self._draws]
        return {
            **_describe_numbers([row[0] for row in estimate(values[:, None], draws, 0)]),
            "kappa_is_one": sum(one["kappa_is_one"] for one in datasets.values()),
            "datasets": datasets,
        }


def _measure(answers: Answers) -> DatasetMeasures:
    try:
        return measure_answers(answers)
    except ValueError as error:
        raise UserError(f"{error}; name folders with the answers of people and networks to all of it") from error


def _compare(table: _Table, names: Sequence[str]) -> tuple[list[NetworkDifference], dict[str, dict[str, Rank]]]:
    """Compare and rank the networks with the given names, which must have all measures."""
    if not names:
        return [], {}
    values = np.stack([table.overall(name) for name in names], axis=1)
    draws = table.draws_of(names, table.names)
    differences = compare_networks(names, values, draws, range(len(names))) if draws else []
    return differences, rank_networks(names, values, differences)


def _describe_numbers(numbers: Sequence[Number]) -> dict[str, Any]:
    return {
        key: value
        for name, number in zip(MEASURES, numbers, strict=True)
        for key, value in number.as_dict(name).items()
    }


def _describe_ranks(ranks: Mapping[str, Rank]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for measure in (*MEASURES, "mean"):
        rank, name = ranks.get(measure), f"{measure}_rank"
        content[name] = rank and rank.value
        content[f"{name}_interval"] = rank and rank.images and list(rank.images)
        content[f"{name}_interval_persons"] = rank and rank.persons and list(rank.persons)
    return content


def _describe_dataset(answers: Answers, measured: DatasetMeasures, names: Sequence[str]) -> dict[str, Any]:
    experiment, count = answers.experiment, len(answers.networks)
    kept = np.isin(answers.conditions, experiment.kept)
    given, categories = answers.given[:, kept], answers.categories[kept]
    observers = [*names, *answers.persons]
    curves = None
    if experiment.conditions:
        seen = [answers.conditions == position for position in range(len(experiment.conditions))]
        trials = np.stack([answers.answered[count:, one].sum(axis=1) for one in seen], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = np.nansum(measured.accuracy[count:] * trials, axis=0) / trials.sum(axis=0)
        kappa, entropy = measured.kappa[count:].mean(axis=0), measured.entropy[count:].mean(axis=0)
        curves = {
            "accuracy": _describe_curves(measured.accuracy, pooled, observers, count),
            "error_consistency": _describe_curves(measured.kappa, kappa, observers, count),
            "entropy": _describe_curves(measured.entropy, entropy, observers, count),
        }
    return {
        "title": experiment.title,
        "images": len(answers.images),
        "published_list": answers.is_published_list,
        "source": experiment.source,
        "axis": experiment.axis,
        "conditions": [asdict(condition) for condition in experiment.conditions],
        "curves": curves,
        "matrix": {"observers": observers, "error_consistency": _plain(consistency_matrix(answers))},
        "confusion": {
            "networks": {name: confusion_counts(given[[row]], categories).tolist() for row, name in enumerate(names)},
            "people": confusion_counts(given[count:], categories).tolist(),
        },
    }


def _describe_curves(values: np.ndarray, people: np.ndarray, observers: Sequence[str], count: int) -> dict[str, Any]:
    rows = dict(zip(observers[:count], _plain(values[:count]), strict=True))
    persons = dict(zip(observers[count:], _plain(values[count:]), strict=True))
    return {"networks": rows, "people": _plain(people), "persons": persons}


def _plain(values: np.ndarray) -> list[Any]:
    """Convert an array to nested lists, with None for values that are not finite."""
    return np.where(np.isfinite(values), values, None).tolist()


def _say_scope(answers: Mapping[str, Answers], comparable: bool) -> str:
    scope = f"{len(answers)} of {len(EXPERIMENTS)} datasets"
    if comparable:
        return scope
    strange = [name for name, one in answers.items() if not one.is_published_list]
    images = f", {', '.join(strange)} not with the published images" if strange else ""
    return f"{scope}{images}: not comparable with published tables"
