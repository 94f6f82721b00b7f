"""Complete figures of receptive fields: one result, or several side by side with a table of their area ratios.

Figures are laid out in inches, from top to bottom: rows of panels, legend of the squares, table, caption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from erf.drawing import Drawing
from erf.figures.arrange import LEFT, RIGHT, arrange
from erf.figures.caption import WARNING_COLOUR, caption, row_name, weights_words
from erf.figures.maps import Panel, add_colour_bar, show_map, show_whole, warn_of_black
from erf.figures.outlines import note_on_outlines, outline_legend, outlines_of
from erf.figures.squares import find_squares, shares_of, square_legend
from erf.figures.window import INSET, Window, choose_window
from erf.measures.squares import SquareArea, square_areas
from erf.results.files import ErfResult
from runkit.figure_text import caption_height, fit_words, list_names, text_width, wrap_caption, write_caption
from runkit.figures import STYLE, new_figure

__all__ = ["draw_comparison", "draw_result", "plot_comparison"]

_PANEL = 2.3  # inches, if no width is given
_LEAST_PANEL = 1.2  # inches: below this, names do not fit above the panels of maps that are much taller than wide
_BAR, _BAR_GAP, _SHORT_BAR = 0.08, 0.08, 1.7
_NARROW, _WIDE = 0.12, 0.4  # inches between panels, without and with tick labels
_BETWEEN_TITLES = 0.07  # inches at least
_TICKS, _LEGEND, _FOOT = 0.22, 0.24, 0.08
_TICK_GAP = 4.0  # points at least between the tick labels of an axis
_LEAST_WHOLE = 0.25  # inches: least side of the picture of the whole map
_LINE, _DESCENT = 1.25, 0.24  # titles: line spacing, and depth below the baseline, over the font size
_ROW = 0.19  # inches: height of a row of the table
_LINES = 0.95  # rows of a table for each line of a name that stands above its numbers
_CELL = 8.2  # width of a column of the table over its font size


def draw_result(result: ErfResult, **options: Any) -> Figure:
    """Draw a figure of one result: heat map, squares, and a caption that describes how it was made.

    Args:
        result: The result.
        options: Attributes of `erf.drawing.Drawing`, such as `scale="published"` or `width="column"`.

    Raises: ValueError for an invalid option.
    """
    return _draw([result], [[result]], Drawing(**{"width": 10.7, **options, "table": False}))


def draw_comparison(results: Sequence[ErfResult], **options: Any) -> Figure:
    """Draw a figure of several results side by side on one colour scale, with a table of their area ratios below.

    Args:
        results: At least one result; drawn in this order, four in a row unless `columns` or `width` is given. If
            results differ in two properties (networks and sizes, stages and weights, ...), each value of one has a
            column, and each value of the other a row. With `before_after`, each network has a column, with random
            weights above trained ones.
        options: Attributes of `erf.drawing.Drawing`, such as `scale="published"` or `width="column"`.

    Raises: ValueError for an invalid option.
    """
    drawing = Drawing(**options)
    return _draw(results, arrange(results, drawing), drawing)


plot_comparison = draw_comparison
"""Older name of `draw_comparison`, kept for compatibility."""


# --- the figure ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Title:
    """The name above a panel and the line below it, each with its size in points."""

    name: str
    size: float
    weights: str
    weights_size: float

    @classmethod
    def of(cls, results: Sequence[ErfResult], drawing: Drawing, width: float) -> list["_Title"]:
        """Titles for panels of a width in inches, all in the largest font size in which each of them fits."""
        points = 72 * (width + _NARROW - _BETWEEN_TITLES)
        size, weights_size = STYLE["axes.titlesize"], 7.0
        labelled = [(result, weights_words(result, drawing)) for result in results]
        for _ in range(2):  # the second time with the font sizes found the first time
            names = [fit_words(drawing.name_of(r.name), points, size=size, bold=True) for r in results]
            weights = [fit_words(w, points, size=weights_size, bold=r.random_weights) for r, w in labelled]
            size, weights_size = min(found for _, found in names), min(found for _, found in weights)
        return [cls(name, size, label, weights_size) for (name, _), (label, _) in zip(names, weights, strict=True)]

    @property
    def heights(self) -> tuple[float, float]:
        """Heights of the name and of the weights in inches."""
        lines = ((self.name, self.size), (self.weights, self.weights_size))
        name, weights = ((text.count("\n") + 1) * size * _LINE / 72 for text, size in lines)
        return name, weights


def _draw(results: Sequence[ErfResult], rows: Sequence[Sequence[ErfResult | None]], drawing: Drawing) -> Figure:
    columns = max(map(len, rows))
    panels = _make_panels(results, drawing)
    windows = [panel.window for panel in panels.values()]
    alike = len(set(windows)) == 1  # then only the outer panels need tick labels
    gap = _NARROW if alike else _WIDE
    narrow = max(min(1.0, window.width / window.height) for window in windows)  # below 1 if all are taller than wide
    usual = max(_PANEL * narrow, _LEAST_PANEL)
    width = drawing.width_in or max(6.4, LEFT + RIGHT + columns * usual + (columns - 1) * gap)
    panel_width = min(usual * 1.4, (width - LEFT - RIGHT - (columns - 1) * gap) / columns)
    titles = dict(zip(map(id, results), _Title.of(results, drawing, panel_width), strict=True))
    heads = [_Head.of([titles[id(result)] for result in row if result is not None]) for row in rows]
    # beside wider maps, a map that is taller than wide is drawn narrower, so that its panel is no taller than theirs
    tallest = panel_width * max(min(1 / narrow, window.height / window.width) for window in windows)
    tallest = min(tallest, _PANEL * 1.4)
    side = min(panel_width, max(_LEAST_WHOLE, INSET * panel_width))
    outside = 0.0 if all(panel.is_whole for panel in panels.values()) else side + 0.06
    group = columns * panel_width + (columns - 1) * gap  # inches: width of the panels, which are centred in the figure
    edge = (width - LEFT - group - RIGHT) / 2 + LEFT
    legend = _Legend.of(panels, drawing, width, (tallest, panel_width))
    words = wrap_caption(_words(results, panels, legend, drawing), width - 0.3)
    table = _Table(results, drawing, width - 2 * 0.1) if drawing.table else None
    foot = (caption_height(words) + _FOOT if drawing.caption else 0.0) + _FOOT
    below = (table.height if table else 0.0) + legend.height + foot
    numbered = [
        not alike or any(one is not None and below is None for one, below in zip_longest(row, next_row[: len(row)]))
        for row, next_row in zip(rows, [*rows[1:], []], strict=True)
    ]
    ticks = [_TICKS if any_numbers else 0.06 for any_numbers in numbered]
    height = 0.06 + sum(head.height for head in heads) + len(rows) * (tallest + outside) + sum(ticks) + below
    with new_figure(width, height, layout=None) as figure:
        top = height - 0.06
        for number, (row, head, tick) in enumerate(zip(rows, heads, ticks, strict=True)):
            top -= head.height
            for column, result in enumerate(row):
                if result is None:
                    continue
                left = edge + column * (panel_width + gap)
                place = (left / width, (top - tallest) / height, panel_width / width, tallest / height)
                ax, panel = figure.add_axes(place, anchor="N"), panels[id(result)]
                image = show_map(ax, panel, drawing)
                _number_axis(ax, _scale_of(panel.window, (tallest, panel_width)) * panel.window.width, within=alike)
                if alike:
                    ax.tick_params(labelleft=all(one is None for one in row[:column]), labelbottom=numbered[number])
                _write_title(ax, result, titles[id(result)], head)
                if outside and not panel.is_whole:
                    _add_whole(figure, panel, drawing, left + panel_width, top - tallest - tick, side)
            if number == 0:
                bar = (edge + group + _BAR_GAP) / width
                cax = figure.add_axes((bar, (top - tallest) / height, _BAR / width, tallest / height))
                add_colour_bar(image, cax, drawing.scale, short=tallest < _SHORT_BAR)
            top -= tallest + tick + outside
        for entries in legend.rows:
            half = min(width / 2, _width_of(entries) / 2 + 0.1)
            anchor = (np.clip(edge + group / 2, half, width - half) / width, (top - _LEGEND / 2) / height)
            figure.legend(**entries, loc="center", bbox_to_anchor=anchor, borderaxespad=0.0)
            top -= _LEGEND
        if table:
            table.draw(
                figure.add_axes((0.1 / width, (top - table.height) / height, 1 - 0.2 / width, table.height / height))
            )
        if drawing.caption:
            write_caption(figure, (0.1 / width, _FOOT / height), words)
    return figure


def _scale_of(window: Window, panel: tuple[float, float]) -> float:
    """Width in points of a pixel of a window in a panel whose height and width are given in inches."""
    height, width = panel
    return 72 * min(height / window.height, width / window.width)


def _make_panels(results: Sequence[ErfResult], drawing: Drawing) -> dict[int, Panel]:
    """The panel of each result, keyed by the result's `id`."""
    windows = choose_window([(result.contribution, result.centre) for result in results], drawing)
    return {
        id(result): Panel(
            result.contribution,
            result.centre,
            window,
            find_squares(result.contribution, result.centre, drawing),
            outlines_of(result, drawing.outlines),
        )
        for result, window in zip(results, windows, strict=True)
    }


