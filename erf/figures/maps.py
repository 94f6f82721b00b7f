"""Drawing a contribution map on Axes, with the squares that hold shares of it.

The colour scale 'decades' is log10(score / max) from -4 to 0: four powers of ten, independent of the scale of the
gradients. The scale 'published' is log10(score + 1) divided by its maximum, from 0 to 1, as in the paper's figure. For
small gradients it is almost linear, and shows little besides the peak. With either scale, the maps of several networks
share their limits. The default colour map (seaborn's 'mako') increases evenly in lightness, so that it remains readable
in greyscale and for colour-blind readers.

Each square has its own shade, paler for smaller shares. A legend names the visible squares, so that no label covers a
square. A window has the whole map as an inset, in a corner where it covers no line and no visible part of the map.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle
from mpl_toolkits.axes_grid1 import make_axes_locatable

from erf.drawing import Drawing
from erf.figures.caption import weights_words
from erf.figures.outlines import Outline, outline_legend, outlines_of
from erf.figures.squares import Square, close_squares, find_squares, points_per_pixel, show_squares, square_legend
from erf.figures.window import Corner, Window, choose_corner, choose_window, inset_place
from erf.measures.squares import LOG_THRESHOLDS, check_map, log_map
from erf.measures.sums import Centre
from erf.results.files import ErfResult
from runkit.figures import axes_or_new

__all__ = [
    "Panel",
    "add_colour_bar",
    "colour_map",
    "inset_corner",
    "plot",
    "plot_contribution",
    "scale_limits",
    "scaled_map",
    "show_map",
    "show_whole",
    "warn_of_black",
]

_logger = logging.getLogger(__name__)
# scale -> name for the colour bar, lower and upper limit, step between ticks
_SCALES = {
    "decades": (r"contribution: $\log_{10}$(score / max)", -4.0, 0.0, 1.0),
    "published": (r"contribution: $\log_{10}$(score + 1) / max", 0.0, 1.0, 0.2),
}
_BLACK = 0.1  # value of the published scale below which a pixel looks black in print
_LEAST_VISIBLE = 0.01  # share of the pixels


def plot(shown: Any, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw a map or a result.

    Args:
        shown: Contribution map (H, W) as an array or a tensor on the CPU, or an `ErfResult`. A result also determines
            the centre and a title with its weights.
        ax, options: As for `plot_contribution`. For a result, `outlines` are names from `erf.drawing.OUTLINES`.
    """
    if not isinstance(shown, ErfResult):
        return plot_contribution(np.asarray(shown), ax=ax, **options)
    outlines = outlines_of(shown, Drawing(outlines=tuple(options.pop("outlines", ()))).outlines)
    ax = plot_contribution(shown.contribution, ax=ax, **{"centre": shown.centre, "outlines": outlines, **options})
    ax.set_title(f"{shown.name}\n{weights_words(shown)}")
    return ax


