"""Answers of many observers to the datasets of the benchmark: every CSV of `<folder>/<dataset>/`, people and networks.

Answers are matched by image, since the number and order of trials differ between people. The category and the condition
of an image must be the same for all observers of the dataset. Missing trials are allowed, because some published files
are incomplete; they are counted and reported. An image that is answered twice, an unknown condition, category or
answer, and an observer who occurs twice are errors.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from runkit import UserError, sha256_of_lines
from runkit.fetch.download import download
from runkit.fetch.manifest import known_files, verify_file
from shapebias.answers.raw_data import NO_ANSWER, RawData, image_id, read_raw_data
from shapebias.answers.raw_folders import list_raw_data, refuse_other_dataset
from shapebias.answers.sessions import join_sessions
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import EXPERIMENTS, Experiment
from shapebias.stimuli.images import cache_folder

__all__ = [
    "MISSING",
    "Answers",
    "Source",
    "fetch_answers",
    "match_answers",
    "read_answers",
    "read_folders",
    "warn_of_faults",
]

MISSING = -1
"""The answer of an observer who has no trial with an image."""
_ANSWERS = {NO_ANSWER: 0, **{category: code for code, category in enumerate(CATEGORIES, start=1)}}
_CATEGORIES = {category: code for code, category in enumerate(CATEGORIES, start=1)}
_CHANCE = 1 / len(CATEGORIES)
_NEAR_CHANCE = 2 * _CHANCE

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The file that holds an observer's answers to a dataset.

    Attributes:
        subject: The observer's name.
        path: The file.
        sha256: SHA-256 of its bytes.
        trials: Number of trials.
        doubt: Why the observer may not be a person, or not a network, after all (`RawData.describe_doubt`); empty if
            there is no doubt.
        parts: The files of all sessions if there are several; the path and the SHA-256 are then those of the first.
    """

    subject: str
    path: Path
    sha256: str
    trials: int
    doubt: str = ""
    parts: "tuple[Source, ...]" = ()

    @classmethod
    def of(cls, raw: RawData) -> "Source":
        """The source of raw data: the file that was read, with the files of all sessions if there are several."""
        parts = tuple(map(cls.of, raw.parts))
        return cls(raw.subject, raw.path, raw.sha256, len(raw.columns["imagename"]), raw.describe_doubt(), parts)


@dataclass(frozen=True)
class Answers:
    """The answers of all observers to the images of one dataset.

    Attributes:
        experiment: The dataset.
        images: N names (`shapebias.answers.raw_data.image_id`), sorted.
        categories: int8 (N,): 1 to 16, in the order of `CATEGORIES`.
        conditions: int8 (N,): position among the experiment's conditions, 0 where it has none.
        networks: Names, in the order they were read.
        persons: Names, in the order they were read. They are valid within this dataset only: `subject-01` of another
            dataset may be someone else.
        given: int8 (networks and then persons, N): 0 for no answer in time, 1 to 16 for a category, `MISSING` for no
            trial.
        sources: The file of each observer, in the same order.
    """

    experiment: Experiment
    images: tuple[str, ...] = field(repr=False)
    categories: np.ndarray = field(repr=False)
    conditions: np.ndarray = field(repr=False)
    networks: tuple[str, ...]
    persons: tuple[str, ...]
    given: np.ndarray = field(repr=False)
    sources: tuple[Source, ...] = field(repr=False)

    @property
    def observers(self) -> tuple[str, ...]:
        """Networks, then persons."""
        return self.networks + self.persons

    @cached_property
    def answered(self) -> np.ndarray:
        """bool (observers, N): whether the observer has a trial with the image."""
        return self.given != MISSING

    @cached_property
    def correct(self) -> np.ndarray:
        """bool (observers, N): whether the answer is the category; False for no answer and for no trial."""
        return self.given == self.categories

    @cached_property
    def is_published_list(self) -> bool:
        """Whether images, categories and conditions are those of the published dataset."""
        return self._trials_sha256 == _TRIALS_SHA256[self.experiment.name]

    @property
    def _trials_sha256(self) -> str:
        """SHA-256 of the lines `<condition>/<category>/<image>`, sorted."""
        conditions = [condition.token for condition in self.experiment.conditions] or [""]
        pieces = zip(self.conditions.tolist(), self.categories.tolist(), self.images, strict=True)
        return sha256_of_lines(sorted(f"{conditions[c]}/{CATEGORIES[k - 1]}/{image}" for c, k, image in pieces))

    def missing(self, observer: str) -> int:
        """Number of images of the dataset with which an observer has no trial."""
        return len(self.images) - int(self.answered[self.observers.index(observer)].sum())