def _words(results: Sequence[ErfResult], panels: Mapping[int, Panel], legend: "_Legend", drawing: Drawing) -> str:
    """The caption: how the figure was made, and which squares and outlines are not visible."""
    there = sorted({square.share for panel in panels.values() for square in panel.squares})
    outside = [share for share in there if share not in legend.shares]
    whole = all(panel.is_whole for panel in panels.values())
    names = [drawing.name_of(result.name) for result in results]
    windows = [panels[id(result)].window for result in results]
    notes = [
        *_note_on_hidden(results, panels, legend.shares, names),
        *_note_on_unreached(results, panels, shares_of(drawing), names),
        *note_on_outlines(results, windows, drawing.outlines, names=names),
    ]
    black = [
        name
        for result, window, name in zip(results, windows, names, strict=True)
        if warn_of_black(result.name, result.contribution, window, drawing)
    ]
    if black:
        whose = f"panel of {list_names(black)}" if len(results) > 1 else "panel"
        notes.append(f"More than 99% of the {whose} is black in the published scale; the scale 'decades' shows it.")
    options: dict[str, Any] = dict(shares=legend.shares, outside=outside, window=not whole)
    return caption(results, **options, squares=drawing.squares, notes=notes, labels=drawing.labels)


def _note_on_unreached(
    results: Sequence[ErfResult], panels: Mapping[int, Panel], shares: Sequence[float], names: Sequence[str]
) -> list[str]:
    """Sentences for the caption on squares that would not fit in a map.

    Args:
        results, panels, names: As for `_note_on_hidden`.
        shares: Shares of the squares that were requested.
    """
    unreached: dict[tuple[str, ...], list[str]] = {}
    for share in shares:
        of = [
            name
            for result, name in zip(results, names, strict=True)
            if share not in {square.share for square in panels[id(result)].squares}
        ]
        if of:
            unreached.setdefault(tuple(of), []).append(f"{100 * share:.4g}%")
    return [
        f"{'A square that holds' if len(missing) == 1 else 'Squares that hold'} {' or '.join(missing)} would reach "
        f"beyond the {_maps_of(of, len(results))}."
        for of, missing in unreached.items()
    ]


