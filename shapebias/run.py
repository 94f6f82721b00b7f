"""`python -m shapebias.run`: shape bias of networks of the zoo, or of recorded answers, with people beside them."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit import Failures, UserError, describe_run, is_main_process, run_main, write_json, write_out
from runkit.options import REPORT
from shapebias.options import DEFAULT_MODELS, Config, build_parser, parse_config

if TYPE_CHECKING:  # these load pandas, which --help and wrong arguments need not wait for
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


def execute(config: Config) -> int:
    """Do what `config` asks: answers, measures, files, and the table on stdout.

    Under torchrun rank 0 speaks and writes for all.

    Returns: 0, or another exit code if a network could not be measured (see `runkit.Failures`).
    Raises: UserError for what the user can mend.
    """
    from shapebias.recorded import check_cues
    from shapebias.results.comparison import compare, show_table, summary
    from shapebias.results.files import ResultFolder

    if config.console.list_models is not None or config.console.dry_run:
        return _tell(config) if is_main_process() else 0
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    folder = ResultFolder.of(config.output, config.experiment)
    people, swept = _gather(config, folder)
    observers, failures = swept.results, swept.failures
    if not is_main_process():
        return failures.exit_code
    if observers:
        check_cues([*observers, *people], config)
        comparison = compare([*observers, *people])
        head = describe_run(
            program="shapebias.run",
            arguments=config.arguments,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        written = _write(comparison, config, folder, head, observers, people, swept.skipped)
        if config.console.json:
            files = [*_files_of(observers, config, folder, failures), *written]
            _write_json(summary(comparison), files, swept.skipped, failures)
        else:
            write_out(show_table(comparison))
        _logger.info("wrote %s", ", ".join(str(path) for path in written))
    elif config.console.json:
        _write_json([], [], swept.skipped, failures)
    failures.log()
    return failures.exit_code


def _gather(config: Config, folder: "ResultFolder") -> "tuple[list[Observer], Swept[Observer]]":
    """People, and what was or is answered by those who are measured; nothing where there is nothing to share."""
    from runkit.sweep import Swept
    from shapebias.answers.observers import read_observers
    from shapebias.recorded import find_people, measure_probabilities
    from shapebias.sweep import measure_networks

    recorded = bool(config.from_csv or config.from_probabilities)
    if not is_main_process():
        return [], Swept([], Failures()) if recorded else measure_networks(config, folder)
    if config.from_csv:
        observers = read_observers(config.from_csv)
        among = any(observer.kind == "person" for observer in observers)
        if among and config.humans is not None:
            raise UserError("--from-csv already names people; leave out --humans, or the people's CSVs")
        return [] if among else find_people(config), Swept(observers, Failures())
    people = find_people(config)  # first: a folder that is not there should be known before the long work
    if recorded:
        return people, Swept(measure_probabilities(config, folder), Failures())
    return people, measure_networks(config, folder)


def _write(
    comparison: "Comparison",
    config: Config,
    folder: "ResultFolder",
    head: "RunHead",
    observers: "Sequence[Observer]",
    people: "Sequence[Observer]",
    skipped: "list[SkippedNetwork]",
) -> list[Path]:
    """Write the comparison, and what was read from CSVs as results of their own; returns the files of the former."""
    from shapebias.figures.files import write_pictures
    from shapebias.results.comparison import write_comparison
    from shapebias.results.files import describe_raw_data

    if config.from_csv:
        recorded: RecordedHead = {**head, "config": {"source": "raw-data CSV"}}
        for observer in observers:
            folder.write_recorded(observer, recorded, comparison.of(observer.name), overwrite=config.overwrite)
    pictures = write_pictures(comparison, folder, config.formats, description=head["command"])
    about: ComparisonHead = {
        **head,
        "config": {"observers": [observer.name for observer in observers], "people": len(comparison.persons)},
        "raw_data": [describe_raw_data(observer) for observer in [*observers, *people]],
        "skipped": skipped,
    }
    written = [*write_comparison(comparison, folder, about, pictures=pictures), *pictures]
    return [*written, _write_report(config, folder)] if config.report else written


def _write_report(config: Config, folder: "ResultFolder") -> Path:
    """Write `report.html` on the comparison just written; returns its path."""
    from runkit.html.page import write_page
    from shapebias.figures.page import describe_answers

    page = folder.root / REPORT
    section = describe_answers(folder, page)
    write_page(page, section.title, [section], program="shapebias.run", arguments=config.arguments)
    return page


def _files_of(
    observers: "Sequence[Observer]", config: Config, folder: "ResultFolder", failures: Failures
) -> list[Path]:
    """The files of single results that are there."""
    recorded = config.from_csv or config.from_probabilities
    asked = set() if recorded else set(config.model) - set(failures.reasons)
    names = sorted(asked | {observer.name for observer in observers})
    return [path for name in names for path in folder.files_of(name) if path.exists()]


def _write_json(
    observers: list[dict[str, Any]], files: Sequence[Path], skipped: "list[SkippedNetwork]", failures: Failures
) -> None:
    """What `--json` asks for."""
    paths = list(map(str, files))
    content = {"observers": observers, "files": paths, "skipped": skipped, "failed": failures.reasons}
    write_json({"program": "shapebias.run", **content})


def _tell(config: Config) -> int:
    """List networks, or say what the run would do; nothing is written."""
    if config.console.list_models is not None:
        from replknet.listing import show_networks
        from shapebias.stimuli.categories import NUM_IMAGENET_CLASSES

        show_networks(config.console.list_models, as_json=config.console.json, num_classes=NUM_IMAGENET_CLASSES)
        return 0
    from runkit.dry_run import foresee_sweep
    from shapebias.recorded import foresee_recorded
    from shapebias.results.files import ResultFolder
    from shapebias.sweep import AnswerTool

    folder = ResultFolder.of(config.output, config.experiment)
    if config.from_csv or config.from_probabilities:
        foreseen, failures = foresee_recorded(config, folder), Failures()
    else:
        foreseen, failures = foresee_sweep(AnswerTool(config, folder))
    if config.report:
        foreseen = replace(foreseen, files=[*foreseen.files, folder.root / REPORT])
    foreseen.show(as_json=config.console.json)
    failures.log()
    return failures.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
