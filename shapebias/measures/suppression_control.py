"""Measure what a suppression does to the images themselves, independently of any network.

"Texture" is not just "detail": a filter that is meant to remove texture also removes fine edges, and one that moves
patches adds new edges. These measures say by how much. Each is relative to the original images, so 1 means that the
suppression does not change this property.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from shapebias.measures.bootstrap import Estimate
from shapebias.measures.reliance import Draws, estimate
from shapebias.stimuli.folders import LabelledImage
from shapebias.stimuli.suppressed import read_resized
from shapebias.stimuli.suppressions import Variant, suppress

__all__ = ["CONTROLS", "ControlPoint", "compare_images", "measure_control", "measure_suppressions"]

CONTROLS = {
    "high_frequencies": "power of the luminance above 1/8 cycles per pixel (details finer than 8 pixels), over that of "
    "the image as it is; mean removed, under a Hann window",
    "edge_strength": "mean gradient of the luminance (3 × 3 Sobel), over that of the image as it is",
    "edges_in_place": "correlation over pixels of the gradient's length with that of the image as it is: 1 if the same "
    "edges are in the same places, 0 if they have nothing in common",
    "chroma": "mean difference of the largest and the smallest of a pixel's three colours, over that of the image as "
    "it is",
    "colours": "share of pixels that two histograms of colour have in common, wherever the pixels are (red - green by "
    "blue - yellow, in bins of 16)",
}
"""Measure -> its definition. All but the correlation (in [-1, 1]) are at least 0; `colours` is at most 1."""

_HIGH = 1 / 8  # cycles per pixel
_BIN = 16
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # Rec. 601, as in OpenCV's greyscale
_Ratio = tuple[float, float]
"""Numerator and denominator."""


@dataclass(frozen=True)
class ControlPoint:
    """Properties of the images that are left under one variant.

    Attributes:
        variant: Label of the variant.
        suppression: Name of the suppression, "" for none.
        cues: The cues that it is meant to remove, joined by "+".
        strength: The value on the suppression's axis; None for the original images.
        left: Measure of `CONTROLS` -> share that is left; None if the property is absent from the original images.
    """

    variant: str
    suppression: str
    cues: str
    strength: float | None
    left: Mapping[str, Estimate | None]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and tables, with an interval next to each value."""
        row: dict[str, Any] = {key: getattr(self, key) for key in ("variant", "suppression", "cues", "strength")}
        for key, value in self.left.items():
            row.update(value.as_dict(key) if value else {key: None, f"{key}_interval": None})
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "ControlPoint":
        """The inverse of `as_dict`."""
        left = {key: Estimate.from_dict(key, row) if row[key] is not None else None for key in CONTROLS}
        return cls(**{key: row[key] for key in ("variant", "suppression", "cues", "strength")}, left=left)


def compare_images(before: np.ndarray, after: np.ndarray) -> dict[str, _Ratio]:
    """Compute each measure of one image as numerator and denominator, so that images can be summed before dividing.

    Args:
        before: The original image, uint8 (H, W, 3).
        after: The same image under a variant.
    Returns: Measure of `CONTROLS` -> numerator and denominator. The denominator is 0 if the property is absent from the
        original image.
    """
    grey = [image @ _LUMINANCE for image in (before, after)]
    lengths = [_gradient(one) for one in grey]
    centred = [length - length.mean() for length in lengths]
    colours = [_histogram(image) for image in (before, after)]
    return {
        "high_frequencies": (_high_power(grey[1]), _high_power(grey[0])),
        "edge_strength": (float(lengths[1].mean()), float(lengths[0].mean())),
        "edges_in_place": (
            float((centred[0] * centred[1]).sum()),
            float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())),
        ),
        "chroma": (_chroma(after), _chroma(before)),
        "colours": (float(np.minimum(*colours).sum()), float(colours[0].sum())),
    }


def measure_control(
    compared: Sequence[Sequence[Mapping[str, _Ratio]]], variants: Sequence[Variant], *, draws: Draws
) -> list[ControlPoint]:
    """Summarise what variants leave of several images, with 95% bootstrap intervals over images.

    Args:
        compared: For each of N images and each of V variants, the result of `compare_images`.
        variants: The V variants.
        draws: Bootstrap draws of the N images.
    """
    points = []
    for index, variant in enumerate(variants):
        suppression, strength = variant.suppression, variant.strength
        left: dict[str, Estimate | None] = {}
        for key in CONTROLS:
            ratios = np.array([of_image[index][key] for of_image in compared]).T
            numerator, denominator = draws.mean(ratios).T
            defined = bool((denominator > 0).all())
            left[key] = estimate(numerator / denominator) if defined else None
        points.append(
            ControlPoint(
                variant=variant.label,
                suppression=suppression.name if suppression else "",
                cues="+".join(suppression.cues) if suppression else "",
                strength=strength.value if strength else None,
                left=left,
            )
        )
    return points


def measure_suppressions(
    images: Sequence[LabelledImage], variants: Sequence[Variant], *, size: tuple[int, int], seed: int = 0
) -> list[ControlPoint]:
    """Measure the share of the images' properties that is left under each variant, at the network's input size.

    Args:
        images: At least one image file.
        variants: The suppressions and their strengths.
        size: Height and width in pixels.
        seed: Seed of random suppressions.
    Raises: UserError if a file cannot be read, or OpenCV is missing.
    """

    def compare(image: LabelledImage) -> list[dict[str, _Ratio]]:
        pixels = read_resized(image, size)
        return [
            compare_images(pixels, suppress(pixels, variant, image_name=image.name, seed=seed)) for variant in variants
        ]

    with ThreadPoolExecutor(2, thread_name_prefix="control") as pool:
        compared = list(pool.map(compare, images))
    return measure_control(compared, variants, draws=Draws.of(len(images)))


def _gradient(grey: np.ndarray) -> np.ndarray:
    """Magnitude of the Sobel gradient at every inner pixel, (H - 2, W - 2)."""
    smooth_down = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    smooth_right = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    return np.hypot(smooth_down[:, 2:] - smooth_down[:, :-2], smooth_right[2:] - smooth_right[:-2])


def _high_power(grey: np.ndarray) -> float:
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    twice = np.where((np.arange(power.shape[1]) == 0) | (2 * np.arange(power.shape[1]) == width), 1, 2)
    return float((power * twice)[frequency > _HIGH].sum())


def _chroma(image: np.ndarray) -> float:
    return float((image.max(axis=2).astype(float) - image.min(axis=2)).mean())


def _histogram(image: np.ndarray) -> np.ndarray:
    red, green, blue = (image[..., channel].astype(int).ravel() for channel in range(3))
    bins = [(red - green + 255) // _BIN, (2 * blue - red - green + 510) // (2 * _BIN)]
    side = 510 // _BIN + 1
    return np.bincount(bins[0] * side + bins[1], minlength=side * side)
