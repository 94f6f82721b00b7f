"""The recipe: what determines the trained weights, besides the network and the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PRECISIONS", "Recipe"]

_RANGES: Sequence[tuple[Sequence[str], float, float]] = (
    (("epochs", "held_size", "start_size", "size", "size_step", "test_size", "batch_size"), 1, math.inf),
    (("warmup_epochs", "weight_decay", "seed"), 0, math.inf),
    (("label_smoothing", "min_scale", "cutmix_prob", "ema_decay"), 0, 1),
)
"""Fields of `Recipe`, and the least and the largest value of each."""
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """What determines the trained weights, besides the network and the data.

    The defaults are for a CPU: images of at most 128 pixels, which every tap of the nano networks' kernels meets.

    Attributes:
        epochs: Passes over the training images.
        held_size: Side of the squares to which the training images are scaled when they are read, in pixels; they are
            kept in memory in this form, so a photograph that is not square is squashed.
        start_size: Side of the training images at first, in pixels.
        size: Side of the training images in the end, in pixels. Images are cut out of the squares at random, as by
            `RandomResizedCrop`.
        size_step: Pixels by which the side rises from one to the other, each side for as many epochs. With a side that
            is no multiple of 32 maps are odd before they are halved.
        test_size: Side of the image that is evaluated, in pixels.
        batch_size: Images per step; the last, smaller batch of an epoch is left out.
        lr: Highest learning rate; it falls by a half cosine to zero.
        warmup_epochs: Epochs over which it rises.
        opt: Optimiser, by its name in timm. Its Muon (nmuon: with Nesterov momentum) takes matrices (1×1 and dense
            convolutions) and leaves depthwise kernels, biases and normalisations to AdamW at the same rate.
        weight_decay: The optimiser's, on weights alone.
        label_smoothing: Share of the target that is spread over all classes.
        min_scale: Smallest share of an image's area that is cut out.
        cutmix_prob: Share of the images that get a rectangle of another one, whose label they share in proportion.
        ema_decay: Decay of the moving average of the weights, which is what is evaluated and kept.
        precision: Number format of the training, 'float32', or 'bfloat16' for autocast and for Muon's matrix products;
            evaluation is in float32. 'auto' takes what is fast on the device (`runkit.compute.precision`).
        seed: Of weights, order and augmentation.

    Raises: ValueError for a number out of its range.
    """

    epochs: int = 18
    held_size: int = 160
    start_size: int = 64
    size: int = 128
    size_step: int = 32
    test_size: int = 128
    batch_size: int = 64
    opt: str = "nmuon"
    lr: float = 4e-2
    warmup_epochs: int = 1
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    min_scale: float = 0.35
    cutmix_prob: float = 0.25
    ema_decay: float = 0.998
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for names, least, most in _RANGES:
            for name in names:
                if not least <= getattr(self, name) <= most:
                    bound = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
                    raise ValueError(f"{name.replace('_', '-')} must be {bound}, not {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, not {self.lr:g}")

    def size_at(self, epoch: int) -> int:
        """Side of the training images in an epoch, counted from 0."""
        sizes = [*range(self.start_size, self.size, self.size_step), self.size]
        return sizes[epoch * len(sizes) // self.epochs]
