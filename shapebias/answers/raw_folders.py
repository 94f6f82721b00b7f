"""Find raw-data CSV files in folders, and check which dataset they belong to.

A folder of answers holds one folder per dataset, named after it. A file in the wrong folder could go unnoticed, because
edge drawings and silhouettes, for example, have the same image names. Therefore everything that reveals the dataset is
checked: the text before the first underscore of the file's name, the token in the names of trials, and the SHA-256 of
published files.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from runkit import UserError
from runkit.fetch.manifest import known_files
from runkit.files import list_visible
from runkit.parser import nearest
from shapebias.answers.raw_data import RawData
from shapebias.stimuli.experiments import EXPERIMENTS, Experiment
from shapebias.stimuli.layouts import experiments_of_name

__all__ = ["list_csvs", "list_raw_data", "refuse_other_dataset"]

_SIMILAR = 0.75
_SHOWN = 3
_BY_LOWER_NAME = {name.lower(): name for name in EXPERIMENTS}

_logger = logging.getLogger(__name__)


def list_csvs(folder: Path) -> list[Path]:
    """Return the CSVs of a folder (ending in any case), sorted by name. If there are any, log the other entries."""
    found, others = _split(folder)
    if found and others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        shown = ", ".join(path.name for path in others[:_SHOWN])
        _logger.info("%s: not read, since its name does not end in .csv: %s%s", folder, shown, more)
    return found


def list_raw_data(folders: Iterable[str | Path]) -> dict[str, list[Path]]:
    """List the CSVs of `<folder>/<dataset>/` in all the folders, keyed by dataset, in the order of `EXPERIMENTS`.

    The log warns of a folder that holds CSVs but is not named after a dataset.

    Raises: UserError if a folder does not exist or holds no dataset.
    """
    files: dict[str, list[Path]] = {name: [] for name in EXPERIMENTS}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; name one that holds <dataset>/*.csv, such as figures/shapebias/raw")
        inside = {path.name: path for path in list_visible(folder, "*") if path.is_dir()}
        found = {name: list_csvs(inside[name]) for name in EXPERIMENTS if name in inside}
        strange = [path for name, path in inside.items() if name not in EXPERIMENTS and _split(path)[0]]
        if not any(found.values()):
            raise UserError(
                f"{folder} holds no <dataset>/*.csv of the benchmark ({', '.join(EXPERIMENTS)})"
                f"{_guess_folder(folder, inside)}"
            )
        for path in strange:
            _logger.warning("%s is not read: it is named like no dataset%s", path, _guess_name(path))
        for name, paths in found.items():
            files[name] += paths
    return {name: paths for name, paths in files.items() if paths}


def refuse_other_dataset(raw: RawData, experiment: Experiment, *, images: bool = True) -> None:
    """Check by a file's name, the names of its trials and its content that its answers are to the given dataset.

    Args:
        raw: The file.
        experiment: The dataset to which the answers should belong.
        images: Whether to check the names of trials; unnecessary if another file with the same names was checked.
    Raises: UserError if they belong to another dataset.
    """
    named = _dataset_of_file(raw)
    if named not in ("", experiment.name):
        raise UserError(
            f"{raw.path} holds answers to the dataset {named} by its name, not to {experiment.name}; name the right "
            "experiment, or rename the file if its name is wrong"
        )
    for name in raw.columns["imagename"] if images else ():
        others = experiments_of_name(name)
        if others and experiment.name not in others:
            raise UserError(
                f"{raw.path} holds answers to the dataset {' or '.join(others)}, not to {experiment.name}: it has the "
                f"image {name!r}; name the right experiment, or put the file into the folder of its dataset"
            )
    known = _published_datasets().get(raw.sha256, {experiment.name})
    if experiment.name not in known:
        raise UserError(
            f"{raw.path} holds answers to the dataset {' or '.join(sorted(known))}, not to {experiment.name}: it is "
            "the published file of them; name the right experiment, or put the file into the folder of its dataset"
        )


def _split(folder: Path) -> tuple[list[Path], list[Path]]:
    """The CSVs of a folder, and its other entries."""
    entries = list_visible(folder, "*")
    found = [path for path in entries if path.suffix.lower() == ".csv"]
    return found, [path for path in entries if path not in found]


def _dataset_of_file(raw: RawData) -> str:
    """The dataset that a file's name begins with; "" if there is none.

    The dataset is the text before the first underscore, or before the observer's name: `edge-net.csv` of the network
    `net`. A file that is named after its observer does not name a dataset: `contrast_net.csv` of the network
    `contrast_net`.
    """
    stem, subject = (re.sub("_", "-", text).lower() for text in (raw.path.stem, raw.subject))
    first = raw.path.stem.partition("_")[0].lower()
    if stem == subject or (subject.startswith(f"{first}-") and stem.startswith(f"{subject}-")):
        return ""
    if first in _BY_LOWER_NAME:
        return _BY_LOWER_NAME[first]
    beginnings = ((lower, f"{lower}-{subject}") for lower in _BY_LOWER_NAME)
    return next((_BY_LOWER_NAME[lower] for lower, both in beginnings if f"{stem}-".startswith(f"{both}-")), "")


@cache
def _published_datasets() -> Mapping[str, set[str]]:
    """SHA-256 of a published file of answers -> the datasets in which it is published."""
    datasets: dict[str, set[str]] = {}
    for section in ("people", "networks"):
        for known in known_files(section).values():
            if known.sha256:
                datasets.setdefault(known.sha256, set()).add(known.name.partition("_")[0])
    return datasets


def _guess_folder(folder: Path, inside: Mapping[str, Path]) -> str:
    """A guess at what was meant by a folder without a dataset, for the end of a message."""
    if folder.name in EXPERIMENTS:
        return f"; did you mean {folder.parent}?"
    guesses = [(path, meant) for path in inside.values() if (meant := _guess(path.name))]
    if guesses:
        path, meant = guesses[0]
        return f"; is {path} the dataset {meant}? Then rename it"
    deeper = next((path for path in inside.values() if any((path / name).is_dir() for name in EXPERIMENTS)), None)
    return f"; did you mean {deeper}?" if deeper else ""


def _guess_name(path: Path) -> str:
    meant = _guess(path.name)
    return f"; did you mean {meant}?" if meant else ""


def _guess(name: str) -> str:
    """The dataset that a folder's name resembles; "" if there is none, or if the name is itself a dataset."""
    if name in EXPERIMENTS:
        return ""
    return nearest(name, EXPERIMENTS, cutoff=_SIMILAR)