def fetch_answers(section: str, experiment: Experiment) -> list[Path]:
    """Return the published CSVs of a dataset from the cache, verified; missing ones are downloaded first.

    Args:
        section: "people", or "networks" for the toolbox's nine networks.
        experiment: The dataset.
    Raises: DownloadError if a file cannot be downloaded; UserError if a cached file is damaged.
    """
    folder = cache_folder() / section / experiment.name
    paths = []
    for known in known_files(section).values():
        if known.name.startswith(f"{experiment.name}_"):
            path = folder / known.name
            if not path.is_file():
                what = f"the answers of {section} ({known.name})"
                download(known.url, path, what=what, sha256=known.sha256, size=known.size)
            verify_file(path, known.sha256)
            paths.append(path)
    return paths


def read_answers(experiment: Experiment, paths: Iterable[str | Path]) -> Answers:
    """Read all CSVs of a dataset.

    Raises: UserError as `read_raw_data` and `match_answers`; it names the file and the fault.
    """
    return match_answers(experiment, [read_raw_data(path) for path in paths])


def read_folders(folders: Iterable[str | Path]) -> dict[str, Answers]:
    """Read the answers of all observers to all datasets in the folders (`<dataset>/*.csv`), keyed by dataset.

    Raises: UserError as `list_raw_data` and `read_answers`.
    """
    return {name: read_answers(EXPERIMENTS[name], paths) for name, paths in list_raw_data(folders).items()}


def match_answers(experiment: Experiment, observers: Sequence[RawData]) -> Answers:
    """Match the answers of a dataset's observers by image.

    Raises: UserError that names the file and the fault: answers to another dataset, an image that occurs twice, an
        unknown condition, category or answer, an image that people did not see, a category or condition that differs
        from the other observers', or an observer who occurs twice.
    """
    files = join_sessions(observers)
    names: Sequence[str] = ()
    for raw in files:
        refuse_other_dataset(raw, experiment, images=raw.columns["imagename"] != names)
        names = raw.columns["imagename"]
    _refuse_twins(files, experiment)
    files.sort(key=lambda raw: raw.is_person)  # stable: networks, then persons
    trials: list[_Trials] = []
    for raw in files:
        trials.append(_Trials.of(raw, experiment, trials[-1] if trials else None))
    meanings = _agree(files, trials, experiment)
    images = tuple(sorted(meanings))
    places = {image: place for place, image in enumerate(images)}
    given = np.full((len(files), len(images)), MISSING, np.int8)
    order: list[int] = []
    for number, (row, one) in enumerate(zip(given, trials, strict=True)):
        if number == 0 or one.meanings is not trials[number - 1].meanings:
            order = [places[image] for image in one.meanings]
        row[order] = one.given
    conditions, categories = np.array([meanings[image] for image in images], np.int8).reshape(-1, 2).T
    return Answers(
        experiment,
        images,
        categories,
        conditions,
        tuple(raw.subject for raw in files if not raw.is_person),
        tuple(raw.subject for raw in files if raw.is_person),
        given,
        tuple(map(Source.of, files)),
    )


def _numbers_left(answers: Answers, name: str) -> str:
    """Describe what missing trials mean for an observer's results."""
    experiment = answers.experiment
    there = answers.conditions[answers.answered[answers.observers.index(name)]]
    absent = set(answers.conditions.tolist()) - set(there.tolist())
    if experiment.conditions and (wanted := [i for i in experiment.kept if i in absent]):
        named = ", ".join(experiment.conditions[i].token for i in wanted)
        return f"it has no number of this dataset, since none of its trials is of the condition {named}"
    return "its numbers are of what is there"


