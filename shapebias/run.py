"""`python -m shapebias.run`: shape bias of networks of the zoo, or of recorded answers, with people beside them."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit import UserError, auto_or_int, describe_run, run_main

if TYPE_CHECKING:  # these load pandas, matplotlib or torch, which --help and wrong arguments need not wait for
    from replknet.zoo import ResolvedWeights
    from shapebias.observers import Observer
    from shapebias.results import ResultFolder
    from shapebias.stimuli import Stimuli

__all__ = ["DEFAULT_MODELS", "RunConfig", "build_parser", "execute", "main", "parse_config"]

_logger = logging.getLogger("shapebias.run")  # under `python -m` this module is called __main__

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

Shape bias, accuracy and coverage are fractions in [0, 1]; images have 224 × 224 pixels.
"""


@dataclass(frozen=True)
class RunConfig:
    """Everything a run is asked for; `command` is the argument list that asked."""

    models: tuple[str, ...] = DEFAULT_MODELS
    stimuli: Path | None = None
    humans: Path | None = None
    output: Path = Path("figures")
    weights: str = "auto"
    from_csv: tuple[Path, ...] = ()
    preprocessing: str = "model"
    aggregation: str = "mean"
    device: str = "auto"
    batch_size: int | None = None
    seed: int = 0
    overwrite: bool = False
    formats: tuple[str, ...] = ("png",)
    command: tuple[str, ...] = ()


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shapebias.run",
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
    source.add_argument(
        "--weights",
        default="auto",
        metavar="auto|pretrained|random|PATH",
        help="trained weights; random ones from --seed, labelled; or a checkpoint. Since the shape bias of random "
        "weights means nothing, auto leaves out a network whose trained weights cannot be had (default: auto)",
    )
    source.add_argument(
        "--from-csv",
        nargs="+",
        type=Path,
        metavar="CSV",
        help="measure these raw-data CSVs, or folders of them, instead of networks",
    )
    data = parser.add_argument_group("data")
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
    choices.add_argument("--seed", type=int, default=0, metavar="N", help="of random weights (default: 0)")
    running = parser.add_argument_group("running")
    running.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    running.add_argument(
        "--batch-size", type=auto_or_int, metavar="N", help="images at a time, or auto (default): 16, on a GPU 64"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, default=Path("figures"), metavar="DIR", help="writes DIR/shapebias (default: figures)"
    )
    output.add_argument(
        "--formats", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="of the pictures (default: png)"
    )
    output.add_argument("--overwrite", action="store_true", help="replace results of another configuration")
    return parser


