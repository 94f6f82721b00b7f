"""Command line: `python -m erf.claims cost`, `all`, `--list`.

Options, files and exit codes follow `erf.visualize`. A claim that does not hold is a valid result, with exit code 0. A
claim that cannot be tested, because weights or data are missing, leads to exit code 2.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from claims.catalogue import CLAIMS, names
from claims.claim import Claim, Options, Verdict
from claims.results import describe_verdict, summary_table, write_result
from runkit import Failures, describe_run, run_main
from runkit.files import refuse_unwritable
from runkit.options import add_formats, add_no_caption
from runkit.parser import Parser, nearest

__all__ = ["USED", "build_parser", "main"]

_logger = logging.getLogger(__name__)

_EXAMPLES = """examples:
  python -m erf.claims --list
      list the claims, where the paper makes them, and the paper's figures
  python -m erf.claims cost growth
      test two claims; results go to figures/claims as <name>.csv, .json and .png
  python -m erf.claims all
      test every claim that needs no training; with --data or --camvid, also those that do
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser. Its defaults are those of `Options`."""
    default = Options()
    parser = Parser(
        prog="python -m erf.claims",
        description="Measure the claims of the RepLKNet paper (arXiv:2203.06717) again. Prints the paper's figure, "
        "ours, and whether the claim holds.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("claims", nargs="*", metavar="NAME", help=f"all, or one or several of: {', '.join(names())}")
    parser.add_argument("--list", action="store_true", help="list the claims and exit")
    what = parser.add_argument_group("what is measured (defaults differ between claims)")
    what.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images, searched at any depth (default: bundled photographs)",
    )
    what.add_argument("--num-images", type=_positive, metavar="N", help="use at most N images")
    what.add_argument("--size", type=_positive, metavar="S", help="resize the images to S x S pixels")
    what.add_argument("--seeds", type=_positive, metavar="N", help="number of draws of random weights, or of trainings")
    what.add_argument(
        "--weights",
        choices=("auto", "pretrained", "random"),
        default=default.weights,
        help="weights for claims that can be tested with either; auto uses random weights for all networks if one of"
        " them has no trained weights (default: auto)",
    )
    what.add_argument(
        "--table",
        type=Path,
        default=default.table,
        metavar="CSV",
        help="table of timings written by benchmarks.bench_depthwise (default: the one in this repository)",
    )
    what.add_argument("--device", default=default.device, help="cpu, cuda, ... (default: cuda if available)")
    training = parser.add_argument_group("claims that train")
    training.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with the folders train and val, laid out as in Imagenette"
    )
    training.add_argument(
        "--camvid", type=Path, metavar="DIR", help="folder with the folders images and masks, each with train and test"
    )
    training.add_argument("--epochs", type=_positive, metavar="N", help="number of passes over the training images")
    bias = parser.add_argument_group("the claim shape-bias, which also uses --data")
    bias.add_argument(
        "--answers",
        type=Path,
        nargs="+",
        default=default.answers,
        metavar="PATH",
        help="recorded answers of people and networks to the cue-conflict images: CSV files or folders",
    )
    bias.add_argument(
        "--trained",
        type=Path,
        metavar="DIR",
        help="folder with further trainings of the nano networks with other seeds (NAME.TAG.safetensors of "
        "replknet.train)",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--output",
        type=Path,
        default=default.output,
        metavar="DIR",
        help="folder to write to (default: figures/claims)",
    )
    add_formats(files)
    add_no_caption(files)
    files.add_argument(
        "--overwrite", action="store_true", help="replace results that were computed with other settings"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code (0: done, 2: an input or environment error)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    parsed = vars(parser.parse_args(arguments))
    listed, formats, asked = parsed.pop("list"), parsed.pop("formats"), parsed.pop("claims")
    bare = parsed.pop("no_caption")
    if listed:
        sys.stdout.write(_list_claims() + "\n")
        return 0
    if not asked:
        parser.error("name a claim, or all; --list says which there are")
    if unknown := [name for name in asked if name not in (*names(), "all")]:
        near = nearest(unknown[0], (*names(), "all"))
        hint = f"did you mean {near}?" if near else f"there are {', '.join(names())}"
        parser.error(f"there is no claim {', '.join(unknown)}; {hint}")
    parsed["answers"] = tuple(parsed["answers"])
    options = Options(**parsed, arguments=tuple(arguments))
    claims = _choose(asked, options)
    return run_main(lambda: _run(claims, options, tuple(dict.fromkeys(formats)), bare=bare), program="erf.claims")


def _choose(asked: Sequence[str], options: Options) -> list[Claim]:
    """Return the named claims. `all` includes a claim that needs data only if that data is given."""

    def can_run(claim: Claim) -> bool:
        return claim.needs is None or getattr(options, claim.needs) is not None

    return [claim for claim in CLAIMS if claim.name in asked or ("all" in asked and can_run(claim))]


_FIELDS = ("images", "num_images", "size")
USED: Mapping[str, tuple[str, ...]] = {
    "cost": ("size",),
    "latency": ("table",),
    "small-maps": ("seeds",),
    "growth": ("seeds",),
    "depth": (*_FIELDS, "seeds", "weights"),
    "training": (*_FIELDS, "seeds"),
    "dense-prediction": (*_FIELDS, "camvid", "epochs", "seeds"),
    "shape-bias": ("answers", "data", "num_images", "trained"),
    **dict.fromkeys(
        ("shortcut", "reparameterization", "last-stage", "dilation"), (*_FIELDS, "data", "epochs", "seeds")
    ),
}
"""Claim -> the options that its experiment reads, besides those that are common to all claims."""


def _unused(claims: Sequence[Claim], options: Options) -> list[str]:
    """Return the options that the user gave but that none of the claims reads."""
    known = dict.fromkeys(name for names in USED.values() for name in names)
    given = [name for name in known if getattr(options, name) != getattr(Options(), name)]
    return [name for name in given if not any(name in USED[claim.name] for claim in claims)]


def _run(claims: Sequence[Claim], options: Options, formats: Sequence[str], *, bare: bool = False) -> int:
    """Test claims one after the other. A claim that cannot be tested does not stop the others."""
    refuse_unwritable(options.output)
    if unused := _unused(claims, options):
        names = " and ".join(f"--{name.replace('_', '-')}" for name in unused)
        _logger.warning("%s: without effect on %s", names, ", ".join(claim.name for claim in claims))
    failures = Failures()
    tested = []
    for claim in claims:
        verdict = failures.guard(claim.name, partial(_test, claim, options, formats, bare=bare), alone=len(claims) == 1)
        if verdict is not None:
            tested.append((claim, verdict))
    if len(claims) > 1 and tested:
        sys.stdout.write(summary_table(tested) + "\n")
    failures.log()
    return failures.exit_code


def _test(claim: Claim, options: Options, formats: Sequence[str], *, bare: bool = False) -> Verdict:
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    experiment = claim.experiment()
    measurement = experiment.measure(options)
    verdict = experiment.judge(measurement.rows)
    seconds = time.perf_counter() - clock
    write_result(
        claim,
        measurement,
        verdict,
        experiment.draw(measurement.rows),
        options.output,
        run=describe_run(program="erf.claims", arguments=options.arguments, started=started, seconds=seconds),
        formats=formats,
        caption=not bare,
    )
    sys.stdout.write(describe_verdict(claim, verdict, options.output) + "\n")
    return verdict


def _list_claims() -> str:
    return "\n".join(
        f"{claim.name}{_needs(claim)}\n  {claim.statement}\n  {claim.source}: {claim.paper}" for claim in CLAIMS
    )


def _needs(claim: Claim) -> str:
    if claim.needs is None:
        return ""
    return f" ({'trains: ' if claim.trains else ''}needs --{claim.needs})"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"take a whole number of at least 1, not {text!r}")
    return int(text)
