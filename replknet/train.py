"""`python -m replknet.train`: a network of the zoo trained on a folder of images, by timm's parts and one recipe.

Images are augmented, and the network optimised, scheduled and averaged (EMA) by timm. The folder has `train` and `val`
with a folder for each class, as torchvision's Imagenette download has. A run is saved as it goes on, and one that was
interrupted ends in the same bits (`--resume`). The parts are in `replknet.training`.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path

import torch

from replknet.training.model_card import Trained, write_trained
from replknet.training.precision import PRECISIONS
from replknet.training.recipe import Recipe
from replknet.training.taps import zero_unseen_taps
from replknet.training.training import Training
from replknet.weights.imagenette import TAG
from runkit import UserError, describe_run, run_main
from runkit.compute.device import choose_device, device_label
from runkit.compute.memory import keep_freed_memory

__all__ = ["Recipe", "Training", "build_parser", "main", "train", "zero_unseen_taps"]

_logger = logging.getLogger("replknet.train")  # under `python -m` this module is called __main__
_SAVE_EVERY = 300.0  # seconds


def train(
    training: Training, folder: Path, *, resume: bool, overwrite: bool, eval_every: int, command: Sequence[str]
) -> Trained:
    """Train to the recipe's end, saving every five minutes and after each epoch, and write the weights with their card.

    Args:
        training: At its beginning.
        folder: `<model>.progress.pt` while it lasts, then the files of `replknet.training.model_card.write_trained`.
        resume: Whether to go on from the progress file, if there is one.
        overwrite: Whether to pass over it instead.
        eval_every: Epochs from one evaluation to the next; the weights do not depend on it.
        command: Arguments, for the card.

    Raises: UserError if there is a progress file and neither is asked for, or it is of another run.
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    progress = folder / f"{training.stem}.progress.pt"
    if progress.exists() and not overwrite:
        if not resume:
            raise UserError(f"{progress} is an unfinished run; --resume continues it, --overwrite begins anew")
        training.load(progress)
        _logger.info("continuing after epoch %d, step %d", len(training.log), training.begun["step"])
    saved = time.monotonic()

    def save_now_and_then() -> None:
        nonlocal saved
        if time.monotonic() - saved >= _SAVE_EVERY:
            training.save(progress)
            saved = time.monotonic()

    while len(training.log) < training.recipe.epochs:
        evaluate = (len(training.log) + 1) % eval_every == 0
        training.run_epoch(evaluate=evaluate, after_step=save_now_and_then)
        training.save(progress)
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
    parser.add_argument("--model", required=True, metavar="NAME", help="a network of timm, such as replknet31n")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with train and val")
    parser.add_argument("--tag", default=TAG, help="of the weights: names the files (default: %(default)s)")
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
        recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
        device = choose_device(options.device)
        if device.type == "cpu":
            keep_freed_memory()
        training = Training(
            options.model, options.data, recipe, tag=options.tag, device=device, workers=options.workers
        )
        train(
            training,
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
