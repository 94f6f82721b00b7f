"""The comparison of a run's observers: every measure side by side, as JSON and tables.

All functions here work on recorded answers; neither torch nor a network is needed.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runkit import UserError, format_html, format_table, load_json, save_csv, save_json, save_latex
from runkit.files import reason_in_words
from runkit.numbers import FRACTION, difference_cells
from shapebias.answers.observers import Observer, pool_people
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.content import ErrorConsistency
from shapebias.measures.differences import Difference, compare_pairs, describe_test
from shapebias.measures.shape_bias import RATIOS, Measurement, consistency_table, measure
from shapebias.results.content import ComparisonHead, ComparisonResult
from shapebias.results.files import UNITS, ResultFolder, describe_interval, notes_on
from shapebias.stimuli.experiments import Experiment

__all__ = [
    "Comparison",
    "compare",
    "comparison_files",
    "comparison_path",
    "picture_ends",
    "read_comparison",
    "show_table",
    "summary",
    "write_comparison",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """All observers of a run, measured.

    Attributes:
        networks: Networks, in the order of the run.
        people: Pooled people; None without people.
        persons: Single persons.
        consistency: Result of `measures.consistency_table`; None if the observers saw different images.
        differences: Differences of every pair among networks and pooled people; empty if they saw different images.
    """

    networks: tuple[Measurement, ...]
    people: Measurement | None
    persons: tuple[Measurement, ...]
    consistency: ErrorConsistency | None
    differences: tuple[Difference, ...]

    @property
    def series(self) -> list[Measurement]:
        """The measurements that figures show: networks, then people."""
        return [*self.networks, *([self.people] if self.people else [])]

    def __repr__(self) -> str:
        return f"Comparison of {', '.join(row.label for row in self.series)}"

    def _repr_html_(self) -> str:
        """Show a table in notebooks, with one row per network and one for people."""
        return format_html(*_observer_table(self))

    def of(self, name: str) -> Measurement:
        """Return the measurement of the network or person called `name`."""
        return next(row for row in [*self.networks, *self.persons] if row.name == name)

    def with_people(self, name: str) -> float | None:
        """Return the mean error consistency with all (other) persons; for pooled people, its mean over persons."""
        with_people = self.consistency["with_people"] if self.consistency else {}
        if name == "people":
            values = [with_people[person.name] for person in self.persons if person.name in with_people]
            return sum(values) / len(values) if values else None
        return with_people.get(name)


def compare(observers: Sequence[Observer]) -> Comparison:
    """Measure networks and persons, pool the persons, and compare every pair.

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


def comparison_path(folder: ResultFolder) -> Path:
    """Return the path of the comparison of a folder's observers."""
    return folder.root / ("shape-bias.json" if folder.experiment.two_cues else "accuracy.json")


def read_comparison(path: Path) -> Comparison:
    """Read a comparison that `write_comparison` wrote.

    Raises: UserError if the file cannot be read or does not hold a comparison.
    """
    content = load_json(path)
    try:
        results = content["results"]
        rows = [Measurement.from_dict(row) for row in results["observers"]]
        differences = [Difference(**row) for row in results["differences"]["pairs"]]
        consistency = results["error_consistency"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a comparison of shapebias.run: {reason_in_words(error)}; write it again with --from-csv"
        ) from error
    return Comparison(
        networks=tuple(row for row in rows if row.kind == "network"),
        people=next((row for row in rows if row.kind == "people"), None),
        persons=tuple(row for row in rows if row.kind == "person"),
        consistency=consistency,
        differences=tuple(differences),
    )


def write_comparison(
    comparison: Comparison, folder: ResultFolder, head: ComparisonHead, *, pictures: Sequence[Path] = ()
) -> list[Path]:
    """Write the comparison as JSON and tables, called `shape-bias` or, with one cue, `accuracy`.

    The tables are one with a row per observer, and `differences` with a row per pair and measure, as `.csv` and `.tex`.
    Unlike an observer's result, they can be recreated from the files next to them, so an older comparison is replaced.

    Args:
        comparison: The comparison.
        folder: Folder for the files.
        head: Provenance of the comparison.
        pictures: Figures of the comparison, which the JSON lists.

    Returns: The files written.
    """
    target = comparison_path(folder)
    stem = target.stem
    if target.exists():
        _logger.info("replacing the older comparison %s", target)
    differences = [difference.as_dict() for difference in comparison.differences]
    content: ComparisonResult = {
        **head,
        "pictures": [path.name for path in pictures],
        "results": {
            "units": UNITS,
            "interval": describe_interval([*comparison.series, *comparison.persons]),
            "observers": [measurement.as_dict() for measurement in [*comparison.series, *comparison.persons]],
            "error_consistency": comparison.consistency,
            "differences": {"test": describe_test(), "pairs": differences},
        },
    }
    note = f"the numbers in full, and what made them, are in {target.name}"
    if warning := notes_on([*comparison.series, *comparison.persons], folder.experiment):
        content["results"]["note"] = warning
        note = f"{note}\n{warning}"
    save_json(target, content)
    tables = [
        save_csv(folder.root / f"{stem}.csv", summary(comparison)),
        save_latex(folder.root / f"{stem}.tex", *_observer_table(comparison, ranks=True), note=note),
        save_csv(folder.root / "differences.csv", differences),
        save_latex(folder.root / "differences.tex", *_difference_table(comparison), note=note),
    ]
    return [target, *tables]


