"""`python -m shapebias.reliance`: reliance of networks on shape, texture and colour, measured by suppressing each."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from runkit import Failures, UserError, describe_run, is_main_process, run_main, write_json, write_out
from runkit.content import SkippedNetwork
from runkit.options import (
    REPORT,
    add_batch_size,
    add_console,
    add_device,
    add_formats,
    add_no_caption,
    add_normalisation,
    add_output,
    add_report,
    add_resume,
    add_seed,
    add_weights,
    program_name,
    read_options,
)
from runkit.parser import Parser
from shapebias.reliance_sweep import Config
from shapebias.stimuli.suppressions import SUPPRESSIONS

if TYPE_CHECKING:
    import numpy as np

    from shapebias.answers.suppressed import SuppressedAnswers
    from shapebias.measures.reliance import Reliance
    from shapebias.measures.suppression_control import ControlPoint
    from shapebias.results.reliance import RelianceFolder
    from shapebias.results.reliance_content import RelianceComparisonHead
    from shapebias.stimuli.suppressions import Variant

__all__ = ["build_parser", "execute", "main", "parse_config"]

_logger = logging.getLogger("shapebias.reliance")  # under `python -m` this module is called __main__

_EXAMPLES = """\
examples:
  python -m shapebias.reliance --model replknet31n resnet18n --images imagenette/val --num-images 500
      a folder with one folder of images per class; networks may have any head and any classes
  python -m shapebias.reliance --model net.py:build --images my-classes/ --suppress texture colour
      a network of your own and only some suppressions
  python -m shapebias.reliance --from-probabilities figures/shapebias/reliance/*.probabilities.npz
      measure and draw saved answers again; no network is run

Accuracies are fractions in [0, 1]. Reliance on a cue is 1 minus the mean area under the curves of relative accuracy: 0
means that suppressing the cue loses no accuracy.
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog=program_name("shapebias.reliance", "shapebias"),
        description="How much does a network rely on shape, texture and colour? Suppresses one cue at a time in "
        "labelled images and measures the accuracy that is lost (Burgert et al. 2025, arXiv:2509.20234).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_argument_group("what is measured")
    source.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="NAME",
        help="networks: names of timm or of this project, or FILE.py:FUNCTION",
    )
    add_weights(source, auto="networks that have none are skipped, since the reliance of random weights means nothing")
    source.add_argument(
        "--from-probabilities",
        nargs="+",
        type=Path,
        default=[],
        metavar="NPZ",
        help="measure saved <model>.probabilities.npz files instead of networks; add --images to draw example images"
        " and to measure --control as well",
    )
    data = parser.add_argument_group("images")
    data.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder with one folder of images per class; the class folders are named by WordNet id, class name or "
        "output index, or are in the order of the outputs if there are as many folders as outputs",
    )
    data.add_argument(
        "--num-images", type=int, metavar="N", help="use at most N images, evenly over classes (default: all)"
    )
    data.add_argument(
        "--classes", type=Path, metavar="FILE", help="text file with the class folder of each output, one per line"
    )
    data.add_argument(
        "--unlabelled",
        action="store_true",
        help="the images have no classes: measure how often the answer changes instead of accuracy",
    )
    data.add_argument(
        "--suppress",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="what to suppress: all, a cue (shape, texture, colour), your own function (FILE.py:FUNCTION), or one or "
        "several of: " + ", ".join(SUPPRESSIONS) + " (default: all)",
    )
    data.add_argument(
        "--control",
        type=int,
        default=16,
        metavar="N",
        help="measure on N of the images how far each suppression changes the images themselves (default: 16; 0 "
        "skips this)",
    )
    running = parser.add_argument_group("running")
    add_normalisation(running)
    add_seed(running)
    add_device(running)
    add_batch_size(running, auto="32 on a CPU and 256 on a GPU, or fewer if these do not fit")
    output = parser.add_argument_group("output")
    add_output(output, folder="shapebias/reliance")
    add_formats(output)
    add_no_caption(output)
    add_report(output)
    add_resume(output)
    add_console(parser, script="shapebias")
    return parser


def parse_config(arguments: Sequence[str]) -> Config:
    """Parse arguments into a configuration. Wrong usage ends the program with exit code 2."""
    parser = build_parser()
    options = read_options(parser, arguments)
    if bool(options["from_probabilities"]) == bool(options["model"]) and options["console"].list_models is None:
        parser.error("take --model with --images, or --from-probabilities")
    if options["from_probabilities"] and (options["weights"] != "auto" or options["num_images"] or options["classes"]):
        parser.error("--from-probabilities measures what was recorded; leave out --weights, --num-images and --classes")
    if options["from_probabilities"] and (options["mean"] or options["std"]):
        parser.error("--from-probabilities measures what was recorded; leave out --mean and --std")
    twice = sorted({name for name in options["model"] if options["model"].count(name) > 1})
    if twice:
        parser.error(f"--model names {twice[0]} twice")
    if options["weights"] not in ("auto", "pretrained", "random") and len(options["model"]) > 1:
        parser.error(f"--weights {options['weights']} is one checkpoint; name one --model with it")
    if options["num_images"] is not None and options["num_images"] < 1:
        parser.error(f"--num-images must be at least 1, not {options['num_images']}")
    if options["control"] < 0:
        parser.error(f"--control must be at least 0, not {options['control']}")
    if options["unlabelled"] and options["classes"]:
        parser.error("--unlabelled asks for no classes; leave out --classes")
    return Config(**{**options, "weights": (options["weights"],)})


def execute(config: Config) -> int:
    """Run the command: get the answers, compute the measures, write the files, and print the table.

    Returns: 0, or another exit code if a network could not be measured (see `runkit.Failures`).
    Raises: UserError for an input or environment error; its message names the problem and a solution.
    """
    from shapebias.reliance_sweep import ask_networks
    from shapebias.results.reliance import RelianceFolder, describe_comparison

    folder = RelianceFolder.of(config.output)
    if config.console.list_models is not None or config.console.dry_run:
        return _tell(config, folder) if is_main_process() else 0
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    failures = Failures()
    skipped: list[SkippedNetwork] = []
    if config.from_probabilities:
        answers, files = _read_answers(config), list(config.from_probabilities)
    else:
        swept = ask_networks(config, folder)
        answers, failures, skipped = swept.results, swept.failures, swept.skipped
        files = [folder.probabilities_of(one.name) for one in answers]
    if is_main_process() and answers:
        head = describe_run(
            program="shapebias.reliance",
            arguments=config.arguments,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        _conclude(answers, config, folder, describe_comparison(answers, files, head, skipped), failures)
    elif is_main_process() and config.console.json:
        _write_json([], [], skipped, failures)
    failures.log()
    return failures.exit_code


def _read_answers(config: Config) -> "list[SuppressedAnswers]":
    """Read the saved answers, without their labels if only changes are measured.

    Raises: UserError if a file cannot be read, or two are of the same network.
    """
    from shapebias.answers.suppressed import load_answers

    answers: dict[str, SuppressedAnswers] = {}
    for path in config.from_probabilities:
        one = load_answers(path)
        if one.name in answers:
            raise UserError(f"{path}: another file is of the network {one.name!r}, too; name one of them")
        answers[one.name] = replace(one, labels=None, label_probability=None) if config.unlabelled else one
    return list(answers.values())


def _conclude(
    answers: "Sequence[SuppressedAnswers]",
    config: Config,
    folder: "RelianceFolder",
    head: "RelianceComparisonHead",
    failures: Failures,
) -> None:
    """Measure all networks together, write the comparison and its figures, and print the result."""
    from shapebias.figures.caption import caption_reliance, caption_suppressed
    from shapebias.figures.reliance_files import write_pictures
    from shapebias.measures.reliance import Draws, compare_reliance, measure_reliance
    from shapebias.results.reliance import PICTURES, describe_control, show_reliance, write_comparison

    _refuse_different(answers)
    if config.from_probabilities and config.images is not None:
        _refuse_other_images(answers[0], config.images)
    variants = _variants_of(answers[0], config)
    draws = Draws.of(len(answers[0].images))
    measured = [measure_reliance(one, variants, draws=draws) for one in answers]
    differences = compare_reliance(answers, variants, draws=draws)
    for one in measured:
        if not one.areas and one.chance is not None:
            _logger.warning(
                "%s: in some resamples of the images its accuracy is no better than chance (%.3g), so it has no "
                "reliance; show it more images, or trained weights",
                one.label,
                one.chance,
            )
    height, width = answers[0].provenance["data"]["size_px"]  # the first network's
    shown: dict[str, np.ndarray] = {}
    control: list[ControlPoint] = []
    if config.images is not None:
        shown, control = _look_at_images(answers[0], config.images, variants, (height, width), config.control)
    weights = {one.name: one.provenance["weights"]["label"] for one in answers}
    number = min(config.control, len(answers[0].images))
    texts = (
        caption_reliance(measured, head, weights),
        caption_reliance(measured, head, weights, curves=True),
        caption_suppressed(1, head),
        caption_suppressed(number, head, control=True),
    )
    pictures = write_pictures(
        measured,
        control,
        shown,
        folder,
        config.formats,
        description=head["command"],
        captions=None if config.no_caption else dict(zip(PICTURES, texts, strict=True)),
    )
    about = describe_control(control, images=number, size=(height, width)) if control else None
    written = [
        *write_comparison(measured, differences, folder, head, control=about, pictures=pictures),
        *pictures,
    ]
    if config.report:
        written.append(_write_report(config, folder))
    if config.console.json:
        _write_json(measured, written, head["skipped"], failures)
    else:
        write_out(show_reliance(measured))
    _logger.info("wrote %s", ", ".join(map(str, written)))


def _write_report(config: Config, folder: "RelianceFolder") -> Path:
    """Write `report.html` on the comparison that was just written, and return its path."""
    from runkit.html.page import write_page
    from shapebias.figures.reliance_page import describe_reliance

    page = folder.root / REPORT
    section = describe_reliance(folder.comparison, page)
    write_page(page, section.title, [section], program="shapebias.reliance", arguments=config.arguments)
    return page


def _refuse_different(answers: "Sequence[SuppressedAnswers]") -> None:
    first = answers[0]
    for other in answers[1:]:
        different = other.images != first.images or other.variants != first.variants
        identities = [one.provenance["config"] for one in (first, other)]
        if different or any(identities[0][key] != identities[1][key] for key in ("images", "own_code")):
            raise UserError(
                f"{other.name} and {first.name} were shown different images or suppressions; measure them separately"
            )
        if (other.labels is None) != (first.labels is None):
            raise UserError(
                f"only one of {other.name} and {first.name} was measured with labels; measure them separately, or with "
                "--unlabelled"
            )


def _refuse_other_images(answers: "SuppressedAnswers", root: Path) -> None:
    """Check that a folder holds the images that were shown.

    Raises: UserError if one is missing, cannot be read, or has another content.
    """
    from runkit import sha256_of_files

    found = sha256_of_files(root, [root / name for name in answers.images])
    if found != answers.provenance["config"]["images"]["sha256"]:
        raise UserError(
            f"--images {root} holds other images of the same names than {answers.name} was shown; name the folder of "
            "its run, or leave out --images"
        )


def _variants_of(answers: "SuppressedAnswers", config: Config) -> "list[Variant]":
    """The variants of the answers, in their order.

    Raises: UserError if a variant is unknown, or `--suppress` excludes some that were recorded.
    """
    from shapebias.stimuli.suppressions import choose_variants

    known = {variant.label: variant for variant in choose_variants([*SUPPRESSIONS, *config.suppress])}
    unknown = [label for label in answers.variants if label not in known]
    if unknown:
        raise UserError(f"{answers.name} was shown {unknown[0]}, which is not known here; name its --suppress")
    if config.from_probabilities and any(":" not in name and name != "all" for name in config.suppress):
        asked = {variant.label for variant in choose_variants(config.suppress)}
        if more := [label for label in answers.variants if label not in asked]:
            raise UserError(
                f"--suppress {' '.join(config.suppress)}: {answers.name} was shown {more[0]}, too, and "
                "--from-probabilities measures all that was recorded; leave out --suppress, or name only functions of "
                "your own"
            )
    return [known[label] for label in answers.variants]


def _changed(pixels: "np.ndarray", variant: "Variant", name: str) -> "np.ndarray":
    """The image under a suppression, with the first seed that changes it: a random permutation may be the identity."""
    import numpy as np

    from shapebias.stimuli.suppressions import suppress

    drawn = (suppress(pixels, variant, image_name=name, seed=seed) for seed in range(8))
    return next((image for image in drawn if not np.array_equal(image, pixels)), pixels)


def _look_at_images(
    answers: "SuppressedAnswers", root: Path, variants: "Sequence[Variant]", size: tuple[int, int], control: int
) -> "tuple[dict[str, np.ndarray], list[ControlPoint]]":
    """Make the first image under every variant, and measure what variants do to some images, at the given size.

    Raises: UserError if an image cannot be read.
    """
    from shapebias.measures.suppression_control import measure_suppressions
    from shapebias.stimuli.folders import LabelledImage
    from shapebias.stimuli.suppressed import read_resized

    images = [LabelledImage(root / name, name, "") for name in answers.images]
    pixels = read_resized(images[0], size)
    shown = {one.label: _changed(pixels, one, images[0].name) for one in variants}
    count = min(control, len(images))
    some = [images[(2 * i + 1) * len(images) // (2 * count)] for i in range(count)]
    return shown, measure_suppressions(some, variants, size=size) if some else []


def _write_json(
    measured: "Sequence[Reliance]",
    files: Sequence[Path],
    skipped: "Sequence[SkippedNetwork]",
    failures: Failures,
) -> None:
    """Print the output of `--json`."""
    content = {
        "networks": [_brief(one) for one in measured],
        "files": list(map(str, files)),
        "skipped": skipped,
        "failed": failures.reasons,
    }
    write_json({"program": "shapebias.reliance", **content})


def _brief(one: "Reliance") -> dict:
    accuracy = one.points[0].accuracy
    return {
        "name": one.name,
        "label": one.label,
        "accuracy": accuracy and accuracy.value,
        **{f"reliance_{cue}": estimate.value for cue, estimate in one.reliance.items()},
    }


def _tell(config: Config, folder: "RelianceFolder") -> int:
    """List networks, or print what the run would do. No files are written."""
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
