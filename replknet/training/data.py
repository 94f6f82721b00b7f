"""Training and validation images: read from class folders, decoded once, kept in memory, cropped on the device.

The random order, crop and mirroring of the images follow from the recipe's seed and the epoch alone, so they do not
depend on whether and where in an epoch a run was interrupted.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import InterpolationMode, normalize, pil_to_tensor, resize

from replknet.training.evaluation import decode_whole
from replknet.training.recipe import Recipe
from runkit import UserError, sha256_of_lines

__all__ = ["Folders", "cut_out", "draw_boxes", "open_folder", "seed_of"]

_DECODED_AT_ONCE = 64  # images
_ATTEMPTS = 10  # boxes drawn per image; the first that fits into it is used, as in torchvision's RandomResizedCrop
_RATIO = (3 / 4, 4 / 3)  # range of a box's width over its height, likewise


def seed_of(recipe: Recipe, epoch: int, number: int) -> int:
    """Seed for one part of an epoch, such as a step: 63 bits that in practice differ for different arguments."""
    return random.Random(f"{recipe.seed} {epoch} {number}").getrandbits(63)


class Folders:
    """Training and validation images: `<data>/train` and `<data>/val`, each with one folder per class.

    Args:
        data: Folder that holds `train` and `val`.
        workers: Number of processes that decode images.
    Raises: UserError if a folder is missing or the classes differ.
    """

    def __init__(self, data: Path, workers: int):
        self.train_set, self.val_set = (open_folder(data, part) for part in ("train", "val"))
        self.classes: list[str] = self.train_set.classes
        self.workers = workers
        self._held: Tensor | None = None
        self._held_whole: dict[int, list[tuple[Tensor, Tensor]]] = {}
        """Maps the side in pixels to the validation images as bytes, in batches with their labels."""
        if self.classes != self.val_set.classes:
            raise UserError(f"{data}: train and val have not the same class folders")

    def describe(self) -> dict[str, Any]:
        """Return the classes, the numbers of images, and the SHA-256 of the image names."""
        sets = {"train": self.train_set, "val": self.val_set}
        names = [Path(path).name for images in sets.values() for path, _ in images.samples]
        counts = {f"{part}_images": len(images) for part, images in sets.items()}
        return {"classes": self.classes, **counts, "sha256_of_names": sha256_of_lines(names)}

    def train_batches(
        self, recipe: Recipe, epoch: int, *, device: torch.device, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, from number `first` on: normalised images (N, 3, S, S) and labels (N,)."""
        images = self._hold(recipe, device)
        labels = torch.tensor(self.train_set.targets, device=device)
        generator = torch.Generator().manual_seed(seed_of(recipe, epoch, -1))
        order = torch.randperm(len(labels), generator=generator).to(device)
        boxes = draw_boxes(len(labels), recipe.min_scale, generator).to(device)
        mean, std = (
            torch.tensor(numbers, device=device).mul(255)[:, None, None]
            for numbers in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )
        for step in range(first, len(order) // recipe.batch_size):
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            batch = cut_out(images[chosen], boxes[chosen], recipe.size_at(epoch))
            yield (batch - mean) / std, labels[chosen]

    def val_batches(self, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all validation images in order, like `read_whole` at the recipe's `test_size`, but decoded only once.

        Yields: Normalised images (N, 3, S, S) and labels (N,), on the CPU.
        """
        if recipe.test_size not in self._held_whole:
            self._held_whole[recipe.test_size] = list(decode_whole(self.val_set, recipe.test_size, self.workers))
        for pixels, labels in self._held_whole[recipe.test_size]:
            yield normalize(pixels.float().div(255), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, inplace=True), labels

    def _hold(self, recipe: Recipe, device: torch.device) -> Tensor:
        """Return the training images (N, 3, side, side) as bytes on the device; they are decoded at the first call."""
        if self._held is None:
            files = _Decoded(self.train_set, recipe.held_size)
            batches = DataLoader(files, batch_size=_DECODED_AT_ONCE, num_workers=self.workers)
            self._held = torch.cat([batch.to(device) for batch in batches])
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # concurrent trainings read them on other streams
        return self._held


def draw_boxes(count: int, min_scale: float, generator: torch.Generator) -> Tensor:
    """Draw random boxes in squares, like torchvision's `RandomResizedCrop`, and decide whether to mirror them.

    Args:
        count: Number of boxes.
        min_scale: Smallest area of a box as a fraction of the square; the largest is 1.
        generator: Random number generator on the CPU.
    Returns: (count, 5): left, top, width and height as fractions of the side; and -1 to mirror the box, else 1.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    area = uniform(min_scale, 1.0, _ATTEMPTS)
    ratio = uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), _ATTEMPTS).exp()
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(1, keepdim=True)  # `argmax` returns the first of equal values
    some = fits.any(1)
    width, height = (torch.where(some, side.gather(1, first)[:, 0], 1.0) for side in (width, height))
    left, top = uniform(0.0, 1.0) * (1 - width), uniform(0.0, 1.0) * (1 - height)
    mirrored = torch.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)
    return torch.stack([left, top, width, height, mirrored], 1)


def cut_out(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop images to boxes and resize them by bicubic interpolation; if they may shrink, pixels are averaged.

    Args:
        images: Square images (N, 3, side, side), bytes.
        boxes: (N, 5), from `draw_boxes`.
        size: Side of the result in pixels.
    Returns: (N, 3, size, size), float32 from 0 to 255.
    """
    left, top, width, height, mirrored = boxes.unbind(1)
    zero = torch.zeros_like(left)
    rows = [width * mirrored, zero, 2 * left + width - 1, zero, height, 2 * top + height - 1]
    samples = -(-images.shape[-1] // size)  # per side, for each pixel of the result
    shape = [len(images), 3, size * samples, size * samples]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), shape, align_corners=False)
    cut = F.grid_sample(images.float(), grid, mode="bicubic", padding_mode="border", align_corners=False)
    return F.avg_pool2d(cut, samples).clamp_(0, 255)


class _Decoded(Dataset[Tensor]):
    """The images of a folder as bytes (3, side, side), resized to squares whatever their shape."""

    def __init__(self, images: ImageFolder, side: int):
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image, _ = self.images[index]
        pixels = pil_to_tensor(image)
        if pixels.shape[1:] != (self.side, self.side):
            pixels = resize(pixels, [self.side, self.side], InterpolationMode.BICUBIC, antialias=True)
        return pixels


def open_folder(data: Path, part: str) -> ImageFolder:
    """Open the images of `<data>/<part>`, by class.

    Raises: UserError if there is no such folder, it has no classes, or a class has no images.
    """
    try:
        return ImageFolder(str(data / part))
    except FileNotFoundError as error:
        raise UserError(f"{data} must hold the folders train and val with one folder per class: {error}") from error
