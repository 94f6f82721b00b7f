"""Whole figures of receptive fields: one result, or several side by side with their area ratios as a table.

Figures are laid out in inches from the top down: rows of panels, the legend of the squares, the table, the caption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from erf.drawing import Drawing
from erf.figures.caption import (
    WARNING_COLOUR,
    caption,
    caption_height,
    fit_words,
    reached,
    row_name,
    text_width,
    wrap_caption,
    write_caption,
)
from erf.figures.maps import add_colour_bar, choose_window, shares_of, show_map, square_legend, warn_of_black
from erf.figures.outlines import outline_legend, outlines_of
from erf.measures.squares import SquareArea, log_area
from erf.results.files import ErfResult
from runkit.figures import STYLE, new_figure

__all__ = ["draw_comparison", "draw_result", "plot_comparison"]

_USUAL_COLUMNS, _MOST_COLUMNS = 4, 6
_PANEL = 2.3  # inches, where the width is not asked for
_LEFT, _RIGHT = 0.42, 0.72  # inches beside the panels, for the numbers of the axis and for the colour bar
_BAR, _BAR_GAP, _SHORT_BAR = 0.08, 0.08, 1.7
_TICKS, _LEGEND, _FOOT = 0.22, 0.24, 0.08
_LINE = 1.25  # line spacing of the titles
_ROW = 0.19  # of the table
_CELL = 8.2  # width of a column of the table over the size of its words


def draw_result(result: ErfResult, **options: Any) -> Figure:
    """Figure of one result: heat map, squares, and a caption that says how it was made.

    Args:
        result: What was measured.
        options: Attributes of `erf.drawing.Drawing`, such as `scale="published"` or `width="column"`.

    Raises: ValueError for an invalid option.
    """
    return _draw([result], [[result]], Drawing(**{"width": 10.7, **options, "table": False}))


def draw_comparison(results: Sequence[ErfResult], **options: Any) -> Figure:
    """Figure of several results side by side on one colour scale, with a table of the area ratios below.

    Args:
        results: At least one; drawn in this order, four in a row. If results differ in two things (networks and
            sizes, stages and weights, ...), each value of one gets a column, and each value of the other a row.
        options: Attributes of `erf.drawing.Drawing`, such as `scale="published"` or `width="column"`.

    Raises: ValueError for an invalid option.
    """
    drawing = Drawing(**options)
    return _draw(results, _arrange(results, drawing), drawing)


plot_comparison = draw_comparison
"""The older name of `draw_comparison`, which stays."""


# --- the order of the panels --------------------------------------------------------------------------------------


def _arrange(results: Sequence[ErfResult], drawing: Drawing) -> list[list[ErfResult]]:
    """Rows of panels."""
    if drawing.columns is None and (table := _cross(results)):
        return table
    columns = drawing.columns or _columns_for(drawing.width_in)
    columns = min(columns, len(results))
    return [list(results[i : i + columns]) for i in range(0, len(results), columns)]


def _columns_for(width: float | None) -> int:
    """How many panels of at least an inch stand beside each other."""
    if width is None:
        return _USUAL_COLUMNS
    return max(1, min(_MOST_COLUMNS, int((width - _LEFT - _RIGHT) / 1.0)))


def _cross(results: Sequence[ErfResult]) -> list[list[ErfResult]] | None:
    """Rows and columns of results that differ in two things, if every pair is there; networks or stages across."""
    kinds = [_kinds(result) for result in results]
    varying = [name for name in kinds[0] if len({str(kind[name]) for kind in kinds}) > 1]
    if len(varying) != 2:
        return _by_network(results, kinds)
    across, down = varying
    columns, rows = (list(dict.fromkeys(str(kind[name]) for kind in kinds)) for name in (across, down))
    places = {(str(kind[down]), str(kind[across])): result for kind, result in zip(kinds, results, strict=True)}
    if len(places) < len(results) or len(places) < len(rows) * len(columns) or len(columns) > _MOST_COLUMNS:
        return None
    return [[places[row, column] for column in columns] for row in rows]


def _by_network(results: Sequence[ErfResult], kinds: Sequence[Mapping[str, Any]]) -> list[list[ErfResult]] | None:
    """A column for each network, if there are several and each has as many results, and more than one."""
    networks: dict[str, list[ErfResult]] = {}
    for result, kind in zip(results, kinds, strict=True):
        networks.setdefault(kind["model"], []).append(result)
    alike = len({len(group) for group in networks.values()}) == 1 and 1 < len(networks) < len(results)
    if not alike or len(networks) > _MOST_COLUMNS:
        return None
    return [list(row) for row in zip(*networks.values(), strict=True)]


def _kinds(result: ErfResult) -> Mapping[str, Any]:
    """What distinguishes a result from others; of two that vary the first goes across."""
    identity = result.provenance.get("identity", {})
    return {
        "model": identity.get("model", result.name),
        "layer": result.provenance["layer"],
        "size": identity.get("size", result.contribution.shape),
        "weights": _weights(identity.get("weights"), result.weights_label),
    }


def _weights(identity: object, label: str) -> str:
    """Weights, published ones without the network that they are of."""
    if not isinstance(identity, Mapping) or "random" not in identity:
        return label
    return "random" if identity["random"] else str(identity.get("file", "trained"))


# --- the figure ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Title:
    """The name above a panel and the line below it, each with its size in points."""

    name: str
    size: float
    weights: str
    weights_size: float

    @classmethod
    def of(cls, result: ErfResult, drawing: Drawing, width: float) -> "_Title":
        """A title that fits a panel of a width in inches."""
        points = 72 * width * 1.08
        return cls(
            *fit_words(drawing.name_of(result.name), points, size=STYLE["axes.titlesize"], bold=True),
            *fit_words(result.weights_label, points, size=7.0, bold=result.random_weights),
        )

    @property
    def heights(self) -> tuple[float, float]:
        """Inches of the name and of the weights."""
        lines = ((self.name, self.size), (self.weights, self.weights_size))
        name, weights = ((text.count("\n") + 1) * size * _LINE / 72 for text, size in lines)
        return name, weights


def _draw(results: Sequence[ErfResult], rows: Sequence[Sequence[ErfResult]], drawing: Drawing) -> Figure:
    columns = max(map(len, rows))
    shared = len({result.contribution.shape for result in results}) == 1
    gap = 0.14 if shared and drawing.crop == "none" else 0.4
    width = drawing.width_in or max(6.4, _LEFT + _RIGHT + columns * _PANEL + (columns - 1) * gap)
    panel = min(_PANEL * 1.4, (width - _LEFT - _RIGHT - (columns - 1) * gap) / columns)
    shares = reached(results, shares_of(drawing))
    words = wrap_caption(caption(results, shares=shares), width - 0.3)
    titles = [[_Title.of(result, drawing, panel) for result in row] for row in rows]
    heads = [max(sum(title.heights) for title in row) + 0.1 for row in titles]
    windows = dict(
        zip(map(id, results), choose_window([(r.contribution, r.centre) for r in results], drawing), strict=True)
    )
    # a map that is higher than wide is drawn narrower, so that its panel is no higher than those of square maps
    tallest = panel * max(min(1.0, window.height / window.width) for window in windows.values())
    table = _Table(results, drawing, width - 2 * 0.1) if drawing.table else None
    foot = (caption_height(words) + _FOOT if drawing.caption else 0.0) + _FOOT
    outlines = {id(result): outlines_of(result, drawing.outlines) for result in results}
    drawn = [outline for group in outlines.values() for outline in group]
    legend = (_LEGEND if shares else 0.0) + (_LEGEND if drawn else 0.0)
    below = (table.height if table else 0.0) + legend + foot
    height = 0.06 + sum(heads) + len(rows) * (tallest + _TICKS) + below
    with new_figure(width, height, layout=None) as figure:
        top = height - 0.06
        first = None
        for row, row_titles, head in zip(rows, titles, heads, strict=True):
            top -= head
            for column, (result, title) in enumerate(zip(row, row_titles, strict=True)):
                left = _LEFT + column * (panel + gap)
                place = (left / width, (top - tallest) / height, panel / width, tallest / height)
                ax = figure.add_axes(place, anchor="N")
                window = windows[id(result)]
                image = show_map(ax, result.contribution, result.centre, window, drawing, outlines[id(result)])
                _write_title(ax, result, title)
                warn_of_black(result.name, result.contribution, window, drawing)
                first = first or image
            if first is not None and row is rows[0]:
                cax = figure.add_axes(
                    (
                        (_LEFT + columns * panel + (columns - 1) * gap + _BAR_GAP) / width,
                        (top - tallest) / height,
                        _BAR / width,
                        tallest / height,
                    )
                )
                add_colour_bar(first, cax, drawing.scale, short=tallest < _SHORT_BAR)
            top -= tallest + _TICKS
        size = min(7.0, 72 * (width - 0.2) / (3.8 * (len(shares) + 2)))
        entries = [square_legend(shares, drawing, size=size)] if shares else []
        entries += [outline_legend(drawn, size=min(7.0, 72 * (width - 0.2) / 32))] if drawn else []
        for row_of_entries in entries:
            anchor = (0.5, (top - _LEGEND / 2) / height)
            figure.legend(**row_of_entries, loc="center", bbox_to_anchor=anchor, borderaxespad=0.0)
            top -= _LEGEND
        if table:
            table.draw(
                figure.add_axes((0.1 / width, (top - table.height) / height, 1 - 0.2 / width, table.height / height))
            )
        if drawing.caption:
            write_caption(figure, (0.1 / width, _FOOT / height), words)
    return figure


def _write_title(ax: Axes, result: ErfResult, title: _Title) -> None:
    """Network on the first line, its weights below it; random weights in bold colour."""
    above = 72 * title.heights[1] + 3
    ax.set_title(title.name, fontweight="bold", pad=above, fontsize=title.size, linespacing=_LINE, va="bottom")
    ax.annotate(
        title.weights,
        (0.5, 1.0),
        xycoords="axes fraction",
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        linespacing=_LINE,
        fontsize=title.weights_size,
        color=WARNING_COLOUR if result.random_weights else "0.3",
        fontweight="bold" if result.random_weights else "normal",
    )


class _Table:
    """Published area ratios, one row for each result, ruled as tables are in print.

    Where name and numbers do not fit beside each other, the name has a line of its own.

    Args:
        results: At least one.
        drawing: Its thresholds are the columns.
        width: Inches.
    """

    def __init__(self, results: Sequence[ErfResult], drawing: Drawing, width: float):
        self.results, self.drawing, self.width = results, drawing, width
        self.shares = shares_of(drawing)
        self.names = [row_name(result, drawing) for result in results]
        points = 72 * width
        cells, longest = len(self.shares) * _CELL, max(map(text_width, self.names))
        self.size = min(7.5, points / (cells + longest + 1.5))
        self.stacked = self.size < 6.0
        if self.stacked:
            self.size = min(7.5, points / max(cells, 1.0), points / (longest + 0.5))
        self.heading = wrap_caption(
            "Area ratio (side in pixels) of the smallest centred square that holds more than t of log10(score + 1) / "
            "max",
            width * 6.0 / 7.0,
        )

    @property
    def height(self) -> float:
        """Inches."""
        return (self._head + self._body + 0.4) * _ROW

    @property
    def _head(self) -> float:
        return self.heading.count("\n") + 1 + 1.1

    @property
    def _body(self) -> float:
        return len(self.results) * (1.9 if self.stacked else 1.2)

    def draw(self, ax: Axes) -> None:
        """Draw it on Axes of its width and height."""
        ax.set_axis_off()
        ax.set(xlim=(0, 1), ylim=(self._head + self._body + 0.4, 0))  # in rows, from the top
        ax.text(0, 0, self.heading, fontsize=7.0, va="top")
        step = _CELL * self.size / (72 * self.width)
        rights = 1.0 - step * np.arange(len(self.shares))[::-1]
        head = self._head - 0.55
        for right, share in zip(rights, self.shares, strict=True):
            ax.text(
                right, head, f"t = {100 * share:.4g}%", fontsize=self.size, fontweight="bold", ha="right", va="center"
            )
        for line, weight in ((head - 0.55, 0.9), (head + 0.55, 0.5), (self._head + self._body + 0.1, 0.9)):
            ax.axhline(line, color="0.2", linewidth=weight, clip_on=False)
        each = self._body / len(self.results)
        for i, (result, name) in enumerate(zip(self.results, self.names, strict=True)):
            colour = WARNING_COLOUR if result.random_weights else "0.1"
            middle = self._head + (i + 0.5) * each
            up, down = (-0.42, 0.42) if self.stacked else (0.0, 0.0)
            ax.text(0, middle + up, name, fontsize=self.size, va="center", color=colour)
            areas = log_area(result.contribution, self.shares, centre=result.centre)
            for right, area in zip(rights, areas, strict=True):
                ax.text(right, middle + down, _cell(area), fontsize=self.size, ha="right", va="center")


def _cell(area: SquareArea) -> str:
    return "not reached" if area.side_px is None or area.ratio is None else f"{area.ratio:.2%} ({area.side_px})"
