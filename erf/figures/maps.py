"""A contribution map drawn on Axes, with the squares that hold shares of it.

The colour scale 'decades' is log10(score / max), from -4 to 0: four powers of ten, whatever the gradients' scale. The
scale 'published' is log10(score + 1) divided by its maximum, from 0 to 1, as in the paper's figure; where gradients are
small it is all but linear, and shows little beside the peak. Either way maps of several networks share their limits.
The default colour map (seaborn's 'mako') rises evenly in lightness, so it survives greyscale printing and colour
blindness.

Squares have a shade each, paler for a smaller share, and a legend names the shares, so no label ever lies on a square.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects as path_effects
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mpl_toolkits.axes_grid1 import make_axes_locatable

from erf.drawing import Drawing, read_crop
from erf.figures.outlines import Outline, outline_legend, outlines_of
from erf.measures.squares import LOG_THRESHOLDS, SquareArea, check_map, log_area, log_map
from erf.measures.sums import Centre
from erf.results.files import ErfResult
from runkit.figures import axes_or_new

__all__ = [
    "Window",
    "add_colour_bar",
    "choose_window",
    "colour_map",
    "plot",
    "plot_contribution",
    "scale_limits",
    "scaled_map",
    "shares_of",
    "show_map",
    "square_legend",
    "warn_of_black",
]

_logger = logging.getLogger(__name__)
# scale -> name for the colour bar, lower and upper limit, step between ticks
_SCALES = {
    "decades": (r"contribution: $\log_{10}$(score / max)", -4.0, 0.0, 1.0),
    "published": (r"contribution: $\log_{10}$(score + 1) / max", 0.0, 1.0, 0.2),
}
_SHADES = ("#ffffff", "#ffe9a8", "#ffb347", "#ff6f52")
_WINDOW_ROOM = 1.6  # side of a chosen window over that of its largest square, which the inset then does not meet
_BLACK = 0.1  # of the published scale: what is below looks black in print
_LEAST_VISIBLE = 0.01  # of the pixels
_INSET = 0.17  # side of the inset over that of its panel


@dataclass(frozen=True)
class Window:
    """The part of a map that is shown, in whole pixels of it."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(cls, centre: Centre, side: int, shape: tuple[int, ...]) -> "Window":
        """A square window round a pixel, moved so that it lies within the map, and no larger than the map."""
        height, width = min(side, shape[0]), min(side, shape[1])
        top = int(np.clip(centre[0] - height // 2, 0, shape[0] - height))
        left = int(np.clip(centre[1] - width // 2, 0, shape[1] - width))
        return cls(top, left, height, width)

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        return (self.height, self.width) == tuple(shape)


def plot(shown: Any, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw a map or a result.

    Args:
        shown: Contribution map (H, W), an array or a tensor on the CPU; or an `ErfResult`, which brings its centre and
            a title with its weights.
        ax, options: As for `plot_contribution`; `outlines` of a result are names of `erf.drawing.OUTLINES`.
    """
    if not isinstance(shown, ErfResult):
        return plot_contribution(np.asarray(shown), ax=ax, **options)
    outlines = outlines_of(shown, Drawing(outlines=tuple(options.pop("outlines", ()))).outlines)
    ax = plot_contribution(shown.contribution, ax=ax, **{"centre": shown.centre, "outlines": outlines, **options})
    ax.set_title(f"{shown.name}\n{shown.weights_label}")
    return ax


def plot_contribution(
    contribution: np.ndarray,
    *,
    ax: Axes | None = None,
    scale: str = "decades",
    thresholds: Sequence[float] = LOG_THRESHOLDS,
    centre: Centre | None = None,
    cbar: bool = True,
    legend: bool = True,
    cmap: str = "mako",
    crop: str | int = "none",
    outlines: Sequence[Outline] = (),
) -> Axes:
    """Draw one contribution map with the squares of the published measure.

    Args:
        contribution: (H, W), >= 0, unscaled.
        ax: Axes to draw on; new ones if None.
        scale: Scale of the colours: 'decades' or 'published'; the squares are those of the published measure either
            way.
        thresholds: Shares whose squares are drawn, those that no square reaches left out; empty for none.
        centre: Pixel at the centre of the squares, (down, across); (H // 2, W // 2) if None.
        cbar: Add a colour bar with the scale's name on the right.
        legend: Name the squares' shares below the map.
        cmap: Name of a colour map of matplotlib or seaborn.
        crop: 'none' for the whole map, 'auto' or a number of pixels for a window, as in `erf.drawing.Drawing`.
        outlines: Drawn over the map and named in the legend, as `erf.figures.outlines.outlines_of` makes them.

    Returns: The Axes, with limits in pixels and the origin at the upper left.
    Raises: ValueError as `erf.measures.squares.check_map`, or for an option that does not exist.
    """
    drawing = Drawing(scale=scale, thresholds=tuple(thresholds), cmap=cmap, crop=crop)
    height, width = check_map(contribution).shape
    centre = centre or (height // 2, width // 2)
    window = choose_window([(contribution, centre)], drawing)[0]
    with axes_or_new(ax, 4.8, 3.7, layout=None) as ax:
        image = show_map(ax, contribution, centre, window, drawing, outlines)
        if cbar:
            cax = make_axes_locatable(ax).append_axes("right", size="4%", pad=0.08)
            add_colour_bar(image, cax, scale)
        squares = [area.threshold for area in _squares(contribution, centre, drawing) if area.reached]
        if legend and (squares or outlines):
            place: dict[str, Any] = dict(loc="upper center", bbox_to_anchor=(0.5, -0.07), borderaxespad=0.0)
            entries = square_legend(squares, drawing)
            entries["handles"] += outline_legend(outlines)["handles"]
            ax.legend(**entries, **place)
    return ax


def choose_window(maps: Sequence[tuple[np.ndarray, Centre]], drawing: Drawing) -> list[Window]:
    """The window of each map: one side in pixels for all, so that fields can be compared by eye.

    Args:
        maps: Contribution map (H, W) and the pixel that its squares lie round.
        drawing: Its `crop` decides; 'auto' takes a window where the largest square of each map is known and covers less
            than a quarter of each.
    """
    side = read_crop(drawing.crop)
    if side is None:
        largest = [log_area(contribution, LOG_THRESHOLDS[-1:], centre=centre)[0] for contribution, centre in maps]
        sides = [area.side_px for area in largest if area.side_px is not None]
        shortest = min(min(contribution.shape) for contribution, _ in maps)
        small = len(sides) == len(maps) and max(sides) < shortest / 2
        side = -(-round(_WINDOW_ROOM * max(sides)) // 16) * 16 if small else 0
    return [Window.around(centre, side or max(contribution.shape), contribution.shape) for contribution, centre in maps]


def show_map(
    ax: Axes,
    contribution: np.ndarray,
    centre: Centre,
    window: Window,
    drawing: Drawing,
    outlines: Sequence[Outline] = (),
) -> Any:
    """The window of a map with its squares and outlines; of a part, the whole as an inset. Returns the image."""
    shown = scaled_map(contribution, drawing.scale)
    _, low, high, _ = _SCALES[drawing.scale]
    colours: dict[str, Any] = dict(cmap=colour_map(drawing.cmap), vmin=low, vmax=high)
    image = ax.imshow(shown, **colours, interpolation="antialiased")
    for area in _squares(contribution, centre, drawing):
        _draw_square(ax, area, centre, shown.shape, drawing)
    for outline in outlines:
        outline.draw(ax)
    top, left, height, width = window.top, window.left, window.height, window.width
    ax.set(xlim=(left - 0.5, left + width - 0.5), ylim=(top + height - 0.5, top - 0.5))
    ax.set_xticks([left, left + width // 2, left + width - 1], [str(left + x) for x in (0, width // 2, width)])
    ax.set_yticks([top, top + height // 2, top + height - 1], [str(top + y) for y in (0, height // 2, height)])
    ax.tick_params(length=2, pad=2)
    ax.spines[:].set_visible(True)
    if not window.is_whole(shown.shape):
        _draw_inset(ax, shown, window, colours, outlines)
    return image


def warn_of_black(name: str, contribution: np.ndarray, window: Window, drawing: Drawing) -> None:
    """Log a warning if a window in the published scale shows next to nothing."""
    if drawing.scale != "published":
        return
    shown = scaled_map(contribution, "published")
    part = shown[window.top : window.top + window.height, window.left : window.left + window.width]
    visible = float((part > _BLACK).mean())
    if visible < _LEAST_VISIBLE:
        _logger.warning(
            "%s: %.1f%% of the panel is black in the published scale, which is all but linear where gradients are "
            "small; the scale 'decades' (the default) shows it",
            name,
            100 * (1 - visible),
        )


def _draw_inset(
    ax: Axes, shown: np.ndarray, window: Window, colours: dict[str, Any], outlines: Sequence[Outline]
) -> None:
    """The whole map in the panel's corner, with the window marked."""
    inset = ax.inset_axes((1 - _INSET - 0.01, 1 - _INSET - 0.01, _INSET, _INSET))
    inset.imshow(shown, **colours, interpolation="antialiased")
    for outline in outlines:
        outline.draw(inset, width=0.5)
    inset.set(xticks=[], yticks=[], xlim=(-0.5, shown.shape[1] - 0.5), ylim=(shown.shape[0] - 0.5, -0.5))
    for spine in inset.spines.values():
        spine.set(visible=True, edgecolor="white", linewidth=0.6)
    place = (window.left - 0.5, window.top - 0.5)
    inset.add_patch(Rectangle(place, window.width, window.height, fill=False, edgecolor="white", linewidth=0.6))


def scaled_map(contribution: np.ndarray, scale: str) -> np.ndarray:
    """What the colours show of a map (H, W): from -4 to 0 in 'decades', from 0 to 1 as 'published'.

    Raises: ValueError as `erf.measures.squares.check_map`.
    """
    if scale == "published":
        return log_map(contribution)
    contribution = check_map(contribution)
    return np.log10(np.maximum(contribution / contribution.max(), 10.0 ** _SCALES[scale][1]))


def scale_limits(scale: str) -> tuple[float, float]:
    """Lower and upper end of the colours of a scale."""
    _, low, high, _ = _SCALES[scale]
    return low, high


def colour_map(name: str = "mako") -> Colormap:
    """The colours of every map.

    Raises: ValueError if neither seaborn nor matplotlib has a colour map of that name.
    """
    return sns.color_palette(name, as_cmap=True)


def add_colour_bar(image: Any, cax: Axes, scale: str, *, short: bool = False) -> None:
    """The colour bar of a map, on its own Axes; a `short` one has the formula alone for a label."""
    label, low, high, step = _SCALES[scale]
    step *= 2 if short else 1
    label = label.removeprefix("contribution: ") if short else label
    bar = cax.figure.colorbar(image, cax=cax, ticks=np.arange(low, high + step / 2, step))
    bar.set_label(label, fontsize=6.0 if short else None)


def _squares(contribution: np.ndarray, centre: Centre, drawing: Drawing) -> list[SquareArea]:
    return log_area(contribution, shares_of(drawing), centre=centre)


def shares_of(drawing: Drawing) -> list[float]:
    """The shares whose squares are drawn, in rising order, each once."""
    return sorted(set(LOG_THRESHOLDS if drawing.thresholds is None else drawing.thresholds))


def _draw_square(ax: Axes, area: SquareArea, centre: Centre, shape: tuple[int, ...], drawing: Drawing) -> None:
    """A square; where it is larger than the map's shorter side, the part of it that lies in the map."""
    if area.side_px is None:
        return
    high, wide = min(area.side_px, shape[0]), min(area.side_px, shape[1])
    left = centre[1] - wide / 2 if area.side_px <= shape[1] else -0.5
    top = centre[0] - high / 2 if area.side_px <= shape[0] else -0.5
    shade = _shade(area.threshold, drawing)
    square = Rectangle((left, top), wide, high, fill=False, edgecolor=shade, linewidth=1.0)
    square.set_path_effects(_outline(2.0))
    ax.add_patch(square)


def _shade(threshold: float, drawing: Drawing) -> str:
    """Shade of a square: white for the smallest share, red for the largest."""
    shares = shares_of(drawing)
    ramp = LinearSegmentedColormap.from_list("shares", _SHADES)
    return to_hex(ramp(shares.index(threshold) / max(1, len(shares) - 1)))


def _outline(width: float) -> list[Any]:
    """A black line of a width in points behind another one."""
    return [path_effects.Stroke(linewidth=width, foreground="black"), path_effects.Normal()]


def square_legend(reached: Sequence[float], drawing: Drawing, *, size: float = 7.0) -> dict[str, Any]:
    """Arguments of `legend` that name the squares in one row.

    Args:
        reached: Shares of the squares that are there; may be empty.
        drawing: What was asked for.
        size: Size of the text in points.
    """
    handles = []
    for threshold in reached:
        shade = _shade(threshold, drawing)
        handle = Line2D([], [], color=shade, linewidth=1.4, label=f"{100 * threshold:.4g}%")
        handle.set_path_effects(_outline(2.6))
        handles.append(handle)
    return dict(
        handles=handles, ncols=max(1, len(handles)), frameon=False, fontsize=size, handlelength=1.4, columnspacing=1.2,
        handletextpad=0.5,
    )  # fmt: skip
