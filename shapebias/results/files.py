"""Result files: their paths, whether they are finished, and one JSON file per observer.

All functions here work on recorded answers; neither torch nor a network is needed.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runkit import UserError, file_stem, load_json, save_json, sha256_of_file
from runkit.content import IntervalMethod
from runkit.intervals import note_on_few
from shapebias.answers.observers import Observer, csv_name
from shapebias.measures.bootstrap import CONFIDENCE, METHOD, RESAMPLES
from shapebias.measures.shape_bias import Measurement
from shapebias.results.content import NetworkHead, ObserverResults, RawData, RecordedHead, SavedFile
from shapebias.stimuli.experiments import CUE_CONFLICT, Experiment

__all__ = [
    "FEW_DECISIONS",
    "UNITS",
    "ResultFolder",
    "describe_interval",
    "describe_raw_data",
    "describe_results",
    "note_on_images",
    "notes_on",
    "refuse_other_probabilities",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultFolder:
    """Paths of the files of one experiment in a run's output folder.

    Attributes:
        root: Folder of the results: `<output>/shapebias`, for experiments with one cue
            `<output>/shapebias/<experiment>`.
        raw: Folder of the answers, where the toolbox looks for them: `<output>/shapebias/raw/<experiment>`.
        experiment: The experiment.
    """

    root: Path
    raw: Path
    experiment: Experiment

    @classmethod
    def of(cls, output: Path, experiment: Experiment = CUE_CONFLICT) -> "ResultFolder":
        """Return the folder of an experiment in a run's output folder."""
        base = output / "shapebias"
        root = base if experiment.two_cues else base / experiment.name
        return cls(root, base / "raw" / experiment.name, experiment)

    def json_of(self, name: str) -> Path:
        """Result of the observer `name`; characters that are invalid in file names are replaced by hyphens."""
        return self.root / f"{file_stem(name)}.json"

    def csv_of(self, name: str) -> Path:
        """Answers of the network `name`."""
        return self.raw / csv_name(file_stem(name), self.experiment)

    def probabilities_of(self, name: str) -> Path:
        """Probabilities of the network `name` for every stimulus (`shapebias.answers.probabilities`)."""
        return self.root / f"{file_stem(name)}.probabilities.npz"

    def ranks_of(self, name: str) -> Path:
        """Cue ranks of the network `name` for every stimulus (`shapebias.measures.ranks`)."""
        return self.root / f"{file_stem(name)}.cue-ranks.csv"

    def partial_of(self, name: str) -> Path:
        """Progress of an unfinished run of the network `name` (`runkit.progress`)."""
        return self.root / f"{file_stem(name)}.probabilities.partial.npz"

    def files_of(self, name: str) -> list[Path]:
        """All files that a finished run leaves for the network `name`."""
        return [self.json_of(name), self.csv_of(name), self.probabilities_of(name), self.ranks_of(name)]

    def finished_identity(self, name: str, *, resume: bool) -> dict[str, Any] | None:
        """Return the settings that determined the result of the network `name` on disk; None if there is no result.

        Args:
            name: Name of the network.
            resume: Whether the run resumes another one, which may have been stopped between answers and result.

        Raises: UserError if there are answers without a result.
        """
        json_path, csv_path = self.json_of(name), self.csv_of(name)
        if json_path.exists():
            return load_json(json_path).get("config", {})
        continued = resume and self.probabilities_of(name).exists()
        if csv_path.exists() and not continued:
            raise UserError(
                f"{csv_path} exists without {json_path.name}; --resume if a run was interrupted, measure it with "
                "--from-csv, or --overwrite"
            )
        return None

    def results_of(self, csv_path: Path) -> list[Path]:
        """The result files of all networks whose answers have this file."""
        return [path for path in sorted(self.root.glob("*.json")) if self.csv_of(path.stem) == csv_path]

    def refuse_shared_answers(self, name: str) -> None:
        """Check that the file of the answers of the network `name` is not that of another network's result.

        The toolbox's file names have hyphens for underscores, so those of two networks may be the same.

        Raises: UserError if it is.
        """
        csv_path = self.csv_of(name)
        for path in self.results_of(csv_path):
            if path == self.json_of(name):
                continue
            if "probabilities" in (other := load_json(path)) and other["raw_data"]["file"] == csv_path.name:
                raise UserError(
                    f"the answers of {name} would have the same file as those of {path.name} ({csv_path}); choose "
                    "another --output"
                )

    def has_answers(self, name: str, probabilities: Path | None = None) -> bool:
        """Whether the answers from which the result of the network `name` was computed are there.

        Args:
            name: Name of the network.
            probabilities: The file of its probabilities; None for the one in this folder, which may be missing.
        Raises: UserError if the answers or the probabilities have been changed since, or are of another run.
        """
        json_path, csv_path = self.json_of(name), self.csv_of(name)
        if not csv_path.exists():
            return False
        if sha256_of_file(csv_path) != load_json(json_path).get("raw_data", {}).get("sha256"):
            raise UserError(f"{csv_path} was changed since {json_path.name} was written; restore it, or --overwrite")
        refuse_other_probabilities(json_path, probabilities or self.probabilities_of(name))
        return True

    def write_observer(self, observer: Observer, head: NetworkHead | RecordedHead, measurement: Measurement) -> Path:
        """Write `<observer>.json`: provenance of the answers (`head`), the file that holds them, and the measures."""
        path = self.json_of(str(head["config"].get("model", observer.name)))
        save_json(path, {**head, "raw_data": describe_raw_data(observer), "results": describe_results(measurement)})
        return path

    def write_recorded(
        self, observer: Observer, head: RecordedHead, measurement: Measurement, *, overwrite: bool
    ) -> None:
        """Write `<observer>.json` for answers read from a CSV.

        Without `overwrite`, an existing result of the same answers is kept.

        Raises: UserError if there is a result of other answers, without `overwrite`.
        """
        path = self.json_of(observer.name)
        now = _hashes_of(describe_raw_data(observer))
        if path.exists() and not overwrite:
            recorded = _hashes_of(load_json(path).get("raw_data", {}))
            if recorded != now:
                raise UserError(
                    f"{path} is a result of other answers (raw_data.sha256: {recorded} -> {now}); "
                    "choose another --output, or --overwrite"
                )
            _logger.info("%s: kept the finished result %s", observer.name, path)
        else:
            self.write_observer(observer, head, measurement)
            _logger.info("%s: wrote %s", observer.name, path)


