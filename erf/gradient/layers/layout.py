"""How a layer's output is laid out: which of its dimensions hold channels, rows and columns of the image."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from erf.gradient.fields.field import Axes
from erf.gradient.layers.layer import Layer, LayerError

__all__ = ["SPATIAL_MODULES", "Layout", "grids", "layout_asked_for", "layout_of_axes", "layout_of_one_unit"]

SPATIAL_MODULES = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Upsample, nn.PixelShuffle),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d),
)
"""Modules that run over rows and columns of (N, C, H, W): what they give is laid out so."""


@dataclass(frozen=True)
class Layout:
    """How a map lies in a tensor.

    Attributes:
        letters: Of the dimensions, as for `Layer.layout`.
        grid: Rows and columns of positions that are merged; None where they are dimensions of their own.
        prefix: Merged positions that come before those of the map.
    """

    letters: str
    grid: tuple[int, int] | None = None
    prefix: int = 0

    def to_map(self, output: torch.Tensor) -> torch.Tensor:
        """The output as (N, C, h, w)."""
        letters = self.letters
        if "C" not in letters:
            output, letters = output.unsqueeze(-1), letters + "C"
        order = "NCL" if self.grid else "NCHW"
        if letters != order:
            output = output.permute(*map(letters.index, order))
        if self.grid is None:
            return output
        h, w = self.grid
        return output[:, :, self.prefix : self.prefix + h * w].unflatten(2, self.grid)


def layout_of_axes(axes: Axes, dimensions: int) -> Layout | None:
    """The layout of an output of which it is known where rows and columns lie; None if that is no feature map."""
    others = [d for d in range(1, dimensions) if d not in axes.dims]
    if 0 in axes.dims or len(others) > 1:
        return None
    letters = ["N"] * dimensions
    for d in others:
        letters[d] = "C"
    letters[axes.dims[0]], letters[axes.dims[1]] = ("L", "L") if axes.merged else ("H", "W")
    return Layout("".join(letters), axes.sizes if axes.merged else None, axes.prefix)


def layout_of_one_unit(shape: tuple[int, ...]) -> Layout | None:
    """The layout of (N, C, 1, 1), of which rows and columns need not be told apart, in any order; None of others."""
    several = [d for d in range(1, len(shape)) if shape[d] > 1]
    if len(shape) != 4 or len(several) != 1:
        return None
    return Layout({1: "NCHW", 2: "NHCW", 3: "NHWC"}[several[0]])


def layout_asked_for(layer: Layer, shape: tuple[int, ...], images: int, size: tuple[int, int]) -> Layout:
    """The layout that a layer was asked with, for an output of some shape.

    Raises: LayerError if the output does not have it.
    """
    letters = layer.layout or ""
    if len(letters) != len(shape):
        raise LayerError(f"layer {layer.name!r} gives {shape}, which cannot be {letters}")
    if shape[letters.index("N")] != images:
        raise LayerError(f"layer {layer.name!r} gives {shape} for {images} images; its N is not theirs")
    if "L" not in letters:
        return Layout(letters)
    count, prefix = shape[letters.index("L")], layer.prefix_tokens or 0
    found = list(grids(count - prefix, size))
    if len(found) == 1:
        return Layout(letters, found[0], prefix)
    more = [f"{n} ({h} × {w})" for n in range(min(count, 17)) for h, w in grids(count - n, size) if n != prefix]
    hint = f"; it would with so many prefix tokens: {', '.join(more[:4])} (--prefix-tokens)" if more else ""
    raise LayerError(
        f"layer {layer.name!r} gives {count - prefix} tokens, which form no map of an image of "
        f"{size[0]} × {size[1]} pixels{hint}"
    )


def grids(count: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns of square patches, of any side, that so many positions can be of an image."""
    for h in range(1, count + 1):
        if count % h == 0 and _same_patches(h, count // h, size):
            yield h, count // h


def _same_patches(h: int, w: int, size: tuple[int, int]) -> bool:
    """Whether one side of patches, in whole pixels, divides an image into so many, rounded up or down."""
    down, across = (
        {side for side in range(max(n // (m + 1), 1), n // m + 2) if m in (n // side, -(-n // side))}
        for m, n in zip((h, w), size, strict=True)
    )
    return bool(down & across)