def warn_of_faults(answers: Answers) -> list[str]:
    """Log the faults of a dataset's answers that do not prevent an evaluation, and return the logged lines.

    Such faults are missing trials, images other than the published ones, a person without response times, a network
    with response times, and a network whose accuracy is near chance even on undistorted images.
    """
    experiment, faults = answers.experiment, []
    if len(answers.images) < experiment.images:
        faults.append(
            f"{experiment.name}: there are answers to {len(answers.images)} of its {experiment.images} images"
        )
    elif not answers.is_published_list:
        faults.append(f"{experiment.name}: these are not the images of the published benchmark")
    for name, source in zip(answers.observers, answers.sources, strict=True):
        if source.doubt:
            faults.append(f"{experiment.name}: {source.doubt} ({source.path.name})")
        if missing := answers.missing(name):
            faults.append(
                f"{experiment.name}: {name} has {source.trials} of {len(answers.images)} trials ({source.path.name}); "
                f"{missing} are missing, and {_numbers_left(answers, name)}"
            )
    if experiment.conditions:
        control = answers.conditions == 0
        for row, name in enumerate(answers.networks):
            seen = answers.answered[row] & control
            share = answers.correct[row, seen].mean() if seen.any() else 1.0
            if share < _NEAR_CHANCE:
                faults.append(
                    f"{experiment.name}: {name} names {share:.1%} of the undistorted images rightly, about as chance "
                    f"({_CHANCE:.2%}); is it untrained, or are its classes in another order?"
                )
    for fault in faults:
        _logger.warning("%s", fault)
    return faults


@dataclass(frozen=True)
class _Trials:
    """The trials of one file.

    Attributes:
        columns: The columns with image name, category and condition, as they are in the file.
        meanings: Image -> codes of its condition and category, in the order of the file.
        given: Codes of the answers, in the same order.
    """

    columns: list[Sequence[str]] = field(repr=False)
    meanings: Mapping[str, tuple[int, int]] = field(repr=False)
    given: list[int] = field(repr=False)

    @classmethod
    def of(cls, raw: RawData, experiment: Experiment, before: "_Trials | None") -> "_Trials":
        """Check a file and translate it into codes; quick if its trials are the same as in the file `before`."""
        columns = raw.columns
        unknown = sorted(set(columns["object_response"]) - _ANSWERS.keys())
        if unknown:
            known = f"{NO_ANSWER!r} or one of {', '.join(CATEGORIES)}"
            raise UserError(f"{raw.path}: unknown answer {unknown[0]!r}; it must be {known}")
        given = [_ANSWERS[answer] for answer in columns["object_response"]]
        same = [columns[name] for name in ("imagename", "category", "condition")]
        if before is not None and same == before.columns:
            return cls(same, before.meanings, given)
        try:
            positions = {text: experiment.find_condition(text) for text in dict.fromkeys(columns["condition"])}
        except ValueError as error:
            raise UserError(f"{raw.path}: {error}") from error
        unknown = sorted(set(columns["category"]) - _CATEGORIES.keys())
        if unknown:
            raise UserError(f"{raw.path}: unknown category {unknown[0]!r}; it must be one of {', '.join(CATEGORIES)}")
        meanings: dict[str, tuple[int, int]] = {}
        for name, category, condition in zip(*same, strict=True):
            image = image_id(name)
            if image in meanings:
                raise UserError(f"{raw.path}: image {image!r} is answered twice by {raw.subject!r}")
            meanings[image] = (positions[condition], _CATEGORIES[category])
        return cls(same, meanings, given)


def _refuse_twins(files: Sequence[RawData], experiment: Experiment) -> None:
    """Refuse two files of one observer. Like the toolbox, this treats `-` and `_` in a name as the same.

    Raises: UserError if there are two.
    """
    seen: dict[str, RawData] = {}
    for raw in files:
        twin = seen.setdefault(raw.subject.replace("_", "-"), raw)
        if twin is not raw:
            raise UserError(
                f"{raw.path} and {twin.path} are both of the observer {raw.subject!r} and of {experiment.name}; "
                "name one of them"
            )


