"""Observers and their answers: the raw-data CSV of the model-vs-human toolbox, for networks and people alike.

One file holds one observer's answers, one row per trial, in the toolbox's columns. For networks, the toolbox writes
`condition` = NaN and the bare image name (`modelvshuman/evaluation/evaluate.py`). In files of people and older files of
networks, `imagename` has a prefix with the trial. Both forms are read.
"""

import csv
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from runkit import UserError, atomic_write
from shapebias.answers.datasets import fetch_answers
from shapebias.answers.raw_data import (
    COLUMNS,
    NO_ANSWER,
    PERSON_PREFIX,
    RANDOM_SUFFIX,
    RawData,
    image_id,
    label_of,
    read_raw_data,
)
from shapebias.answers.raw_folders import list_csvs, refuse_other_dataset
from shapebias.answers.sessions import join_sessions
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import CUE_CONFLICT, Experiment
from shapebias.stimuli.images import Stimulus, parse_image_name

__all__ = [
    "COLUMNS",
    "NO_ANSWER",
    "Observer",
    "csv_name",
    "find_people",
    "keep_images",
    "make_trials",
    "pool_people",
    "read_observer",
    "read_observers",
    "write_raw_data",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observer:
    """One observer's answers.

    Attributes:
        name: The `subj` of its file; "people" for several persons pooled.
        trials: One row per trial, with the columns `subject`, `image` (`image_id` of its file name), `shape`,
            `texture`, `response` (categories; "na" in `response` for no answer, "" in `texture` for an image with one
            cue).
        kind: "network", "person" or "people".
        label: Name in figures and tables.
        random: Whether it is a network with random weights, whose shape bias is meaningless.
        source: The CSV that it was read from, if any.
        more_sources: The CSVs of its further sessions.
        ranks: A network's cue ranks among all 1000 classes (`ranks.rank_cues`), if its probabilities are known.
        categories: The categories that a network can answer, if these are not all 16. Images of other categories were
            left out.
    """

    name: str
    trials: pd.DataFrame = field(repr=False)
    kind: str = "network"
    label: str = ""
    random: bool = False
    source: Path | None = None
    more_sources: tuple[Path, ...] = ()
    ranks: pd.DataFrame | None = field(default=None, repr=False)
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.name)


def keep_images(observer: Observer, images: Collection[str]) -> Observer:
    """Return the observer with only the trials of the given images (`image_id`)."""
    trials = observer.trials
    return replace(observer, trials=trials[trials["image"].isin(images)].reset_index(drop=True))


def make_trials(subject: str, images: Sequence[str], responses: Sequence[str]) -> pd.DataFrame:
    """Build the `trials` table of an `Observer` from image names and answered categories.

    Raises: ValueError on a name that does not parse, an unknown category, an image answered twice, or images with one
        cue among images with two.
    """
    pairs = [parse_image_name(name) for name in images]
    names = [image_id(name) for name in images]
    single = [name for name, (_, texture) in zip(names, pairs, strict=True) if not texture]
    if 0 < len(single) < len(names):
        raise ValueError(
            f"{len(single)} of the {len(names)} images have no texture of their own, such as {single[0]!r}; put the "
            "answers to each experiment into a file of their own"
        )
    unknown = sorted({answer for answer in responses if answer not in CATEGORIES and answer != NO_ANSWER})
    if unknown:
        raise ValueError(f"unknown answer {unknown[0]!r}; it must be {NO_ANSWER!r} or one of {', '.join(CATEGORIES)}")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"image {name!r} is answered twice by {subject!r}")
        seen.add(name)
    shapes, textures = zip(*pairs, strict=True) if pairs else ((), ())
    return pd.DataFrame(
        {"subject": subject, "image": names, "shape": shapes, "texture": textures, "response": list(responses)}
    )


def read_observer(path: str | Path, experiment: Experiment | None = None) -> Observer:
    """Read one observer's raw-data CSV (LF or CRLF line ends; column names in any case).

    Args:
        path: The CSV.
        experiment: The experiment that the answers should belong to, if known.

    Raises: UserError that names the file and the fault: the file is unreadable or has missing columns, several
        observers or no rows; an image name does not parse or contradicts `category`; an answer is unknown; an image
        occurs twice; or the answers are to another experiment.
    """
    return _observe(_read_of(path, experiment))


