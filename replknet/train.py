"""`python -m replknet.train`: networks of the zoo trained on a folder of images, by timm's parts and one recipe.

Images are augmented, and the network optimised, scheduled and averaged (EMA) by timm. The folder has `train` and `val`
with a folder for each class, as torchvision's Imagenette download has. A run is saved as it goes on, and one that was
interrupted ends in the same bits (`--resume`). The parts are in `replknet.training`.
"""

import argparse
import logging
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path

import torch

from replknet.training.data import Folders
from replknet.training.model_card import Trained, write_trained
from replknet.training.precision import PRECISIONS
from replknet.training.recipe import Recipe
from replknet.training.taps import zero_unseen_taps
from replknet.training.training import Training
from replknet.weights.imagenette import TAG
from runkit import UserError, describe_run, run_main
from runkit.compute.device import choose_device, device_label
from runkit.compute.memory import keep_freed_memory

__all__ = ["Folders", "Recipe", "Training", "build_parser", "main", "train", "train_together", "zero_unseen_taps"]

_logger = logging.getLogger("replknet.train")  # under `python -m` this module is called __main__
_SAVE_EVERY = 300.0  # seconds
_SAVE_AFTER_EPOCH = 20.0  # seconds after the last time, at the end of an epoch; short epochs are not worth the writing


def train(
    training: Training, folder: Path, *, resume: bool, overwrite: bool, eval_every: int, command: Sequence[str]
) -> Trained:
    """Train to the recipe's end, saving as it goes on, and write the weights with their card.

    Args:
        training: At its beginning.
        folder: `<model>.progress.pt` while it lasts, then the files of `replknet.training.model_card.write_trained`.
        resume: Whether to go on from the progress file, if there is one.
        overwrite: Whether to pass over it instead.
        eval_every: Epochs from one evaluation to the next; the weights do not depend on it.
        command: Arguments, for the card.

    Raises: UserError if there is a progress file and neither is asked for, or it is of another run.
    """
    options = {"resume": resume, "overwrite": overwrite, "eval_every": eval_every, "command": command}
    return train_together([training], folder, **options)[0]  # type: ignore[arg-type]


def train_together(
    trainings: Sequence[Training],
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    eval_every: int,
    command: Sequence[str],
) -> list[Trained]:
    """Several trainings, a step of each in turn; on CUDA each on a stream of its own, so that they fill the device.

    The steps of a small network leave most of a GPU idle. What a training ends in does not depend on the others.

    Args, Raises: As for `train`.
    Returns: In the order of the trainings.
    """
    courses = [
        _course(one, folder, resume=resume, overwrite=overwrite, eval_every=eval_every, command=command)
        for one in trainings
    ]
    alone = len(trainings) == 1 or trainings[0].device.type != "cuda"
    streams = [None if alone else torch.cuda.Stream(one.device) for one in trainings]
    if not alone:
        torch.cuda.synchronize()  # what was made on the default stream is there for the others
    done: dict[int, Trained] = {}
    while len(done) < len(courses):
        for number, (course, stream) in enumerate(zip(courses, streams, strict=True)):
            if number not in done:
                with torch.cuda.stream(stream):  # none: the current one
                    try:
                        next(course)
                    except StopIteration as end:
                        done[number] = end.value
    return [done[number] for number in range(len(courses))]


def _course(
    training: Training, folder: Path, *, resume: bool, overwrite: bool, eval_every: int, command: Sequence[str]
) -> Generator[None, None, Trained]:
    """The course of one training, for `train_together`: stops after every step."""
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    progress = folder / f"{training.stem}.progress.pt"
    if progress.exists() and not overwrite:
        if not resume:
            raise UserError(f"{progress} is an unfinished run; --resume continues it, --overwrite begins anew")
        training.load(progress)
        _logger.info("continuing after epoch %d, step %d", len(training.log), training.begun["step"])
    saved = time.monotonic()
    while len(training.log) < training.recipe.epochs:
        for _ in training.run_epoch(evaluate=(len(training.log) + 1) % eval_every == 0):
            if time.monotonic() - saved >= _SAVE_EVERY:
                training.save(progress)
                saved = time.monotonic()
            yield
        if len(training.log) == 1 or time.monotonic() - saved >= _SAVE_AFTER_EPOCH:
            training.save(progress)
            saved = time.monotonic()
        row = (f"{key} {value:.4g}" for key, value in training.log[-1].items() if value is not None)
        _logger.info("%s %s", training.stem, ", ".join(row))
    network = training.ema.module.half().float()  # as the file holds it
    top1 = training.evaluate(network)
    trained = Trained(
        model=training.name,
        tag=training.tag,
        top1=top1,
        recipe=asdict(training.recipe),
        data=training.folders.describe(),
        log=training.log,
        run={
            **describe_run(
                program="replknet.train", arguments=command, started=started, seconds=time.perf_counter() - clock
            ),
            "device": device_label(training.device),
            "threads": torch.get_num_threads(),
        },
    )
    written = write_trained(folder, trained, network)
    progress.unlink(missing_ok=True)
    _logger.info("%s: top-1 %.2f%%; wrote %s", training.stem, top1, ", ".join(map(str, written)))
    return trained


def build_parser() -> argparse.ArgumentParser:
    """Command line: the recipe's fields are its options."""
    parser = argparse.ArgumentParser(
        prog="python -m replknet.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="NAME", help="networks of timm, such as replknet31n"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with train and val")
    parser.add_argument(
        "--tag",
        default=TAG,
        help="of the weights: names the files (default: %(default)s); a seed other than 0 adds its number (_seed1)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read images (default: 2)")
    parser.add_argument(
        "--eval-every", type=int, default=1, metavar="N", help="epochs from one evaluation to the next (default: 1)"
    )
    parser.add_argument("--resume", action="store_true", help="continue an unfinished run")
    parser.add_argument("--overwrite", action="store_true", help="begin an unfinished run anew")
    recipe = parser.add_argument_group("recipe (one for all networks that are to be compared)")
    for field in fields(Recipe):
        kind = type(field.default)
        choices = PRECISIONS if field.name == "precision" else None
        if field.name == "seed":
            recipe.add_argument(
                "--seed", type=int, nargs="+", default=[field.default], help="one or several (default: %(default)s)"
            )
            continue
        recipe.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            choices=choices,
            default=field.default,
            help="default: %(default)s",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `runkit.run_main` for the exit codes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)

    def work() -> int:
        device = choose_device(options.device)
        if device.type == "cpu":
            keep_freed_memory()
        folders = Folders(options.data, options.workers)
        trainings: list[Training] = []
        for seed in dict.fromkeys(options.seed):
            chosen = {field.name: getattr(options, field.name) for field in fields(Recipe)} | {"seed": seed}
            tag = f"{options.tag}_seed{seed}" if seed else options.tag
            for name in dict.fromkeys(options.model):
                place = len(trainings)
                trainings.append(Training(name, folders, Recipe(**chosen), tag=tag, device=device, place=place))
        train_together(
            trainings,
            options.output,
            resume=options.resume,
            overwrite=options.overwrite,
            eval_every=options.eval_every,
            command=arguments,
        )
        return 0

    return run_main(work, program="replknet.train", arguments=arguments)


if __name__ == "__main__":
    raise SystemExit(main())
