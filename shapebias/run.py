"""`python -m shapebias.run`: answers of networks, or recorded answers, compared with people.

The measure is the shape bias for cue-conflict images, and the accuracy for the other experiments of the benchmark.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit import Failures, UserError, describe_run, is_main_process, load_json, run_main, write_json, write_out
from runkit.checkpoint_files import refuse_no_checkpoint
from runkit.files import refuse_unwritable
from runkit.options import REPORT
from shapebias.options import DEFAULT_MODELS, Config, build_parser, parse_config

if TYPE_CHECKING:  # not imported at run time, so that --help and errors in arguments do not wait for pandas
    from runkit.content import RunHead, SkippedNetwork
    from runkit.sweep import Swept
    from shapebias.answers.observers import Observer
    from shapebias.results.comparison import Comparison
    from shapebias.results.content import ComparisonHead, RecordedHead
    from shapebias.results.files import ResultFolder

__all__ = ["DEFAULT_MODELS", "Config", "build_parser", "execute", "main", "parse_config"]

_logger = logging.getLogger("shapebias.run")  # under `python -m` this module is called __main__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    config = parse_config(sys.argv[1:] if argv is None else argv)
    level = config.console.level
    return run_main(lambda: execute(config), program="shapebias.run", arguments=config.arguments, level=level)


@dataclass(frozen=True)
class _Part:
    """One experiment of a run.

    Attributes:
        config: The configuration of this experiment.
        folder: The paths of its files.
        people: The persons to compare with.
        observers: The observers to measure.
    """

    config: Config
    folder: "ResultFolder"
    people: "Sequence[Observer]"
    observers: "Sequence[Observer]"

    @property
    def everyone(self) -> "list[Observer]":
        """The observers to measure, followed by people."""
        return [*self.observers, *self.people]


def execute(config: Config) -> int:
    """Run the command: get the answers, compute the measures, write the files, and print the table.

    Under torchrun, only rank 0 prints and writes.

    Returns: 0, or another exit code if a network could not be measured (see `runkit.Failures`).
    Raises: UserError for an input or environment error; its message names the problem and a solution.
    """
    from shapebias.recorded import check_cues
    from shapebias.results.comparison import compare, show_table, summary

    if config.console.list_models is not None or config.console.dry_run:
        return _tell(config) if is_main_process() else 0
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    if is_main_process():
        refuse_unwritable(config.output)
        refuse_no_checkpoint(config.weights)  # before people's answers are read
    parts, swept = _gather(config)
    failures = swept.failures
    if not is_main_process():
        return failures.exit_code
    measured = [part for part in parts if part.observers]
    for part in measured:
        check_cues(part.everyone, part.config)
    told: list[dict[str, Any]] = []
    for part in measured:
        comparison = compare(part.everyone)
        head = describe_run(
            program="shapebias.run",
            arguments=config.arguments,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        written = _write(comparison, part, head, swept.skipped)
        files = [*_files_of(part, failures), *written]
        told.append(
            {
                "experiment": part.config.experiment.name,
                "observers": summary(comparison),
                "files": list(map(str, files)),
            }
        )
        if not config.console.json:
            heading = "" if len(config.experiments) == 1 else f"{part.config.experiment.title}:\n"
            heading = f"\n{heading}" if len(told) > 1 else heading
            write_out(heading + show_table(comparison, part.config.experiment))
        _logger.info("wrote %s", ", ".join(str(path) for path in written))
    if config.console.json:
        _write_json(config, told, swept.skipped, failures)
    failures.log()
    return failures.exit_code


def _gather(config: Config) -> "tuple[list[_Part], Swept[Any]]":
    """Gather the observers to measure, recorded or computed now, and the people to compare with, by experiment.

    Ranks other than 0 only take part in running networks, and get no parts.

    Raises: UserError as `read_observers`, `find_people`, `measure_probabilities` and `measure_networks`.
    """
    from runkit.sweep import Swept
    from shapebias.answers.observers import read_observers
    from shapebias.recorded import (
        find_people,
        measure_probabilities,
        split_probabilities,
        warn_of_missing_images,
    )
    from shapebias.results.files import ResultFolder
    from shapebias.stimuli.images import find_all_stimuli, read_stimuli
    from shapebias.sweep import measure_networks

    nothing: Swept[Any] = Swept([], Failures())
    recorded = bool(config.from_csv or config.from_probabilities)
    if not is_main_process():
        return [], nothing if recorded else measure_networks(config)
    if config.from_csv:
        observers = read_observers(config.from_csv, config.experiment)
        among = any(observer.kind == "person" for observer in observers)
        if among and config.humans is not None:
            raise UserError("--from-csv already names people; leave out --humans, or the people's CSVs")
        people = [] if among else find_people(config)
        warn_of_missing_images(observers, config)
        recorded_part = _Part(config, ResultFolder.of(config.output, config.experiment), people, observers)
        return [_share_images(recorded_part)], nothing
    asked = split_probabilities(config) if recorded else config.parts
    if config.stimuli is not None:
        find_all_stimuli({part.experiment: part.stimuli for part in asked}, find=read_stimuli)
    # people first, to report errors in their answers before the long computation
    parts = [_Part(part, ResultFolder.of(part.output, part.experiment), find_people(part), ()) for part in asked]
    if recorded:
        parts = [replace(part, observers=measure_probabilities(part.config, part.folder)) for part in parts]
        for part in parts:
            warn_of_missing_images(part.observers, part.config)
        return [_share_images(part) for part in parts], nothing
    swept = measure_networks(config)
    of_experiment: dict[str, list[Observer]] = {part.config.experiment.name: [] for part in parts}
    for answered in swept.results:
        of_experiment[answered.experiment.name].append(answered.observer)
    parts = [replace(part, observers=of_experiment[part.config.experiment.name]) for part in parts]
    return [_share_images(part) for part in parts], swept


def _share_images(part: _Part) -> _Part:
    """Restrict people's answers to the images of the networks, if these were all run on the same subset."""
    asked = {frozenset(observer.trials["image"]) for observer in part.observers}
    if len(asked) != 1 or not part.people:
        return part
    from shapebias.answers.observers import keep_images

    (images,) = asked
    if not all(images < set(person.trials["image"]) for person in part.people):
        return part
    _logger.info("people are measured on the same %d images as the networks", len(images))
    return replace(part, people=[keep_images(person, images) for person in part.people])