def _maps_of(names: Sequence[str], total: int) -> str:
    """Name the maps of some of the networks in a figure of `total` networks."""
    noun = "map" if len(names) == 1 else "maps"
    return noun if len(names) == total else f"{noun} of {list_names(names, between=', ', last=' and ')}"


def _note_on_hidden(
    results: Sequence[ErfResult], panels: Mapping[int, Panel], shares: Sequence[float], names: Sequence[str]
) -> list[str]:
    """Sentences for the caption on squares that lie outside the window of some panels, but not of all.

    Args:
        results: The results in the figure.
        panels: The panel of each result, by the result's `id`.
        shares: Shares of the squares that are visible in at least one panel.
        names: Names of the results in the figure.
    """
    hidden: dict[tuple[str, ...], list[str]] = {}
    for result, name in zip(results, names, strict=True):
        panel = panels[id(result)]
        seen = {square.share for square in panel.seen}
        there = {square.share for square in panel.squares}
        missing = tuple(f"{100 * share:.4g}%" for share in shares if share in there - seen)
        if missing:
            hidden.setdefault(missing, []).append(name)
    return [
        f"In the {'panel' if len(of) == 1 else 'panels'} of {list_names(of)} the "
        f"{'square' if len(missing) == 1 else 'squares'} of {', '.join(missing)} "
        f"{'lies' if len(missing) == 1 else 'lie'} outside the window."
        for missing, of in hidden.items()
    ]


