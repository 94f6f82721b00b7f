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

from runkit import (
    UserError,
    atomic_write,
    format_latex,
    format_table,
    list_differences,
    load_json,
    save_json,
    sha256_of_file,
)
from shapebias.bootstrap import CONFIDENCE, METHOD, RESAMPLES, Estimate
from shapebias.differences import Difference, compare_pairs, describe_test
from shapebias.measures import RATIOS, Measurement, consistency_table, measure
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

    def partial_of(self, name: str) -> Path:
        """Progress of an unfinished run of the network `name` (`runkit.progress`)."""
        return self.root / f"{_file_stem(name)}.probabilities.partial.npz"

    def find_finished(
        self, name: str, config: Mapping[str, Any], *, overwrite: bool, resume: bool = False
    ) -> dict[str, Any] | None:
        """The finished result of a network for exactly this configuration; None if it has to be computed.

        With `overwrite` results on disk are passed over, but `resume` keeps those of this configuration: the run that
        it continues may have written them.

        Raises: UserError if there is a result of another configuration, or answers that belong to none, and
            `overwrite` is off.
        """
        json_path, csv_path = self.json_of(name), self.csv_of(name)
        if overwrite and not resume:
            return None
        if not json_path.exists():
            # a run that was killed may have written its answers already, and its probabilities before them
            continued = resume and self.probabilities_of(name).exists()
            if csv_path.exists() and not overwrite and not continued:
                raise UserError(
                    f"{csv_path} exists without {json_path.name}; --resume if a run was interrupted, measure it with "
                    "--from-csv, or --overwrite"
                )
            return None
        content = load_json(json_path)
        differences = list_differences(content.get("config", {}), dict(config))
        if differences:
            if overwrite:
                return None
            raise UserError(
                f"{json_path} is a result of another configuration ({'; '.join(differences)}); "
                "choose another --output, or --overwrite"
            )
        if not csv_path.exists():
            return None
        if sha256_of_file(csv_path) != content.get("raw_data", {}).get("sha256"):
            if overwrite:
                return None
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
        differences: Of every pair out of the networks and people pooled; empty where they saw different images.
    """

    networks: tuple[Measurement, ...]
    people: Measurement | None
    persons: tuple[Measurement, ...]
    consistency: Mapping[str, Any] | None
    differences: tuple[Difference, ...]

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
    pooled = [pool_people(persons)] if persons else []
    consistency, differences = None, []
    try:
        consistency = consistency_table([*networks, *persons])
        differences = compare_pairs([*networks, *pooled])
    except ValueError as error:
        _logger.warning("no error consistency and no differences: %s", error)
    return Comparison(
        networks=tuple(measure(observer) for observer in networks),
        people=measure(pooled[0]) if pooled else None,
        persons=tuple(measure(observer) for observer in persons),
        consistency=consistency,
        differences=tuple(differences),
    )


def write_comparison(
    comparison: Comparison, folder: ResultFolder, head: Mapping[str, Any], *, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Write `shape-bias.json`, the tables, and the pictures `shape-bias`, `shape-bias-column`, `shape-bias-forest`.

    Tables are `shape-bias` (a row an observer) and `differences` (a row a pair and measure), as `.csv` and `.tex`.
    Unlike an observer's result these can be drawn again from what lies beside them, so an older comparison is replaced.
    """
    from shapebias.plots import draw_column, draw_comparison, draw_forest, save_figure

    target = folder.root / "shape-bias.json"
    if target.exists():
        _logger.info("replacing the older comparison %s", target)
    figures = {
        "shape-bias": draw_comparison(comparison.series, persons=comparison.persons),
        "shape-bias-column": draw_column(comparison.series),
        "shape-bias-forest": draw_forest(comparison.series, persons=comparison.persons),
    }
    pictures = [
        path for stem, figure in figures.items() for path in save_figure(figure, folder.root / stem, formats=formats)
    ]
    measurements = [*comparison.series, *comparison.persons]
    differences = [difference.as_dict() for difference in comparison.differences]
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
                "differences": {"test": describe_test(), "pairs": differences},
            },
        },
    )
    rows = [_table_row(comparison, measurement) for measurement in measurements]
    tables = [
        _write_csv(folder.root / "shape-bias.csv", rows),
        _write_latex(folder.root / "shape-bias.tex", *_observer_table(comparison, ranks=True)),
        _write_csv(folder.root / "differences.csv", differences),
        _write_latex(folder.root / "differences.tex", *_difference_table(comparison)),
    ]
    return [target, *tables, *pictures]


