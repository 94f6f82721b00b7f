"""`python -m shapebias.run`: shape bias of networks of the zoo, or of recorded answers, with people beside them."""

import logging
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from runkit import Failures, UserError, is_main_process, run_main
from shapebias.config import DEFAULT_MODELS, RunConfig, build_parser, describe, parse_config

if TYPE_CHECKING:  # loads pandas, which --help and wrong arguments need not wait for
    from shapebias.observers import Observer

__all__ = ["DEFAULT_MODELS", "RunConfig", "build_parser", "execute", "main", "parse_config"]

_logger = logging.getLogger("shapebias.run")  # under `python -m` this module is called __main__


def execute(config: RunConfig) -> int:
    """Do what `config` asks: answers, measures, files, and the table on stdout.

    Under torchrun rank 0 speaks and writes for all.

    Returns: 0, or another exit code if a network could not be measured (see `runkit.Failures`).
    Raises: UserError for what the user can mend.
    """
    from shapebias.networks import measure_networks, measure_probabilities
    from shapebias.observers import read_observers
    from shapebias.report import compare, show_table, write_comparison
    from shapebias.results import ResultFolder

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
    if not observers or not is_main_process():
        failures.log()
        return failures.exit_code
    if config.humans is not None and not people:
        raise UserError("--from-csv already names people; leave out --humans, or the people's CSVs")
    _check_cues([*observers, *people], config)
    comparison = compare([*observers, *people])
    if config.from_csv:
        head = {**describe(config, started, clock), "config": {"source": "raw-data CSV"}}
        for observer in observers:
            folder.write_recorded(observer, head, comparison.of(observer.name), overwrite=config.overwrite)
    written = write_comparison(
        comparison,
        folder,
        {
            **describe(config, started, clock),
            "config": {"observers": [observer.name for observer in observers], "people": len(comparison.persons)},
            "skipped": skipped,
        },
        formats=config.formats,
    )
    sys.stdout.write(show_table(comparison) + "\n")
    _logger.info("wrote %s", ", ".join(str(path) for path in written))
    failures.log()
    return failures.exit_code


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
    from runkit.download import DownloadError
    from shapebias.observers import find_people

    try:
        return find_people(config.humans, config.experiment)
    except DownloadError as error:
        _logger.warning("going on without people: %s; --humans names a folder of their CSVs", error)
        return []


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    config = parse_config(argv)
    return run_main(lambda: execute(config), program="shapebias.run", arguments=config.command)


if __name__ == "__main__":
    raise SystemExit(main())
