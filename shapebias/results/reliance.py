"""Result files of reliance: one JSON per network, and the comparison of all networks of a run as JSON and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from runkit import UserError, format_table, load_json, save_csv, save_json, save_latex, sha256_of_file
from runkit.content import IntervalMethod, RunHead, SkippedNetwork
from runkit.files import file_stem, reason_in_words
from runkit.intervals import note_on_few
from runkit.numbers import FRACTION, difference_cells
from shapebias.answers.suppressed import SuppressedAnswers
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.reliance import RESAMPLES, Reliance, RelianceDifference
from shapebias.measures.suppression_control import CONTROLS, ControlPoint
from shapebias.results.reliance_content import (
    BootstrapTest,
    ControlContent,
    ControlVariant,
    RelianceComparison,
    RelianceComparisonHead,
    RelianceDifferenceContent,
    RelianceIdentity,
    RelianceMeasures,
    RelianceProvenance,
    RelianceResult,
)
from shapebias.stimuli.suppressions import CUES, SUPPRESSIONS

__all__ = [
    "PICTURES",
    "RelianceFolder",
    "comparison_files",
    "control_table",
    "describe_comparison",
    "describe_control",
    "notes_on_reliance",
    "read_comparison",
    "show_reliance",
    "write_comparison",
    "write_reliance",
]

_STEM = "reliance"
PICTURES = ("reliance", "reliance-curves", "reliance-images", "reliance-control")
"""Stems of the figures; the last two are drawn only if the images are available."""


@dataclass(frozen=True)
class RelianceFolder:
    """Paths of the files in `<output>/shapebias/reliance`."""

    root: Path

    @classmethod
    def of(cls, output: Path) -> "RelianceFolder":
        return cls(output / "shapebias" / "reliance")

    def json_of(self, name: str) -> Path:
        """Result of a network."""
        return self.root / f"{file_stem(name)}.json"

    @property
    def comparison(self) -> Path:
        """Comparison of all networks."""
        return self.root / f"{_STEM}.json"

    def probabilities_of(self, name: str) -> Path:
        """Answers of a network (`shapebias.answers.suppressed`)."""
        return self.root / f"{file_stem(name)}.probabilities.npz"

    def partial_of(self, name: str) -> Path:
        """Progress of an unfinished run of a network."""
        return self.root / f"{file_stem(name)}.probabilities.partial.npz"

    def files_of(self, name: str) -> list[Path]:
        """All files that a finished run leaves for a network."""
        return [self.json_of(name), self.probabilities_of(name)]


def write_reliance(measured: Reliance, answers: SuppressedAnswers, answers_path: Path, path: Path) -> Path:
    """Write `<model>.json`: provenance of the answers, the file that holds them, and the measures."""
    content: RelianceResult = {
        **cast(RelianceProvenance, answers.provenance),
        "label": answers.label,
        "probabilities": {"file": answers_path.name, "sha256": sha256_of_file(answers_path)},
        "results": {
            "units": _UNITS,
            "interval": _describe_interval([measured]),
            **cast(RelianceMeasures, measured.as_dict()),
        },
    }
    save_json(path, content)
    return path


def describe_comparison(
    answers: Sequence[SuppressedAnswers], files: Sequence[Path], head: RunHead, skipped: Sequence[SkippedNetwork]
) -> RelianceComparisonHead:
    """Describe the provenance of a comparison: the run, the networks, and the files of their answers."""
    identities = [cast(RelianceIdentity, one.provenance["config"]) for one in answers]
    return {
        **head,
        "config": {
            "networks": [one.name for one in answers],
            "weights": [identity["weights"] for identity in identities],
            "images": identities[0]["images"],
            "suppressions": list(answers[0].variants),
        },
        "probabilities": [{"file": path.name, "sha256": sha256_of_file(path)} for path in files],
        "skipped": skipped,
    }


def describe_control(points: Sequence[ControlPoint], *, images: int, size: tuple[int, int]) -> ControlContent:
    """Describe what suppressions do to the images themselves, for the file of the comparison."""
    return {
        "images": images,
        "size_px": list(size),
        "definitions": CONTROLS,
        "variants": [cast(ControlVariant, point.as_dict()) for point in points],
    }


def write_comparison(
    measured: Sequence[Reliance],
    differences: Sequence[RelianceDifference],
    folder: RelianceFolder,
    head: RelianceComparisonHead,
    *,
    control: ControlContent | None = None,
    pictures: Sequence[Path] = (),
) -> list[Path]:
    """Write the comparison of all networks as JSON, and as tables in CSV and LaTeX; return the files."""
    target = folder.root / f"{_STEM}.json"
    pairs = [cast(RelianceDifferenceContent, difference.as_dict()) for difference in differences]
    content: RelianceComparison = {
        **head,
        "pictures": [path.name for path in pictures],
        "results": {
            "units": _UNITS,
            "interval": _describe_interval(measured),
            "networks": [cast(RelianceMeasures, one.as_dict()) for one in measured],
            "differences": {"test": _TEST, "pairs": pairs},
            "control": control,
        },
    }
    save_json(target, content)
    note = f"the numbers in full, and what made them, are in {target.name}"
    if warning := notes_on_reliance(measured):
        note = f"{note}\n{warning}"
    rows = [_plain_row(one.name, point.as_dict()) for one in measured for point in one.points]
    labels = {one.name: one.label for one in measured}
    summary = [_plain_row(one.name, row) for one in measured for row in _summary_rows(one)]
    written = [
        target,
        save_csv(folder.root / f"{_STEM}.csv", rows),
        save_csv(folder.root / f"{_STEM}-cues.csv", summary),
        save_latex(folder.root / f"{_STEM}.tex", *_table(measured), note=note),
        save_csv(folder.root / f"{_STEM}-differences.csv", pairs),
        save_latex(folder.root / f"{_STEM}-differences.tex", *_difference_table(differences, labels), note=note),
    ]
    if control is not None:
        written += [
            save_csv(folder.root / f"{_STEM}-control.csv", [_plain_row("", row) for row in control["variants"]]),
            save_latex(folder.root / f"{_STEM}-control.tex", *control_table(control), note=note),
        ]
    return written


def read_comparison(path: Path) -> RelianceComparison:
    """Read a comparison that `write_comparison` wrote.

    Raises: UserError if the file cannot be read or does not hold a comparison.
    """
    content = load_json(path)
    try:
        content["results"]["networks"], content["results"]["differences"]["pairs"], content["results"]["control"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not a comparison of shapebias.reliance: {reason_in_words(error)}") from error
    return cast(RelianceComparison, content)


def comparison_files(folder: RelianceFolder, formats: Sequence[str]) -> list[Path]:
    """List all files that a run may write for all networks together, including the figures."""
    tables = [f"{part}.{end}" for part in (_STEM, f"{_STEM}-differences", f"{_STEM}-control") for end in ("csv", "tex")]
    names = [f"{_STEM}.json", f"{_STEM}-cues.csv", *tables]
    return [folder.root / name for name in names + [f"{p}.{suffix}" for p in PICTURES for suffix in formats]]


def _describe_interval(measured: Sequence[Reliance]) -> IntervalMethod:
    method: IntervalMethod = {
        "level": 0.95,
        "method": "percentile bootstrap over images, all variants of an image drawn together",
        "resamples": RESAMPLES,
        "seed": 0,
    }
    if note := note_on_few(one.images for one in measured):
        method["note"] = note
    return method


def notes_on_reliance(measured: Sequence[Reliance]) -> str:
    """Return sentences on cues that were not suppressed in all ways, and on too few images; empty if not needed."""
    notes = []
    for cue, used in _suppressions_of(measured).items():
        usual = [name for name, one in SUPPRESSIONS.items() if one.cues == (cue,)]
        if set(used) != set(usual):
            notes.append(
                f"Reliance on {cue} is the mean over {', '.join(used)}: not comparable with that over the usual "
                f"suppressions ({', '.join(usual)})."
            )
    return " ".join(filter(None, [*notes, note_on_few(one.images for one in measured)]))


def _suppressions_of(measured: Sequence[Reliance]) -> dict[str, list[str]]:
    """Cue -> the suppressions that removed only this cue, for the cues that have any."""
    points = [point for one in measured for point in one.points]
    used = {cue: list(dict.fromkeys(point.suppression for point in points if point.cues == cue)) for cue in CUES}
    return {cue: names for cue, names in used.items() if names}


def show_reliance(measured: Sequence[Reliance]) -> str:
    """Format the comparison as text, with one row per network."""
    table, note = format_table(*_table(measured)), notes_on_reliance(measured)
    return f"{table}\n\n{note}" if note else table


def _table(measured: Sequence[Reliance]) -> tuple[list[str], list[list[str]]]:
    labelled, cues = measured[0].chance is not None, _suppressions_of(measured)
    header = ["network", *(["accuracy"] if labelled else []), *(f"reliance on {cue}" for cue in cues)]
    rows = []
    for one in measured:
        accuracy = [_cell(one.points[0].accuracy)] if labelled else []
        rows.append([one.label, *accuracy, *(_cell(one.reliance.get(cue)) for cue in cues)])
    return header, rows


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    return str(FRACTION.write(estimate.value, estimate.low, estimate.high))


def _difference_table(
    differences: Sequence[RelianceDifference], labels: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    header = ["pair", "of", "difference", "95% interval", "p", "p (Holm)"]
    rows = [
        [
            f"{labels.get(one.first, one.first)} - {labels.get(one.second, one.second)}",
            labels.get(one.of, one.of),
            *difference_cells(one.difference, one.low, one.high),
            f"{one.p:.4f}",
            f"{one.p_holm:.4f}",
        ]
        for one in differences
    ]
    return header, rows


def control_table(control: ControlContent) -> tuple[list[str], list[list[str]]]:
    """Make a table (header and rows) of what suppressions do to the images, with one row per variant."""
    rows = []
    for variant in control["variants"]:
        row: Mapping[str, Any] = variant
        values = [row[key] for key in CONTROLS]
        rows.append([variant["variant"], *("–" if value is None else f"{value:.2f}" for value in values)])
    return ["variant", *(name.replace("_", " ") for name in CONTROLS)], rows


def _summary_rows(one: Reliance) -> list[dict[str, Any]]:
    """Rows with the area of each suppression and the reliance on each cue, in the same columns."""
    areas = [("area", name, value) for name, value in one.areas.items()]
    cues = [("reliance", cue, value) for cue, value in one.reliance.items()]
    return [{"measure": kind, "of": name, **value.as_dict("value")} for kind, name, value in [*areas, *cues]]


def _plain_row(network: str, point: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the CSV, with the ends of intervals in separate columns."""
    row: dict[str, Any] = {"network": network} if network else {}
    for key, value in point.items():
        if key.endswith("_interval"):
            base = key.removesuffix("_interval")
            row |= {f"{base}_low": value and value[0], f"{base}_high": value and value[1]}
        else:
            row[key] = value
    return row


_UNITS = "accuracies, changed answers and areas are fractions; reliance is 1 minus a mean of areas"
_TEST: BootstrapTest = {
    "method": "paired bootstrap over images, two-sided",
    "resamples": RESAMPLES,
    "seed": 0,
    "correction": "Holm, over all comparisons of a kind",
}
