"""Measure recorded data without running a network: people, answers in CSV files, and saved probabilities."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from runkit import UserError, describe_run
from runkit.dry_run import DryRun, ForeseenJob
from runkit.fetch.download import DownloadError
from runkit.sweep import is_kept
from shapebias.answers import observers
from shapebias.answers.observers import Observer, read_observers
from shapebias.answers.probabilities import Probabilities, load_probabilities
from shapebias.options import Config
from shapebias.results.answers import add_aggregation, read_answers, write_answers
from shapebias.results.comparison import comparison_files
from shapebias.results.files import ResultFolder
from shapebias.stimuli.layouts import names_category

__all__ = [
    "check_cues",
    "find_people",
    "foresee_recorded",
    "measure_probabilities",
    "split_probabilities",
    "warn_of_missing_images",
]

_logger = logging.getLogger(__name__)


def find_people(config: Config) -> list[Observer]:
    """Find the people to compare with. If their answers cannot be downloaded, warn and return an empty list.

    Raises: UserError as `observers.find_people` and `check_cues`.
    """
    try:
        people = observers.find_people(config.humans, config.experiment)
    except DownloadError as error:
        _logger.warning("going on without people: %s; --humans names a folder of their CSVs", error)
        return []
    check_cues(people, config)
    return people


def check_cues(answered: Sequence[Observer], config: Config) -> None:
    """Check that the images of all answers have the cues and the kind of names of the experiment.

    Raises: UserError if they do not.
    """
    wanted = (config.experiment.two_cues, not config.experiment.in_one_folder)
    for observer in answered:
        two_cues = (observer.trials["texture"] != "").any()
        by_category = all(map(names_category, observer.trials["image"]))
        if (two_cues, by_category) != wanted:
            raise UserError(
                f"{observer.source or observer.name} does not hold answers to {config.experiment.what}; choose the "
                "--experiment they are of"
            )


def warn_of_missing_images(recorded: Sequence[Observer], config: Config) -> None:
    """Warn of networks whose answers are not to all images of the experiment.

    A network that cannot answer all categories is not named, since its label says so.
    """
    experiment = config.experiment
    for observer in recorded:
        number = len(observer.trials)
        if observer.kind == "network" and observer.categories is None and number < experiment.images:
            _logger.warning(
                "%s: its answers are to %d of %d %s; the results are not comparable with published ones",
                observer.label,
                number,
                experiment.images,
                experiment.what,
            )


def split_probabilities(config: Config) -> list[Config]:
    """Split a configuration with saved probabilities into one for each experiment that has some, with only its files.

    Raises: UserError as `load_probabilities`, or if a file belongs to an experiment that was not requested.
    """
    files: dict[str, list[Path]] = {experiment.name: [] for experiment in config.experiments}
    for path in config.from_probabilities:
        experiment = load_probabilities(path).provenance["data"]["name"]
        if experiment not in files:
            raise UserError(f"{path} is of the experiment {experiment}; say --experiment")
        files[experiment].append(path)
    parts = (replace(part, from_probabilities=tuple(files[part.experiment.name])) for part in config.parts)
    return [part for part in parts if part.from_probabilities]


def measure_probabilities(config: Config, folder: ResultFolder) -> list[Observer]:
    """Derive the answers of networks from their saved probabilities, as `config` says; no network is loaded.

    Raises: UserError as `load_probabilities`, if two files are of the same network, or if there is a result of another
        configuration and `overwrite` is off.
    """
    measured: list[Observer] = []
    seen: dict[str, Path] = {}
    for path in config.from_probabilities:
        started, clock = datetime.now(timezone.utc), time.perf_counter()
        probabilities = load_probabilities(path)
        name, provenance = probabilities.model, probabilities.provenance
        if name in seen:
            raise UserError(f"{path} and {seen[name]} are both of the network {name!r}; name one of them")
        seen[name] = path
        folder.refuse_shared_answers(name)
        if _is_finished(path, probabilities, config, folder):
            _logger.info("%s: %s is finished already and is kept", name, folder.json_of(name))
            random = provenance["weights"]["random"]
            measured.append(read_answers(folder, name, provenance["label"], random=random, path=path))
            continue
        seconds = time.perf_counter() - clock
        about = describe_run(program="shapebias.run", arguments=config.arguments, started=started, seconds=seconds)
        measured.append(
            write_answers(folder, probabilities, path, aggregation=config.aggregation, more={"remeasured": about})
        )
        _logger.info("%s: wrote %s", name, ", ".join(str(file) for file in folder.files_of(name) if file.exists()))
    return measured


def _is_finished(path: Path, probabilities: Probabilities, config: Config, folder: ResultFolder) -> bool:
    """Whether there is a finished result of these probabilities and this configuration, which is kept.

    Raises: UserError as `runkit.sweep.is_kept`.
    """
    name = probabilities.model
    return is_kept(
        lambda: folder.finished_identity(name, resume=config.resume),
        add_aggregation(probabilities.provenance["config"], config.aggregation),
        folder.json_of(name),
        config,
        is_whole=lambda: folder.has_answers(name, path),
    )


def foresee_recorded(config: Config) -> DryRun:
    """Describe what a run would do with recorded answers or saved probabilities."""
    jobs: list[ForeseenJob] = []
    files: list[Path] = []
    for part in [config] if config.from_csv else split_probabilities(config):
        folder = ResultFolder.of(part.output, part.experiment)
        files += comparison_files(folder, part.formats)
        jobs += [
            ForeseenJob(observer.name, "recorded", "measure", (folder.json_of(observer.name),))
            for observer in read_observers(part.from_csv, part.experiment)
        ]
        for one in map(load_probabilities, part.from_probabilities):
            written = (folder.json_of(one.model), folder.csv_of(one.model), folder.ranks_of(one.model))
            jobs.append(ForeseenJob(one.model, one.provenance["weights"]["label"], "decide and measure", written))
    return DryRun("shapebias.run", "what was recorded", jobs, files)
