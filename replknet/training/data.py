"""The images of a training: a folder of classes, read, cut out at random and put into batches.

Everything that is random about an image follows from the recipe's seed, the epoch and the image alone, so it depends
neither on how many processes read images nor on where in an epoch a run was interrupted.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timm.data import create_loader, create_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from replknet.training.recipe import Recipe
from runkit import UserError, sha256_of_lines

__all__ = ["Folders", "seed_of"]

_EVALUATED_AT_ONCE = 256  # images


def seed_of(recipe: Recipe, epoch: int, number: int) -> int:
    """A seed for one thing of an epoch, such as an image: 63 bits that differ for any two arguments in practice."""
    return random.Random(f"{recipe.seed} {epoch} {number}").getrandbits(63)


class Folders:
    """Training and validation images: `<data>/train` and `<data>/val`, each with a folder for each class.

    Raises: UserError if a folder is missing or the classes differ.
    """

    def __init__(self, data: Path, workers: int):
        self.train_set, self.val_set = (_image_folder(data, part) for part in ("train", "val"))
        self.classes: list[str] = self.train_set.classes
        self.workers = workers
        if self.classes != self.val_set.classes:
            raise UserError(f"{data}: train and val have not the same class folders")

    def describe(self) -> dict[str, Any]:
        """Classes, numbers of images, and the SHA-256 of their names."""
        sets = {"train": self.train_set, "val": self.val_set}
        names = [Path(path).name for images in sets.values() for path, _ in images.samples]
        counts = {f"{part}_images": len(images) for part, images in sets.items()}
        return {"classes": self.classes, **counts, "sha256_of_names": sha256_of_lines(names)}

    def train_batches(
        self, recipe: Recipe, epoch: int, *, first: int = 0
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of an epoch, from the one numbered `first`: images (N, 3, S, S), normalised, and labels (N,)."""
        order = torch.randperm(len(self.train_set), generator=torch.Generator().manual_seed(seed_of(recipe, epoch, -1)))
        whole = len(order) // recipe.batch_size
        batches = order[: whole * recipe.batch_size].view(whole, recipe.batch_size)[first:].tolist()
        images = _Augmented(self.train_set, recipe, epoch)
        for pixels, labels in DataLoader(images, batch_sampler=batches, num_workers=self.workers):
            yield _normalised(pixels), labels

    def val_batches(self, recipe: Recipe) -> Any:
        """All validation images in order, whole, scaled to the recipe's `test_size`."""
        return create_loader(
            self.val_set,
            recipe.test_size,
            _EVALUATED_AT_ONCE,
            crop_pct=1.0,
            interpolation="bicubic",
            num_workers=self.workers,
            use_prefetcher=False,
            persistent_workers=False,
        )


class _Augmented(Dataset[tuple[torch.Tensor, int]]):
    """The training images as they are in one epoch."""

    def __init__(self, images: ImageFolder, recipe: Recipe, epoch: int):
        self.images, self.recipe, self.epoch = images, recipe, epoch
        self.transform = create_transform(
            recipe.size_at(epoch),
            is_training=True,
            scale=(recipe.min_scale, 1.0),
            color_jitter=None,  # type: ignore[arg-type]  # none, for which timm's annotation has no word
            interpolation="bicubic",
            use_prefetcher=True,  # ends in an array of bytes: whole batches are normalised in a third of the time
        )

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Pixels (S, S, 3), 0 to 255, and label."""
        image, label = self.images[index]
        seed = seed_of(self.recipe, self.epoch, index)
        random.seed(seed)  # timm's part of the augmentation draws from this generator, torchvision's from the other
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` asks for accelerators, too: half a millisecond
        pixels = self.transform(image)  # (3, S, S), an array or a tensor as timm has it
        return torch.as_tensor(pixels).permute(1, 2, 0), label


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    """From (N, S, S, 3), 0 to 255, to float32 (N, 3, S, S), channels-last, normalised as ImageNet is."""
    mean, deviation = (255 * torch.tensor(values) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return pixels.float().sub_(mean).div_(deviation).permute(0, 3, 1, 2)


def _image_folder(data: Path, part: str) -> ImageFolder:
    try:
        return ImageFolder(str(data / part))
    except FileNotFoundError as error:
        raise UserError(f"{data} needs folders train and val, each with a folder of images a class: {error}") from error
