"""`python -m replknet.train`: a network of the zoo trained on a folder of images, by timm's parts and one recipe.

Images are augmented, and the network optimised, scheduled and averaged (EMA) by timm. The folder has `train` and `val`
with a folder for each class, as torchvision's Imagenette download has. An epoch is seeded by the recipe's seed and its
own number, so a run that was interrupted goes on to what it would have been.

Taps of a large kernel that no training image reaches (a 27×27 kernel on a map of 6×6 pixels meets the inner 11×11 only)
would keep their random start, and at a larger size pass for trained ones: they start, and so stay, at zero.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import Mixup, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3, accuracy, random_seed
from torch import nn
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from replknet.imagenette import TAG
from replknet.training.model_card import Trained, write_trained
from runkit import UserError, atomic_write, describe_run, list_differences, run_main, sha256_of_lines
from runkit.compute.device import choose_device, device_label
from runkit.compute.memory import keep_freed_memory

__all__ = ["Recipe", "build_parser", "main", "train", "zero_unseen_taps"]

_logger = logging.getLogger("replknet.train")  # under `python -m` this module is called __main__
_LOG_FIELDS = ("epoch", "size", "lr", "train_loss", "val_top1", "seconds")


@dataclass(frozen=True)
class Recipe:
    """What decides the trained weights, besides the data.

    Attributes:
        epochs: Passes over the training images.
        start_size: Side of the training images at first, in pixels.
        size: Their side at last; it rises in steps of 16, each for as many epochs. Images are cut out at random
            (`RandomResizedCrop`).
        test_size: Side of the central crop that is evaluated, in pixels. With a side that is no multiple of 32, as the
            sides of the last stage of training are, maps are odd before they are halved, and accuracy falls.
        batch_size: Images a step; the last, smaller batch of an epoch is left out.
        lr: Highest learning rate; it falls by a half cosine to zero.
        warmup_epochs: Epochs over which it rises.
        opt: Optimiser, in timm's words. Its Muon (nmuon: with Nesterov momentum) takes matrices (1×1 and dense
            convolutions) and leaves depthwise kernels, biases and normalisations to AdamW at the same rate.
        weight_decay: The optimiser's, on weights alone.
        label_smoothing: Share of the target that is spread over all classes.
        min_scale: Smallest share of an image's area that is cut out.
        cutmix_prob: Share of the images that get a rectangle of another one, whose label they share in proportion.
        ema_decay: Of the moving average of the weights, which is what is evaluated and kept.
        precision: Of the training, 'float32', or 'bfloat16' for autocast; evaluation is in float32.
        seed: Of weights, order and augmentation.
    """

    epochs: int = 36
    start_size: int = 48
    size: int = 96
    test_size: int = 96
    batch_size: int = 64
    opt: str = "nmuon"
    lr: float = 4e-2
    warmup_epochs: int = 1
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    min_scale: float = 0.35
    cutmix_prob: float = 0.5
    ema_decay: float = 0.998
    precision: str = "bfloat16"
    seed: int = 0

    def size_at(self, epoch: int) -> int:
        """Side of the training images in an epoch, counted from 0."""
        sizes = [*range(self.start_size, self.size, 16), self.size]
        return sizes[epoch * len(sizes) // self.epochs]


class Training:
    """A network on its way: everything that must be kept to go on with it."""

    def __init__(self, name: str, data: Path, recipe: Recipe, *, tag: str, device: torch.device, workers: int):
        if not timm.is_model(name):
            raise UserError(f"unknown network {name!r}; timm.list_models() lists them")
        if recipe.opt not in list_optimizers():
            raise UserError(
                f"timm {timm.__version__} has no optimiser {recipe.opt!r}; timm.optim.list_optimizers() lists them"
            )
        self.name, self.tag, self.recipe, self.device = name, tag, recipe, device
        self.train_set, self.val_set = (_image_folder(data, part) for part in ("train", "val"))
        self.classes = self.train_set.classes
        if self.classes != self.val_set.classes:
            raise UserError(f"{data}: train and val have not the same class folders")
        self.workers = workers
        random_seed(recipe.seed, 0)
        model = timm.create_model(name, num_classes=len(self.classes))
        zero_unseen_taps(model, recipe.size)
        self.model: nn.Module = model.to(device).to(memory_format=torch.channels_last)
        self.ema = ModelEmaV3(self.model, decay=recipe.ema_decay, use_warmup=True)
        if device.type == "cpu" and recipe.precision != "float32":
            _keep_depthwise_in_float32(self.model)
        self.optimizer = create_optimizer_v2(self.model, opt=recipe.opt, lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.steps = len(self.train_set) // recipe.batch_size
        if not self.steps:
            raise UserError(f"{data}: {len(self.train_set)} training images do not fill a batch of {recipe.batch_size}")
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched="cosine",
            num_epochs=recipe.epochs,
            warmup_epochs=recipe.warmup_epochs,
            warmup_lr=recipe.lr / 100,
            warmup_prefix=False,
            step_on_epochs=False,
            updates_per_epoch=self.steps,
        )
        self.mix = Mixup(
            mixup_alpha=0.0,
            cutmix_alpha=1.0,
            prob=recipe.cutmix_prob,
            mode="elem",
            label_smoothing=recipe.label_smoothing,
            num_classes=len(self.classes),
        )
        self.loss = SoftTargetCrossEntropy()
        self.log: list[dict[str, float | None]] = []

    @property
    def stem(self) -> str:
        """Beginning of the files' names."""
        return f"{self.name}.{self.tag}"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the result."""
        return {"model": self.name, "recipe": asdict(self.recipe), "data": self.describe_data()}

    def describe_data(self) -> dict[str, Any]:
        """Classes, numbers of images, and the SHA-256 of their names."""
        sets = {"train": self.train_set, "val": self.val_set}
        names = [Path(path).name for images in sets.values() for path, _ in images.samples]
        counts = {f"{part}_images": len(images) for part, images in sets.items()}
        return {"classes": self.classes, **counts, "sha256_of_names": sha256_of_lines(names)}

    def run_epoch(self, *, evaluate: bool = True) -> None:
        """Train on every image once, and perhaps evaluate the moving average."""
        epoch, started = len(self.log), time.perf_counter()
        size = self.recipe.size_at(epoch)
        random_seed(self.recipe.seed * 1_000_003 + epoch + 1, 0)
        mean_loss = AverageMeter()
        self.model.train()
        step = epoch * self.steps
        for images, target in tqdm(self._train_loader(size), desc=f"epoch {epoch + 1}", leave=False, unit="batch"):
            self.scheduler.step_update(step)
            images, target = self.mix(self._place(images), target.to(self.device))
            with self._autocast():
                logits = self.model(images)
            loss = self.loss(logits.float(), target)
            if not loss.isfinite():
                raise UserError(f"the loss is not finite in epoch {epoch + 1}; lower --lr")
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            step += 1
            self.ema.update(self.model, step)
            mean_loss.update(loss.item(), len(images))
        top1 = self.evaluate(self.ema.module) if evaluate else None
        seconds = time.perf_counter() - started
        numbers = (epoch + 1, size, self.optimizer.param_groups[0]["lr"], mean_loss.avg, top1, round(seconds, 1))
        self.log.append(dict(zip(_LOG_FIELDS, numbers, strict=True)))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> float:
        """Top-1 accuracy on the validation images, in percent."""
        top1 = AverageMeter()
        model.eval()
        for images, target in self._val_loader():
            (correct,) = accuracy(model(self._place(images)), target.to(self.device), topk=(1,))
            top1.update(correct.item(), len(images))
        return float(top1.avg)

    def save(self, path: Path) -> None:
        """Write everything that `load` needs, whole or not at all."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "log": self.log,
        }
        with atomic_write(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from a file of `save`.

        Raises: UserError if it is of another run.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        if differences := list_differences(state["identity"], self.identity):
            raise UserError(f"{path} is of another run ({'; '.join(differences)}); --overwrite begins anew")
        self.model.load_state_dict(state["model"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log = state["log"]

    def _train_loader(self, size: int) -> Any:
        return create_loader(
            self.train_set,
            size,
            self.recipe.batch_size,
            is_training=True,
            scale=(self.recipe.min_scale, 1.0),
            color_jitter=None,  # type: ignore[arg-type]  # none, for which timm's annotation has no word
            interpolation="bicubic",
            num_workers=self.workers,
            use_prefetcher=False,
            persistent_workers=False,  # each epoch's workers are seeded anew
        )

    def _val_loader(self) -> Any:
        return create_loader(
            self.val_set,
            self.recipe.test_size,
            256,
            crop_pct=1.0,
            interpolation="bicubic",
            num_workers=self.workers,
            use_prefetcher=False,
            persistent_workers=False,
        )

    def _place(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> Any:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.recipe.precision))


def _keep_depthwise_in_float32(model: nn.Module) -> None:
    """Take depthwise convolutions out of autocast: on CPU bfloat16 speeds up the dense ones and slows these down."""

    def in_float32(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(x.float())

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = partial(in_float32, module.forward)  # type: ignore[method-assign]


def _image_folder(data: Path, part: str) -> ImageFolder:
    try:
        return ImageFolder(str(data / part))
    except FileNotFoundError as error:
        raise UserError(f"{data} needs folders train and val, each with a folder of images a class: {error}") from error


@torch.no_grad()
def zero_unseen_taps(model: nn.Module, size: int) -> int:
    """Set to zero the taps of convolutions that meet nothing but padding on images of `size` pixels; in place.

    On a map of n pixels a tap d pixels from the middle reaches one if d < n.

    Returns: How many weights were set to zero.
    """
    convs = {m: (0, 0) for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride == (1, 1)}
    handles = [
        conv.register_forward_pre_hook(lambda conv, args: convs.update({conv: args[0].shape[2:]})) for conv in convs
    ]
    training = model.training
    model.eval()(torch.zeros(1, 3, size, size))
    model.train(training)
    for handle in handles:
        handle.remove()
    changed = 0
    for conv, sides in convs.items():
        for axis, side in zip((2, 3), sides, strict=True):
            taps = conv.weight.shape[axis]
            unseen = (torch.arange(taps) - taps // 2).abs() * conv.dilation[axis - 2] >= side
            index = unseen.nonzero()[:, 0]
            changed += int(conv.weight.index_select(axis, index).count_nonzero())
            conv.weight.index_fill_(axis, index, 0.0)
    return changed


def train(
    training: Training, folder: Path, *, resume: bool, overwrite: bool, eval_every: int, command: Sequence[str]
) -> Trained:
    """Train to the recipe's end, saving after each epoch, and write the weights with their card.

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
        _logger.info("continuing after epoch %d", len(training.log))
    while len(training.log) < training.recipe.epochs:
        training.run_epoch(evaluate=(len(training.log) + 1) % eval_every == 0)
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
        data=training.describe_data(),
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
        choices = ("float32", "bfloat16") if field.name == "precision" else None
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