def plot_contribution(
    contribution: np.ndarray,
    *,
    ax: Axes | None = None,
    scale: str = "decades",
    squares: str = "published",
    thresholds: Sequence[float] = LOG_THRESHOLDS,
    centre: Centre | None = None,
    cbar: bool = True,
    legend: bool = True,
    cmap: str = "mako",
    crop: str | int = "none",
    outlines: Sequence[Outline] = (),
) -> Axes:
    """Draw one contribution map with the squares that hold shares of it.

    Args:
        contribution: Contribution map (H, W), >= 0, unscaled.
        ax: Axes to draw on; new ones if None.
        scale: Colour scale, 'decades' or 'published'; it does not affect the squares.
        squares: Quantity of which the squares hold shares: 'published' for log10(score + 1), 'mass' for the score.
        thresholds: Shares whose squares are drawn; empty for none. Squares that do not exist or lie outside the window
            are left out.
        centre: Pixel at the centre of the squares, (down, across); (H // 2, W // 2) if None.
        cbar: Whether to add a colour bar with the name of the scale on the right.
        legend: Whether to add a legend with the squares' shares below the map.
        cmap: Name of a colour map of matplotlib or seaborn.
        crop: 'none' for the whole map, 'auto' or a number of pixels for a window, as in `erf.drawing.Drawing`. A window
            has the whole map as an inset, unless the inset would cover a line or a part of the map in every corner.
        outlines: Outlines to draw over the map and name in the legend, as `erf.figures.outlines.outlines_of` returns
            them.

    Returns: The Axes, with limits in pixels and the origin at the upper left.
    Raises: ValueError as `erf.measures.squares.check_map`, or for an option that does not exist.
    """
    drawing = Drawing(scale=scale, squares=squares, thresholds=tuple(thresholds), cmap=cmap, crop=crop)
    height, width = check_map(contribution).shape
    centre = centre or (height // 2, width // 2)
    window = choose_window([(contribution, centre)], drawing)[0]
    panel = Panel(contribution, centre, window, find_squares(contribution, centre, drawing), outlines)
    with axes_or_new(ax, 4.8, 3.7, layout=None) as ax:
        image = show_map(ax, panel, drawing, inset=inset_corner([panel], drawing))
        if cbar:
            cax = make_axes_locatable(ax).append_axes("right", size="4%", pad=0.08)
            add_colour_bar(image, cax, scale)
        seen = [square.share for square in panel.seen]
        if legend and (seen or panel.seen_outlines):
            place: dict[str, Any] = dict(loc="upper center", bbox_to_anchor=(0.5, -0.07), borderaxespad=0.0)
            entries = square_legend(seen, drawing, alternate=panel.alternate(points_per_pixel(ax, window)))
            more = outline_legend(panel.seen_outlines)["handles"]
            entries["handles"] += more
            entries["labels"] += [handle.get_label() for handle in more]
            ax.legend(**entries, **place)
    return ax


@dataclass(frozen=True)
class Panel:
    """The content of one panel.

    Attributes:
        contribution: Contribution map (H, W).
        centre: Pixel at the centre of the squares.
        window: The part of the map that is shown.
        squares: All squares of the map, smallest first, including those outside the window.
        outlines: Outlines drawn over the map.
    """

    contribution: np.ndarray
    centre: Centre
    window: Window
    squares: Sequence[Square]
    outlines: Sequence[Outline] = ()

    @property
    def seen(self) -> list[Square]:
        """The squares whose edges are at least partly inside the window."""
        return [square for square in self.squares if square.box.has_edge_in(self.window.box)]

    @property
    def seen_outlines(self) -> list[Outline]:
        """The outlines that are at least partly inside the window."""
        return [outline for outline in self.outlines if outline.is_seen(self.window)]

    @property
    def is_whole(self) -> bool:
        """Whether the whole map is shown."""
        return self.window.is_whole(self.contribution.shape)

    def alternate(self, points: float) -> list[float]:
        """Shares of the first squares whose lines coincide; empty if none do. `points` is a pixel's width in points."""
        groups = close_squares(self.seen, points)
        return next(([square.share for square in group] for group in groups if len(group) > 1), [])


def inset_corner(panels: Sequence[Panel], drawing: Drawing) -> Corner | None:
    """The common corner of all panels that suits the inset best; None if no corner does, or no panel needs an inset."""
    low, high = scale_limits(drawing.scale)
    parts = [
        (
            (scaled_map(panel.contribution, drawing.scale) - low) / (high - low),
            panel.window,
            panel.centre,
            [square.box for square in panel.squares] + [box for line in panel.outlines for box in line.boxes],
        )
        for panel in panels
        if not panel.is_whole
    ]
    return choose_corner(parts) if parts else None


def show_map(ax: Axes, panel: Panel, drawing: Drawing, *, inset: Corner | None = None) -> Any:
    """Draw the window of a map with its squares and outlines, and return the image.

    Args:
        inset: Corner for an inset with the whole map, if the window is only a part of it; None for no inset.
    """
    shown, window = scaled_map(panel.contribution, drawing.scale), panel.window
    low, high = scale_limits(drawing.scale)
    colours: dict[str, Any] = dict(cmap=colour_map(drawing.cmap), vmin=low, vmax=high)
    image = ax.imshow(shown, **colours, interpolation="antialiased")
    show_squares(ax, panel.seen, window)
    for outline in panel.outlines:
        outline.draw(ax)
    box, height, width = window.box, window.height, window.width
    ax.set(xlim=(box.left, box.right), ylim=(box.bottom, box.top))
    numbers = [str(window.left + x) for x in (0, width // 2, width)]
    ax.set_xticks(box.left + np.array([0, width / 2, width]), [*numbers[:2], f"{numbers[2]} px"])
    ax.set_yticks(box.top + np.array([0, height / 2, height]), [str(window.top + y) for y in (0, height // 2, height)])
    ax.tick_params(length=2, pad=2)
    ax.spines[:].set_visible(True)
    if not panel.is_whole and inset:
        show_whole(ax.inset_axes(inset_place(inset)), panel, drawing, colour="white")
    return image


def show_whole(ax: Axes, panel: Panel, drawing: Drawing, *, colour: str = "black") -> None:
    """Draw the whole map on small Axes with a frame of this colour, and mark the window in white."""
    shown, window = scaled_map(panel.contribution, drawing.scale), panel.window
    low, high = scale_limits(drawing.scale)
    ax.imshow(shown, cmap=colour_map(drawing.cmap), vmin=low, vmax=high, interpolation="antialiased")
    for outline in panel.outlines:
        outline.draw(ax, width=0.5)
    ax.set(xticks=[], yticks=[], xlim=(-0.5, shown.shape[1] - 0.5), ylim=(shown.shape[0] - 0.5, -0.5))
    for spine in ax.spines.values():
        spine.set(visible=True, edgecolor=colour, linewidth=0.6)
    place = (window.left - 0.5, window.top - 0.5)
    ax.add_patch(Rectangle(place, window.width, window.height, fill=False, edgecolor="white", linewidth=0.6))


def warn_of_black(name: str, contribution: np.ndarray, window: Window, drawing: Drawing) -> bool:
    """Log a warning if a window in the published scale is almost completely black, and return whether it is."""
    if drawing.scale != "published":
        return False
    shown = scaled_map(contribution, "published")
    part = shown[window.top : window.top + window.height, window.left : window.left + window.width]
    visible = float((part > _BLACK).mean())
    black = visible < _LEAST_VISIBLE
    if black:
        _logger.warning(
            "%s: %.1f%% of the panel is black in the published scale, which is almost linear where gradients are "
            "small; the scale 'decades' (the default) shows it",
            name,
            100 * (1 - visible),
        )
    return black


def scaled_map(contribution: np.ndarray, scale: str) -> np.ndarray:
    """Convert a map (H, W) to a colour scale: from -4 to 0 for 'decades', from 0 to 1 for 'published'.

    Raises: ValueError as `erf.measures.squares.check_map`.
    """
    if scale == "published":
        return log_map(contribution)
    contribution = check_map(contribution)
    return np.log10(np.maximum(contribution / contribution.max(), 10.0 ** _SCALES[scale][1]))


def scale_limits(scale: str) -> tuple[float, float]:
    """Lower and upper limit of a colour scale."""
    _, low, high, _ = _SCALES[scale]
    return low, high


def colour_map(name: str = "mako") -> Colormap:
    """The colour map of this name.

    Raises: ValueError if neither seaborn nor matplotlib has a colour map of that name.
    """
    return sns.color_palette(name, as_cmap=True)


def add_colour_bar(image: Any, cax: Axes, scale: str, *, short: bool = False) -> None:
    """Add the colour bar of a map on its own Axes. The label of a `short` bar is the formula alone."""
    label, low, high, step = _SCALES[scale]
    step *= 2 if short else 1
    label = label.removeprefix("contribution: ") if short else label
    bar = cax.figure.colorbar(image, cax=cax, ticks=np.arange(low, high + step / 2, step))
    bar.set_label(label, fontsize=6.0 if short else None)
