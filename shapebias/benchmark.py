"""`python -m shapebias.benchmark`: networks against people on the 17 datasets of the model-vs-human benchmark.

All answers are read from raw-data CSVs; no network is run, and torch is not imported.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runkit import UserError, describe_run, run_main, write_json, write_out
from runkit.files import refuse_unwritable
from runkit.options import Console, add_console, add_formats, add_no_caption
from runkit.parser import Parser
from shapebias.stimuli.experiments import EXPERIMENTS

if TYPE_CHECKING:  # not imported at run time, so that --help and errors in arguments do not wait for numpy
    from shapebias.answers.datasets import Answers
    from shapebias.answers.raw_data import RawData
    from shapebias.results.benchmark_content import BenchmarkFile

__all__ = ["BenchmarkOptions", "build_parser", "execute", "main", "parse_options"]

_logger = logging.getLogger("shapebias.benchmark")  # under `python -m` this module is called __main__

_RESAMPLES = 2000
_EXAMPLES = """\
examples:
  python -m shapebias.benchmark figures/shapebias/raw
      networks measured by shapebias.run; people's answers are downloaded once
  python -m shapebias.benchmark figures/shapebias/raw --with-published
      compared with the toolbox's nine networks, downloaded once, and the rows of its published table
  python -m shapebias.benchmark model-vs-human/raw-data --experiment sketch stylized --no-intervals
      some of the datasets; a note says that the numbers are not comparable with published ones

Accuracies and consistencies are fractions in [0, 1]. The accuracy difference is a squared difference.
"""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the command.

    Attributes:
        raw: Folders that hold `<dataset>/*.csv`.
        experiments: Datasets to measure; empty for all with answers.
        output: Output folder; the results are written to `shapebias` in it.
        with_published: Whether to add the toolbox's networks and its printed table.
        intervals: Whether to resample.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.
        pictures: Which figures to draw: 'main', 'all' or 'none'.
        formats: File formats of the figures.
        no_caption: Whether to omit the captions that say how figures were made.
        report: Whether to write the HTML page as well.
        arguments: The arguments of the command line.
        console: What the command prints.
    """

    raw: tuple[Path, ...]
    experiments: tuple[str, ...] = ()
    output: Path = Path("figures")
    with_published: bool = False
    intervals: bool = True
    resamples: int = _RESAMPLES
    seed: int = 0
    pictures: str = "main"
    formats: tuple[str, ...] = ("png",)
    no_caption: bool = False
    report: bool = False
    arguments: tuple[str, ...] = ()
    console: Console = field(default_factory=Console)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="python -m shapebias.benchmark",
        description="How human-like are networks? Accuracy, accuracy difference, observed consistency and error "
        "consistency on the 17 datasets of the model-vs-human benchmark (Geirhos et al., 2021), computed as in its "
        "toolbox, with 95% intervals, intervals of ranks and paired differences. Reads recorded answers; no network "
        "is run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "raw",
        nargs="+",
        type=Path,
        metavar="RAW",
        help="folders that hold <dataset>/*.csv; networks and people may be in one folder or in several",
    )
    parser.add_argument(
        "--experiment",
        nargs="+",
        choices=("all", *EXPERIMENTS),
        default=["all"],
        metavar="NAME",
        help=f"datasets to measure, one or several of {', '.join(EXPERIMENTS)} (default: all to which the networks "
        "have answers)",
    )
    parser.add_argument(
        "--with-published",
        action="store_true",
        help="add the toolbox's nine networks (from the cache, or downloaded) and the best rows of its published table",
    )
    sampling = parser.add_argument_group("intervals")
    sampling.add_argument(
        "--no-intervals", action="store_true", help="print numbers and ranks only, without intervals and differences"
    )
    sampling.add_argument(
        "--resamples",
        type=int,
        default=_RESAMPLES,
        metavar="N",
        help=f"number of bootstrap draws of images and persons (default: {_RESAMPLES})",
    )
    sampling.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap draws (default: 0)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=Path,
        default=Path("figures"),
        metavar="DIR",
        help="write to DIR/shapebias/benchmark*, replacing an older benchmark there (default: figures)",
    )
    output.add_argument(
        "--pictures",
        choices=("main", "all", "none"),
        default="main",
        help="main: bars and scatter plots; all: also curves over conditions, matrices and confusion, each at page "
        "and at column width (default: main)",
    )
    add_formats(output)
    add_no_caption(output)
    output.add_argument(
        "--report",
        action="store_true",
        help="also write benchmark-report.html, one self-contained page with figures, tables and how they were made",
    )
    add_console(parser)
    return parser


def parse_options(argv: Sequence[str] | None = None) -> BenchmarkOptions:
    """Parse the command line. A wrong argument ends the program with exit code 2."""
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if parsed.resamples < 100:
        parser.error(f"--resamples must be at least 100, not {parsed.resamples}")
    if parsed.seed < 0:
        parser.error(f"--seed must be at least 0, not {parsed.seed}")
    asked = tuple(dict.fromkeys(parsed.experiment))
    return BenchmarkOptions(
        raw=tuple(parsed.raw),
        experiments=() if "all" in asked else asked,
        output=parsed.output,
        with_published=parsed.with_published,
        intervals=not parsed.no_intervals,
        resamples=parsed.resamples,
        seed=parsed.seed,
        pictures=parsed.pictures,
        formats=tuple(dict.fromkeys(parsed.formats)),
        no_caption=parsed.no_caption,
        report=parsed.report,
        arguments=arguments,
        console=Console.pop_from(vars(parsed)),
    )