def parse_config(argv: Sequence[str] | None = None) -> RunConfig:
    """Read the command line; argparse itself ends the program with 2 on a wrong argument."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.from_csv and (options.model or options.stimuli or options.weights != "auto"):
        parser.error("--from-csv measures recorded answers; leave out --model, --weights and --stimuli")
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
        stimuli=options.stimuli,
        humans=options.humans,
        output=options.output,
        weights=options.weights,
        from_csv=tuple(options.from_csv or ()),
        preprocessing=options.preprocessing,
        aggregation=options.aggregation,
        device=options.device,
        batch_size=options.batch_size,
        seed=options.seed,
        overwrite=options.overwrite,
        formats=tuple(dict.fromkeys(options.formats)),
        command=tuple(arguments),
    )


def execute(config: RunConfig) -> int:
    """Do what `config` asks: answers, measures, files, and the table on stdout.

    Returns: 0, or 2 if a network could not be measured while others were.
    Raises: UserError for what the user can mend.
    """
    from shapebias.observers import read_observers
    from shapebias.results import ResultFolder, compare, show_table, write_comparison

    started, clock = datetime.now(timezone.utc), time.perf_counter()
    folder = ResultFolder(config.output / "shapebias")
    failures: list[str] = []
    skipped: list[dict[str, str]] = []
    if config.from_csv:
        observers = read_observers(config.from_csv)
        people = [] if any(observer.kind == "person" for observer in observers) else _find_people(config)
    else:
        people = _find_people(config)  # first, since a folder that is not there should be known before the long work
        observers, failures, skipped = _measure_networks(config, folder)
    if config.humans is not None and not people:
        raise UserError("--from-csv already names people; leave out --humans, or the people's CSVs")
    comparison = compare([*observers, *people])
    if config.from_csv:
        head = {**_describe(config, started, clock), "config": {"source": "raw-data CSV"}}
        for observer in observers:
            folder.write_recorded(observer, head, comparison.of(observer.name), overwrite=config.overwrite)
    written = write_comparison(
        comparison,
        folder,
        {
            **_describe(config, started, clock),
            "config": {"observers": [observer.name for observer in observers], "people": len(comparison.persons)},
            "skipped": skipped,
        },
        formats=config.formats,
    )
    sys.stdout.write(show_table(comparison) + "\n")
    _logger.info("wrote %s", ", ".join(str(path) for path in written))
    for line in failures:
        _logger.error("failed: %s", line)
    return 2 if failures else 0


def _find_people(config: RunConfig) -> "list[Observer]":
    """People to compare with; without them a run goes on, unless the user named a folder."""
    from runkit.download import DownloadError
    from shapebias.observers import find_people

    try:
        return find_people(config.humans)
    except DownloadError as error:
        _logger.warning("going on without people: %s; --humans names a folder of their CSVs", error)
        return []


def _measure_networks(
    config: RunConfig, folder: "ResultFolder"
) -> "tuple[list[Observer], list[str], list[dict[str, str]]]":
    """Answers of each network, from a finished result or computed now.

    Returns: Observers; a line for each network that failed; name and reason of each that was skipped.
    Raises: UserError if nothing is left to measure, or if the only network fails.
    """
    from shapebias.stimuli import find_stimuli

    stimuli = find_stimuli(config.stimuli)
    if not stimuli.is_published_list:
        _logger.warning("%s: these are not the names of the published benchmark", stimuli.folder)
    resolved, skipped = _resolve(config)
    if not resolved:
        raise UserError("no network is left: none of the trained weights can be had; --weights random would run anyway")
    configs = [_result_config(config, weights, stimuli) for weights in resolved]
    finished = [
        folder.find_finished(weights.name, wanted, overwrite=config.overwrite)
        for weights, wanted in zip(resolved, configs, strict=True)
    ]
    observers, failures = [], []
    for weights, wanted, content in zip(resolved, configs, finished, strict=True):
        if content is not None:
            _logger.info("%s: kept the finished result %s", weights.name, folder.json_of(weights.name))
            observers.append(_observer_of(weights, folder))
            continue
        try:
            observers.append(_run_network(config, weights, wanted, stimuli, folder))
        except UserError as error:
            if len(resolved) == 1:
                raise
            failures.append(f"{weights.name}: {error}")
            _logger.error("%s: %s; going on with the others", weights.name, error)
    if not observers:
        raise UserError("no network could be measured: " + "; ".join(failures))
    return observers, failures, skipped


def _resolve(config: RunConfig) -> "tuple[list[ResolvedWeights], list[dict[str, str]]]":
    """The weights of each network; with `auto`, networks whose trained weights cannot be had are left out."""
    from replknet.zoo import WeightsUnavailable, resolve_weights

    resolved, skipped = [], []
    for name in config.models:
        wanted = "pretrained" if config.weights == "auto" else config.weights
        try:
            resolved.append(resolve_weights(name, wanted, seed=config.seed))
        except WeightsUnavailable as error:
            if config.weights != "auto":
                raise
            _logger.warning("skipping %s: %s", name, error)
            skipped.append({"model": name, "reason": str(error)})
    return resolved, skipped


def _result_config(config: RunConfig, weights: "ResolvedWeights", stimuli: "Stimuli") -> dict[str, Any]:
    """What decides a network's answers: two runs that agree in this have the same result."""
    return {
        "model": weights.name,
        "weights": weights.record.identity,
        "preprocessing": config.preprocessing,
        "aggregation": config.aggregation,
        "stimuli": {"images": len(stimuli), "content_sha256": stimuli.content_sha256},
    }


