"""Options of the pictures of receptive fields: width, colours, squares, window and text.

This module does not import matplotlib, so that the command line can check its options before any work begins.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from runkit.paper import COLUMN_WIDTH, PAGE_WIDTH
from runkit.parser import nearest

__all__ = [
    "OUTLINES",
    "SCALES",
    "SQUARES",
    "WIDTHS",
    "Drawing",
    "check_crop",
    "check_labels",
    "read_crop",
    "read_width",
]

SCALES = ("decades", "published")
"""Colour scales, as described in `erf.figures.maps`."""
SQUARES = ("published", "mass")
"""Quantities of which squares hold shares: log10(score + 1), as in the paper's table, or the score itself."""
OUTLINES = ("theoretical", "gaussian")
"""Outlines that can be drawn around a unit besides the squares, as described in `erf.figures.outlines`."""
WIDTHS: Mapping[str, float] = {"column": COLUMN_WIDTH, "page": PAGE_WIDTH}
"""Named widths, in inches."""
_INCH = 2.54  # centimetres
_NARROWEST = 2.0  # inches; the text of a narrower picture would not fit


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How results are drawn. Each attribute is an option of the drawing functions and of the command line.

    Attributes:
        scale: Colour scale: 'decades' (four powers of ten below the maximum) or 'published' (log10(score + 1) / max).
        squares: Quantity of which the squares hold shares, in the map and in the table: 'published' for
            log10(score + 1), which depends on the scale of the gradients, or 'mass' for the score itself, which does
            not.
        thresholds: Shares whose squares are drawn and listed, each between 0 and 1. None for the published ones (20,
            30, 50 and 99%), empty for no squares.
        cmap: Name of a colour map of matplotlib or seaborn.
        crop: The part of each map that is shown. 'none' shows the whole map, and a number a window of that many pixels
            around the unit. 'auto' shows a window if the square that holds 99% covers less than a quarter of each map,
            and otherwise the whole map. The whole map is added as an inset to a window.
        width: Width of the figure: 'column' (8.6 cm), 'page' (17.8 cm), a number of centimetres, or None for a width
            that gives every panel its usual size.
        columns: Number of panels in a row, or of networks with `before_after`; None to choose automatically.
        before_after: Whether to draw each network of a comparison as a column, with random weights above trained ones.
            Results of a run with `--before-after` are always drawn in this way.
        labels: Name of a result -> its name in the picture.
        table: Whether to draw the table of area ratios below the panels of a comparison.
        caption: Whether to write at the foot of the figure how it was made.
        outlines: Further outlines around the unit: 'theoretical' for the theoretical field, 'gaussian' for a circle
            whose radius is one standard deviation of the fitted Gaussian.

    Raises: ValueError for an invalid value.
    """

    scale: str = "decades"
    squares: str = "published"
    thresholds: tuple[float, ...] | None = None
    cmap: str = "mako"
    crop: str | int = "auto"
    width: str | float | None = None
    columns: int | None = None
    before_after: bool = False
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    table: bool = True
    caption: bool = True
    outlines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale={self.scale!r}: take one of {', '.join(SCALES)}")
        if self.squares not in SQUARES:
            raise ValueError(f"squares={self.squares!r}: take one of {', '.join(SQUARES)}")
        for threshold in self.thresholds or ():
            if not 0 < threshold < 1:
                meant = f"; write {threshold / 100:g} for {threshold:g}%" if 1 < threshold < 100 else ""
                raise ValueError(f"threshold {threshold:g} must lie between 0 and 1{meant}")
        for outline in self.outlines:
            if outline not in OUTLINES:
                raise ValueError(f"outline {outline!r}: take one of {', '.join(OUTLINES)}")
        if self.columns is not None and self.columns < 1:
            raise ValueError(f"columns={self.columns}: take 1 or more")
        read_crop(self.crop)
        if self.width is not None:
            read_width(self.width)

    @property
    def width_in(self) -> float | None:
        """Width of the figure in inches; None to choose automatically."""
        return None if self.width is None else read_width(self.width)

    def name_of(self, name: str) -> str:
        """The name of a result in the picture."""
        return self.labels.get(name, name)


def read_width(width: str | float) -> float:
    """Convert 'column', 'page' or a number of centimetres to a width in inches.

    Raises: ValueError for anything else, and for widths below 5.1 cm.
    """
    if width in WIDTHS:
        return WIDTHS[str(width)]
    try:
        inches = float(re.sub(r"\s*cm$", "", str(width))) / _INCH
    except ValueError:
        inches = 0.0
    if not _NARROWEST <= inches <= 100:
        raise ValueError(
            f"width {width!r}: take column, page, or a number of centimetres from {_NARROWEST * _INCH:.1f}"
        )
    return inches


def read_crop(crop: str | int) -> int | None:
    """Parse the option `crop`: the side of the window in pixels, 0 for 'none', None for 'auto'.

    Raises: ValueError for anything else.
    """
    if crop == "auto":
        return None
    if crop == "none":
        return 0
    try:
        side = int(crop)
    except ValueError:
        side = 0
    if side < 8:
        raise ValueError(f"crop {crop!r}: take auto, none, or a number of pixels from 8")
    return side


def check_crop(crop: str | int, shapes: Sequence[tuple[int, ...]]) -> None:
    """Check that no map is smaller than the requested window.

    Args:
        crop: As for `read_crop`.
        shapes: Height and width of each map.

    Raises: ValueError if the window is larger than the longer side of a map.
    """
    side = read_crop(crop) or 0
    for height, width in shapes:
        if side and side > max(height, width):
            raise ValueError(
                f"crop {crop}: the map has only {height} x {width} pixels; take at most {max(height, width)}, or none "
                "for all of it"
            )


def check_labels(labels: Mapping[str, str], names: Sequence[str]) -> None:
    """Check that every label belongs to a result.

    Args:
        labels: Name of a result -> its name in the picture.
        names: Names of the results.

    Raises: ValueError if a label names no result.
    """
    for name in labels:
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near}?" if near else f"there is {', '.join(dict.fromkeys(names))}"
            raise ValueError(f"labels {name}={labels[name]}: no result is called {name}; {hint}")
