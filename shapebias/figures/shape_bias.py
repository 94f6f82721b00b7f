"""Pictures of shape bias, drawn from measurements: the field's matrix plot, and bars with people as reference.

The matrix plot follows Geirhos et al. (ICLR 2019, Fig. 4) and the model-vs-human toolbox: categories of the shape down
the side, the fraction of texture decisions growing to the right, that of shape decisions to the left, a point for each
category and observer, and a vertical line where all of an observer's trials are taken together.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator

from runkit import atomic_write
from shapebias.measures.shape_bias import Measurement
from shapebias.stimuli.categories import CATEGORIES

__all__ = [
    "PEOPLE_COLOUR",
    "RC",
    "Style",
    "choose_style",
    "choose_styles",
    "draw_column",
    "draw_comparison",
    "draw_forest",
    "order_categories",
    "plot_shape_bias_bars",
    "plot_shape_bias_matrix",
    "rank",
    "save_figure",
    "set_fraction_ticks",
]

PAGE_WIDTH_IN = 7.0
COLUMN_WIDTH_IN = 3.4

PEOPLE_COLOUR = "#A51E37"
_RANDOM_COLOUR = "#8A8A8A"
# Okabe and Ito's colours, told apart by readers with any colour vision; their red is left to people. Six colours and
# seven markers have no common factor, so 42 observers differ in one or the other.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "v", "P", "X", "p")
_FOREST = {
    "shape_bias": "shape bias (95% interval)",
    "fraction_correct_shape": "shape accuracy",
    "fraction_correct_texture": "texture accuracy",
    "coverage": "coverage",
}
"""Panels of the forest plot: measure -> what is written under it."""
_MIN_ROWS = 5
"""Bars of fewer observers leave room under them and do not grow fat."""

RC: Any = {
    "font.size": 7,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "xtick.major.size": 3,
    "xtick.minor.size": 1.8,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class Style:
    """How an observer is drawn: colour, marker, line, and whether the marker is filled."""

    colour: str
    marker: str
    line: Any = "-"
    filled: bool = True

    @property
    def of_marker(self) -> dict[str, Any]:
        """Options of `Axes.plot` for a marker: filled with a white edge, or hollow."""
        face, edge = (self.colour, "white") if self.filled else ("white", self.colour)
        return {"marker": self.marker, "markerfacecolor": face, "markeredgecolor": edge}


def plot_shape_bias_matrix(
    measurements: Sequence[Measurement], *, ax: Axes | None = None, names: bool = True, marker_size: float = 24
) -> Axes:
    """The field's plot: a point for each observer and category, a vertical line for each observer over all trials.

    Categories are ordered by people's shape bias, the highest at the bottom, as the toolbox orders them; without people
    by the mean of all observers. A category in which an observer named neither cue has no point.

    Args:
        measurements: One for each observer, people pooled; drawn in this order, people last and on top.
        ax: Where to draw; None makes a figure of one column's width.
        names: Whether to write the categories beside the axis.
        marker_size: Area of a marker, in square points.
    Returns: The axes; x is 1 - shape bias, in [0, 1].
    """
    with matplotlib.rc_context(RC):
        if ax is None:
            ax = Figure(figsize=(COLUMN_WIDTH_IN, 3.6), layout="constrained").subplots()
        order = order_categories(measurements)
        rows = {category: row for row, category in enumerate(order)}
        for boundary in range(1, len(order)):
            ax.axhline(boundary - 0.5, color="0.8", linewidth=0.4, linestyle=(0, (1, 2)), zorder=0)
        styles = choose_styles(measurements)
        for measurement in sorted(measurements, key=_is_people):
            style = styles[measurement.name]
            edge, face = ("white", style.colour) if style.filled else (style.colour, "white")
            if measurement.shape_bias.value is not None:
                ax.axvline(
                    1 - measurement.shape_bias.value,
                    color=style.colour,
                    linewidth=1.1,
                    linestyle=style.line,
                    zorder=1,
                    label=f"_average {measurement.name}",
                )
            points = [
                (1 - value, rows[category])
                for category, estimates in measurement.categories.items()
                if (value := estimates["shape_bias"].value) is not None
            ]
            ax.scatter(
                [x for x, _ in points],
                [y for _, y in points],
                s=marker_size,
                marker=style.marker,
                facecolor=face,
                edgecolor=edge,
                linewidth=0.4 if style.filled else 0.8,
                clip_on=False,
                zorder=4 if _is_people(measurement) else 3,
                label=measurement.label,
            )
        _dress_matrix(ax, order if names else None)
    return ax


def plot_shape_bias_bars(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), ax: Axes | None = None
) -> Axes:
    """Overall shape bias of each observer as a bar with its 95% interval; people are the reference line.

    The observer's name stands above its bar, and the marker at the end of the bar is that of the matrix plot, so beside
    it this panel is the legend.

    Args:
        measurements: One for each observer, people pooled. Ordered by shape bias, people first, random weights last.
        persons: Single people, drawn as small ticks on the people's bar; their range is shaded.
        ax: Where to draw; None makes a figure of one column's width.
    Returns: The axes; x is shape bias, in [0, 1].
    """
    with matplotlib.rc_context(RC):
        if ax is None:
            height = 0.6 + 0.3 * max(len(measurements), _MIN_ROWS)
            ax = Figure(figsize=(COLUMN_WIDTH_IN, height), layout="constrained").subplots()
        styles = choose_styles(measurements)
        ordered = sorted(measurements, key=rank)
        singles = [value for person in persons if (value := person.shape_bias.value) is not None]
        if singles:
            ax.axvspan(min(singles), max(singles), color=PEOPLE_COLOUR, alpha=0.1, linewidth=0, zorder=0)
        for row, measurement in enumerate(ordered):
            style, estimate = styles[measurement.name], measurement.shape_bias
            bold = "bold" if measurement.random else "normal"
            ax.text(
                0.012, row - 0.24, measurement.label, va="bottom", ha="left", fontsize=6.5, fontweight=bold, zorder=6
            )
            if estimate.value is None:
                ax.text(0.012, row + 0.06, "not defined: neither cue was named", va="center", fontsize=6, color="0.4")
                continue
            ax.barh(
                row + 0.06,
                estimate.value,
                height=0.34,
                color=style.colour if style.filled else "white",
                alpha=0.45 if style.filled else 1.0,
                edgecolor=style.colour,
                linewidth=0.6,
                hatch=None if style.filled else "////",
                zorder=2,
            )
            if _is_people(measurement):
                ax.axvline(estimate.value, color=style.colour, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
                ax.plot(
                    singles, [row + 0.06] * len(singles), "|", color=style.colour, markersize=6, markeredgewidth=0.6
                )
            if estimate.low is not None and estimate.high is not None:
                ax.plot([estimate.low, estimate.high], [row + 0.06] * 2, color="0.15", linewidth=0.9, zorder=4)
            ax.plot(
                [estimate.value],
                [row + 0.06],
                **style.of_marker,
                markersize=4.8,
                markeredgewidth=0.5,
                zorder=5,
            )
            ax.text(1.025, row + 0.06, f"{estimate.value:.2f}", va="center", ha="left", fontsize=6.5, clip_on=False)
        ax.set_ylim(max(len(ordered), _MIN_ROWS) - 0.55, -0.7)
        ax.set_xlim(0, 1)
        ax.set_yticks([])
        set_fraction_ticks(ax)
        ax.set_xlabel("shape bias (95% interval)")
        ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_comparison(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), width_in: float = PAGE_WIDTH_IN
) -> Figure:
    """The matrix plot and the bars side by side, as wide as a page of two columns.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single people, for the bars.
        width_in: Width in inches.
    """
    with matplotlib.rc_context(RC):
        height = max(3.7, 1.0 + 0.36 * len(measurements))
        figure = Figure(figsize=(width_in, height), layout=ConstrainedLayoutEngine(w_pad=0.06, wspace=0.04))
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        plot_shape_bias_matrix(measurements, ax=left)
        plot_shape_bias_bars(measurements, persons=persons, ax=right)
    return figure


def draw_column(measurements: Sequence[Measurement], *, width_in: float = COLUMN_WIDTH_IN) -> Figure:
    """The matrix plot alone with a legend under it, as wide as one column of a paper.

    Args:
        measurements: One for each observer, people pooled.
        width_in: Width in inches.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width_in, 3.5 + 0.145 * len(measurements)), layout="constrained")
        plot_shape_bias_matrix(measurements, ax=figure.subplots(), marker_size=18)
        styles = choose_styles(measurements)
        ordered = sorted(measurements, key=rank)
        handles = [_legend_handle(measurement, styles[measurement.name]) for measurement in ordered]
        figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=6.5, labelspacing=0.25)
    return figure


