"""`python -m shapebias.reliance`: what a network relies on, by suppressing shape, texture and colour one at a time."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from runkit import Failures, UserError, describe_run, is_main_process, run_main, write_json, write_out
from runkit.content import SkippedNetwork
from runkit.options import (
    add_batch_size,
    add_console,
    add_device,
    add_formats,
    add_output,
    add_resume,
    add_seed,
    add_weights,
    program_name,
    read_options,
)
from shapebias.reliance_sweep import Config
from shapebias.stimuli.suppressions import SUPPRESSIONS

if TYPE_CHECKING:
    import numpy as np

    from shapebias.answers.suppressed import SuppressedAnswers
    from shapebias.measures.reliance import Reliance
    from shapebias.results.reliance import RelianceFolder
    from shapebias.stimuli.suppressions import Variant

__all__ = ["build_parser", "execute", "main", "parse_config"]

_logger = logging.getLogger("shapebias.reliance")  # under `python -m` this module is called __main__

_EXAMPLES = """\
examples:
  python -m shapebias.reliance --model replknet31n resnet18n --images imagenette/val --num-images 500
      a folder with one folder of images per class; any head, any classes
  python -m shapebias.reliance --model net.py:build --images my-classes/ --suppress texture colour
      a network of your own, and only some suppressions
  python -m shapebias.reliance --from-probabilities figures/shapebias/reliance/*.probabilities.npz
      measure and draw what was answered, again without any network

Accuracies are fractions. Reliance is 1 minus the mean area under the curves of relative accuracy: 0 if nothing is lost.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("shapebias.reliance", "shapebias"),
        description="How much does a network rely on shape, texture and colour? One cue at a time is suppressed in "
        "labelled images, and the accuracy that is lost is measured (Burgert et al. 2025, arXiv:2509.20234).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_argument_group("what is measured")
    source.add_argument(
        "--model", nargs="+", default=[], metavar="NAME", help="networks: of the zoo, or FILE.py:FUNCTION"
    )
    add_weights(source, auto="networks without are left out, for the reliance of random weights means nothing")
    source.add_argument(
        "--from-probabilities",
        nargs="+",
        type=Path,
        default=[],
        metavar="NPZ",
        help="measure saved <model>.probabilities.npz instead of networks",
    )
    data = parser.add_argument_group("images")
    data.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder with one folder of images per class, named by WordNet id, class name or index of the output, or "
        "in the order of the outputs where the numbers agree",
    )
    data.add_argument(
        "--num-images", type=int, metavar="N", help="at most N images, evenly over classes (default: all)"
    )
    data.add_argument(
        "--classes", type=Path, metavar="FILE", help="text file with the name of each output, one per line"
    )
    data.add_argument(
        "--unlabelled", action="store_true", help="measure how often answers change, of images without classes"
    )
    data.add_argument(
        "--suppress",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="all (default), a cue (shape, texture, colour), FILE.py:FUNCTION, or of: " + ", ".join(SUPPRESSIONS),
    )
    running = parser.add_argument_group("running")
    add_seed(running)
    add_device(running)
    add_batch_size(running, auto="32, on a GPU 256, or as many as fit")
    output = parser.add_argument_group("output")
    add_output(output, folder="shapebias/reliance")
    add_formats(output)
    add_resume(output)
    add_console(parser, script="shapebias")
    return parser


def parse_config(arguments: Sequence[str]) -> Config:
    """The configuration that arguments ask for; wrong usage ends the program with exit code 2."""
    parser = build_parser()
    options = read_options(parser, arguments)
    if bool(options["from_probabilities"]) == bool(options["model"]) and options["console"].list_models is None:
        parser.error("take --model with --images, or --from-probabilities")
    if options["num_images"] is not None and options["num_images"] < 1:
        parser.error(f"--num-images must be at least 1, not {options['num_images']}")
    return Config(**{**options, "weights": (options["weights"],)})


def execute(config: Config) -> int:
    """Do what `config` asks: answers, measures, files, and the table on stdout.

    Returns: 0, or another exit code if a network could not be measured (see `runkit.Failures`).
    Raises: UserError for what the user can mend.
    """
    from shapebias.answers.suppressed import load_answers
    from shapebias.reliance_sweep import ask_networks
    from shapebias.results.reliance import RelianceFolder

    folder = RelianceFolder.of(config.output)
    if config.console.list_models is not None or config.console.dry_run:
        return _tell(config, folder) if is_main_process() else 0
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    failures = Failures()
    skipped: list[SkippedNetwork] = []
    if config.from_probabilities:
        answers = [load_answers(path) for path in config.from_probabilities]
    else:
        swept = ask_networks(config, folder)
        answers, failures, skipped = swept.results, swept.failures, swept.skipped
    if is_main_process() and answers:
        head = describe_run(
            program="shapebias.reliance",
            arguments=config.arguments,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        _conclude(answers, config, folder, {**head, "skipped": skipped})
    failures.log()
    return failures.exit_code


def _conclude(answers: "Sequence[SuppressedAnswers]", config: Config, folder: "RelianceFolder", head: dict) -> None:
    """Measure all networks together, write the comparison and its pictures, and say what came of it."""
    from runkit.figures import save_figure
    from shapebias.figures.reliance import draw_reliance, draw_reliance_curves, draw_suppressions
    from shapebias.measures.reliance import Draws, compare_reliance, measure_reliance
    from shapebias.results.reliance import show_reliance, write_comparison

    _refuse_different(answers)
    variants = _variants_of(answers[0], config)
    draws = Draws.of(len(answers[0].images))
    measured = [measure_reliance(one, variants, draws=draws) for one in answers]
    differences = compare_reliance(answers, variants, draws=draws)
    figures = {"reliance": draw_reliance(measured), "reliance-curves": draw_reliance_curves(measured)}
    if config.images is not None:
        figures["reliance-images"] = draw_suppressions(_show(answers[0], config.images, variants))
    pictures = [
        path
        for name, figure in figures.items()
        for path in save_figure(figure, folder.root / name, config.formats, description=" ".join(config.arguments))
    ]
    written = [*write_comparison(measured, differences, folder, head, pictures=pictures), *pictures]
    if config.console.json:
        write_json({"program": "shapebias.reliance", "networks": [_brief(one) for one in measured],
                    "files": list(map(str, written))})  # fmt: skip
    else:
        write_out(show_reliance(measured))
    _logger.info("wrote %s", ", ".join(map(str, written)))


def _refuse_different(answers: "Sequence[SuppressedAnswers]") -> None:
    for other in answers[1:]:
        if other.images != answers[0].images or other.variants != answers[0].variants:
            raise UserError(
                f"{other.name} and {answers[0].name} were shown different images or suppressions; measure them apart"
            )
        if (other.labels is None) != (answers[0].labels is None):
            raise UserError(f"of {other.name} and {answers[0].name} only one was asked with labels; measure them apart")


def _variants_of(answers: "SuppressedAnswers", config: Config) -> "list[Variant]":
    """The variants that were answered to, in their order."""
    from shapebias.stimuli.suppressions import choose_variants

    known = {variant.label: variant for variant in choose_variants([*SUPPRESSIONS, *config.suppress])}
    unknown = [label for label in answers.variants if label not in known]
    if unknown:
        raise UserError(f"{answers.name} was shown {unknown[0]}, which is not known here; name its --suppress")
    return [known[label] for label in answers.variants]


def _show(answers: "SuppressedAnswers", images: Path, variants: "Sequence[Variant]") -> "dict[str, np.ndarray]":
    """The first image under every variant, as the first network was shown it.

    Raises: UserError if the image is not there.
    """
    from shapebias.stimuli.folders import LabelledImage
    from shapebias.stimuli.suppressed import read_resized
    from shapebias.stimuli.suppressions import suppress

    name = answers.images[0]
    height, width = answers.provenance["data"]["size_px"]
    pixels = read_resized(LabelledImage(images / name, name, ""), (height, width))
    return {variant.label: suppress(pixels, variant, image_name=name) for variant in variants}


def _brief(one: "Reliance") -> dict:
    accuracy = one.points[0].accuracy
    return {
        "name": one.name,
        "label": one.label,
        "accuracy": accuracy and accuracy.value,
        **{f"reliance_{cue}": estimate.value for cue, estimate in one.reliance.items()},
    }


def _tell(config: Config, folder: "RelianceFolder") -> int:
    """List networks, or say what the run would do; nothing is written."""
    if config.console.list_models is not None:
        from replknet.listing import show_networks

        show_networks(config.console.list_models, as_json=config.console.json)
        return 0
    if config.from_probabilities:
        raise UserError("--dry-run says what networks would take; --from-probabilities asks none")
    from runkit.dry_run import foresee_sweep
    from shapebias.reliance_sweep import RelianceTool

    foreseen, failures = foresee_sweep(RelianceTool(config, folder))
    foreseen.show(as_json=config.console.json)
    failures.log()
    return failures.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    config = parse_config(sys.argv[1:] if argv is None else argv)
    level = config.console.level
    return run_main(lambda: execute(config), program="shapebias.reliance", arguments=config.arguments, level=level)


if __name__ == "__main__":
    raise SystemExit(main())
