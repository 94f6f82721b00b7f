"""`python -m shapebias.relate`: effective receptive field against shape bias and reliance, over networks."""

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit import describe_run, format_table, run_main, save_csv, save_json, save_latex
from runkit.numbers import FRACTION
from runkit.options import add_formats, add_no_caption
from runkit.parser import Parser
from runkit.sizes import Size, read_size

if TYPE_CHECKING:  # imports scipy, which would delay --help
    from htmlreport.relation import Network
    from shapebias.measures.bootstrap import Estimate

__all__ = ["build_parser", "main"]

_logger = logging.getLogger("shapebias.relate")  # under `python -m` this module is called __main__

_EXAMPLES = """\
examples:
  python -m shapebias.relate --erf figures/erf --shape-bias figures/shapebias
      all networks that both tools measured with the same weights; people's shape bias is drawn as a line
  python -m shapebias.relate --erf figures/erf --shape-bias figures/shapebias --field published --threshold 0.99
  python -m shapebias.relate --erf figures/erf --shape-bias figures/shapebias --reliance figures/shapebias/reliance
      one panel for shape bias and one for the reliance on each cue

Area ratios and shape bias are fractions in [0, 1].
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="python -m shapebias.relate",
        description="Do networks with larger effective receptive fields rely more on shape? Plots the receptive field "
        "against shape bias, with intervals for both and their rank correlation. Reads results; no network is run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--erf", nargs="+", type=Path, required=True, metavar="JSON", help="results of erf.visualize, or their folder"
    )
    parser.add_argument(
        "--shape-bias",
        nargs="+",
        type=Path,
        default=[],
        metavar="JSON",
        help="results of shapebias.run, or their folder; optional if --reliance is given",
    )
    parser.add_argument(
        "--reliance",
        nargs="+",
        type=Path,
        default=[],
        metavar="JSON",
        help="results of shapebias.reliance, or their folder; adds one panel per cue",
    )
    parser.add_argument(
        "--field",
        choices=("mass", "published"),
        default="mass",
        help="which area of the field: mass, of the map itself (scale-free), or published, of its logarithm "
        "(default: mass)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="T",
        help="share of the contribution that the square holds (default: 0.5)",
    )
    parser.add_argument("--layer", default="last", metavar="L", help="use the fields of this layer (default: last)")
    parser.add_argument(
        "--size",
        type=_size,
        metavar="S",
        help="use the fields measured at this image size, a side in pixels or HEIGHTxWIDTH, if there are several",
    )
    parser.add_argument(
        "--random",
        action="store_true",
        help="also show untrained networks, as hollow markers; they never enter the correlation",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="DIR", help="folder to write to (default: figures)"
    )
    add_formats(parser)
    add_no_caption(parser)
    return parser


def _size(text: str) -> Size:
    """Parse the value of `--size` for argparse, which reports the error."""
    try:
        return read_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def execute(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Pair results, correlate them, and write `relation.json`, `.csv`, `.tex` and the picture into the output folder.

    Raises: UserError for an input or environment error; its message names the problem and the fix.
    """
    from htmlreport.relation import FIELDS, read_people, relate
    from htmlreport.relation_plot import caption_relation, draw_relation
    from runkit.figure_text import add_caption
    from runkit.figures import save_figure

    started, clock = datetime.now(timezone.utc), time.perf_counter()
    relation = relate(
        options.erf,
        options.shape_bias,
        field=options.field,
        threshold=options.threshold,
        layer=options.layer,
        size=options.size,
        random=options.random,
        reliance=options.reliance,
    )
    people = read_people(options.shape_bias)
    for name, reason in relation.unpaired.items():
        _logger.info("left out %s: %s", name, reason)
    definition = FIELDS[options.field].format(threshold=options.threshold)
    figure = draw_relation(relation, people=people, field=definition)
    stem = options.output / "relation"
    seconds = time.perf_counter() - clock
    head = describe_run(program="shapebias.relate", arguments=command, started=started, seconds=seconds)
    if not options.no_caption:
        add_caption(figure, caption_relation(relation, head))
    pictures = save_figure(figure, stem, formats=tuple(dict.fromkeys(options.formats)))
    rows = [network.as_dict() for network in relation.networks]
    of_reliance = {cue: correlation.as_dict() for cue, correlation in relation.of_reliance.items()}
    save_json(
        stem.with_suffix(".json"),
        {
            **head,
            "config": {"field": options.field, "threshold": options.threshold, "measured": dict(relation.measured)},
            "pictures": [path.name for path in pictures],
            "unpaired": dict(relation.unpaired),
            "results": {
                "field": definition,
                "networks": rows,
                "correlation": relation.correlation.as_dict(),
                "people": people.as_dict("shape_bias") if people else None,
                **({"correlation_of_reliance": of_reliance} if options.reliance else {}),
            },
        },
    )
    save_csv(stem.with_suffix(".csv"), [_flat_row(network, relation.of_reliance) for network in relation.networks])
    header = ["network", "ERF area", "95% interval", "shape bias", "95% interval"]
    header += [text for cue in relation.of_reliance for text in (f"reliance on {cue}", "95% interval")]
    table = [
        [
            network.label,
            *(text for e in (network.field, network.shape_bias) for text in _format(e)),
            *(text for cue in relation.of_reliance for text in _format(network.reliance.get(cue))),
        ]
        for network in relation.networks
    ]
    save_latex(stem.with_suffix(".tex"), header, table, note=f"ERF area: {definition}")
    sys.stdout.write(format_table(header, table) + "\n")
    sys.stdout.write("\n")
    if options.shape_bias:
        sys.stdout.write(f"{relation.correlation.describe()}\n")
    for cue, correlation in relation.of_reliance.items():
        sys.stdout.write(f"reliance on {cue}: {correlation.describe()}\n")
    tables = [stem.with_suffix(end) for end in (".json", ".csv", ".tex")]
    _logger.info("wrote %s", ", ".join(map(str, [*tables, *pictures])))
    return 0


def _flat_row(network: "Network", cues: Iterable[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": network.name, "label": network.label, "random": network.random}
    estimates = {"field": network.field, "shape_bias": network.shape_bias}
    for key, estimate in [*estimates.items(), *((f"reliance_{cue}", network.reliance.get(cue)) for cue in cues)]:
        if estimate is None:
            row |= {f"{key}_{part}": None for part in ("value", "low", "high")}
            continue
        row |= {f"{key}_value": estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, as explained in `runkit.run_main`."""
    command = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    options = parser.parse_args(command)
    if not (options.shape_bias or options.reliance):
        parser.error("take --shape-bias, --reliance, or both")
    if not 0 < options.threshold < 1:
        parser.error(f"--threshold {options.threshold:g} must lie between 0 and 1")
    return run_main(lambda: execute(options, command), program="shapebias.relate")


def _format(estimate: "Estimate | None") -> tuple[str, str]:
    """The value and the interval of an estimate, as text for a table."""
    if estimate is None or estimate.value is None:
        return "-", "-"
    written = FRACTION.write(estimate.value, estimate.low, estimate.high)
    return written.value, written.brackets or "-"


if __name__ == "__main__":
    raise SystemExit(main())