def show_table(comparison: Comparison) -> str:
    """The comparison as text, a row for each network and one for people."""
    return format_table(*_observer_table(comparison))


def _observer_table(comparison: Comparison, *, ranks: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read: the measures of each network and of people pooled; on demand with cue sensitivity."""
    header = ["observer", "shape bias", "95% interval", "shape", "texture", "coverage", "accuracy", "kappa with people"]
    rows = []
    for row in comparison.series:
        fractions = (row.fraction_correct_shape, row.fraction_correct_texture, row.coverage, row.accuracy)
        numbers = [_number(estimate.value) for estimate in fractions]
        kappa = _number(_with_people(comparison, row.name))
        rows.append([row.label, _number(row.shape_bias.value), _interval(row.shape_bias), *numbers, kappa])
        if ranks:
            rows[-1] += [_number(row.shape_reciprocal_rank.value), _number(row.texture_reciprocal_rank.value)]
    if ranks:
        header += ["shape MRR", "texture MRR"]
    return header, rows


def _difference_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read: every pair's difference in every measure."""
    header = ["pair", "measure", "difference", "95% interval", "p", "p (Holm)"]
    labels = {row.name: row.label for row in comparison.series}
    rows = [
        [
            f"{labels[row.first]} - {labels[row.second]}",
            row.measure.replace("_", " "),
            f"{row.difference:+.3f}",
            f"{row.low:+.3f} to {row.high:+.3f}",
            f"{row.p:.4f}",
            f"{row.p_holm:.4f}",
        ]
        for row in comparison.differences
    ]
    return header, rows


def _table_row(comparison: Comparison, measurement: Measurement) -> dict[str, Any]:
    """A row of `shape-bias.csv`: numbers in full, the ends of an interval in columns of their own."""
    row: dict[str, Any] = {key: getattr(measurement, key) for key in ("name", "label", "kind", "random", "trials")}
    for key in RATIOS:
        estimate: Estimate = getattr(measurement, key)
        row.update({key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high})
    row["no_answer"] = measurement.no_answer
    row["shape_bias_category_mean"] = measurement.shape_bias_category_mean
    row["error_consistency_with_people"] = _with_people(comparison, measurement.name)
    return row


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows with the same keys; the file is whole or absent."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    return path


def _write_latex(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    note = "needs \\usepackage{booktabs}; the numbers in full, and what made them, are in shape-bias.json"
    with atomic_write(path) as temporary:
        temporary.write_text(format_latex(header, rows, note=note), encoding="utf-8")
    return path


def describe_results(measurement: Measurement) -> dict[str, Any]:
    """The `results` block of an observer's JSON."""
    return {"units": _UNITS, "interval": _describe_interval(), **measurement.as_dict()}


def describe_raw_data(observer: Observer) -> dict[str, Any]:
    """The `raw_data` block: which file holds the answers, and its SHA-256."""
    assert observer.source is not None  # only observers that were read from a file get a result of their own
    return {"file": observer.source.name, "sha256": sha256_of_file(observer.source), "subject": observer.name}


_UNITS = "fractions in [0, 1]; counts in confusion (rows: na, then the categories; columns: category of the shape)"


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


def _interval(estimate: Estimate) -> str:
    return "-" if estimate.low is None or estimate.high is None else f"{estimate.low:.3f}-{estimate.high:.3f}"


def _file_stem(name: str) -> str:
    return re.sub(r"[^\w.+() -]", "-", name).strip(". ") or "observer"