def refuse_other_probabilities(result: Path, probabilities: Path) -> None:
    """Check that a result was computed from the probabilities on disk, if there are any.

    Raises: UserError if it was computed from another file.
    """
    if not probabilities.exists():
        return
    if sha256_of_file(probabilities) != load_json(result).get("probabilities", {}).get("sha256"):
        raise UserError(
            f"{probabilities} and {result.name} are of different runs, or one was changed; restore them, or --overwrite"
        )


def describe_results(measurement: Measurement) -> ObserverResults:
    """Make the `results` block of an observer's JSON."""
    return {"units": UNITS, "interval": describe_interval([measurement]), **measurement.as_dict()}


def describe_raw_data(observer: Observer) -> RawData:
    """Make the `raw_data` block: the file of the answers, or the files of several sessions, and their SHA-256."""
    assert observer.source is not None  # only observers that were read from a file have their own result
    first, *more = (_describe_file(path) for path in (observer.source, *observer.more_sources))
    described: RawData = {**first, "subject": observer.name}
    if more:
        described["further_sessions"] = more
    return described


def _describe_file(path: Path) -> SavedFile:
    return {"file": path.name, "sha256": sha256_of_file(path)}


def _hashes_of(raw_data: Mapping[str, Any]) -> str:
    """The SHA-256 of all files in a `raw_data` block, as text."""
    hashes = [raw_data.get("sha256"), *(file["sha256"] for file in raw_data.get("further_sessions", ()))]
    return ", ".join(map(str, hashes))


UNITS = "fractions in [0, 1]; counts in confusion (rows: na, then the categories; columns: category of the shape)"


def describe_interval(measurements: Sequence[Measurement]) -> IntervalMethod:
    """Make the `interval` block next to measures in a result file, with a note if there are few images."""
    method: IntervalMethod = {"level": CONFIDENCE, "method": METHOD, "resamples": RESAMPLES, "seed": 0}
    if note := note_on_images(measurements):
        method["note"] = note
    return method


FEW_DECISIONS = 30
"""Below this number of decisions by shape or texture, results warn of a shape bias."""


def notes_on(measurements: Sequence[Measurement], experiment: Experiment) -> str:
    """Return sentences that warn of other images than the published ones and of too few images; empty if not needed."""
    others = sorted({one.trials for one in measurements if one.kind == "network"} - {experiment.images})
    images = " to ".join(f"{count:,}" for count in dict.fromkeys((others[0], others[-1]))) if others else ""
    other = f"{images} images instead of the published {experiment.images:,}: not comparable with published numbers."
    return " ".join(filter(None, [other if others else "", note_on_images(measurements)]))


def note_on_images(measurements: Iterable[Measurement]) -> str:
    """Return a warning if results of networks are based on too few images or decisions; otherwise empty."""
    networks = [one for one in measurements if one.kind != "people"]
    images = note_on_few(one.trials for one in networks)
    few = list(dict.fromkeys((one.label, one.decisions) for one in networks if 0 < one.decisions < FEW_DECISIONS))
    if not few:
        return images
    who = ", ".join(f"{label} ({number})" for label, number in few)
    return f"{images} Shape bias from fewer than {FEW_DECISIONS} decisions by shape or texture: {who}.".lstrip()