def execute(options: BenchmarkOptions) -> int:
    """Read all answers, compute the measures, write the files and the figures, and print the table.

    Returns: 0.
    Raises: UserError for an input or environment error; its message names the problem and a solution.
    """
    from shapebias.results.benchmark import describe_sources, measure_benchmark, write_benchmark
    from shapebias.results.benchmark_tables import (
        count_significant,
        read_published,
        show_benchmark,
        summarise_networks,
        write_tables,
    )

    started, clock = datetime.now(timezone.utc), time.perf_counter()
    refuse_unwritable(options.output)
    if not options.intervals and (options.resamples, options.seed) != (_RESAMPLES, 0):
        _logger.warning("--resamples and --seed have no effect beside --no-intervals, which draws nothing at random")
    answers = read_all(options)
    measures = measure_benchmark(answers, intervals=options.intervals, resamples=options.resamples, seed=options.seed)
    head = describe_run(
        program="shapebias.benchmark",
        arguments=options.arguments,
        started=started,
        seconds=time.perf_counter() - clock,
    )
    stem = options.output / "shapebias" / "benchmark"
    content: BenchmarkFile = {
        **head,
        **measures,
        "config": {
            "datasets": list(options.experiments),
            "intervals": options.intervals,
            "resamples": options.resamples if options.intervals else 0,
            "seed": options.seed,
            "with_published": options.with_published,
        },
        "raw_data": describe_sources({name: answers[name] for name in measures["datasets"]}),
        "published": read_published() if options.with_published else [],
        "pictures": [],
    }
    pictures: list[Path] = []
    if options.pictures != "none":
        from shapebias.figures.benchmark_files import write_benchmark_pictures  # loads matplotlib
        from shapebias.figures.caption import caption_benchmark

        pictures = write_benchmark_pictures(
            content,
            stem,
            options.formats,
            all_of_them=options.pictures == "all",
            description=head["command"],
            captions=None if options.no_caption else partial(caption_benchmark, content),
        )
    content["pictures"] = [picture.name for picture in pictures]
    path = stem.with_suffix(".json")
    if path.exists():
        _logger.info("replacing the older benchmark %s", path)
    _discard_pictures(stem, kept=pictures)
    write_benchmark(path, content)
    files = [path, *write_tables(content, stem), *pictures]
    if options.report:
        files.append(_write_report(options, path))
    if options.console.json:
        write_json(
            {
                "program": "shapebias.benchmark",
                "scope": content["scope"],
                "networks": summarise_networks(content),
                "significant": count_significant(content),
                "faults": content["faults"],
                "files": list(map(str, files)),
            }
        )
    else:
        write_out(show_benchmark(content))
    _logger.info("wrote %s", ", ".join(map(str, files)))
    return 0


def _discard_pictures(stem: Path, *, kept: Sequence[Path]) -> None:
    """Delete the figures and the page of an older benchmark, which would contradict the new one, by their names."""
    from shapebias.results.benchmark_tables import picture_files

    for path in (_page_of(stem), *picture_files(stem)):
        if path not in kept:
            path.unlink(missing_ok=True)


def _page_of(benchmark: Path) -> Path:
    """Path of the page next to a benchmark file, which may be given with or without its suffix."""
    return benchmark.with_name(f"{benchmark.stem}-report.html")


def _write_report(options: BenchmarkOptions, benchmark: Path) -> Path:
    """Write the page on the benchmark that was just written, and return its path."""
    from runkit.html.page import write_page
    from shapebias.figures.benchmark_page import describe_benchmark

    page = _page_of(benchmark)
    section = describe_benchmark(benchmark, page)
    write_page(page, section.title, [section], program="shapebias.benchmark", arguments=options.arguments)
    return page


def read_all(options: BenchmarkOptions) -> "dict[str, Answers]":
    """Read all answers: those of the given folders, on request of the toolbox's networks, and if necessary of people.

    The published answers of people are added to datasets without people. The content of the folders is checked before
    anything is downloaded.

    Raises: UserError as `list_raw_data`, `read_raw_data` and `match_answers`, and if a requested dataset has no
        network, or answers cannot be downloaded.
    """
    from shapebias.answers.datasets import fetch_answers, match_answers
    from shapebias.answers.raw_data import read_raw_data
    from shapebias.answers.raw_folders import list_raw_data

    files = list_raw_data(options.raw)
    asked = options.experiments or (EXPERIMENTS if options.with_published else files)
    local = {name: [read_raw_data(path) for path in files.get(name, ())] for name in asked}
    without = [name for name in options.experiments if all(one.is_person for one in local[name])]
    if without and not options.with_published:
        raise UserError(f"no network has answers to {', '.join(without)}; --experiment names datasets that one has")
    answers: dict[str, Answers] = {}
    for name, raw in local.items():
        experiment = EXPERIMENTS[name]
        if options.with_published:
            mine = {one.subject for one in raw}
            published = [read_raw_data(path) for path in fetch_answers("networks", experiment)]
            raw += [one for one in published if one.subject not in mine]
        if not any(one.is_person for one in raw):
            raw += _fetch_people(name)
        answers[name] = match_answers(experiment, raw)
    return answers


def _fetch_people(name: str) -> "list[RawData]":
    """Fetch the published answers of people to a dataset.

    Raises: UserError if they cannot be downloaded, or a cached file is damaged.
    """
    from runkit.fetch.download import DownloadError
    from shapebias.answers.datasets import fetch_answers
    from shapebias.answers.raw_data import PERSON_PREFIX, read_raw_data

    try:
        return [read_raw_data(path) for path in fetch_answers("people", EXPERIMENTS[name])]
    except DownloadError as error:
        wanted = f"{name}/*.csv of people (subj {PERSON_PREFIX}*)"
        raise UserError(f"{error}; name a folder that holds {wanted}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    options = parse_options(argv)
    return run_main(lambda: execute(options), program="shapebias.benchmark", level=options.console.level)


if __name__ == "__main__":
    raise SystemExit(main())