def _agree(files: Sequence[RawData], trials: Sequence[_Trials], experiment: Experiment) -> dict[str, tuple[int, int]]:
    """Merge the meanings of all files: image -> condition and category. If there are people, they define the images.

    Raises: UserError for an image whose meaning differs between files, or that people did not see.
    """
    meanings: dict[str, tuple[int, int]] = {}
    for wanted in (True, False):  # people first
        seen = frozenset(meanings)
        checked: Mapping[str, tuple[int, int]] = {}
        for raw, one in zip(files, trials, strict=True):
            if raw.is_person != wanted or one.meanings is checked:
                continue
            checked = one.meanings
            for image, meaning in one.meanings.items():
                if (other := meanings.setdefault(image, meaning)) != meaning:
                    raise UserError(f"{raw.path}: {_say_other(image, meaning, other, experiment)}")
            if seen and (strange := one.meanings.keys() - seen):
                raise UserError(f"{raw.path}: people did not see the image {min(strange)!r} of {experiment.name}")
    return meanings


def _say_other(image: str, meaning: tuple[int, int], other: tuple[int, int], experiment: Experiment) -> str:
    """Say that the condition or category of an image differs from the one in other files."""
    if meaning[1] != other[1]:
        return (
            f"the category of {image!r} is given as {CATEGORIES[meaning[1] - 1]!r}; for others it is "
            f"{CATEGORIES[other[1] - 1]!r}"
        )
    one, another = (experiment.conditions[position].token for position in (meaning[0], other[0]))
    return f"the condition of {image!r} is given as {one!r}; for others it is {another!r}"


_TRIALS_SHA256 = {
    "cue-conflict": "ac0045513cd299e1730c8b7c3c0572060ba56604f77b66014ef6bf1cc8d6caf2",
    "edge": "3427ba4b09b81294ac0f56ff092dfd49d02f86cb8e882a5e120cfc6f1a1b608b",
    "silhouette": "3427ba4b09b81294ac0f56ff092dfd49d02f86cb8e882a5e120cfc6f1a1b608b",
    "sketch": "fe7d4c780477fbe941cdb7d3b82a6262602d03656a6745abd1d73556982c31ff",
    "stylized": "cfa9c3cfa04db7bd96ef00924c9ffaf00172afeeba11c1689482c64aa40bfe6a",
    "colour": "027277aaafae03d82c7663bb1725040acc5bf247169f8f87fc260b2abd1cdf9c",
    "contrast": "3f40c2743e3a6271c8c21dd22f9acd3c8c6cea8093b06042b834fe3cbfa4834a",
    "high-pass": "07557df7c82bd8464f6a4f22b43a295d19f0ce390411938f134736c3e1800084",
    "low-pass": "c73e69da4c53b00364408f596d9d36c90df8042369b6da5566f38a59ec02a261",
    "phase-scrambling": "3f36c8b7a87c2c58b8751f62a467404e9953b7ed8479126dd5369106b7d12836",
    "power-equalisation": "9c66457e2a6d467e325165a6a0033e4b1f635dbbe88bbbcf5c92a3bd0b127dec",
    "false-colour": "52a15948a587cd4068f1ae1ee90c7edf12491342f880c8d1a57388f4b4672ce7",
    "rotation": "6a07643fdd22026d75639d5c1a6b4f65c24c0f785cec9247f204f6fc90f69f05",
    "eidolonI": "dbed5ca20f7c9f6060f7e027297e006b924655ed1ac9392df23d2aebc376fc00",
    "eidolonII": "7c6542ed3fbd14f8f7ec78f0e15a87f3e3a797c6e098eeb2737e3ebee23a55f6",
    "eidolonIII": "7c92af4dc2822f5af5e1ffc2cce85cfae49e6773951d46678df0bed2612bbaf8",
    "uniform-noise": "9ceff5725f1fa5d5293a1b7dd0ebd8b9976a19cbedf445a5228351303e468ecd",
}
"""SHA-256 of the published list of trials of each dataset, computed as in `Answers._trials_sha256`."""
