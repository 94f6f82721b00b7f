"""`python -m shapebias.sensitivity`: how much shape bias depends on how it is computed.

It varies three choices, using saved probabilities: how the classes of a category are combined (mean, sum, maximum);
whether the answer is one of 16 categories or of all 1000 classes; and, if the probabilities of both were saved, the
preprocessing of the images (the network's own, or that of the toolbox for all).
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit import UserError, describe_run, format_table, run_main, save_csv, save_json, save_latex
from runkit.files import refuse_unwritable
from runkit.intervals import note_on_few
from runkit.numbers import FRACTION
from runkit.options import add_output
from runkit.parser import Parser

if TYPE_CHECKING:  # not imported at run time, so that --help does not wait for pandas
    from shapebias.answers.probabilities import Probabilities
    from shapebias.measures.shape_bias import Measurement

__all__ = ["Choice", "build_parser", "main", "measure_choices"]

_logger = logging.getLogger("shapebias.sensitivity")  # under `python -m` this module is called __main__

_EXAMPLES = """\
examples:
  python -m shapebias.sensitivity figures/shapebias/*.probabilities.npz
  python -m shapebias.run --model tf_efficientnet_lite0.in1k --preprocessing toolbox --output toolbox
  python -m shapebias.sensitivity figures/shapebias/*.probabilities.npz toolbox/shapebias/*.probabilities.npz
      two files of one network, one per preprocessing, form one block of the table

Measures are fractions in [0, 1].
"""
_MEASURES = ("shape_bias", "fraction_correct_shape", "fraction_correct_texture", "coverage")
_RANKS = ("shape_reciprocal_rank", "texture_reciprocal_rank")


@dataclass(frozen=True)
class Choice:
    """A network's measures under one set of choices.

    Attributes:
        preprocessing: "model" or "toolbox".
        classes: Number of classes among which the network decides. With 16 (fewer for some heads), the answer is the
            best category. With 1000 (or the head's number), it is the category of the best class ("na" if it has none).
        aggregation: "mean", "sum" or "max"; "" with 1000 classes, where there is nothing to aggregate.
        measurement: The measures of the answers; cue ranks only with 1000 classes.
        changed: Fraction of stimuli whose answer differs from that under the network's first choice.
    """

    preprocessing: str
    classes: int
    aggregation: str
    measurement: "Measurement"
    changed: float

    def as_dict(self) -> dict[str, Any]:
        """Return a row of the table: choices, measures, and the ends of their intervals."""
        row: dict[str, Any] = {
            "name": self.measurement.name,
            "preprocessing": self.preprocessing,
            "classes": self.classes,
            "aggregation": self.aggregation or None,
            "answers_changed": self.changed,
        }
        for key in (*_MEASURES, *_RANKS):
            estimate = getattr(self.measurement, key)
            row |= {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
        return row


def measure_choices(files: "Sequence[Probabilities]") -> list[Choice]:
    """Measure one network under every choice, starting with the toolbox's aggregation of the first file.

    Args:
        files: The network's probabilities for the same cue-conflict images, one file for each preprocessing.
    """
    from shapebias.answers.decisions import AGGREGATIONS, decide, decide_among_all
    from shapebias.answers.observers import NO_ANSWER, Observer, make_trials
    from shapebias.measures.ranks import rank_cues
    from shapebias.measures.shape_bias import measure

    choices: list[Choice] = []
    first: list[str] = []
    for probabilities in files:
        subject, label = probabilities.provenance["subject"], probabilities.provenance["label"]
        images, values, head = probabilities.images, probabilities.values, probabilities.classes
        label = f"{label}, {head.label}" if head.label else label
        kinds = [*((len(head.categories), name) for name in AGGREGATIONS), (head.num_classes, "")]
        for classes, aggregation in kinds:
            answers = (
                decide(values, aggregation=aggregation, classes=head)
                if aggregation
                else [answer or NO_ANSWER for answer in decide_among_all(values, classes=head)]
            )
            observer = Observer(
                subject,
                make_trials(subject, images, answers),
                label=label,
                random=probabilities.provenance["weights"]["random"],
                ranks=None if aggregation else rank_cues(values, images, classes=head),
            )
            first = first or answers
            changed = sum(one != other for one, other in zip(answers, first, strict=True)) / len(answers)
            preprocessing = probabilities.provenance["config"]["preprocessing"]
            choices.append(Choice(preprocessing, classes, aggregation, measure(observer), changed))
    return choices


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog="python -m shapebias.sensitivity",
        description="How much does shape bias depend on how it is computed: on the aggregation of classes, on deciding "
        "among 16 categories or 1000 classes, and on the preprocessing? Reads saved probabilities; no network is run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="NPZ", help="<model>.probabilities.npz files that shapebias.run wrote"
    )
    add_output(parser, folder="shapebias")
    return parser


def execute(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Measure every network under every choice; write `sensitivity.json`, `.csv` and `.tex`, and print the table.

    Raises: UserError as `load_probabilities`, if a file is not of the cue-conflict experiment, or if two files of a
        network have the same preprocessing, or different weights or images.
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    refuse_unwritable(options.output)
    networks = _read_networks(options.files)
    choices = [choice for files in networks.values() for choice in measure_choices(files)]
    rows = [choice.as_dict() for choice in choices]
    header = ["network", "preprocessing", "classes", "aggregation", "shape bias", "95% interval", "shape", "texture"]
    header += ["coverage", "shape MRR", "texture MRR", "changed"]
    table = [_row(choice) for choice in choices]
    stem = options.output / "shapebias" / "sensitivity"
    seconds = time.perf_counter() - clock
    save_json(
        stem.with_suffix(".json"),
        {
            **describe_run(program="shapebias.sensitivity", arguments=command, started=started, seconds=seconds),
            "results": {"units": "fractions in [0, 1]", "choices": rows},
        },
    )
    save_csv(stem.with_suffix(".csv"), rows)
    save_latex(stem.with_suffix(".tex"), header, table, note="the numbers in full are in sensitivity.csv")
    few = note_on_few(choice.measurement.trials for choice in choices)
    sys.stdout.write(format_table(header, table) + (f"\n\n{few}\n" if few else "\n"))
    _logger.info("wrote %s", ", ".join(str(stem.with_suffix(end)) for end in (".json", ".csv", ".tex")))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    command = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(command)
    return run_main(lambda: execute(options, command), program="shapebias.sensitivity")


def _read_networks(paths: Sequence[Path]) -> "dict[str, list[Probabilities]]":
    """Read the files and group them by network, with the network's own preprocessing first."""
    from shapebias.answers.probabilities import load_probabilities
    from shapebias.stimuli.experiments import CUE_CONFLICT

    networks: dict[str, dict[str, Probabilities]] = {}
    for path in paths:
        probabilities = load_probabilities(path)
        experiment = probabilities.provenance["data"]["name"]
        if experiment != CUE_CONFLICT.name:
            raise UserError(f"{path} is of the experiment {experiment}; shape bias needs {CUE_CONFLICT.name}")
        name, config = probabilities.provenance["subject"], probabilities.provenance["config"]
        files = networks.setdefault(name, {})
        if config["preprocessing"] in files:
            raise UserError(f"{path}: the preprocessing {config['preprocessing']!r} of {name} is named twice")
        for other in files.values():
            if (other.images, other.provenance["config"]["weights"]) != (probabilities.images, config["weights"]):
                raise UserError(f"{path}: {name} has other weights or images than in the file before")
        files[config["preprocessing"]] = probabilities
    return {name: [files[key] for key in sorted(files)] for name, files in networks.items()}  # model before toolbox


def _row(choice: Choice) -> list[str]:
    """A row of the readable table."""

    def number(key: str) -> str:
        value = getattr(choice.measurement, key).value
        return "-" if value is None else f"{value:.3f}"

    bias = choice.measurement.shape_bias
    written = FRACTION.write(bias.value, bias.low, bias.high)
    chosen = [choice.measurement.label, choice.preprocessing, str(choice.classes), choice.aggregation or "-"]
    _, *others = (number(key) for key in (*_MEASURES, *_RANKS))
    return [
        *chosen,
        "-" if bias.value is None else written.value,
        written.brackets or "-",
        *others,
        f"{choice.changed:.3f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