def _subject(weights: "ResolvedWeights") -> str:
    """The `subj` of a network's CSV: its full name; untrained ones say so."""
    from shapebias.observers import RANDOM_SUFFIX

    if weights.record.random:
        return weights.name + RANDOM_SUFFIX
    return weights.name if weights.record.source == "file" else weights.record.model


def _observer_of(weights: "ResolvedWeights", folder: "ResultFolder") -> "Observer":
    """The answers on disk, labelled with the weights that gave them."""
    from dataclasses import replace

    from shapebias.observers import read_observer

    record = weights.record
    label = _subject(weights)
    if record.random or record.source == "file":
        label = f"{weights.name}, {record.label}"
    return replace(read_observer(folder.csv_of(weights.name)), label=label, random=record.random)


def _run_network(
    config: RunConfig, weights: "ResolvedWeights", wanted: dict[str, Any], stimuli: "Stimuli", folder: "ResultFolder"
) -> "Observer":
    """Ask one network, write its answers and its result."""
    import torch

    from replknet.device import choose_device, device_label
    from replknet.optimize import optimize
    from replknet.zoo import load_model
    from shapebias.categories import count_ties, decide
    from shapebias.inference import TOOLBOX_PREPROCESSING, check_head, default_batch_size, predict
    from shapebias.measures import measure
    from shapebias.observers import write_raw_data

    started, clock = datetime.now(timezone.utc), time.perf_counter()
    device = choose_device(config.device)
    toolbox = config.preprocessing == "toolbox"
    loaded = load_model(weights, input_size=TOOLBOX_PREPROCESSING.input_size if toolbox else None)
    check_head(loaded.model, weights.name)
    preprocessing = TOOLBOX_PREPROCESSING if toolbox else loaded.preprocessing
    batch_size = config.batch_size or default_batch_size(device)
    probabilities = predict(
        optimize(loaded.model).to(device),
        stimuli,
        preprocessing=preprocessing,
        device=device,
        batch_size=batch_size,
        name=weights.name,
        progress=True,
    )
    seconds = time.perf_counter() - clock
    answers = decide(probabilities, aggregation=config.aggregation)
    write_raw_data(folder.csv_of(weights.name), _subject(weights), stimuli, answers)
    observer = _observer_of(weights, folder)
    head = {
        **_describe(config, started, clock),
        "config": wanted,
        "seed": config.seed,
        "device": device_label(device),
        "dtype": "float32",
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "images_per_second": round(len(stimuli) / seconds, 2),
        "weights": loaded.record.as_dict(),
        "model_args": loaded.model_args,
        "data": {
            **stimuli.describe(),
            "preprocessing": {
                "choice": config.preprocessing,
                "mean": list(preprocessing.mean),
                "std": list(preprocessing.std),
                "input_size_px": list(preprocessing.input_size),
                "interpolation": preprocessing.interpolation,
                "crop": None,
            },
        },
        "ties": count_ties(probabilities, aggregation=config.aggregation),
        "skipped": [],
    }
    folder.write_observer(observer, head, measure(observer))
    return observer


def _describe(config: RunConfig, started: datetime, clock: float) -> dict[str, Any]:
    return describe_run(
        program="shapebias.run", arguments=config.command, started=started, seconds=time.perf_counter() - clock
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    config = parse_config(argv)
    again = "python -m shapebias.run " + " ".join(config.command)
    return run_main(
        lambda: execute(config), program="shapebias.run", resume_hint=lambda: f"{again} (finished networks are kept)"
    )


if __name__ == "__main__":
    raise SystemExit(main())