def _read_of(path: str | Path, experiment: Experiment | None) -> RawData:
    """Read a raw-data CSV and check its experiment, if one is given.

    Raises: UserError as `read_raw_data` and `refuse_other_dataset`.
    """
    raw = read_raw_data(path)
    if experiment is not None:
        refuse_other_dataset(raw, experiment)
    return raw


def _observe(raw: RawData) -> Observer:
    """Make an observer from the raw data of a file, or from the joined files of several sessions.

    Raises: UserError as `read_observer`.
    """
    path, name, table = raw.path, raw.subject, raw.columns
    try:
        trials = make_trials(name, table["imagename"], table["object_response"])
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    for image, shape, category in zip(trials["image"], trials["shape"], table["category"], strict=True):
        if shape != category:
            raise UserError(f"{path}: the category of {image!r} is given as {category!r}")
    if doubt := raw.describe_doubt():
        _logger.warning("%s: %s", path, doubt)
    random = name.endswith(RANDOM_SUFFIX)
    kind = "person" if raw.is_person else "network"
    more = tuple(part.path for part in raw.parts[1:])
    return Observer(name, trials, kind=kind, label=label_of(name), random=random, source=path, more_sources=more)


def read_observers(paths: Iterable[str | Path], experiment: Experiment | None = None) -> list[Observer]:
    """Read CSV files and all `*.csv` of folders, in the given order and, within a folder, by file name.

    Files of one observer that hold different sessions are joined.

    Args:
        paths: CSVs and folders.
        experiment: The experiment that the answers should belong to, if known.

    Raises: UserError as `read_observer` and `join_sessions`, and if a path does not exist, a folder has no CSV, or an
        observer occurs twice.
    """
    files: list[RawData] = []
    for path in map(Path, paths):
        found = list_csvs(path) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} holds no CSV; name raw-data CSVs of the toolbox, or their folder")
        files += [_read_of(file, experiment) for file in found]
    seen: dict[str, Path] = {}
    for raw in (joined := join_sessions(files)):
        if raw.subject in seen:
            raise UserError(
                f"{raw.path} and {seen[raw.subject]} are both of the observer {raw.subject!r} and of the same session; "
                "name one of them"
            )
        seen[raw.subject] = raw.path
    return [_observe(raw) for raw in joined]


def find_people(folder: str | Path | None = None, experiment: Experiment = CUE_CONFLICT) -> list[Observer]:
    """Read the persons of an experiment from `folder`, or else from the cache, filled by a download if necessary.

    Raises: UserError if the folder holds no person's CSV, or a cached file is damaged; DownloadError if the files
        cannot be downloaded.
    """
    if folder is None:
        return read_observers(fetch_answers("people", experiment))
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; --humans must hold the raw-data CSVs of people (subject-*)")
    people = [observer for observer in read_observers([folder], experiment) if observer.kind == "person"]
    if not people:
        raise UserError(f"{folder} holds no person's CSV (their subj begins with {PERSON_PREFIX!r})")
    return people


def pool_people(people: Sequence[Observer]) -> Observer:
    """Pool the trials of all persons into one observer, `people`, as in the toolbox's figures.

    Raises: ValueError if there are no persons.
    """
    if not people:
        raise ValueError("there are no people to pool")
    trials = pd.concat([person.trials for person in people], ignore_index=True)
    return Observer("people", trials, kind="people", label=f"people (n = {len(people)})")


def csv_name(model: str, experiment: Experiment = CUE_CONFLICT) -> str:
    """Return the file name of a network's answers as the toolbox forms it: underscores in the name become hyphens."""
    return f"{experiment.name}_{model.replace('_', '-')}_session-1.csv"


def write_raw_data(path: str | Path, subject: str, stimuli: Sequence[Stimulus], responses: Sequence[str]) -> None:
    """Write a network's answers atomically and as the toolbox does, with the same columns, values and line ends."""
    if len(stimuli) != len(responses):
        raise ValueError(f"{len(responses)} answers to {len(stimuli)} stimuli")
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for trial, (stimulus, response) in enumerate(zip(stimuli, responses, strict=True), start=1):
            writer.writerow(
                [subject, 1, trial, "NaN", response, stimulus.shape, stimulus.condition or "NaN", stimulus.name]
            )