def _number_axis(ax: Axes, points: float, *, within: bool) -> None:
    """Fit the tick labels below a panel into its width in points, by removing the middle one if necessary.

    Args:
        within: Whether the outer labels are kept within the panel.
    """
    first, middle, end = ax.get_xticklabels()
    size = float(first.get_fontsize())
    a, b, c = (text_width(label.get_text()) for label in (first, middle, end))
    outer = 1.0 if within else 0.5  # share of an outer label that lies within the panel
    if size * (b / 2 + outer * max(a, c)) + _TICK_GAP > points / 2:
        ax.set_xticks(ax.get_xticks()[::2], [first.get_text(), end.get_text()])
    if within:
        first, *_, end = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        end.set_horizontalalignment("right")


def _width_of(entries: Mapping[str, Any]) -> float:
    """Width in inches of a row of a legend."""
    labels = entries.get("labels") or [handle.get_label() for handle in entries["handles"]]
    each = entries["handlelength"] + entries["handletextpad"] + entries["columnspacing"]
    return entries["fontsize"] * (sum(map(text_width, labels)) + each * len(labels)) / 72


def _add_whole(figure: Figure, panel: Panel, drawing: Drawing, right: float, top: float, side: float) -> None:
    """Draw the whole map below a panel that shows a window; `right`, `top` and `side` are in inches of the figure."""
    width, height = figure.get_size_inches()
    place = ((right - side) / width, (top - side) / height, side / width, side / height)
    ax = figure.add_axes(place, anchor="NE", label="whole map")
    show_whole(ax, panel, drawing)
    ax.annotate(
        "whole map", (0, 0.5), (-3, 0), xycoords="axes fraction", textcoords="offset points", ha="right", va="center",
        fontsize=6.0,
    )  # fmt: skip


@dataclass(frozen=True)
class _Legend:
    """The rows of a figure's legend.

    Attributes:
        shares: Shares of the squares that are visible in at least one panel.
        rows: Arguments of `Figure.legend` for each row.
    """

    shares: Sequence[float]
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, panels: Mapping[int, Panel], drawing: Drawing, width: float, panel: tuple[float, float]) -> "_Legend":
        """Legend for panels of the height and width `panel` in a figure of width `width`, all in inches."""
        shares = sorted({square.share for one in panels.values() for square in one.seen})
        alternate = [one.alternate(_scale_of(one.window, panel)) for one in panels.values()]
        outlines = [outline for one in panels.values() for outline in one.seen_outlines]
        points = 72 * (width - 0.2)
        rows = []
        if shares:
            rows.append(square_legend(shares, drawing, alternate=next(filter(None, alternate), []), width=points))
        if outlines:
            rows.append(outline_legend(outlines, size=min(7.0, points / 32)))
        return cls(shares, rows)

    @property
    def height(self) -> float:
        """Height in inches."""
        return len(self.rows) * _LEGEND


