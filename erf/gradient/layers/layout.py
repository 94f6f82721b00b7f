"""How a layer's output is laid out: which of its dimensions hold channels, rows and columns of the image."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from erf.gradient.fields.field import Axes
from erf.gradient.layers.layer import Layer, LayerError

__all__ = [
    "SPATIAL_MODULES",
    "Layout",
    "agrees",
    "grids",
    "how_to_say",
    "layout_asked_for",
    "layout_of_axes",
    "layout_of_one_unit",
]

SPATIAL_MODULES = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Upsample, nn.PixelShuffle),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d),
)
"""Modules that work on the rows and columns of (N, C, H, W), so that their output has this layout as well."""


@dataclass(frozen=True)
class Layout:
    """How a map is laid out in a tensor.

    Attributes:
        letters: Letters of the dimensions, as for `Layer.layout`.
        grid: Rows and columns of merged positions; None if rows and columns are dimensions of their own.
        prefix: Number of merged positions before those of the map. There may be others after them.
    """

    letters: str
    grid: tuple[int, int] | None = None
    prefix: int = 0

    def to_map(self, output: torch.Tensor) -> torch.Tensor:
        """Rearrange an output as (N, C, h, w)."""
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
    """The layout of an output whose axes of rows and columns are known; None if it is not a feature map."""
    others = [d for d in range(1, dimensions) if d not in axes.dims]
    if 0 in axes.dims or len(others) > 1:
        return None
    letters = ["N"] * dimensions
    for d in others:
        letters[d] = "C"
    letters[axes.dims[0]], letters[axes.dims[1]] = ("L", "L") if axes.merged else ("H", "W")
    return Layout("".join(letters), axes.sizes if axes.merged else None, axes.prefix)


def layout_of_one_unit(shape: tuple[int, ...]) -> Layout | None:
    """The layout of an output of one unit, whose dimensions are 1, 1 and C in any order; None for other outputs."""
    several = [d for d in range(1, len(shape)) if shape[d] > 1]
    if len(shape) != 4 or len(several) != 1:
        return None
    return Layout({1: "NCHW", 2: "NHCW", 3: "NHWC"}[several[0]])


def layout_asked_for(layer: Layer, shape: tuple[int, ...], images: int) -> Layout | None:
    """The layout that the user gave for a layer, for an output of some shape.

    Returns: None if positions are merged and it was not given which rows and columns they form.
    Raises: LayerError if the output cannot have this layout.
    """
    letters = layer.letters or ""
    if len(letters) != len(shape):
        raise LayerError(f"layer {layer.name!r} gives {shape}, which cannot be {letters}")
    if shape[letters.index("N")] != images:
        raise LayerError(f"layer {layer.name!r} gives {shape} for {images} images; its N is not theirs")
    if "L" not in letters:
        return Layout(letters)
    if layer.grid is None:
        return None
    count, (h, w) = shape[letters.index("L")], layer.grid
    more = count - h * w
    if more < (layer.prefix_tokens or 0):
        raise LayerError(f"layer {layer.name!r} gives {count} tokens, too few for {layer.layout}")
    if more and layer.prefix_tokens is None:
        raise LayerError(
            f"layer {layer.name!r} gives {more} tokens more than {h} × {w}; say how many come before those of the map "
            "by prefix_tokens= (--prefix-tokens)"
        )
    return Layout(letters, layer.grid, layer.prefix_tokens or 0)


def agrees(layout: Layout | None, layer: Layer) -> bool:
    """Whether a detected layout is compatible with the one that the user gave for a layer."""
    if layout is None or layer.letters is None:
        return layout is not None
    return layer.letters == layout.letters and layer.prefix_tokens in (None, layout.prefix)


def how_to_say(layer: Layer, shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """The message for an output whose layout cannot be detected: what is missing, and how the user can specify it."""
    if layer.letters is None:
        options = "layout='NCHW', 'NHWC', 'NLC' or the like (--layout)"
        if len(shape) == 3:
            options += " and prefix_tokens= (--prefix-tokens)"
        return f"which dimensions are rows and columns of the image cannot be told; say so by {options}"
    count, prefix = shape[layer.letters.index("L")], layer.prefix_tokens or 0
    found = list(grids(count - prefix, size))
    if found:
        h, w = found[-1]
        return (
            f"which rows and columns its {count - prefix} tokens form cannot be told; say so, too, such as by "
            f"layout='{layer.letters}:{h}x{w}' for {h} rows of {w} tokens, one after the other (--layout)"
        )
    more = [f"{n} ({h} × {w})" for n in range(min(count, 17)) for h, w in grids(count - n, size) if n != prefix]
    hint = f"; it would with so many prefix tokens: {', '.join(more[:4])} (--prefix-tokens)" if more else ""
    return f"its {count - prefix} tokens form no map of an image of {size[0]} × {size[1]} pixels{hint}"


def grids(count: int, size: tuple[int, int], *, square: bool = True) -> Iterator[tuple[int, int]]:
    """The numbers of rows and columns of patches that this many positions can form in an image.

    Args:
        square: Whether patches must be square. Their side is then any whole number of pixels, and the image's borders
            may cut off patches or remain uncovered. Otherwise patches of two different sides are possible as well, if
            the sides divide those of the image.
    """
    for h in range(1, count + 1):
        if count % h == 0 and (_are_square(h, count // h, size) or (not square and _are_parts(h, count // h, size))):
            yield h, count // h


def _are_square(h: int, w: int, size: tuple[int, int]) -> bool:
    """Whether square patches of one whole side divide an image into h × w, both rounded up or both rounded down."""
    down, across = (
        {
            (side, up)
            for side in range(max(n // (m + 1), 1), n // m + 2)
            for up in (0, 1)
            if m == (n + up * (side - 1)) // side
        }
        for m, n in zip((h, w), size, strict=True)
    )
    return bool(down & across)


def _are_parts(h: int, w: int, size: tuple[int, int]) -> bool:
    return size[0] % h == 0 and size[1] % w == 0
