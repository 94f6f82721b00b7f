"""Pictures of shape bias, drawn from measurements: the field's matrix plot, and bars with people as reference.

The matrix plot follows Geirhos et al. (ICLR 2019, Fig. 4) and the model-vs-human toolbox: categories of the shape down
the side, the fraction of texture decisions growing to the right, that of shape decisions to the left, a point for each
category and observer, and a vertical line where all of an observer's trials are taken together.

Each element's id in an SVG begins with the key of its observer's style, so that the HTML page finds it.
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
"""Panels of the forest plot: measure -> what is written under it."""
_HIDDEN = {
    "fraction_correct_shape": "shape accuracy: share of all trials",
    "fraction_correct_texture": "texture accuracy: share of all trials",
    "coverage": "coverage: share of cue-conflict trials",
}
"""Rows below the bars of a few observers: measure -> what it is, and of which trials."""
_NAMES = 1.15
"""Inches of the names beside the forest in a column of a paper."""
FEW = 2
"""Observers whose bars leave room, at most."""
_NARROW = 5.0
"""Inches below which two panels do not fit side by side."""
_ROW = 0.45
"""Inches of a bar with its name, at most."""
_LEGEND_TITLE = "number and vertical line: shape bias over all images"
_MARKS = 0.4
"""Inches of the key below the bars."""
_MIN_ROWS = 5
"""Bars of fewer observers leave room under them and do not grow fat."""


def plot_shape_bias_matrix(
    measurements: Sequence[Measurement], *, ax: Axes | None = None, names: bool = True, marker_size: float = 4.9
) -> Axes:
    """The field's plot: a point for each observer and category, a vertical line for each observer over all trials.

    Categories are ordered by people's shape bias, the highest at the bottom, as the toolbox orders them; without people
    by the mean of all observers. A category in which an observer named neither cue has no point.

    Args:
        measurements: One for each observer, people pooled; drawn in this order, people last and on top.
        ax: Where to draw; new Axes of pyplot, one column wide, if None.
        names: Whether to write the categories next to the axis.
        marker_size: Size of a marker, in points.
    Returns: The axes; x is 1 - shape bias, in [0, 1].
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
    """Overall shape bias of each observer as a bar with its 95% interval; people are the reference line.

    The observer's name stands above its bar, and the marker at the end of the bar is that of the matrix plot, so that
    this panel serves as its legend.

    Args:
        measurements: One for each observer, people pooled. Ordered by shape bias, people first, random weights last.
        persons: Single people, drawn as small ticks on the people's bar; their range is shaded.
        ax: Where to draw; new Axes of pyplot, one column wide, if None.
    Returns: The axes; x is shape bias, in [0, 1].
    """
    rows = max(len(measurements), _MIN_ROWS)
    styles = choose_styles(measurements)
    singles = [value for person in persons if (value := person.shape_bias.value) is not None]
    with axes_or_new(ax, COLUMN_WIDTH, 0.6 + 0.3 * rows) as ax:
        if singles:
            ax.axvspan(min(singles), max(singles), color=PEOPLE_COLOUR, alpha=0.1, linewidth=0, zorder=0)
        for row, measurement in enumerate(sorted(measurements, key=rank)):
            _draw_bar(ax, measurement, row, styles[measurement.name], persons)
        ax.set_ylim(rows - 0.55, -0.7)
        ax.set_xlim(0, 1)
        ax.set_yticks([])
        set_fraction_ticks(ax)
        ax.set_xlabel("shape bias (95% interval)")
        ax.spines[["top", "right"]].set_visible(False)
    return ax


def _draw_bar(ax: Axes, measurement: Measurement, row: int, style: Style, persons: Sequence[Measurement]) -> None:
    """Name, bar, interval, marker and value of one observer."""
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
    """The matrix plot and the bars side by side, as wide as a page of two columns, and below the bars what marks are.

    With one observer or two, shape accuracy, texture accuracy and coverage fill the room below the bars.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single people, for the bars.
        width_in: Width in inches; where the two do not fit side by side, the figure is that of `draw_column`.
    """
    if width_in < _NARROW:
        return draw_column(measurements, width_in=width_in)
    count = len(measurements)
    height = max(3.7, 1.2 + 0.36 * count)
    with new_figure(width_in, height, layout=ConstrainedLayoutEngine(w_pad=0.06, wspace=0.04)) as figure:
        grid = figure.add_gridspec(1, 2, width_ratios=(1.25, 1))
        bars = min(_ROW * (count + 0.3), height - 1.2 - _MARKS)
        below = grid[1].subgridspec(3, 1, height_ratios=(bars, _MARKS, max(0.01, height - 1.2 - bars - _MARKS)))
        plot_shape_bias_matrix(measurements, ax=figure.add_subplot(grid[0]))
        right = plot_shape_bias_bars(measurements, persons=persons, ax=figure.add_subplot(below[0]))
        right.set_ylim(count - 0.55, -0.7)
        key = figure.add_subplot(below[1], label="key")
        key.set_axis_off()
        key.legend(handles=_name_marks(measurements, persons), loc="upper left", ncols=2, borderaxespad=0.0,
                   fontsize=6.5, columnspacing=1.2)  # fmt: skip
        if count <= FEW:
            _draw_hidden(figure.add_subplot(below[2]), measurements)
    return figure


def _draw_hidden(ax: Axes, measurements: Sequence[Measurement]) -> None:
    """What shape bias hides of a few observers, where their bars leave room: a row for each share of trials."""
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
    """Entries of a legend that says what the marks of the bars are."""
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
    """The matrix plot alone with a legend under it that has each shape bias, as wide as one column of a paper.

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
    """Forest plot: shape bias and what it hides, each observer's value with its 95% interval.

    Shape bias is a ratio; shape accuracy, texture accuracy and coverage (how often either cue is named) show
    how much of either there is.

    Args:
        measurements: One for each observer, people pooled. Ordered by shape bias, people first, random weights last.
        persons: Single people, drawn as small ticks next to the pooled value.
        width_in: Width in inches: the four panels stand in a row, or in two where that is too narrow.
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
        for ax in panels if narrow else panels[1:]:  # long names leave them little room
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
    """Limits, the two axes, and the names of the categories."""
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
