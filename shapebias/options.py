"""What a run is asked for: the command line of `shapebias.run` and the configuration it becomes."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from runkit import describe_run
from runkit.content import RunHead
from runkit.options import (
    Console,
    add_batch_size,
    add_console,
    add_device,
    add_formats,
    add_report,
    add_resume,
    add_seed,
    add_weights,
    program_name,
)
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS, Experiment

__all__ = ["DEFAULT_MODELS", "RunConfig", "build_parser", "describe", "parse_config"]

DEFAULT_MODELS = (
    "replknet31b.in1k",
    "replknet31b.in22k_ft_in1k",
    "swin_base_patch4_window7_224.ms_in1k",
    "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
    "resnet152.tv_in1k",
    "tf_efficientnet_lite0.in1k",
)
"""The comparison of arXiv:2203.06717, Fig. 5, and a network whose weights are installed with this package."""

_EXAMPLES = """\
examples:
  python -m shapebias.run --model tf_efficientnet_lite0.in1k
      the 1280 images and the answers of people are downloaded at first use; results in figures/shapebias
  python -m shapebias.run --from-csv figures/shapebias/raw/cue-conflict --formats png pdf
      measure and draw recorded answers again, without any network
  python -m shapebias.run --from-probabilities figures/shapebias/*.probabilities.npz --aggregation max --output max
      decide otherwise on what the networks said, again without them
  python -m shapebias.run --from-csv figures/shapebias/raw/cue-conflict --json --quiet
      for scripts: every measure on stdout

Shape bias, accuracy and coverage are fractions in [0, 1]; images have 224 × 224 pixels.
"""


@dataclass(frozen=True)
class RunConfig:
    """Everything a run is asked for; `command` is the argument list that asked."""

    models: tuple[str, ...] = DEFAULT_MODELS
    experiment: Experiment = CUE_CONFLICT
    stimuli: Path | None = None
    humans: Path | None = None
    output: Path = Path("figures")
    weights: str = "auto"
    from_csv: tuple[Path, ...] = ()
    from_probabilities: tuple[Path, ...] = ()
    preprocessing: str = "model"
    aggregation: str = "mean"
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "float32"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    formats: tuple[str, ...] = ("png",)
    report: bool = False
    command: tuple[str, ...] = ()
    console: Console = field(default_factory=Console)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("shapebias.run", "shapebias"),
        description="Does a network name an object by its shape or by its texture? Shape bias on the cue-conflict "
        "images of Geirhos et al. (2019), measured as the model-vs-human toolbox does, with people beside it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_argument_group("what is measured")
    source.add_argument(
        "--model",
        nargs="+",
        metavar="NAME",
        help="names of the zoo, best with their tag (default: " + ", ".join(DEFAULT_MODELS) + ")",
    )
    add_weights(source, auto="networks without are left out, for the shape bias of random weights means nothing")
    source.add_argument(
        "--from-csv",
        nargs="+",
        type=Path,
        metavar="CSV",
        help="measure these raw-data CSVs, or folders of them, instead of networks",
    )
    source.add_argument(
        "--from-probabilities",
        nargs="+",
        type=Path,
        metavar="NPZ",
        help="measure saved <model>.probabilities.npz instead of networks, for example with another --aggregation",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--experiment",
        choices=tuple(name for name, experiment in EXPERIMENTS.items() if not experiment.in_one_folder),
        default=CUE_CONFLICT.name,
        help="which images and people: shape against texture, or edge drawings or silhouettes, where the question is "
        "how often the object is named (default: cue-conflict)",
    )
    data.add_argument(
        "--stimuli", type=Path, metavar="DIR", help="the 16 category folders (default: cache, else download)"
    )
    data.add_argument(
        "--humans", type=Path, metavar="DIR", help="raw-data CSVs of people (default: cache, else download)"
    )
    choices = parser.add_argument_group("choices that change the answers")
    choices.add_argument(
        "--preprocessing",
        choices=("model", "toolbox"),
        default="model",
        help="the network's own mean, deviation and size, or the toolbox's for all (default: model)",
    )
    choices.add_argument(
        "--aggregation",
        choices=("mean", "sum", "max"),
        default="mean",
        help="how the probabilities of a category's classes become one (default: mean, as the toolbox)",
    )
    add_seed(choices)
    running = parser.add_argument_group("running")
    add_device(running)
    add_batch_size(running, auto="16, on a GPU 64, or as many as fit")
    running.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="arithmetic; what a reduced one changes on 16 images is told and saved (default: float32)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="DIR", help="writes DIR/shapebias (default: figures)"
    )
    add_formats(output)
    add_report(output)
    add_resume(output)
    add_console(parser, script="shapebias")
    return parser


def parse_config(argv: Sequence[str] | None = None) -> RunConfig:
    """Read the command line; argparse itself ends the program with 2 on a wrong argument."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    options = parser.parse_args(arguments)
    recorded = "--from-csv" if options.from_csv else "--from-probabilities" if options.from_probabilities else None
    if options.from_csv and options.from_probabilities:
        parser.error("take --from-csv or --from-probabilities, not both")
    if recorded and (options.model or options.stimuli or options.weights != "auto"):
        parser.error(f"{recorded} measures what was recorded; leave out --model, --weights and --stimuli")
    if recorded and options.preprocessing != "model":
        parser.error(f"{recorded} measures what was recorded; leave out --preprocessing")
    if options.from_csv and options.aggregation != "mean":
        parser.error("--from-csv measures answers already decided; --aggregation needs --from-probabilities")
    if recorded and options.precision != "float32":
        parser.error(f"{recorded} measures what was recorded; leave out --precision")
    if options.seed < 0:
        parser.error(f"--seed must be at least 0, not {options.seed}")
    models = tuple(options.model or DEFAULT_MODELS)
    twice = sorted({name for name in models if models.count(name) > 1})
    if twice:
        parser.error(f"--model names {twice[0]} twice")
    if options.weights not in ("auto", "pretrained", "random") and len(models) > 1:
        parser.error(f"--weights {options.weights} is one checkpoint; name one --model with it")
    return RunConfig(
        models=models,
        experiment=EXPERIMENTS[options.experiment],
        stimuli=options.stimuli,
        humans=options.humans,
        output=options.output,
        weights=options.weights,
        from_csv=tuple(options.from_csv or ()),
        from_probabilities=tuple(options.from_probabilities or ()),
        preprocessing=options.preprocessing,
        aggregation=options.aggregation,
        device=options.device,
        batch_size=options.batch_size,
        precision=options.precision,
        seed=options.seed,
        resume=options.resume,
        overwrite=options.overwrite,
        formats=tuple(dict.fromkeys(options.formats)),
        report=options.report,
        command=tuple(arguments),
        console=Console.pop_from(vars(options)),
    )


def describe(config: RunConfig, started: datetime, clock: float) -> RunHead:
    """The head of a result file of this run; `clock` is the `time.perf_counter()` of its start."""
    return describe_run(
        program="shapebias.run", arguments=config.command, started=started, seconds=time.perf_counter() - clock
    )