def picture_ends(experiment: Experiment) -> tuple[str, ...]:
    """Return the suffixes of the names of a comparison's figures, after the stem of its other files."""
    return ("", "-column", "-forest") if experiment.two_cues else ("",)


def comparison_files(folder: ResultFolder, formats: Sequence[str]) -> list[Path]:
    """List the files of a comparison that a run writes: those of `write_comparison`, and the figures."""
    stem = comparison_path(folder).stem
    pictures = [f"{stem}{end}" for end in picture_ends(folder.experiment)]
    names = [f"{stem}.json", f"{stem}.csv", f"{stem}.tex", "differences.csv", "differences.tex"]
    names += [f"{picture}.{suffix}" for picture in pictures for suffix in formats]
    return [folder.root / name for name in names]


def summary(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of the CSV, which `--json` prints, too: networks, pooled people and single persons."""
    return [_table_row(comparison, measurement) for measurement in [*comparison.series, *comparison.persons]]


def show_table(comparison: Comparison, experiment: Experiment) -> str:
    """Format the comparison as text, with one row per network and one for people."""
    table = format_table(*_observer_table(comparison))
    two_cues = any(row.fraction_correct_shape.value is not None for row in comparison.series)
    notes = [_WHAT_IS_COUNTED if two_cues else "", notes_on([*comparison.series, *comparison.persons], experiment)]
    return "\n\n".join([table, *filter(None, ["\n".join(filter(None, notes))])])


_WHAT_IS_COUNTED = (
    "Accuracy: images that are named by the category of their shape, as a share of all images. Shape, texture: images\n"
    "whose shape and texture differ and that are named by one of the two, as shares of all images. Coverage: both\n"
    "together, as a share of the images whose shape and texture differ."
)


def _observer_table(comparison: Comparison, *, ranks: bool = False) -> tuple[list[str], list[list[str]]]:
    """Readable table (header and rows) of the measures of networks and pooled people; if `ranks`, with cue ranks."""
    if any(row.fraction_correct_shape.value is not None for row in comparison.series):
        columns = {
            "shape bias": "shape_bias",
            "shape": "fraction_correct_shape",
            "texture": "fraction_correct_texture",
            "coverage": "coverage",
            "accuracy": "accuracy",
        }
    else:  # images with one cue
        columns = {"accuracy": "accuracy"}
    sensitivity = {"shape MRR": "shape_reciprocal_rank", "texture MRR": "texture_reciprocal_rank"} if ranks else {}
    first, *others = columns
    header = ["observer", first, "95% interval", *others, "kappa with people", *sensitivity]
    rows = []
    for row in comparison.series:
        leading, *numbers = [getattr(row, key) for key in columns.values()]
        written = FRACTION.write(leading.value, leading.low, leading.high)
        more = [_number(getattr(row, key).value) for key in sensitivity.values()]
        kappa = _number(comparison.with_people(row.name))
        values = [_number(estimate.value) for estimate in numbers]
        first_number = "-" if leading.value is None else written.value
        rows.append([row.label, first_number, written.brackets or "-", *values, kappa, *more])
    return header, rows


def _difference_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Readable table (header and rows) of the differences of all pairs in all measures."""
    header = ["pair", "measure", "difference", "95% interval", "p", "p (Holm)"]
    labels = {row.name: row.label for row in comparison.series}
    rows = [
        [
            f"{labels[row.first]} - {labels[row.second]}",
            row.measure.replace("_", " "),
            *difference_cells(row.difference, row.low, row.high),
            f"{row.p:.4f}",
            f"{row.p_holm:.4f}",
        ]
        for row in comparison.differences
    ]
    return header, rows


def _table_row(comparison: Comparison, measurement: Measurement) -> dict[str, Any]:
    """A row of `shape-bias.csv`: unrounded values, with the ends of intervals in separate columns."""
    row: dict[str, Any] = {key: getattr(measurement, key) for key in ("name", "label", "kind", "random", "trials")}
    for key in RATIOS:
        estimate: Estimate = getattr(measurement, key)
        row.update({key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high})
    row["no_answer"] = measurement.no_answer
    row["shape_bias_category_mean"] = measurement.shape_bias_category_mean
    row["error_consistency_with_people"] = comparison.with_people(measurement.name)
    return row


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
