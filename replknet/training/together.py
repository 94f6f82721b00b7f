"""One training, or several at once, from start to finish: save progress, write the weights and their model card."""

import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import torch

from replknet.training.model_card import Trained, write_trained
from replknet.training.training import Training
from runkit import UserError, describe_run
from runkit.compute.device import device_label

__all__ = ["train", "train_together"]

_logger = logging.getLogger("replknet.train")
_SAVE_EVERY = 300.0  # seconds
_SAVE_AFTER_EPOCH = 20.0  # seconds since the last save, at the end of an epoch; short epochs are not all saved


def train(
    training: Training, folder: Path, *, resume: bool, overwrite: bool, eval_every: int, command: Sequence[str]
) -> Trained:
    """Train for all epochs of the recipe, saving progress meanwhile, and write the weights with their model card.

    Args:
        training: A training that has not started.
        folder: Where to write `<model>.<tag>.progress.pt` while the training runs, and in the end the files of
            `replknet.training.model_card.write_trained`.
        resume: Whether to continue from the progress file, if there is one.
        overwrite: Whether to ignore the progress file instead.
        eval_every: Number of epochs between evaluations; the weights do not depend on it.
        command: Command line arguments, for the model card.

    Raises: UserError if there is a progress file but neither `resume` nor `overwrite` is set, or if the file to resume
        from belongs to another run.
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
    """Run several trainings, one step of each in turn; on CUDA each has its own stream, so that they fill the GPU.

    The steps of a small network leave most of a GPU idle. The result of a training does not depend on the others.

    Args, Raises: As for `train`.
    Returns: The results, in the order of the trainings.
    """
    courses = [
        _course(one, folder, resume=resume, overwrite=overwrite, eval_every=eval_every, command=command)
        for one in trainings
    ]
    alone = len(trainings) == 1 or trainings[0].device.type != "cuda"
    streams = [None if alone else torch.cuda.Stream(one.device) for one in trainings]
    if not alone:
        torch.cuda.synchronize()  # tensors that were created on the default stream must be ready for the other streams
    done: dict[int, Trained] = {}
    while len(done) < len(courses):
        for number, (course, stream) in enumerate(zip(courses, streams, strict=True)):
            if number not in done:
                with torch.cuda.stream(stream):  # None means the current stream
                    try:
                        next(course)
                    except StopIteration as end:
                        done[number] = end.value
    return [done[number] for number in range(len(courses))]


def _course(
    training: Training, folder: Path, *, resume: bool, overwrite: bool, eval_every: int, command: Sequence[str]
) -> Generator[None, None, Trained]:
    """Run one training as a generator that pauses after every step, for `train_together`."""
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    progress = folder / f"{training.stem}.progress.pt"
    if progress.exists() and not overwrite:
        if not resume:
            raise UserError(f"{progress} is an unfinished run; --resume continues it, --overwrite starts again")
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
    network = training.ema.module.half().float()  # as stored in the file
    correct = training.evaluate(network)
    trained = Trained(
        model=training.name,
        tag=training.tag,
        correct=correct,
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
    _logger.info("%s: top-1 %.2f%%; wrote %s", training.stem, trained.top1, ", ".join(map(str, written)))
    return trained
