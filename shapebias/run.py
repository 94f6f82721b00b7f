"""`python -m shapebias.run`: shape bias of networks of the zoo, or of recorded answers, with people beside them."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runkit import Failures, UserError, is_main_process, run_main, write_json, write_out
from runkit.dry_run import Plan, PlannedRun
from runkit.options import REPORT
from shapebias.options import DEFAULT_MODELS, RunConfig, build_parser, describe, parse_config

if TYPE_CHECKING:  # loads pandas, which --help and wrong arguments need not wait for
    from shapebias.answers.observers import Observer
    from shapebias.results.content import RecordedHead, SkippedNetwork
    from shapebias.results.files import ResultFolder

__all__ = ["DEFAULT_MODELS", "RunConfig", "build_parser", "execute", "main", "parse_config"]

_logger = logging.getLogger("shapebias.run")  # under `python -m` this module is called __main__


def execute(config: RunConfig) -> int:
    """Do what `config` asks: answers, measures, files, and the table on stdout.

    Under torchrun rank 0 speaks and writes for all.

    Returns: 0, or another exit code if a network could not be measured (see `runkit.Failures`).
    Raises: UserError for what the user can mend.
    """
    from shapebias.answers.observers import read_observers
    from shapebias.figures.files import write_pictures
    from shapebias.network.sweep import measure_networks, measure_probabilities
    from shapebias.results.comparison import compare, show_table, summary, write_comparison
    from shapebias.results.files import ResultFolder, describe_raw_data

    if config.console.list_models is not None or config.console.dry_run:
        return _tell(config) if is_main_process() else 0
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    folder = ResultFolder.of(config.output, config.experiment)
    failures = Failures()
    skipped: list[dict[str, str]] = []
    if (config.from_csv or config.from_probabilities) and not is_main_process():
        return 0  # there is nothing to share
    if config.from_csv:
        observers = read_observers(config.from_csv)
        people = [] if any(observer.kind == "person" for observer in observers) else _find_people(config)
    else:
        # first, since a folder that is not there should be known before the long work
        people = _find_people(config) if is_main_process() else []
        if config.from_probabilities:
            observers = measure_probabilities(config, folder)
        else:
            observers, failures, skipped = measure_networks(config, folder)
    if not is_main_process():
        return failures.exit_code
    if not observers:
        if config.console.json:
            _write_json([], [], skipped, failures)
        failures.log()
        return failures.exit_code
    if config.humans is not None and not people:
        raise UserError("--from-csv already names people; leave out --humans, or the people's CSVs")
    _check_cues([*observers, *people], config)
    comparison = compare([*observers, *people])
    if config.from_csv:
        head: RecordedHead = {**describe(config, started, clock), "config": {"source": "raw-data CSV"}}
        for observer in observers:
            folder.write_recorded(observer, head, comparison.of(observer.name), overwrite=config.overwrite)
    made = describe(config, started, clock)
    pictures = write_pictures(comparison, folder, config.formats, description=made["command"])
    written = write_comparison(
        comparison,
        folder,
        {
            **made,
            "config": {"observers": [observer.name for observer in observers], "people": len(comparison.persons)},
            "raw_data": [describe_raw_data(observer) for observer in [*observers, *people]],
            "skipped": cast("list[SkippedNetwork]", skipped),
        },
        pictures=pictures,
    )
    written += pictures
    if config.report:
        written.append(_write_report(config, folder))
    if config.console.json:
        recorded = config.from_csv or config.from_probabilities
        asked = set() if recorded else set(config.models) - set(failures.reasons)
        names = sorted(asked | {observer.name for observer in observers})
        files = [path for name in names for path in folder.files_of(name) if path.exists()]
        _write_json(summary(comparison), [*files, *written], skipped, failures)
    else:
        write_out(show_table(comparison))
    _logger.info("wrote %s", ", ".join(str(path) for path in written))
    failures.log()
    return failures.exit_code


def _tell(config: RunConfig) -> int:
    """List networks, or describe the run; nothing is written."""
    if config.console.list_models is not None:
        from replknet.listing import show_networks
        from shapebias.stimuli.categories import NUM_IMAGENET_CLASSES

        show_networks(config.console.list_models, as_json=config.console.json, num_classes=NUM_IMAGENET_CLASSES)
        return 0
    from shapebias.results.files import ResultFolder

    folder = ResultFolder.of(config.output, config.experiment)
    if config.from_csv or config.from_probabilities:
        plan, failures = _plan_recorded(config, folder), Failures()
    else:
        from shapebias.network.dry_run import plan_networks  # loads torch

        plan, failures = plan_networks(config, folder)
    if config.report:
        plan = replace(plan, files=[*plan.files, folder.root / REPORT])
    plan.show(as_json=config.console.json)
    failures.log()
    return failures.exit_code


def _plan_recorded(config: RunConfig, folder: "ResultFolder") -> Plan:
    """What would be done with answers or probabilities that were saved."""
    from shapebias.answers.observers import read_observers
    from shapebias.answers.probabilities import load_probabilities
    from shapebias.results.comparison import comparison_files

    if config.from_csv:
        runs = [
            PlannedRun(observer.name, "recorded", "measure", (folder.json_of(observer.name),))
            for observer in read_observers(config.from_csv)
        ]
    else:
        saved = [load_probabilities(path) for path in config.from_probabilities]
        runs = [
            PlannedRun(
                one.model,
                one.provenance["weights"]["label"],
                "decide and measure",
                (folder.json_of(one.model), folder.csv_of(one.model), folder.ranks_of(one.model)),
            )
            for one in saved
        ]
    return Plan("shapebias.run", "what was recorded", runs, comparison_files(folder, config.formats))


def _write_json(
    observers: list[dict[str, Any]], files: Sequence[Path], skipped: list[dict[str, str]], failures: Failures
) -> None:
    """What `--json` asks for."""
    paths = list(map(str, files))
    content = {"observers": observers, "files": paths, "skipped": skipped, "failed": failures.reasons}
    write_json({"program": "shapebias.run", **content})


def _write_report(config: RunConfig, folder: "ResultFolder") -> Path:
    """Write `report.html` on the comparison just written; returns its path."""
    from runkit.html.page import write_page
    from shapebias.figures.page import describe_answers

    page = folder.root / REPORT
    section = describe_answers(folder, page)
    write_page(page, section.title, [section], program="shapebias.run", arguments=config.command)
    return page


def _check_cues(observers: "Sequence[Observer]", config: RunConfig) -> None:
    """Refuse answers to images of another experiment."""
    for observer in observers:
        if (observer.trials["texture"] != "").any() != config.experiment.two_cues:
            raise UserError(
                f"{observer.source or observer.name} does not hold answers to {config.experiment.what}; choose the "
                "--experiment they are of"
            )


def _find_people(config: RunConfig) -> "list[Observer]":
    """People to compare with; without them a run goes on, unless the user named a folder."""
    from runkit.fetch.download import DownloadError
    from shapebias.answers.observers import find_people

    try:
        return find_people(config.humans, config.experiment)
    except DownloadError as error:
        _logger.warning("going on without people: %s; --humans names a folder of their CSVs", error)
        return []


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    config = parse_config(argv)
    return run_main(
        lambda: execute(config), program="shapebias.run", arguments=config.command, level=config.console.level
    )


if __name__ == "__main__":
    raise SystemExit(main())