def _write(comparison: "Comparison", part: _Part, head: "RunHead", skipped: "list[SkippedNetwork]") -> list[Path]:
    """Write the comparison, its figures and page, and a result for each observer read from a CSV.

    Returns: The files of the comparison.
    """
    from shapebias.figures.caption import caption_answers
    from shapebias.figures.files import write_pictures
    from shapebias.results.comparison import picture_ends, write_comparison
    from shapebias.results.files import describe_raw_data

    config, folder, observers = part.config, part.folder, part.observers
    if config.from_csv:
        recorded: RecordedHead = {**head, "config": {"source": "raw-data CSV"}}
        for observer in observers:
            folder.write_recorded(observer, recorded, comparison.of(observer.name), overwrite=config.overwrite)
    about_all: dict[str, Any] = {"persons": len(comparison.persons), "weights": _weights_of(part)}
    captions = {
        end: caption_answers(comparison.series, config.experiment, head, picture=end, **about_all)
        for end in picture_ends(config.experiment)
    }
    pictures = write_pictures(
        comparison,
        folder,
        config.formats,
        description=head["command"],
        captions=None if config.no_caption else captions,
    )
    about: ComparisonHead = {
        **head,
        "config": {"observers": [observer.name for observer in observers], "people": len(comparison.persons)},
        "raw_data": [describe_raw_data(observer) for observer in part.everyone],
        "skipped": skipped,
    }
    written = [*write_comparison(comparison, folder, about, pictures=pictures), *pictures]
    return [*written, _write_report(config, folder)] if config.report else written


def _weights_of(part: _Part) -> dict[str, str]:
    """Name of each network -> description of its weights, for networks whose weights are known."""
    from shapebias.answers.observers import RANDOM_SUFFIX
    from shapebias.figures.caption import name_both

    labels = {}
    for observer in part.observers:
        path = _result_of(part.folder, observer)
        record = load_json(path).get("weights") if path.exists() else None
        if record:
            labels[observer.name] = name_both(observer.name.removesuffix(RANDOM_SUFFIX), record["label"])
    return labels


def _result_of(folder: "ResultFolder", observer: "Observer") -> Path:
    """The result of a network. Its file has the name by which the network was asked for; the CSV has the full name."""
    of_source = folder.results_of(observer.source) if observer.source else []
    return next(iter(of_source), folder.json_of(observer.name))


def _write_report(config: Config, folder: "ResultFolder") -> Path:
    """Write `report.html` on the comparison that was just written, and return its path."""
    from runkit.html.page import write_page
    from shapebias.figures.page import describe_answers

    page = folder.root / REPORT
    section = describe_answers(folder, page)
    write_page(page, section.title, [section], program="shapebias.run", arguments=config.arguments)
    return page


def _files_of(part: _Part, failures: Failures) -> list[Path]:
    """The existing result files of the single observers."""
    from shapebias.sweep import job_name

    config, experiment = part.config, part.config.experiment
    asked: set[str] = set()
    if not (config.from_csv or config.from_probabilities):
        failed = failures.reasons.keys()
        asked = {name for name in config.model if not failed & {name, job_name(name, experiment)}}
    names = sorted(asked | {observer.name for observer in part.observers})
    return [path for name in names for path in part.folder.files_of(name) if path.exists()]


def _write_json(
    config: Config, told: Sequence[Mapping[str, Any]], skipped: "list[SkippedNetwork]", failures: Failures
) -> None:
    """Print the output of `--json`: observers and files of a single experiment, or a list of these for several."""
    content: dict[str, Any] = {"program": "shapebias.run"}
    if len(config.experiments) == 1:
        only = told[0] if told else {"observers": [], "files": []}
        content |= {"observers": only["observers"], "files": only["files"]}
    else:
        content |= {"experiments": list(told)}
    write_json({**content, "skipped": skipped, "failed": failures.reasons})


def _tell(config: Config) -> int:
    """List networks, or print what the run would do. No files are written."""
    if config.console.list_models is not None:
        from replknet.listing import show_networks
        from shapebias.stimuli.classes import IMAGENET_HEADS

        show_networks(config.console.list_models, as_json=config.console.json, num_classes=IMAGENET_HEADS)
        return 0
    from runkit.dry_run import foresee_sweep
    from shapebias.recorded import foresee_recorded
    from shapebias.results.files import ResultFolder
    from shapebias.sweep import AnswerTool

    if config.from_csv or config.from_probabilities:
        foreseen, failures = foresee_recorded(config), Failures()
    else:
        foreseen, failures = foresee_sweep(AnswerTool(config))
    if config.report:
        reports = [ResultFolder.of(config.output, experiment).root / REPORT for experiment in config.experiments]
        foreseen = replace(foreseen, files=[*foreseen.files, *reports])
    foreseen.show(as_json=config.console.json)
    failures.log()
    return failures.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
