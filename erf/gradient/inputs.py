"""Normalised images for a network, for use from Python."""

from collections.abc import Sequence
from pathlib import Path

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from erf.gradient.images import find_images
from erf.gradient.ready import to_input
from replknet.zoo import Preprocessing
from runkit import UserError
from runkit.sizes import Size, pixels_of

__all__ = ["IMAGENET", "load_images"]

IMAGENET = Preprocessing(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, (224, 224), "bicubic", 1.0)
"""Mean and standard deviation of ImageNet's colours, with which most networks were trained."""


def load_images(
    folder: str | Path | Sequence[str | Path] | None = None,
    *,
    num_images: int = 5,
    size: Size = 224,
    preprocessing: Preprocessing = IMAGENET,
) -> torch.Tensor:
    """Photographs as a normalised batch.

    Args:
        folder: A folder of images, of any depth; a text file that lists images; or several images. None for the
            photographs that scikit-image ships.
        num_images: Maximum number of images, spread evenly over the sorted files.
        size: Size in pixels to which images are resized: a side, or (height, width).
        preprocessing: Mean and standard deviation that the network expects, as `replknet.load_model` returns them. They
            also determine the number of channels that are read.

    Returns: float32 (N, C, height, width).
    Raises: UserError if there are no images, or one cannot be read.
    """
    batch = []
    images = find_images(folder, num_images)
    for path in images.paths:
        try:
            batch.append(to_input(images.read(path, pixels_of(size), preprocessing.channels), preprocessing))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of these
            raise UserError(f"cannot read the image {path}: {error}") from error
    return torch.stack(batch)
