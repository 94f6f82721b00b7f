"""Fine-tuning of a backbone with a light decoder for dense prediction, on CamVid or a folder with the same layout.

The decoder is a feature pyramid of one level (after Kirillov et al., arXiv:1901.02446). The last map of each of the
four stages goes through a 1×1 convolution to 64 channels and is scaled to the size of the first stage's map. The sum of
these maps goes through a 3×3 and a 1×1 convolution, which gives the scores of the classes. Backbone and decoder are
trained together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from runkit import UserError, sha256_of_lines

__all__ = ["CLASSES", "Photographs", "Schedule", "Segmenter", "confusions", "fine_tune", "mean_iou", "resampled_iou"]

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
)  # index = value of a mask's pixel; pixels with any other value are unlabelled
_IGNORED = 255
_STAGES = 4
_WIDTH = 64  # channels of the decoder


@dataclass(frozen=True)
class Schedule:
    """How a backbone is fine-tuned. Backbones that are compared share one schedule.

    Attributes:
        epochs: Number of passes over the training images.
        batch_size: Number of images per step.
        lr: Peak learning rate of AdamW in PyTorch's one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        crop: Height and width in pixels of the random crops.
        scales: Smallest and largest factor by which a batch is randomly scaled before cropping.
    """

    epochs: int = 30
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.01
    crop: Sequence[int] = (192, 256)
    scales: Sequence[float] = (0.8, 1.6)


class Photographs:
    """Photographs and masks of a split, from files of equal names in `<folder>/images/<split>` and `.../masks/<split>`.

    Attributes:
        images: Photographs (N, 3, H, W), uint8.
        masks: Class of each pixel (N, H, W), int64; 255 for unlabelled pixels.
        sha256_of_names: SHA-256 of the names of the photographs' files.
    Raises: UserError if there are no photographs, a mask is missing, or sizes differ.
    """

    def __init__(self, folder: Path, split: str):
        files = sorted(path for path in (folder / "images" / split).glob("*") if path.suffix in (".jpg", ".png"))
        if not files:
            raise UserError(f"{folder / 'images' / split} has no photographs; see docs/how-to/claims.md for CamVid")
        images, masks = [], []
        for file in files:
            mask = folder / "masks" / split / f"{file.stem}.png"
            if not mask.is_file():
                raise UserError(f"{file} has no mask {mask}")
            images.append(np.array(Image.open(file).convert("RGB")))
            masks.append(np.array(Image.open(mask)))
        if len({array.shape[:2] for array in (*images, *masks)}) > 1:
            raise UserError(f"{folder}: the photographs and masks of {split} are not all of one size")
        self.images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(np.stack(masks)).long()
        self.masks = torch.where(labels < len(CLASSES), labels, _IGNORED)
        self.sha256_of_names = sha256_of_lines([file.name for file in files])

    def __len__(self) -> int:
        return len(self.images)


class Segmenter(nn.Module):
    """A timm backbone with the decoder.

    Args:
        backbone: Network with `forward_intermediates`, as in timm.
        channels: Numbers of channels of its last four stages.
        mean, std: Mean and standard deviation for normalising images, per channel and for values in 0..1.
    """

    def __init__(self, backbone: nn.Module, channels: Sequence[int], mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, _WIDTH, 1, bias=False), nn.BatchNorm2d(_WIDTH)) for count in channels
        )
        self.head = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, len(CLASSES), 1),
        )
        for name, numbers in (("mean", mean), ("std", std)):
            self.register_buffer(name, 255 * torch.tensor(numbers)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, classes, H, W) for images (N, 3, H, W) with values from 0 to 255."""
        x = (images.float() - self.mean) / self.std  # type: ignore[operator]
        maps = self.backbone.forward_intermediates(x, indices=_STAGES, intermediates_only=True)  # type: ignore[operator]
        first = maps[0].shape[2:]
        merged = sum(
            F.interpolate(lateral(one), size=first, mode="bilinear", align_corners=False)
            for lateral, one in zip(self.lateral, maps, strict=True)
        )
        return F.interpolate(self.head(merged), size=images.shape[2:], mode="bilinear", align_corners=False)


def fine_tune(model: Segmenter, photographs: Photographs, schedule: Schedule, *, seed: int, title: str) -> None:
    """Train backbone and decoder in place, on the model's device.

    Args:
        seed: Seed for the order of the images and their random scales, crops and flips.
        title: Title of the progress bar.

    Raises: UserError if there are fewer photographs than a batch has.
    """
    device = next(model.parameters()).device
    steps = len(photographs) // schedule.batch_size
    if not steps:
        raise UserError(f"{len(photographs)} photographs do not fill a batch of {schedule.batch_size}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.lr, total_steps=schedule.epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    with tqdm(total=schedule.epochs * steps, desc=title, unit="step", leave=False) as progress:
        for _ in range(schedule.epochs):
            order = torch.randperm(len(photographs), generator=generator)
            for step in range(steps):
                chosen = order[step * schedule.batch_size : (step + 1) * schedule.batch_size]
                images, masks = _augmented(photographs, chosen, schedule, generator)
                loss = F.cross_entropy(model(images.to(device)), masks.to(device), ignore_index=_IGNORED)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rates.step()
                progress.update()


def _augmented(
    photographs: Photographs, chosen: Tensor, schedule: Schedule, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Randomly scale, crop and flip a batch: images (N, 3, h, w) with values from 0 to 255, and masks (N, h, w)."""
    images, masks = photographs.images[chosen].float(), photographs.masks[chosen]
    low, high = schedule.scales
    draws = torch.rand(4, generator=generator).tolist()
    size = [
        max(round(side * (low + (high - low) * draws[0])), crop)
        for side, crop in zip(images.shape[2:], schedule.crop, strict=True)
    ]
    images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True).clamp_(0, 255)
    masks = F.interpolate(masks[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
    top, left = (
        int(draw * (side - crop + 1)) for draw, side, crop in zip(draws[1:3], size, schedule.crop, strict=True)
    )
    height, width = schedule.crop
    images, masks = (t[..., top : top + height, left : left + width] for t in (images, masks))
    return (images.flip(-1), masks.flip(-1)) if draws[3] < 0.5 else (images, masks)


@torch.no_grad()
def confusions(model: Segmenter, photographs: Photographs, *, batch_size: int = 8) -> np.ndarray:
    """Confusion matrix in pixels of each whole photograph, (images, true class, predicted class).

    Unlabelled pixels are left out.
    """
    device = next(model.parameters()).device
    model.eval()
    counts = []
    for images, masks in zip(photographs.images.split(batch_size), photographs.masks.split(batch_size), strict=True):
        predicted = model(images.to(device)).argmax(1).cpu()
        for truth, answer in zip(masks, predicted, strict=True):
            known = truth != _IGNORED
            pairs = truth[known] * len(CLASSES) + answer[known]
            counts.append(torch.bincount(pairs, minlength=len(CLASSES) ** 2).view(len(CLASSES), len(CLASSES)))
    return torch.stack(counts).numpy()


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Mean intersection over union, in 0..1, from confusion matrices (..., true class, predicted class).

    Classes that neither occur nor are predicted are left out of the mean.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(union > 0, hits / union, np.nan), axis=-1)


def resampled_iou(confusion: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Bootstrap resamples over images of `mean_iou`, (resamples,). Equal seeds draw the same images."""
    count = len(confusion)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return mean_iou(np.tensordot(draws, confusion, axes=1))
