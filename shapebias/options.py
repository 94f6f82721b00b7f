"""The command line of `shapebias.run`, and the configuration into which it is parsed."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runkit.options import (
    RunOptions,
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
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS, Experiment

__all__ = ["DEFAULT_MODELS", "Config", "build_parser", "parse_config"]

DEFAULT_MODELS = (
    "replknet31b.in1k",
    "replknet31b.in22k_ft_in1k",
    "swin_base_patch4_window7_224.ms_in1k",
    "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
    "resnet152.tv_in1k",
    "tf_efficientnet_lite0.in1k",
)
"""The networks of arXiv:2203.06717, Fig. 5, and one whose weights are installed with this package."""

_EXAMPLES = """\
examples:
  python -m shapebias.run --model tf_efficientnet_lite0.in1k
      the 1280 images and people's answers are downloaded once; results go to figures/shapebias
  python -m shapebias.run --from-csv figures/shapebias/raw/cue-conflict --formats png pdf
      measure and draw recorded answers again; no network is run
  python -m shapebias.run --from-probabilities figures/shapebias/*.probabilities.npz --aggregation max --output max
      decide again from the saved outputs, with another aggregation; the networks are not run
  python -m shapebias.run --from-csv figures/shapebias/raw/cue-conflict --json --quiet
      for scripts: print every measure to stdout
  python -m shapebias.run --model tf_efficientnet_lite0.in1k --experiment all
      all 17 datasets of the human benchmark; then python -m shapebias.benchmark makes its table from the answers

Shape bias, accuracy and coverage are fractions in [0, 1]. Images have 224 × 224 pixels.
"""


@dataclass(frozen=True, kw_only=True)
class Config(RunOptions):
    """The parsed command line; attributes have the names of the options.

    Attributes:
        experiments: The experiments, which determine images and people.
        stimuli: Folder of the images or, with several experiments, a folder with one folder for each; None for the
            cache, which is filled by a download if necessary.
        humans: Folder of people's answers, in the same way.
        num_images: Maximal number of images of each experiment, spread evenly over categories; None for all.
        preprocessing: "model" for the network's own preprocessing, "toolbox" for the same for all networks.
        aggregation: How the probabilities of a category's classes are combined: "mean", "sum" or "max".
        classes: The classes of the networks' outputs: "auto", "imagenet-1k" or the path of a class file.
        from_csv: Recorded answers to measure instead of networks.
        from_probabilities: Saved probabilities to measure instead of networks.
    """

    model: tuple[str, ...] = DEFAULT_MODELS
    experiments: tuple[Experiment, ...] = (CUE_CONFLICT,)
    stimuli: Path | None = None
    humans: Path | None = None
    num_images: int | None = None
    preprocessing: str = "model"
    aggregation: str = "mean"
    classes: str = "auto"
    from_csv: tuple[Path, ...] = ()
    from_probabilities: tuple[Path, ...] = ()

    @property
    def experiment(self) -> Experiment:
        """The only experiment. If there may be several, use `parts`, each of which has one.

        Raises: ValueError if there are several.
        """
        (only,) = self.experiments
        return only

    @property
    def parts(self) -> "list[Config]":
        """One configuration for each experiment, with its own folders."""
        if len(self.experiments) == 1:
            return [self]
        return [
            replace(
                self,
                experiments=(experiment,),
                stimuli=self.stimuli and self.stimuli / experiment.name,
                humans=self.humans and self.humans / experiment.name,
            )
            for experiment in self.experiments
        ]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = Parser(
        prog=program_name("shapebias.run", "shapebias"),
        description="Does a network name an object by its shape or by its texture? Shape bias on the cue-conflict "
        "images of Geirhos et al. (2019), measured as in the model-vs-human toolbox and compared with people.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_argument_group("what is measured")
    source.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of networks, best with the tag of their weights (default: " + ", ".join(DEFAULT_MODELS) + ")",
    )
    add_weights(
        source, auto="networks that have none are skipped, since the shape bias of random weights means nothing"
    )
    source.add_argument(
        "--from-csv",
        nargs="+",
        type=Path,
        default=[],
        metavar="CSV",
        help="measure recorded answers instead of networks: raw-data CSV files of the model-vs-human toolbox, or "
        "folders of them",
    )
    source.add_argument(
        "--from-probabilities",
        nargs="+",
        type=Path,
        default=[],
        metavar="NPZ",
        help="measure saved <model>.probabilities.npz files instead of networks, for example with another "
        "--aggregation",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--experiment",
        nargs="+",
        choices=("all", *EXPERIMENTS),
        default=[CUE_CONFLICT.name],
        metavar="NAME",
        help="datasets of images with people's answers: all, or one or several of " + ", ".join(EXPERIMENTS) + "; "
        "cue-conflict gives the shape bias, the others give the accuracy (default: cue-conflict)",
    )
    data.add_argument(
        "--stimuli",
        type=Path,
        metavar="DIR",
        help="folder of the unpacked images; with several experiments, the folder that holds one folder for each "
        "(default: the cache, filled by a download)",
    )
    data.add_argument(
        "--humans",
        type=Path,
        metavar="DIR",
        help="folder of people's answers (raw-data CSV files); with several experiments, the folder that holds one "
        "folder for each (default: the cache, filled by a download)",
    )
    data.add_argument(
        "--num-images",
        type=int,
        metavar="N",
        help="at most N images of each experiment, evenly over categories and always the same ones (default: all)",
    )
    choices = parser.add_argument_group("how answers are computed")
    choices.add_argument(
        "--preprocessing",
        choices=("model", "toolbox"),
        default="model",
        help="model: the network's own mean, standard deviation and image size; toolbox: those of the toolbox for "
        "all networks (default: model)",
    )
    choices.add_argument(
        "--aggregation",
        choices=("mean", "sum", "max"),
        default="mean",
        help="how the probabilities of a category's classes are combined (default: mean, as in the toolbox)",
    )
    choices.add_argument(
        "--classes",
        default="auto",
        metavar="auto|imagenet-1k|FILE",
        help="what the network's outputs stand for. auto: heads of 1000 classes as in the toolbox, larger heads of "
        "ImageNet by WordNet; imagenet-1k: of a larger head, use only the classes of ImageNet-1k; FILE: a text "
        "file with one line per output: a WordNet id, a category, or - for neither (default: auto)",
    )
    add_normalisation(choices)
    add_seed(choices)
    running = parser.add_argument_group("running")
    add_device(running)
    add_batch_size(running, auto="16 on a CPU and 64 on a GPU, or fewer if these do not fit")
    running.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="float32",
        help="number format of the computation; auto takes bfloat16 where the device multiplies matrices faster in it, "
        "otherwise float32; what a reduced precision changes on 16 images is reported and saved (default: float32)",
    )
    output = parser.add_argument_group("output")
    add_output(output, folder="shapebias")
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
    _refuse_recorded(parser, options)
    models = options["model"] or DEFAULT_MODELS
    twice = sorted({name for name in models if models.count(name) > 1})
    if twice:
        parser.error(f"--model names {twice[0]} twice")
    weights = options["weights"]
    if weights not in ("auto", "pretrained", "random") and len(models) > 1:
        parser.error(f"--weights {weights} is one checkpoint; name one --model with it")
    asked = options.pop("experiment")
    names = EXPERIMENTS if "all" in asked else dict.fromkeys(asked)
    if options["preprocessing"] == "toolbox" and (options["mean"] or options["std"]):
        parser.error("--preprocessing toolbox sets the mean and standard deviation; leave out --mean and --std")
    experiments = tuple(EXPERIMENTS[name] for name in names)
    if options["num_images"] is not None and options["num_images"] < 1:
        parser.error(f"--num-images must be at least 1, not {options['num_images']}")
    if options["from_csv"] and len(experiments) > 1:
        parser.error("--from-csv measures answers to one --experiment; shapebias.benchmark reads those to several")
    return Config(**{**options, "model": models, "weights": (weights,), "experiments": experiments})


def _refuse_recorded(parser: argparse.ArgumentParser, options: Mapping[str, Any]) -> None:
    """End the program if options for recorded answers or probabilities are combined with others that need a network."""
    if options["from_csv"] and options["from_probabilities"]:
        parser.error("take --from-csv or --from-probabilities, not both")
    if not (options["from_csv"] or options["from_probabilities"]):
        return
    recorded = "--from-csv" if options["from_csv"] else "--from-probabilities"
    if options["model"] or options["stimuli"] or options["weights"] != "auto":
        parser.error(f"{recorded} measures what was recorded; leave out --model, --weights and --stimuli")
    if options["preprocessing"] != "model":
        parser.error(f"{recorded} measures what was recorded; leave out --preprocessing")
    if options["classes"] != "auto" or options["mean"] or options["std"]:
        parser.error(f"{recorded} measures what was recorded; leave out --classes, --mean and --std")
    if options["from_csv"] and options["aggregation"] != "mean":
        parser.error("--from-csv measures answers already decided; --aggregation needs --from-probabilities")
    if options["num_images"] is not None:
        parser.error(f"{recorded} measures what was recorded; leave out --num-images")
    if options["precision"] != "float32":
        parser.error(f"{recorded} measures what was recorded; leave out --precision")