@dataclass(frozen=True)
class _Head:
    """Space above a row of panels in inches: for the names, and for the weights below them."""

    name: float
    weights: float

    @classmethod
    def of(cls, titles: Sequence[_Title]) -> "_Head":
        """Space for the titles of a row, whose lines are aligned."""
        return cls(max(title.heights[0] for title in titles), max(title.heights[1] for title in titles))

    @property
    def height(self) -> float:
        return self.name + self.weights + 0.1


def _write_title(ax: Axes, result: ErfResult, title: _Title, head: _Head) -> None:
    """Write the network's name and, below it, its weights; random weights are bold and coloured.

    Their last lines are aligned with those of the other titles in the row.
    """
    offset: dict[str, Any] = dict(textcoords="offset points", ha="center", va="baseline", linespacing=_LINE)
    weights = 2 + _DESCENT * title.weights_size
    above = 72 * head.weights + 3 + _DESCENT * title.size
    ax.set_title(title.name, y=1.0, pad=above, va="baseline", fontweight="bold", fontsize=title.size, linespacing=_LINE)
    ax.annotate(
        title.weights,
        (0.5, 1.0),
        xycoords="axes fraction",
        xytext=(0, weights),
        **offset,
        fontsize=title.weights_size,
        color=WARNING_COLOUR if result.random_weights else "0.3",
        fontweight="bold" if result.random_weights else "normal",
    )


class _Table:
    """Table of area ratios with one row for each result and rules as in print.

    If name and numbers do not fit side by side, the name has a line of its own.

    Args:
        results: At least one result.
        drawing: Options, of which the thresholds determine the columns and `squares` the kind of area ratio.
        width: Width in inches.
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
            self.size = min(7.5, points / max(cells, 1.0))
            fitted = [fit_words(name, 0.98 * points, size=self.size) for name in self.names]
            self.names, self.name_size = [name for name, _ in fitted], min(size for _, size in fitted)
        else:
            self.name_size = self.size
        self.rows = [_LINES * (name.count("\n") + 2) if self.stacked else 1.2 for name in self.names]
        self.heading = wrap_caption(
            "Area ratio (side in pixels) of the smallest centred square that holds more than t of "
            + ("log10(score + 1) / max" if drawing.squares == "published" else "the contribution"),
            width * 6.0 / 7.0,
        )

    @property
    def height(self) -> float:
        """Height in inches."""
        return (self._head + self._body + 0.4) * _ROW

    @property
    def _head(self) -> float:
        return self.heading.count("\n") + 1 + 1.1

    @property
    def _body(self) -> float:
        return sum(self.rows)

    def draw(self, ax: Axes) -> None:
        """Draw the table on Axes of its width and height."""
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
        bottom = self._head
        for result, name, row in zip(self.results, self.names, self.rows, strict=True):
            colour = WARNING_COLOUR if result.random_weights else "0.1"
            bottom += row
            numbers = bottom - _LINES / 2 if self.stacked else bottom - row / 2
            names = bottom - _LINES - (row - _LINES) / 2 if self.stacked else numbers
            ax.text(0, names, name, fontsize=self.name_size, va="center", color=colour, linespacing=_LINE)
            areas = square_areas(result.contribution, self.shares, of=self.drawing.squares, centre=result.centre)
            for right, area in zip(rights, areas, strict=True):
                ax.text(right, numbers, _cell(area), fontsize=self.size, ha="right", va="center")


def _cell(area: SquareArea) -> str:
    return "not reached" if area.side_px is None or area.ratio is None else f"{area.ratio:.2%} ({area.side_px})"
