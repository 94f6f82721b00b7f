"""A training run: its state, steps and evaluation, and the file from which it resumes bit-identically."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import random_seed
from torch import nn
from tqdm import tqdm

from replknet.training.data import Folders, seed_of
from replknet.training.evaluation import count_correct
from replknet.training.moving_average import MovingAverage
from replknet.training.precision import autocast, keep_depthwise_in_float32, orthogonalise_in
from replknet.training.recipe import Recipe
from replknet.training.steps import GraphedStep, make_capturable
from replknet.training.taps import zero_unseen_taps
from runkit import UserError, atomic_write, list_differences
from runkit.compute.precision import resolve_precision

__all__ = ["Training"]

_LOG_FIELDS = ("epoch", "size", "lr", "train_loss", "val_top1", "seconds")
_READ_AT_ONCE = 32  # losses
_SEEDS = 1 << 32  # number of seeds that NumPy's generator accepts


class Training:
    """A network in training, with the state that is needed to continue.

    Args:
        name: Name of a timm network.
        folders: The images; several trainings may share them.
        recipe: The recipe. The precision 'auto' is resolved here, and the attribute `recipe` has the chosen one.
        tag: Tag of the weights.
        device: Device to train on.
        place: Position of the progress bar, counted from the top.
    Raises: UserError if the network or the optimiser is unknown, or there are too few images for a batch.
    """

    def __init__(self, name: str, folders: Folders, recipe: Recipe, *, tag: str, device: torch.device, place: int = 0):
        if not timm.is_model(name):
            raise UserError(f"unknown network {name!r}; timm.list_models() lists them")
        if recipe.opt not in list_optimizers():
            raise UserError(
                f"timm {timm.__version__} has no optimiser {recipe.opt!r}; timm.optim.list_optimizers() lists them"
            )
        recipe = replace(recipe, precision=resolve_precision(recipe.precision, device))
        self.name, self.tag, self.recipe, self.device = name, tag, recipe, device
        self.folders, self.place = folders, place
        random_seed(recipe.seed, 0)
        model = timm.create_model(name, num_classes=len(self.folders.classes))
        zero_unseen_taps(model, recipe.size)
        self.model: nn.Module = model.to(device).to(memory_format=torch.channels_last)
        self.ema = MovingAverage(self.model, recipe.ema_decay)
        if device.type == "cpu" and recipe.precision != "float32":
            keep_depthwise_in_float32(self.model)
        self.optimizer = create_optimizer_v2(self.model, opt=recipe.opt, lr=recipe.lr, weight_decay=recipe.weight_decay)
        self._learn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._learn_from
        if device.type == "cuda" and make_capturable(self.optimizer):
            self._learn = GraphedStep(self._learn_from, self.optimizer, self.model)
        images = len(self.folders.train_set)
        self.steps = images // recipe.batch_size
        if not self.steps:
            raise UserError(f"{images} training images do not fill a batch of {recipe.batch_size}")
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
            num_classes=len(self.folders.classes),
        )
        self.loss = SoftTargetCrossEntropy()
        self.log: list[dict[str, float | None]] = []
        self.begun = {"step": 0, "loss": 0.0, "seconds": 0.0}
        """Progress of the current epoch: the number of steps, the sum of their losses, and the time they took."""
        self._unread: list[torch.Tensor] = []
        """Losses that have not been added to that sum yet, because reading a loss means waiting for the device."""

    @property
    def stem(self) -> str:
        """Common beginning of the file names."""
        return f"{self.name}.{self.tag}"

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result: the network, the recipe and the data."""
        return {"model": self.name, "recipe": asdict(self.recipe), "data": self.folders.describe()}

    def run_epoch(self, *, evaluate: bool = True) -> Iterator[None]:
        """Train for one epoch, or for the rest of an interrupted one, and optionally evaluate the moving average.

        Args:
            evaluate: Whether to evaluate it after the epoch.
        Yields: None after every step; `save` may be called then.
        Raises: UserError if the loss is not finite.
        """
        epoch, before, started = len(self.log), self.begun["seconds"], time.perf_counter()
        first = int(self.begun["step"])
        batches = self.folders.train_batches(self.recipe, epoch, device=self.device, first=first)
        self.model.train()
        with tqdm(
            desc=f"{self.stem}: epoch {epoch + 1} of {self.recipe.epochs}",
            leave=False,
            unit="batch",
            initial=first,
            total=self.steps,
            position=self.place,
        ) as progress:
            for step, (images, target) in enumerate(batches, first):
                self._unread.append(self._step(images, target, epoch, step))
                self.begun["step"] = step + 1
                if len(self._unread) == _READ_AT_ONCE:
                    self._read_losses()
                self.begun["seconds"] = before + time.perf_counter() - started
                progress.update()
                yield
        self._read_losses()
        top1 = 100 * self.evaluate(self.ema.module) / len(self.folders.val_set) if evaluate else None
        lr, loss = float(self.optimizer.param_groups[0]["lr"]), self.begun["loss"] / self.steps
        seconds = round(before + time.perf_counter() - started, 1)
        numbers = (epoch + 1, self.recipe.size_at(epoch), lr, loss, top1, seconds)
        self.log.append(dict(zip(_LOG_FIELDS, numbers, strict=True)))
        self.begun = {"step": 0, "loss": 0.0, "seconds": 0.0}

    def _step(self, images: torch.Tensor, target: torch.Tensor, epoch: int, step: int) -> torch.Tensor:
        """Do one training step and return the loss, on the device."""
        random_seed(seed_of(self.recipe, epoch, -2 - step) % _SEEDS, 0)
        number = epoch * self.steps + step
        self.scheduler.step_update(number)
        images, target = self.mix(self._place(images), target)
        loss = self._learn(images, target)
        self.ema.update(self.model, number + 1)
        return loss

    def _learn_from(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Do the forward pass, the backward pass and the optimiser's step, without waiting for the device."""
        with autocast(self.recipe.precision, self.device):
            logits = self.model(images)
        loss = self.loss(logits.float(), target)
        self.optimizer.zero_grad()
        loss.backward()
        with orthogonalise_in(self.recipe.precision):
            self.optimizer.step()
        return loss.detach()

    def _read_losses(self) -> None:
        """Add the unread losses to the sum of the epoch.

        Raises: UserError if one is not finite.
        """
        for loss in torch.stack(self._unread).tolist() if self._unread else ():
            if not math.isfinite(loss):
                raise UserError(f"the loss is not finite in epoch {len(self.log) + 1}; lower --lr")
            self.begun["loss"] += loss
        self._unread.clear()

    def evaluate(self, model: nn.Module) -> int:
        """Count the validation images whose most probable class is their label."""
        return count_correct(model, self.folders.val_batches(self.recipe), self.device)

    def save(self, path: Path) -> None:
        """Write everything that `load` needs to a file, atomically."""
        self._read_losses()
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "log": self.log,
            "begun": self.begun,
        }
        with atomic_write(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote.

        Raises: UserError if the file belongs to another run.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        if differences := list_differences(state["identity"], self.identity):
            raise UserError(f"{path} is of another run ({'; '.join(differences)}); --overwrite starts again")
        self.model.load_state_dict(state["model"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log = state["log"]
        self.begun = state["begun"]

    def _place(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.device, memory_format=torch.channels_last)
