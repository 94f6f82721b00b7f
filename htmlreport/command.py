"""Command line of the report over a results folder: `python -m htmlreport`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from runkit import UserError, run_main
from runkit.options import REPORT
from runkit.parser import Parser

__all__ = ["build_parser", "main"]

_logger = logging.getLogger("htmlreport")
_EXAMPLES = """\
examples:
  python -m htmlreport
      the results in the folder figures, as figures/report.html
  python -m htmlreport results/may --output may.html
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="python -m htmlreport",
        description="Put all results of a folder on one self-contained HTML page: maps with a threshold slider, plots "
        "that show values under the pointer, sortable tables, and how each figure was made.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("figures"),
        metavar="DIR",
        help="folder given to the tools as --output (default: figures)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"file to write (default: DIR/{REPORT})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, as explained in `runkit.run_main`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)
    return run_main(lambda: _execute(options.folder, options.output, arguments), program="htmlreport")


def _execute(folder: Path, output: Path | None, arguments: Sequence[str]) -> int:
    """Describe the results in the folder and write the page.

    Raises: UserError if the folder holds no results, or damaged ones.
    """
    from erf.figures.page import describe_maps, read_folder
    from htmlreport.relation_page import describe_relation
    from runkit.html.page import write_page
    from shapebias.figures.benchmark_page import describe_benchmark
    from shapebias.figures.page import describe_answers, find_folders
    from shapebias.figures.reliance_page import describe_reliance
    from shapebias.results.reliance import RelianceFolder

    page = output or folder / REPORT
    maps = read_folder(folder / "erf")
    sections = [describe_maps(maps, folder / "erf", page)] if maps else []
    sections += [describe_answers(answers, page) for answers in find_folders(folder)]
    benchmark = folder / "shapebias" / "benchmark.json"
    if benchmark.exists():
        sections.append(describe_benchmark(benchmark, page))
    reliance = RelianceFolder.of(folder).comparison
    if reliance.exists():
        sections.append(describe_reliance(reliance, page))
    if (folder / "relation.json").exists():
        sections.append(describe_relation(folder / "relation.json", page))
    if not sections:
        raise UserError(
            f"{folder} holds no results; name the --output of erf.visualize, shapebias.run or shapebias.reliance"
        )
    write_page(page, "Receptive fields and shape bias", sections, program="htmlreport", arguments=arguments)
    _logger.info("wrote %s", page)
    return 0
