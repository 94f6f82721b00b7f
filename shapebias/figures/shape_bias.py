"""Figures of shape bias, drawn from measurements: the matrix plot of the literature, and bars with people as reference.

The matrix plot follows Geirhos et al. (ICLR 2019, Fig. 4) and the model-vs-human toolbox. The categories of the shape
are on the vertical axis. The fraction of texture decisions increases to the right, and that of shape decisions to the
left. There is a point for each category and observer, and a vertical line for all trials of an observer together.

The id of each element in an SVG begins with the key of its observer's style, by which the HTML page finds it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from runkit.figure_text import fit_words
from runkit.figures import COLUMN_WIDTH, INK, PAGE_WIDTH, axes_or_new, new_figure
from shapebias.figures.observers import (
    PEOPLE_COLOUR,
    Style,
    choose_styles,
    draw_estimates,
    draw_persons,
    in_lines,
    is_people,
    order_categories,
    rank,
    set_fraction_ticks,
)
from shapebias.measures.shape_bias import Measurement

__all__ = ["FEW", "draw_column", "draw_comparison", "draw_forest", "plot_shape_bias_bars", "plot_shape_bias_matrix"]

_FOREST = {
    "shape_bias": "shape bias (95% interval)",
    "fraction_correct_shape": "shape accuracy",
    "fraction_correct_texture": "texture accuracy",
    "coverage": "coverage",
}
"""Panels of the forest plot: measure -> label of its axis."""
_HIDDEN = {
    "fraction_correct_shape": "shape accuracy: share of all trials",
    "fraction_correct_texture": "texture accuracy: share of all trials",
    "coverage": "coverage: share of cue-conflict trials",
}
"""Rows below the bars of a few observers: measure -> its name and its denominator."""
_NAMES = 1.15
"""Width of the names beside the forest plot in a column of a paper, in inches."""
FEW = 2
"""Maximal number of observers whose bars leave room for more rows."""
_NARROW = 5.0
"""Width in inches below which two panels do not fit side by side."""
_ROW = 0.45
"""Maximal height of a bar with its name, in inches."""
_LEGEND_TITLE = "number and vertical line: shape bias over all images"
_MARKS = 0.4
"""Height of the legend below the bars, in inches."""
_MIN_ROWS = 5
"""Minimal number of rows: fewer bars leave free space below rather than becoming thicker."""
_LINE_HEIGHT = 0.33
"""Height of each further line of a name, in rows of the bars."""


def plot_shape_bias_matrix(
    measurements: Sequence[Measurement], *, ax: Axes | None = None, names: bool = True, marker_size: float = 4.9
) -> Axes:
    """Plot a point for each observer and category, and a vertical line for each observer over all trials.

    Categories are ordered by people's shape bias, with the highest at the bottom, as in the toolbox; without people, by
    the mean over all observers. There is no point for a category in which an observer named neither cue.

    Args:
        measurements: One for each observer, people pooled. They are drawn in this order, people last and on top.
        ax: Axes to draw on; new ones of pyplot, one column wide, if None.
        names: Whether to label the categories on the axis.
        marker_size: Size of a marker, in points.
    Returns: The Axes; x is 1 - shape bias, in [0, 1].
    """
    order = order_categories(measurements)
    styles = choose_styles(measurements)
    with axes_or_new(ax, COLUMN_WIDTH, 3.6) as ax:
        for boundary in range(1, len(order)):
            ax.axhline(boundary - 0.5, color="0.8", linewidth=0.4, linestyle=(0, (1, 2)), zorder=0)
        for measurement in sorted(measurements, key=is_people):
            style, average = styles[measurement.name], measurement.shape_bias.value
            if average is not None:
                line = {"color": style.colour, "linewidth": 1.1, "linestyle": style.line}
                ax.axvline(1 - average, **line, zorder=1, gid=f"{style.key}-average")
            points = [
                (1 - value, order.index(category))
                for category, estimates in measurement.categories.items()
                if (value := estimates["shape_bias"].value) is not None
            ]
            ax.plot(
                [x for x, _ in points],
                [y for _, y in points],
                **style.of_marker,
                markersize=marker_size,
                markeredgewidth=0.4 if style.filled else 0.8,
                clip_on=False,
                zorder=4 if is_people(measurement) else 3,
                label=measurement.label,
                gid=f"{style.key}-points",
            )
        _dress_matrix(ax, order, names=names)
    return ax


def plot_shape_bias_bars(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), ax: Axes | None = None
) -> Axes:
    """Plot the overall shape bias of each observer as a bar with its 95% interval; a reference line shows people.

    The observer's name is above its bar, and the marker at the end of the bar is that of the matrix plot, so this panel
    also serves as its legend. Bars are ordered by shape bias, with people first and random weights last.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single persons, drawn as small ticks on the bar of people; their range is shaded.
        ax: Axes to draw on; new ones of pyplot, one column wide, if None.
    Returns: The Axes; x is shape bias, in [0, 1].
    """
    ordered = sorted(measurements, key=rank)
    rows = max(_rows_of(measurements), _MIN_ROWS)
    styles = choose_styles(measurements)
    singles = [value for person in persons if (value := person.shape_bias.value) is not None]
    with axes_or_new(ax, COLUMN_WIDTH, 0.6 + 0.3 * rows) as ax:
        if singles:
            ax.axvspan(min(singles), max(singles), color=PEOPLE_COLOUR, alpha=0.1, linewidth=0, zorder=0)
        for index, measurement in enumerate(ordered):
            _draw_bar(ax, measurement, _rows_of(ordered[: index + 1]) - 1, styles[measurement.name], persons)
        ax.set_ylim(rows - 0.55, -0.7)
        ax.set_xlim(0, 1)
        ax.set_yticks([])
        set_fraction_ticks(ax)
        ax.set_xlabel("shape bias (95% interval)")
        ax.spines[["top", "right"]].set_visible(False)
    return ax


def _rows_of(measurements: Sequence[Measurement]) -> float:
    """Rows that the bars take: one for each observer, and a part of one for each further line of its name."""
    return sum(1 + _LINE_HEIGHT * in_lines(measurement.label).count("\n") for measurement in measurements)


def _draw_bar(ax: Axes, measurement: Measurement, row: float, style: Style, persons: Sequence[Measurement]) -> None:
    """Draw name, bar, interval, marker and value of one observer; the last line of the name is just above the bar."""
    estimate, at = measurement.shape_bias, row + 0.06
    weight = "bold" if measurement.random else "normal"
    name: dict[str, Any] = {
        "va": "bottom",
        "fontsize": 6.5,
        "fontweight": weight,
        "zorder": 6,
        "gid": f"{style.key}-name",
    }
    ax.text(0.012, row - 0.24, in_lines(measurement.label), **name)
    if estimate.value is None:
        ax.text(0.012, at, "not defined: neither cue was named", va="center", fontsize=6, color="0.4")
        return
    ax.barh(
        at,
        estimate.value,
        height=0.34,
        color=style.colour if style.filled else "white",
        alpha=0.45 if style.filled else 1.0,
        edgecolor=style.colour,
        linewidth=0.6,
        hatch=None if style.filled else "////",
        zorder=2,
        gid=f"{style.key}-bar",
    )
    if is_people(measurement):
        ax.axvline(estimate.value, color=style.colour, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
        draw_persons(ax, persons, "shape_bias", at, style)
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [at] * 2, color=INK, linewidth=0.9, marker="|", markersize=7,
                markeredgewidth=0.9, zorder=4, gid=f"{style.key}-line")  # fmt: skip
    end: dict[str, Any] = {"markersize": 4.8, "markeredgewidth": 0.5, "zorder": 5, "gid": f"{style.key}-end"}
    ax.plot([estimate.value], [at], **style.of_marker, **end)
    ax.text(1.025, at, f"{estimate.value:.2f}", va="center", fontsize=6.5, clip_on=False, gid=f"{style.key}-value")


def draw_comparison(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), width_in: float = PAGE_WIDTH
) -> Figure:
    """Draw the matrix plot and the bars side by side, as wide as a page of two columns, with a legend below the bars.

    With one or two observers, shape accuracy, texture accuracy and coverage fill the space below the bars.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single persons, for the bars.
        width_in: Width in inches. If the two do not fit side by side, the figure is that of `draw_column`.
    """
    if width_in < _NARROW:
        return draw_column(measurements, width_in=width_in)
    rows = _rows_of(measurements)
    height = max(3.7, 1.2 + 0.36 * rows)
    with new_figure(width_in, height, layout=ConstrainedLayoutEngine(w_pad=0.06, wspace=0.04)) as figure:
        grid = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
        bars = min(_ROW * (rows + 0.3), height - 1.2 - _MARKS)
        below = grid[1].subgridspec(3, 1, height_ratios=(bars, _MARKS, max(0.01, height - 1.2 - bars - _MARKS)))
        plot_shape_bias_matrix(measurements, ax=figure.add_subplot(grid[0]))
        right = plot_shape_bias_bars(measurements, persons=persons, ax=figure.add_subplot(below[0]))
        right.set_ylim(rows - 0.55, -0.7)
        key = figure.add_subplot(below[1], label="key")
        key.set_axis_off()
        key.legend(handles=_name_marks(measurements, persons), loc="upper left", ncols=2, borderaxespad=0.0,
                   fontsize=6.5, columnspacing=1.2)  # fmt: skip
        if len(measurements) <= FEW:
            _draw_hidden(figure.add_subplot(below[2]), measurements)
    return figure


def _draw_hidden(ax: Axes, measurements: Sequence[Measurement]) -> None:
    """Draw the shares of trials behind the shape bias, a row each, where the bars of a few observers leave room."""
    styles = choose_styles(measurements)
    offsets = np.linspace(-0.11, 0.13, len(measurements)) if len(measurements) > 1 else [0.0]
    for row, (key, what) in enumerate(_HIDDEN.items()):
        ax.text(0.012, row - 0.2, what, va="bottom", fontsize=6.5)
        for measurement, offset in zip(sorted(measurements, key=rank), offsets, strict=True):
            estimates = {row + 0.06 + offset: getattr(measurement, key)}
            draw_estimates(ax, estimates, styles[measurement.name], width=1.0, caps=0.09, part=f"hidden-{key}")
    ax.set(xlim=(0, 1), ylim=(len(_HIDDEN) - 0.55, -0.75), yticks=[])
    set_fraction_ticks(ax)
    ax.set_xlabel("share of trials (95% interval)")


def _name_marks(measurements: Sequence[Measurement], persons: Sequence[Measurement]) -> list[Any]:
    """Entries of a legend that explains the marks of the bars."""
    interval = Line2D([], [], color=INK, linewidth=0.9, marker="|", markersize=6, label="95% interval")
    entries: list[Any] = [interval]
    if any(map(is_people, measurements)):
        dashes: Any = (0, (4, 2))
        entries.append(Line2D([], [], color=PEOPLE_COLOUR, linewidth=0.9, linestyle=dashes, label="people together"))
    if persons:
        entries.append(
            Line2D([], [], color=PEOPLE_COLOUR, linestyle="none", marker="|", markersize=5, label="one person")
        )
        entries.append(Patch(facecolor=PEOPLE_COLOUR, alpha=0.1, linewidth=0, label="range of persons"))
    return entries


def draw_column(measurements: Sequence[Measurement], *, width_in: float = COLUMN_WIDTH) -> Figure:
    """Draw only the matrix plot, as wide as one column of a paper, with a legend below that states each shape bias.

    Args:
        measurements: One for each observer, people pooled.
        width_in: Width in inches.
    """
    styles = choose_styles(measurements)
    lines = sum(in_lines(measurement.label).count("\n") + 1 for measurement in measurements)
    with new_figure(width_in, 3.5 + 0.145 * (lines + 1)) as figure:
        plot_shape_bias_matrix(measurements, ax=figure.subplots(), marker_size=4.2)
        handles = []
        for measurement in sorted(measurements, key=rank):
            value = measurement.shape_bias.value
            label = in_lines(measurement.label) + ("" if value is None else f"  {value:.2f}")
            handles.append(styles[measurement.name].make_legend_handle(label))
        figure.legend(
            handles=handles, loc="outside lower center", fontsize=6.5, labelspacing=0.25, title=_LEGEND_TITLE,
            title_fontsize=6.5,
        )  # fmt: skip
    return figure


def draw_forest(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), width_in: float = PAGE_WIDTH
) -> Figure:
    """Draw a forest plot of shape bias and the shares of trials behind it, with the 95% intervals of each observer.

    Shape bias is a ratio of decisions. Shape accuracy, texture accuracy and coverage (how often either cue is named)
    show how frequent these decisions are. Observers are ordered by shape bias, with people first and random weights
    last.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single persons, drawn as small ticks next to the pooled value.
        width_in: Width in inches. The four panels are in one row, or in two rows if the figure is too narrow.
    """
    ordered = sorted(measurements, key=rank)
    styles = choose_styles(measurements)
    narrow = width_in < _NARROW
    names = [in_lines(measurement.label) for measurement in ordered]
    if narrow:
        names = [fit_words(" ".join(name.split()), 72 * _NAMES, size=6.5)[0] for name in names]
    lines = sum(name.count("\n") + 1 for name in names) if narrow else len(ordered)
    rows = 2 if narrow else 1
    with new_figure(width_in, rows * (0.75 + 0.19 * max(lines, 4))) as figure:
        ratios = (1, 1) if narrow else (1.5, 1, 1, 1)
        panels = figure.subplots(rows, len(_FOREST) // rows, sharey=True, width_ratios=ratios).ravel()
        for ax, (key, title) in zip(panels, _FOREST.items(), strict=True):
            for row, measurement in enumerate(ordered):
                estimate, style = getattr(measurement, key), styles[measurement.name]
                if is_people(measurement) and estimate.value is not None:
                    draw_persons(ax, persons, key, row, style)
                    ax.axvline(estimate.value, color=style.colour, linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)
                draw_estimates(ax, {row: estimate}, style, width=1.2, caps=0.22, part=key)
            ax.set_xlim(0, 1)
            set_fraction_ticks(ax)
            ax.set_xlabel(title.partition(" (")[0] if narrow else title)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x")
            ax.spines["left"].set_visible(False)
        for ax in panels if narrow else panels[1:]:  # fewer ticks, since long names leave little room
            ax.xaxis.set_major_locator(MultipleLocator(0.5))
        panels[0].set_yticks(range(len(ordered)), names)
        panels[0].set_ylim(len(ordered) - 0.5, -0.5)
        for ax in panels[:: len(panels) // rows]:
            if narrow:
                ax.tick_params(axis="y", labelsize=6.5)
            for text, measurement in zip(ax.get_yticklabels(), ordered, strict=True):
                text.set_fontweight("bold" if measurement.random else "normal")
    return figure


def _dress_matrix(ax: Axes, order: Sequence[str], *, names: bool) -> None:
    """Set the limits, the two horizontal axes, and the names of the categories."""
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.5, len(order) - 0.5)
    ax.set_yticks(range(len(order)), order if names else [""] * len(order))
    ax.tick_params(axis="y", length=0, pad=6)
    ax.spines[:].set_visible(True)
    set_fraction_ticks(ax)
    ax.set_xlabel("fraction of texture decisions  →")
    top = ax.secondary_xaxis("top", functions=(_complement, _complement))
    top.set_xlabel("←  fraction of shape decisions")
    set_fraction_ticks(top)


def _complement(x):
    return 1 - x
