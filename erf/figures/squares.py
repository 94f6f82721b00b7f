"""The squares of a map as lines: one shade each, thinner if they are close, with alternating dashes if they coincide.

A square that holds a larger share is never smaller. If several squares coincide on paper, each is dashed, with its
dashes in the gaps of the others, and the legend has an entry for such lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib.patheffects as path_effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from erf.drawing import Drawing
from erf.figures.caption import SQUARE_NAMES
from erf.figures.window import Box, Window, square_box
from erf.measures.squares import LOG_THRESHOLDS, square_areas
from erf.measures.sums import Centre
from runkit.figure_text import text_width

__all__ = [
    "COINCIDE",
    "Square",
    "close_squares",
    "find_squares",
    "points_per_pixel",
    "shares_of",
    "show_squares",
    "square_legend",
]

COINCIDE = "squares that coincide"
"""Name of alternating lines in the legend."""
_SHADES = ("#ffffff", "#ffe9a8", "#ffb347", "#ff6f52")
_LINE, _THINNEST = 1.0, 0.4  # points: width of a line
_SAME = 0.3  # points: lines that are closer than this coincide
_DASH = 2.5  # points: usual length of alternating dashes


@dataclass(frozen=True)
class Square:
    """A square to draw: the share that it holds, its place and its shade."""

    share: float
    box: Box
    shade: str


def shares_of(drawing: Drawing) -> list[float]:
    """The distinct shares whose squares are drawn, in ascending order."""
    return sorted(set(LOG_THRESHOLDS if drawing.thresholds is None else drawing.thresholds))


def find_squares(contribution: np.ndarray, centre: Centre, drawing: Drawing) -> list[Square]:
    """The squares of a map, smallest first, without shares that no square reaches."""
    areas = square_areas(contribution, shares_of(drawing), of=drawing.squares, centre=centre)
    boxes = ((area.threshold, square_box(area, centre, contribution.shape)) for area in areas)
    return [Square(share, box, _shade(share, drawing)) for share, box in boxes if box is not None]


def close_squares(squares: Sequence[Square], points: float) -> list[list[Square]]:
    """Group squares that coincide on paper. A square that coincides with no other is a group by itself.

    Args:
        squares: Squares, smallest first.
        points: Width of a pixel of the map in points.
    """
    groups: list[list[Square]] = []
    for square in squares:
        if groups and points * _distance(groups[-1][-1].box, square.box) < _SAME:
            groups[-1].append(square)
        else:
            groups.append([square])
    return groups


def _distance(one: Box, other: Box) -> float:
    """The largest distance between corresponding edges of two boxes."""
    return max(abs(getattr(one, edge) - getattr(other, edge)) for edge in ("top", "left", "bottom", "right"))


def show_squares(ax: Axes, squares: Sequence[Square], window: Window) -> None:
    """Draw squares on Axes that show a window, on top of black lines that set them off from the map."""
    points = points_per_pixel(ax, window)
    if not squares:
        return
    groups = close_squares(squares, points)
    gaps = [points * _distance(one[-1].box, other[0].box) for one, other in pairwise(groups)]
    for group, before, after in zip(groups, [np.inf, *gaps], [*gaps, np.inf], strict=True):
        thickness = float(np.clip(0.6 * min(before, after), _THINNEST, _LINE))
        box = group[0].box
        ends = [box.left, box.right, box.right, box.left, box.left], [box.top, box.top, box.bottom, box.bottom, box.top]
        ax.plot(*ends, color="black", linewidth=2 * thickness, solid_joinstyle="miter", zorder=1.5)
        for place, square in enumerate(group):
            ax.add_patch(_line(square, thickness, place, len(group), points))


def _line(square: Square, thickness: float, place: int, count: int, points: float) -> Rectangle:
    """A square as a solid line, or as every `count`-th of the dashes around it, starting with number `place`.

    The dashes begin in the middle of one.
    """
    box = square.box
    high, wide = box.bottom - box.top, box.right - box.left
    style: Any = "-"
    if count > 1:
        dash = points * wide / (count * max(1, round(points * wide / (count * _DASH)))) / thickness
        style = ((0.5 - place) * dash % (count * dash), (dash, (count - 1) * dash))
    return Rectangle(
        (box.left, box.top), wide, high, fill=False, edgecolor=square.shade, linewidth=thickness, linestyle=style,
        capstyle="butt", zorder=2,
    )  # fmt: skip


def points_per_pixel(ax: Axes, window: Window) -> float:
    """Width in points of a pixel of the map on Axes that show this window."""
    place = ax.get_window_extent()
    return min(place.width / window.width, place.height / window.height) * 72 / ax.figure.dpi


def square_legend(
    shares: Sequence[float], drawing: Drawing, *, alternate: Sequence[float] = (), width: float = np.inf
) -> dict[str, Any]:
    """Arguments of `legend` for one row that names the squares, beginning with the quantity of which they hold shares.

    Args:
        shares: Shares of the visible squares; may be empty.
        drawing: Options of the figure.
        alternate: Shares of squares whose lines alternate somewhere, of which two are shown; empty if none do.
        width: Available width in points.
    """
    handles: list[Any] = [_handle(_shade(share, drawing), "-") for share in shares]
    labels = [f"{100 * share:.4g}%" for share in shares]
    if shares:
        handles.insert(0, Line2D([], [], color="none"))
        labels.insert(0, f"{SQUARE_NAMES[drawing.squares]}:")
    if alternate:
        one, other = (_shade(share, drawing) for share in alternate[:2])
        handles.append((_handle(one, (0, (2, 2))), _handle(other, (2, (2, 2)))))
        labels.append(COINCIDE)
    ems = sum(map(text_width, labels)) + (1.4 + 0.5 + 1.2) * len(labels) + 0.5
    return dict(
        handles=handles, labels=labels, ncols=max(1, len(handles)), frameon=False, fontsize=min(7.0, width / ems),
        handlelength=1.4, columnspacing=1.2, handletextpad=0.5, handler_map={tuple: HandlerTuple(ndivide=1)},
    )  # fmt: skip


def _handle(shade: str, style: Any) -> Line2D:
    handle = Line2D([], [], color=shade, linewidth=1.4, linestyle=style, dash_capstyle="butt")
    handle.set_path_effects(_outline(2.6))
    return handle


def _shade(share: float, drawing: Drawing) -> str:
    """Shade of a square: white for the smallest share, red for the largest."""
    shares = shares_of(drawing)
    ramp = LinearSegmentedColormap.from_list("shares", _SHADES)
    return to_hex(ramp(shares.index(share) / max(1, len(shares) - 1)))


def _outline(width: float) -> list[Any]:
    """Path effects that draw a black line of a width in points behind a line."""
    return [path_effects.Stroke(linewidth=width, foreground="black"), path_effects.Normal()]