def draw_forest(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), width_in: float = PAGE_WIDTH_IN
) -> Figure:
    """Forest plot: shape bias and what it hides, each observer's value with its 95% interval.

    Shape bias is a ratio; shape accuracy, texture accuracy and coverage (how often either cue is named) beside it say
    how much of either there is.

    Args:
        measurements: One for each observer, people pooled. Ordered by shape bias, people first, random weights last.
        persons: Single people, drawn as small ticks beside the pooled value.
        width_in: Width in inches.
    """
    with matplotlib.rc_context(RC):
        ordered = sorted(measurements, key=rank)
        styles = choose_styles(measurements)
        figure = Figure(figsize=(width_in, 0.75 + 0.19 * max(len(ordered), 4)), layout="constrained")
        panels = figure.subplots(1, len(_FOREST), sharey=True, width_ratios=(1.5, 1, 1, 1))
        for ax, (key, title) in zip(panels, _FOREST.items(), strict=True):
            for row, measurement in enumerate(ordered):
                estimate, style = getattr(measurement, key), styles[measurement.name]
                if estimate.value is None:
                    continue
                if _is_people(measurement):
                    singles = [getattr(person, key).value for person in persons]
                    ax.plot(singles, [row] * len(singles), "|", color=style.colour, markersize=6, markeredgewidth=0.4)
                    ax.axvline(estimate.value, color=style.colour, linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)
                if estimate.low is not None:
                    ax.plot([estimate.low, estimate.high], [row] * 2, color=style.colour, linewidth=1.2, zorder=3)
                ax.plot(
                    [estimate.value],
                    [row],
                    **style.of_marker,
                    markersize=4,
                    markeredgewidth=0.4,
                    zorder=4,
                )
            ax.set_xlim(0, 1)
            set_fraction_ticks(ax)
            ax.set_xlabel(title)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x", color="0.9", linewidth=0.5)
            ax.set_axisbelow(True)
            ax.spines[["top", "right", "left"]].set_visible(False)
        for ax in panels[1:]:  # long names leave them little room
            ax.xaxis.set_major_locator(MultipleLocator(0.5))
        panels[0].set_yticks(range(len(ordered)), [measurement.label for measurement in ordered])
        panels[0].set_ylim(len(ordered) - 0.5, -0.5)
        for text, measurement in zip(panels[0].get_yticklabels(), ordered, strict=True):
            text.set_fontweight("bold" if measurement.random else "normal")
    return figure


