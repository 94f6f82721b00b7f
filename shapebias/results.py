"""Result files: one JSON for each observer, and the comparison of a run as JSON, table and pictures.

Everything here starts from answers already recorded; neither torch nor a network is needed.
"""

import csv
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runkit import UserError, atomic_write, format_table, list_differences, load_json, save_json, sha256_of_file
from shapebias.bootstrap import CONFIDENCE, METHOD, RESAMPLES
from shapebias.measures import Measurement, consistency_table, measure
from shapebias.observers import Observer, csv_name, pool_people

__all__ = ["Comparison", "ResultFolder", "compare", "describe_results", "write_comparison"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultFolder:
    """Where the files of one run lie: `<output>/shapebias`."""

    root: Path

    def json_of(self, name: str) -> Path:
        """Result of the observer `name`; what no file name can hold is replaced by a hyphen."""
        return self.root / f"{_file_stem(name)}.json"

    def csv_of(self, name: str) -> Path:
        """Answers of the network `name`, where the toolbox looks for them."""
        return self.root / "raw" / "cue-conflict" / csv_name(_file_stem(name))

    def probabilities_of(self, name: str) -> Path:
        """What the network `name` said about every stimulus (`shapebias.probabilities`)."""
        return self.root / f"{_file_stem(name)}.probabilities.npz"

    def ranks_of(self, name: str) -> Path:
        """The network's cue ranks for every stimulus (`shapebias.ranks`)."""
        return self.root / f"{_file_stem(name)}.cue-ranks.csv"

    def find_finished(self, name: str, config: Mapping[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
        """The finished result of a network for exactly this configuration; None if it has to be computed.

        Raises: UserError if there is a result of another configuration, or answers that belong to none, and
            `overwrite` is off.
        """
        json_path, csv_path = self.json_of(name), self.csv_of(name)
        if overwrite:
            return None
        if not json_path.exists():
            if csv_path.exists():
                raise UserError(
                    f"{csv_path} exists without {json_path.name}; measure it with --from-csv, or --overwrite"
                )
            return None
        content = load_json(json_path)
        differences = list_differences(content.get("config", {}), dict(config))
        if differences:
            raise UserError(
                f"{json_path} is a result of another configuration ({'; '.join(differences)}); "
                "choose another --output, or --overwrite"
            )
        if not csv_path.exists():
            return None
        if sha256_of_file(csv_path) != content.get("raw_data", {}).get("sha256"):
            raise UserError(f"{csv_path} was changed since {json_path.name} was written; restore it, or --overwrite")
        return content

    def write_observer(self, observer: Observer, head: Mapping[str, Any], measurement: Measurement) -> Path:
        """Write `<observer>.json`: what made the answers (`head`), the file that holds them, and the measures."""
        path = self.json_of(str(head.get("config", {}).get("model", observer.name)))
        save_json(path, {**head, "raw_data": describe_raw_data(observer), "results": describe_results(measurement)})
        return path

    def write_recorded(
        self, observer: Observer, head: Mapping[str, Any], measurement: Measurement, *, overwrite: bool
    ) -> None:
        """Write `<observer>.json` for answers read from a CSV; a result of the same answers is kept.

        Raises: UserError if there is a result of other answers and `overwrite` is off.
        """
        path = self.json_of(observer.name)
        raw_data = describe_raw_data(observer)
        if path.exists() and not overwrite:
            recorded = load_json(path).get("raw_data", {}).get("sha256")
            if recorded != raw_data["sha256"]:
                raise UserError(
                    f"{path} is a result of other answers (raw_data.sha256: {recorded} -> {raw_data['sha256']}); "
                    "choose another --output, or --overwrite"
                )
            _logger.info("%s: kept the finished result %s", observer.name, path)
        else:
            self.write_observer(observer, head, measurement)


@dataclass(frozen=True)
class Comparison:
    """All observers of a run, measured.

    Attributes:
        networks: Networks, in the order of the run.
        people: People pooled, or None without people.
        persons: Each person.
        consistency: As `measures.consistency_table` gives it; None where the observers saw different images.
    """

    networks: tuple[Measurement, ...]
    people: Measurement | None
    persons: tuple[Measurement, ...]
    consistency: Mapping[str, Any] | None

    @property
    def series(self) -> list[Measurement]:
        """What the pictures draw: networks, then people."""
        return [*self.networks, *([self.people] if self.people else [])]

    def of(self, name: str) -> Measurement:
        """The measurement of the network or person called `name`."""
        return next(row for row in [*self.networks, *self.persons] if row.name == name)


def compare(observers: Sequence[Observer]) -> Comparison:
    """Measure networks and persons, pool the persons, and set every pair side by side.

    Raises: UserError if two observers have the same name.
    """
    names = [observer.name for observer in observers]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the observer {name!r} comes twice; name it once")
    networks = [observer for observer in observers if observer.kind != "person"]
    persons = [observer for observer in observers if observer.kind == "person"]
    try:
        consistency = consistency_table([*networks, *persons])
    except ValueError as error:
        _logger.warning("no error consistency: %s", error)
        consistency = None
    return Comparison(
        networks=tuple(measure(observer) for observer in networks),
        people=measure(pool_people(persons)) if persons else None,
        persons=tuple(measure(observer) for observer in persons),
        consistency=consistency,
    )


def write_comparison(
    comparison: Comparison, folder: ResultFolder, head: Mapping[str, Any], *, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Write `shape-bias.json`, `shape-bias.csv`, and the pictures `shape-bias` and `shape-bias-column`.

    Unlike an observer's result these can be drawn again from what lies beside them, so an older comparison is replaced.
    """
    from shapebias.plots import draw_column, draw_comparison, save_figure

    target = folder.root / "shape-bias.json"
    if target.exists():
        _logger.info("replacing the older comparison %s", target)
    pictures = [
        *save_figure(
            draw_comparison(comparison.series, persons=comparison.persons), folder.root / "shape-bias", formats=formats
        ),
        *save_figure(draw_column(comparison.series), folder.root / "shape-bias-column", formats=formats),
    ]
    measurements = [*comparison.series, *comparison.persons]
    save_json(
        target,
        {
            **head,
            "pictures": [path.name for path in pictures],
            "results": {
                "units": _UNITS,
                "interval": _describe_interval(),
                "observers": [measurement.as_dict() for measurement in measurements],
                "error_consistency": comparison.consistency,
            },
        },
    )
    table = folder.root / "shape-bias.csv"
    with atomic_write(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_TABLE_FIELDS, "error_consistency_with_people"])
        for row in measurements:
            content = row.as_dict()
            low, high = content["shape_bias_interval"] or (None, None)
            content.update(shape_bias_low=low, shape_bias_high=high)
            writer.writerow([*(content[key] for key in _TABLE_FIELDS), _with_people(comparison, row.name)])
    return [target, table, *pictures]


def show_table(comparison: Comparison) -> str:
    """The comparison as text, a row for each network and one for people."""
    header = ["observer", "shape bias", "95% interval", "shape", "texture", "coverage", "accuracy", "kappa with people"]
    rows = []
    for row in comparison.series:
        bias, kappa = row.shape_bias, _with_people(comparison, row.name)
        interval = "-" if bias.low is None or bias.high is None else f"{bias.low:.3f}-{bias.high:.3f}"
        fractions = (row.fraction_correct_shape, row.fraction_correct_texture, row.coverage, row.accuracy)
        numbers = [_number(estimate.value) for estimate in fractions]
        rows.append([row.label, _number(bias.value), interval, *numbers, _number(kappa)])
    return format_table(header, rows)


def describe_results(measurement: Measurement) -> dict[str, Any]:
    """The `results` block of an observer's JSON."""
    return {"units": _UNITS, "interval": _describe_interval(), **measurement.as_dict()}


def describe_raw_data(observer: Observer) -> dict[str, Any]:
    """The `raw_data` block: which file holds the answers, and its SHA-256."""
    assert observer.source is not None  # only observers that were read from a file get a result of their own
    return {"file": observer.source.name, "sha256": sha256_of_file(observer.source), "subject": observer.name}


_UNITS = "fractions in [0, 1]; counts in confusion (rows: na, then the categories; columns: category of the shape)"
_TABLE_FIELDS = (
    "name",
    "label",
    "kind",
    "random",
    "trials",
    "shape_bias",
    "shape_bias_low",
    "shape_bias_high",
    "fraction_correct_shape",
    "fraction_correct_texture",
    "coverage",
    "neither",
    "accuracy",
    "no_answer",
    "shape_bias_category_mean",
    "shape_reciprocal_rank",
    "texture_reciprocal_rank",
)


def _describe_interval() -> dict[str, Any]:
    return {"level": CONFIDENCE, "method": METHOD, "resamples": RESAMPLES, "seed": 0}


def _with_people(comparison: Comparison, name: str) -> float | None:
    """Mean error consistency with every (other) person; for people pooled, the mean over persons."""
    with_people = comparison.consistency["with_people"] if comparison.consistency else {}
    if name == "people":
        values = [with_people[person.name] for person in comparison.persons if person.name in with_people]
        return sum(values) / len(values) if values else None
    return with_people.get(name)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _file_stem(name: str) -> str:
    return re.sub(r"[^\w.+() -]", "-", name).strip(". ") or "observer"
