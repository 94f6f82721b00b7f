"""How many validation images a network classifies correctly, during and after training."""

from typing import Any

import torch
from timm.data import create_loader, create_transform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from runkit.intervals import share_interval

__all__ = ["accuracy_of", "count_correct", "decode_whole", "read_whole"]

_AT_ONCE = 256  # images
_WHOLE: dict[str, Any] = {"crop_pct": 1.0, "interpolation": "bicubic"}  # how an image is scaled, for timm


def read_whole(images: ImageFolder, size: int, workers: int) -> Any:
    """All images in order, in batches, scaled so that the shorter side has `size` pixels; the middle is kept."""
    return create_loader(
        images,
        size,
        _AT_ONCE,
        **_WHOLE,
        num_workers=workers,
        use_prefetcher=False,
        persistent_workers=False,
    )


def decode_whole(images: ImageFolder, size: int, workers: int) -> Any:
    """The pixels that `read_whole` normalises: batches of bytes (N, 3, S, S), and labels (N,)."""
    whole = ImageFolder(images.root, transform=create_transform(size, **_WHOLE, normalize=False))
    return DataLoader(whole, batch_size=_AT_ONCE, num_workers=workers)


@torch.no_grad()
def count_correct(model: nn.Module, batches: Any, device: torch.device) -> int:
    """How many images have their label as the most probable output; the network is put into eval mode.

    Args:
        model: On `device`.
        batches: Batches of images (N, 3, S, S) and labels (N,).
        device: Where the images are put.
    """
    model.eval()
    correct = 0
    for images, labels in batches:
        answers = model(images.to(device, memory_format=torch.channels_last)).argmax(1)
        correct += int((answers == labels.to(device)).sum())
    return correct


def accuracy_of(correct: int, count: int) -> dict[str, Any]:
    """Top-1 of `count` images in percent, with Wilson's 95% interval, as a card's record has them."""
    low, high = share_interval(correct, count)
    return {"top1": round(100 * correct / count, 2), "top1_interval": [round(100 * low, 2), round(100 * high, 2)]}
