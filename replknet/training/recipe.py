"""The recipe: the settings that, with the network and the data, determine the trained weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PRECISIONS", "Recipe"]

_RANGES: Sequence[tuple[Sequence[str], float, float]] = (
    (("epochs", "held_size", "start_size", "size", "size_step", "test_size", "batch_size"), 1, math.inf),
    (("warmup_epochs", "weight_decay", "seed"), 0, math.inf),
    (("label_smoothing", "min_scale", "cutmix_prob", "ema_decay"), 0, 1),
)
"""Fields of `Recipe` with their smallest and largest allowed value."""
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """Settings that, with the network and the data, determine the trained weights.

    The defaults are meant for a CPU: images of at most 128 pixels, which every tap of the nano networks' kernels
    reaches.

    Attributes:
        epochs: Passes over the training images.
        held_size: Side in pixels of the squares to which training images are scaled when they are read. They are kept
            in memory in this form, so a photograph that is not square is squashed.
        start_size: Side of the training images in the first epochs, in pixels.
        size: Side of the training images in the last epochs, in pixels. Images are random crops of the squares, as in
            `RandomResizedCrop`.
        size_step: Pixels by which the side grows from `start_size` to `size`; the sides share the epochs equally. If a
            side is not a multiple of 32, some feature maps have an odd side before they are halved.
        test_size: Side of the images in evaluation, in pixels.
        batch_size: Images per step; the last, smaller batch of an epoch is dropped.
        lr: Highest learning rate; it decays to zero along a half cosine.
        warmup_epochs: Epochs over which the learning rate rises.
        opt: Optimiser, by its name in timm. timm's Muon (nmuon: with Nesterov momentum) updates matrices (1×1 and dense
            convolutions) and leaves depthwise kernels, biases and normalisations to AdamW with the same learning rate.
        weight_decay: Weight decay of the optimiser, applied to weights only.
        label_smoothing: Share of the target that is spread over all classes.
        min_scale: Smallest share of an image's area that a random crop keeps.
        cutmix_prob: Share of the images in which CutMix pastes a rectangle of another image; labels are mixed in
            proportion to the area.
        ema_decay: Decay of the moving average of the weights, which is evaluated and saved.
        precision: Number format of the training: 'float32', or 'bfloat16' for autocast and for Muon's matrix products.
            Evaluation is always in float32. 'auto' takes the faster one on the device (`runkit.compute.precision`).
        seed: Seed of the initial weights, the order of the images and the augmentation.

    Raises: ValueError for a number outside its range.
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
        """Return the side of the training images in an epoch; epochs are counted from 0."""
        sizes = [*range(self.start_size, self.size, self.size_step), self.size]
        return sizes[epoch * len(sizes) // self.epochs]
