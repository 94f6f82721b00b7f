"""Result files of reliance: one JSON per network, and the comparison of all networks of a run as JSON and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runkit import format_table, save_csv, save_json, save_latex, sha256_of_file
from runkit.files import file_stem
from shapebias.answers.suppressed import SuppressedAnswers
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.reliance import RESAMPLES, Reliance, RelianceDifference
from shapebias.stimuli.suppressions import CUES

__all__ = ["RelianceFolder", "comparison_files", "show_reliance", "write_comparison", "write_reliance"]

_STEM = "reliance"
_PICTURES = ("reliance", "reliance-curves", "reliance-images")


@dataclass(frozen=True)
class RelianceFolder:
    """Where the files lie: `<output>/shapebias/reliance`."""

    root: Path

    @classmethod
    def of(cls, output: Path) -> "RelianceFolder":
        return cls(output / "shapebias" / "reliance")

    def json_of(self, name: str) -> Path:
        """Result of a network."""
        return self.root / f"{file_stem(name)}.json"

    def answers_of(self, name: str) -> Path:
        """What the network answered (`shapebias.answers.suppressed`)."""
        return self.root / f"{file_stem(name)}.probabilities.npz"

    def partial_of(self, name: str) -> Path:
        """Progress of an unfinished run."""
        return self.root / f"{file_stem(name)}.probabilities.partial.npz"

    def files_of(self, name: str) -> list[Path]:
        """What a run leaves of a network."""
        return [self.json_of(name), self.answers_of(name)]


def write_reliance(measured: Reliance, answers: SuppressedAnswers, answers_path: Path, path: Path) -> Path:
    """Write `<model>.json`: what made the answers, their file, and the measures."""
    content = {
        **answers.provenance,
        "label": answers.label,
        "answers": {"file": answers_path.name, "sha256": sha256_of_file(answers_path)},
        "results": {"units": _UNITS, "interval": _INTERVAL, **measured.as_dict()},
    }
    save_json(path, content)
    return path


def write_comparison(
    measured: Sequence[Reliance],
    differences: Sequence[RelianceDifference],
    folder: RelianceFolder,
    head: Mapping[str, Any],
    *,
    pictures: Sequence[Path] = (),
) -> list[Path]:
    """Write the comparison of all networks: JSON, and tables as CSV and LaTeX."""
    target = folder.root / f"{_STEM}.json"
    pairs = [difference.as_dict() for difference in differences]
    content = {
        **head,
        "pictures": [path.name for path in pictures],
        "results": {
            "units": _UNITS,
            "interval": _INTERVAL,
            "networks": [one.as_dict() for one in measured],
            "differences": {"test": _TEST, "pairs": pairs},
        },
    }
    save_json(target, content)
    note = f"the numbers in full, and what made them, are in {target.name}"
    rows = [_plain_row(one, point.as_dict()) for one in measured for point in one.points]
    return [
        target,
        save_csv(folder.root / f"{_STEM}.csv", rows),
        save_latex(folder.root / f"{_STEM}.tex", *_table(measured), note=note),
        save_csv(folder.root / f"{_STEM}-differences.csv", pairs),
    ]


def comparison_files(folder: RelianceFolder, formats: Sequence[str]) -> list[Path]:
    """What a run writes for all networks together."""
    names = [f"{_STEM}.json", f"{_STEM}.csv", f"{_STEM}.tex", f"{_STEM}-differences.csv"]
    return [folder.root / name for name in names + [f"{p}.{suffix}" for p in _PICTURES for suffix in formats]]


def show_reliance(measured: Sequence[Reliance]) -> str:
    """The comparison as text, one row per network."""
    return format_table(*_table(measured))


def _table(measured: Sequence[Reliance]) -> tuple[list[str], list[list[str]]]:
    labelled = measured[0].chance is not None
    header = ["network", *(["accuracy"] if labelled else []), *(f"reliance on {cue}" for cue in CUES)]
    rows = []
    for one in measured:
        accuracy = [_cell(one.points[0].accuracy)] if labelled else []
        rows.append([one.label, *accuracy, *(_cell(one.reliance.get(cue)) for cue in CUES)])
    return header, rows


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "–"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _plain_row(one: Reliance, point: dict[str, Any]) -> dict[str, Any]:
    """A row of the CSV: the ends of an interval in columns of their own."""
    row: dict[str, Any] = {"network": one.name}
    for key, value in point.items():
        if key.endswith("_interval"):
            base = key.removesuffix("_interval")
            row |= {f"{base}_low": value and value[0], f"{base}_high": value and value[1]}
        else:
            row[key] = value
    return row


_UNITS = "accuracies, changed answers and areas are fractions; reliance is 1 minus a mean of areas"
_INTERVAL = {"level": 0.95, "method": "percentile bootstrap over images, all variants of an image drawn together",
             "resamples": RESAMPLES, "seed": 0}  # fmt: skip
_TEST = {
    "method": "paired bootstrap over images, two-sided",
    "resamples": RESAMPLES,
    "seed": 0,
    "correction": "Holm, over all comparisons of a kind",
}