def save_figure(figure: Figure, stem: Path, *, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write a figure as `<stem>.<format>` in each of the formats; a file is whole or absent.

    Returns: The paths written. Metadata that changes from run to run (date) is left out.
    """
    paths = []
    for suffix in formats:
        path = stem.parent / f"{stem.name}.{suffix}"
        dated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        with atomic_write(path) as temporary, matplotlib.rc_context({**RC, "svg.hashsalt": "shapebias"}):
            figure.savefig(temporary, format=suffix, metadata=dated.get(suffix))
        paths.append(path)
    return paths


def _dress_matrix(ax: Axes, order: Sequence[str] | None) -> None:
    """Limits, the two axes, and the names of the categories (None leaves them out)."""
    count = len(order) if order is not None else len(CATEGORIES)
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.5, count - 0.5)
    ax.set_yticks(range(count), order if order is not None else [""] * count)
    ax.tick_params(axis="y", length=0, pad=6)
    set_fraction_ticks(ax)
    ax.set_xlabel("fraction of texture decisions  →")
    top = ax.secondary_xaxis("top", functions=(_complement, _complement))
    top.set_xlabel("←  fraction of shape decisions")
    set_fraction_ticks(top)


def _complement(x):
    return 1 - x


def set_fraction_ticks(ax: Any) -> None:
    """Ticks of a fraction on the x axis of axes or of a secondary axis."""
    ax.xaxis.set_major_locator(MultipleLocator(0.2))
    ax.xaxis.set_minor_locator(MultipleLocator(0.1))
    # whole numbers without decimals; 1 - x turns 0 into a tiny number of either sign
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 6) + 0.0:g}"))


def _legend_handle(measurement: Measurement, style: Style) -> Line2D:
    value = measurement.shape_bias.value
    suffix = "" if value is None else f"  {value:.2f}"
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=style.line,
        linewidth=1.1,
        marker=style.marker,
        markersize=4.5,
        markerfacecolor=style.colour if style.filled else "white",
        label=measurement.label + suffix,
    )


def choose_style(index: int, *, random: bool = False) -> Style:
    """Colour and marker of the network number `index`; random weights are grey and hollow."""
    marker = _MARKERS[index % len(_MARKERS)]
    if random:
        return Style(_RANDOM_COLOUR, marker, line=(0, (2, 2)), filled=False)
    return Style(_COLOURS[index % len(_COLOURS)], marker)


def choose_styles(measurements: Sequence[Measurement]) -> dict[str, Style]:
    """Colour, marker and line for each observer, by name: people are red diamonds."""
    networks = itertools.count()
    return {
        measurement.name: Style(PEOPLE_COLOUR, "D")
        if _is_people(measurement)
        else choose_style(next(networks), random=measurement.random)
        for measurement in measurements
    }


def order_categories(measurements: Sequence[Measurement], key: str = "shape_bias") -> list[str]:
    """Categories by people's value of the measure `key`, highest first, else by the mean of all observers."""
    judges = [m for m in measurements if _is_people(m)] or list(measurements)

    def mean(category: str) -> float:
        found = [m.categories[category][key].value for m in judges if category in m.categories]
        defined = [value for value in found if value is not None]
        return sum(defined) / len(defined) if defined else 0.0

    return sorted(CATEGORIES, key=lambda category: -mean(category))


def _is_people(measurement: Measurement) -> bool:
    return measurement.kind == "people"


def rank(measurement: Measurement, key: str = "shape_bias") -> tuple[bool, bool, float]:
    """For sorting: people, then trained networks, then untrained ones; each by the measure `key`, highest first."""
    value = getattr(measurement, key).value
    return (not _is_people(measurement), measurement.random, 1.0 if value is None else -value)
