"""Outlines around the unit of a map: the theoretical field, and the width of the Gaussian that best fits the map.

The theoretical field is a dashed rectangle around all pixels that the unit can depend on, whatever the weights. The
Gaussian is a dotted circle around the centre pixel, whose radius is one standard deviation of the fit.
"""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.patheffects as path_effects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle

from erf.figures.window import Box, Window
from erf.measures.sums import Centre
from erf.results.files import ErfResult
from runkit.figure_text import list_names

__all__ = ["Outline", "note_on_outlines", "outline_legend", "outlines_of"]

_logger = logging.getLogger(__name__)
_LOOKS: dict[str, dict[str, Any]] = {
    "theoretical": {"color": "#f2f2f2", "linestyle": (0, (5, 2))},
    "gaussian": {"color": "#ff9df5", "linestyle": (0, (1.2, 1.2))},
}
_NAMES = {"theoretical": "theoretical field", "gaussian": "Gaussian, one standard deviation"}
_ABOVE = 2.5  # zorder: above the squares, which would hide a small circle
_LINE = 1.1  # points
_POINTS = 128  # number of points that stand for a circle


@dataclass(frozen=True)
class Outline:
    """One outline on a map, in pixels of the map.

    Attributes:
        kind: 'theoretical' or 'gaussian'.
        top, left, bottom, right: Edges of the rectangle, or of the circle's bounding square.
    """

    kind: str
    top: float
    left: float
    bottom: float
    right: float

    @classmethod
    def around(cls, centre: Centre, radius: float) -> "Outline":
        """The circle around a pixel, of the kind 'gaussian'."""
        down, across = centre
        return cls("gaussian", down - radius, across - radius, down + radius, across + radius)

    @property
    def boxes(self) -> list[Box]:
        """The outline as boxes: one for the rectangle, or one for each of many points on the circle."""
        if self.kind != "gaussian":
            return [Box(self.top, self.left, self.bottom, self.right)]
        radius, down, across = (self.bottom - self.top) / 2, (self.top + self.bottom) / 2, (self.left + self.right) / 2
        angles = (2 * math.pi * step / _POINTS for step in range(_POINTS))
        points = ((down + radius * math.sin(angle), across + radius * math.cos(angle)) for angle in angles)
        return [Box(y, x, y, x) for y, x in points]

    def is_seen(self, window: Window) -> bool:
        """Whether a part of the outline lies in a window."""
        return any(box.has_edge_in(window.box) for box in self.boxes)

    def draw(self, ax: Axes, *, width: float = _LINE) -> None:
        """Draw the outline on Axes that show the map, with a line of this width in points."""
        high, wide = self.bottom - self.top, self.right - self.left
        look: dict[str, Any] = dict(_LOOKS[self.kind], fill=False, linewidth=width, zorder=_ABOVE)
        shape: Patch = Rectangle((self.left, self.top), wide, high, **look)
        if self.kind == "gaussian":
            shape = Circle((self.left + wide / 2, self.top + high / 2), wide / 2, **look)
        shape.set_path_effects(_black_behind(2 * width))
        ax.add_patch(shape)


def outlines_of(result: ErfResult, kinds: Sequence[str]) -> list[Outline]:
    """The outlines of a result. Those that it does not have are left out with a warning.

    Args:
        result: The result.
        kinds: Names from `erf.drawing.OUTLINES`.
    """
    found = []
    for kind in dict.fromkeys(kinds):
        outline, reason = _find(result, kind)
        if outline is None:
            _warn_once(f"{result.name}: the {_NAMES[kind]} is not drawn: {reason}")
        else:
            found.append(outline)
    return found


def note_on_outlines(
    results: Sequence[ErfResult], windows: Sequence[Window], kinds: Sequence[str], *, names: Sequence[str]
) -> list[str]:
    """Sentences for the caption on requested outlines that the figure does not show, with the reasons.

    Args:
        results: The results in the figure.
        windows: The window of each result.
        kinds: Names of the requested outlines, from `erf.drawing.OUTLINES`.
        names: The name of each result in the figure.
    """
    notes = []
    for kind in dict.fromkeys(kinds):
        reasons: dict[str, list[str]] = {}
        for result, window, name in zip(results, windows, names, strict=True):
            outline, reason = _find(result, kind)
            if outline is None:
                without_size = re.sub(r" \([^)]*\)$", "", reason)
                reasons.setdefault(f"is not drawn: {without_size}", []).append(name)
            elif not outline.is_seen(window):
                reasons.setdefault("lies outside the window", []).append(name)
        for reason, of in reasons.items():
            whose = "" if len(of) == len(results) else f" of {list_names(of)}"
            notes.append(f"The {_NAMES[kind]}{whose} {reason}.")
    return notes


def _find(result: ErfResult, kind: str) -> tuple[Outline | None, str]:
    """An outline of a result, or None with the reason."""
    return _theoretical(result) if kind == "theoretical" else _gaussian(result)


@cache
def _warn_once(text: str) -> None:
    """Log a warning once, not for every figure of the same result."""
    _logger.warning(text)


def outline_legend(outlines: Sequence[Outline], *, size: float = 7.0) -> dict[str, Any]:
    """Arguments of `legend` that name the kinds of outlines in one row, with this font size in points."""
    handles = []
    for kind in dict.fromkeys(outline.kind for outline in outlines):
        handle = Line2D([], [], linewidth=1.4, label=_NAMES[kind], **_LOOKS[kind])
        handle.set_path_effects(_black_behind(2.6))
        handles.append(handle)
    return dict(
        handles=handles, ncols=len(handles), frameon=False, fontsize=size, handlelength=2.2, columnspacing=1.2,
        handletextpad=0.5,
    )  # fmt: skip


def _theoretical(result: ErfResult) -> tuple[Outline | None, str]:
    field = result.provenance.get("theoretical_field", {})
    covers = field.get("covers_px")
    if covers is None:
        return None, field.get("reason") or "it is not one rectangle within the image"
    (top, bottom), (left, right) = covers
    height, width = result.contribution.shape
    if top <= 0 and left <= 0 and bottom >= height - 1 and right >= width - 1:
        return None, f"it covers the whole image ({bottom - top + 1} x {right - left + 1} pixels)"
    return Outline("theoretical", top - 0.5, left - 0.5, bottom + 0.5, right + 0.5), ""


def _gaussian(result: ErfResult) -> tuple[Outline | None, str]:
    width = float(result.gaussian_sigma_px)
    if not math.isfinite(width):
        return None, "no Gaussian fits the map best"
    return Outline.around(result.centre, width), ""


def _black_behind(width: float) -> list[Any]:
    return [path_effects.Stroke(linewidth=width, foreground="black"), path_effects.Normal()]
