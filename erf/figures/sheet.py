"""The maps of single images on one sheet: each map by itself, or overlaid on its photograph, with the unit marked."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from erf.drawing import Drawing
from erf.figures.caption import WARNING_COLOUR, caption, row_name
from erf.figures.maps import add_colour_bar, colour_map, scale_limits, scaled_map
from erf.figures.outlines import note_on_outlines, outline_legend, outlines_of
from erf.figures.window import choose_window
from erf.results.files import ErfResult
from erf.results.single_maps import SingleMaps
from runkit.figure_text import caption_height, fit_words, text_width, wrap_caption, write_caption
from runkit.figures import STYLE, new_figure

__all__ = ["draw_sheet"]

_MOST = 48  # largest number of images on a sheet
_USUAL_COLUMNS, _LEAST_PANEL = 5, 0.75
_PANEL = 1.5  # inches, if no width is given
_EDGE, _RIGHT, _GAP, _HEAD, _NAME, _LEGEND = 0.1, 0.62, 0.06, 0.3, 0.16, 0.24  # inches
_BAR, _BAR_GAP = 0.08, 0.08
_LABEL = 6.0  # font size of the images' names in points
_STRONGEST = 0.9  # opacity of the map's maximum over a photograph
_GREY, _SHADES = 0.5, 256  # colour bar of maps over photographs: background, and number of colours


def draw_sheet(result: ErfResult, *, overlay: bool = False, **options: Any) -> Figure:
    """Draw a figure of the maps of at most 48 single images, each scaled to its own maximum.

    Args:
        result: Result with `maps`: measured with `keep_maps`, or loaded with `maps=True`.
        overlay: Whether to draw each map over its photograph in grey, with an opacity that grows with the contribution.
        options: `scale`, `cmap`, `crop`, `width`, `columns`, `labels`, `caption` and `outlines`, as attributes of
            `erf.drawing.Drawing`; its other attributes are not used.

    Raises: ValueError if the result has no maps of single images, if all of them are zero, or for an invalid option.
    """
    drawing, kept = Drawing(**options), result.maps
    if kept is None:
        raise ValueError(f"{result.name} has no maps of single images: measure it with keep_maps, or load them")
    shown = [index for index in range(len(kept.names)) if kept.maxima[index] > 0][:_MOST]
    if not shown:
        raise ValueError(f"{result.name}: the map of every single image is zero")
    return _draw(result, kept, shown, drawing, overlay=overlay)


def _draw(result: ErfResult, kept: SingleMaps, shown: list[int], drawing: Drawing, *, overlay: bool) -> Figure:
    columns = min(len(shown), drawing.columns or _columns_for(drawing.width_in))
    width = drawing.width_in or max(4.5, _EDGE + _RIGHT + columns * _PANEL + (columns - 1) * _GAP)
    panel = min(_PANEL * 1.5, (width - _EDGE - _RIGHT - (columns - 1) * _GAP) / columns)
    rows = -(-len(shown) // columns)
    maps = {index: kept.maps[index].astype(np.float64) for index in shown}
    window = choose_window([(result.contribution, result.centre)], drawing)[0]
    tall = panel * min(1.0, window.height / window.width)
    outlines = [outline for outline in outlines_of(result, drawing.outlines) if outline.is_seen(window)]
    notes = note_on_outlines([result], [window], drawing.outlines, names=[result.name])
    left_out = len(kept.names) - len(shown)
    words = "Each map is drawn on the scale of its own maximum; the cross marks the unit."
    words += f" {left_out} more images are not shown." if left_out else ""
    if (window.height, window.width) != result.contribution.shape:
        words += f" Only {window.height} × {window.width} pixels around the unit are shown."
    if any(outline.kind == "gaussian" for outline in outlines):
        words += " The circle is the Gaussian of the mean map, the same in every panel."
    if overlay:
        words += " The lower a score, the more transparent its colour; the colour bar shows it over medium grey."
    about = caption([result], shares=(), each=True, notes=notes, labels=drawing.labels)
    words = wrap_caption(f"{words}\n{about}", width - 0.3)
    foot = (caption_height(words) + 0.1 if drawing.caption else 0.0) + 0.06
    legend = _LEGEND if outlines else 0.0
    height = _HEAD + rows * (_NAME + tall) + (rows - 1) * _GAP + legend + foot + 0.06
    with new_figure(width, height, layout=None) as figure:
        title = row_name(result, drawing)
        if result.weights_label not in title and result.provenance["weights"]["source"] in ("built", "given"):
            title += f", {result.weights_label}"
        name, size = fit_words(title.replace("\n", " "), 72 * (width - 0.2), size=STYLE["axes.titlesize"], bold=True)
        colour = WARNING_COLOUR if result.random_weights else "0.1"
        figure.text(_EDGE / width, 1 - 0.07 / height, name, fontsize=size, fontweight="bold", va="top", color=colour)
        for place, index in enumerate(shown):
            row, column = divmod(place, columns)
            top = height - _HEAD - row * (_NAME + tall + _GAP) - _NAME
            left = _EDGE + column * (panel + _GAP)
            ax = figure.add_axes((left / width, (top - tall) / height, panel / width, tall / height), anchor="N")
            _show(ax, maps[index], kept.photographs[index] if overlay else None, drawing)
            for outline in outlines:
                outline.draw(ax, width=0.8)
            down, across = result.centre
            ax.plot([across], [down], marker="+", color="#ff3b3b", markersize=5, markeredgewidth=0.9)
            ax.set(
                xlim=(window.left - 0.5, window.left + window.width - 0.5),
                ylim=(window.top + window.height - 0.5, window.top - 0.5),
                xticks=[],
                yticks=[],
            )
            label = _short(kept.names[index], 72 * panel / _LABEL)
            ax.set_title(label, fontsize=_LABEL, pad=2)
        top = height - _HEAD - _NAME
        cax = figure.add_axes(
            (
                (_EDGE + columns * panel + (columns - 1) * _GAP + _BAR_GAP) / width,
                (top - tall) / height,
                _BAR / width,
                tall / height,
            )
        )
        low, high = scale_limits(drawing.scale)
        colours = _over_grey(colour_map(drawing.cmap)) if overlay else colour_map(drawing.cmap)
        add_colour_bar(ScalarMappable(Normalize(low, high), colours), cax, drawing.scale, short=True)
        if outlines:
            anchor = (0.5, (foot + _LEGEND / 2) / height)
            look = outline_legend(outlines, size=min(7.0, 72 * (width - 0.2) / 32))
            figure.legend(**look, loc="center", bbox_to_anchor=anchor, borderaxespad=0.0)
        if drawing.caption:
            write_caption(figure, (_EDGE / width, 0.06 / height), words)
    return figure


def _opacity(heights: np.ndarray) -> np.ndarray:
    """Opacity of a map over a photograph; `heights` are its values relative to the limits of the scale, 0..1."""
    return _STRONGEST * np.clip(heights, 0.0, 1.0)


def _over_grey(colours: Colormap) -> ListedColormap:
    """The colours as they appear over medium grey, with the same transparency as over a photograph."""
    heights = np.linspace(0.0, 1.0, _SHADES)
    opacity = _opacity(heights)[:, None]
    return ListedColormap(opacity * colours(heights)[:, :3] + (1 - opacity) * _GREY)


def _columns_for(width: float | None) -> int:
    if width is None:
        return _USUAL_COLUMNS
    return max(1, int((width - _EDGE - _RIGHT + _GAP) / (_LEAST_PANEL + _GAP)))


def _short(name: str, room: float) -> str:
    """Shorten an image's path from the start to fit a width, which is given in units of the font size."""
    if text_width(name) <= room:
        return name
    start = next(i for i in range(1, len(name) + 1) if text_width("…" + name[i:]) <= room)
    return "…" + name[start:]


def _show(ax: Axes, contribution: np.ndarray, photograph: np.ndarray | None, drawing: Drawing) -> None:
    """Draw a map, over its photograph if one is given."""
    height, width = contribution.shape
    low, high = scale_limits(drawing.scale)
    values = scaled_map(contribution, drawing.scale)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    if photograph is not None:
        grey = photograph.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
        ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    colours = colour_map(drawing.cmap)((values - low) / (high - low))
    if photograph is not None:
        colours[..., 3] = _opacity((values - low) / (high - low))
    ax.imshow(colours, extent=extent, interpolation="antialiased")
    ax.spines[:].set_visible(True)
