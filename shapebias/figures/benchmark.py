"""Figures of the benchmark's four measures: bars with intervals, and scatter plots of each pair of measures."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH
from shapebias.figures.benchmark_style import (
    PEOPLE,
    add_legend,
    benchmark_styles,
    legend_height,
    name_network,
    panels,
)
from shapebias.figures.observers import Style
from shapebias.measures.benchmark import MEASURES
from shapebias.results.benchmark_content import BenchmarkMeasures, PublishedNetwork
from shapebias.results.benchmark_tables import MEASURE_NAMES, order_networks
from shapebias.stimuli.experiments import EXPERIMENTS

__all__ = ["draw_benchmark", "draw_scatter"]

_BETTER = {name: "lower is better" if name == "accuracy_difference" else "higher is better" for name in MEASURES}
_PRINTED = "0.55"
_ROW = 0.155  # inches
_LETTER = 0.051  # inches: mean width of a letter of a name


def draw_benchmark(
    content: BenchmarkMeasures, *, published: Sequence[PublishedNetwork] = (), width: float = PAGE_WIDTH
) -> Figure:
    """Draw a bar for each network in each of the four measures, with 95% intervals over images; people are a line too.

    People come first, then networks by mean rank, then those without a rank. Networks whose values are only known from
    print follow in grey, without intervals.

    Args:
        content: Content of `benchmark.json`.
        published: Its printed networks; omitted at `COLUMN_WIDTH`, where the figure would be too high.
        width: Width in inches: `PAGE_WIDTH` for four panels side by side, `COLUMN_WIDTH` for one above the other.
    """
    styles, narrow = benchmark_styles(content), width <= COLUMN_WIDTH
    rows: list[tuple[str, Mapping[str, Any], Style | None]] = [("people", content["people"], PEOPLE)]
    rows += [(name_network(content, n), content["networks"][n], styles[n]) for n in order_networks(content)]
    part = "" if len(content["datasets"]) == len(EXPERIMENTS) else f" ({len(EXPERIMENTS)} datasets)"
    rows += [(f"{row['model']}{part}", row, None) for row in published if not narrow]
    with panels(
        len(MEASURES),
        columns=1 if narrow else len(MEASURES),
        width=width,
        height=_ROW * len(rows) + 0.1,
        left=min(0.15 + _LETTER * max(len(name) for name, _, _ in rows), width / 2),
        right=0.12,
        top=0.08,
        gap=(0.16, 0.5),
        bottom=0.5,
    ) as made:
        for ax, measure in zip(made.all, MEASURES, strict=True):
            for row, (_, numbers, style) in enumerate(rows):
                _draw_bar(ax, row, numbers, measure, style)
            ax.set_ylim(len(rows) - 0.4, -0.6)
            ax.set_yticks(range(len(rows)), [name for name, _, _ in rows] if made.is_left(ax) else [])
            ax.tick_params(axis="y", length=0, labelsize=6.5)
            _colour_names(ax, rows)
            ax.xaxis.set_major_locator(MaxNLocator(3))
            ax.set_xlim(left=min(0, ax.get_xlim()[0]))
            ax.set_xlabel(f"{MEASURE_NAMES[measure]}\n({_BETTER[measure]})", fontsize=6.5)
            ax.grid(axis="x")
    return made.figure


def draw_scatter(content: BenchmarkMeasures, *, width: float = PAGE_WIDTH) -> Figure:
    """Plot each of the four measures against each other, for networks and people, with 95% intervals over images.

    In panels over OOD accuracy, a dashed line shows what is expected of independent observers: the observed consistency
    that follows from the accuracies, and an error consistency of 0.

    Args:
        content: Content of `benchmark.json`.
        width: Width in inches: `PAGE_WIDTH` for three panels in a row, `COLUMN_WIDTH` for two.
    """
    styles, pairs = benchmark_styles(content), list(itertools.combinations(MEASURES, 2))
    narrow = width <= COLUMN_WIDTH
    with panels(
        len(pairs),
        columns=2 if narrow else 3,
        width=width,
        height=1.2 if narrow else 1.7,
        left=0.46,
        right=0.08,
        top=0.1,
        gap=(0.5, 0.42),
        bottom=0.4,
        footer=legend_height(content, width),
    ) as made:
        for ax, (across, up) in zip(made.all, pairs, strict=True):
            for name, network in content["networks"].items():
                _draw_point(ax, network, across, up, styles[name])
            _draw_point(ax, content["people"], across, up, PEOPLE)
            if across == "ood_accuracy":
                _draw_expected(ax, content["people"]["ood_accuracy"], up)
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(MaxNLocator(4))
            ax.tick_params(labelsize=6, pad=2)
            ax.set_xlabel(MEASURE_NAMES[across], fontsize=6.5, labelpad=1.5)
            ax.set_ylabel(MEASURE_NAMES[up], fontsize=6.5, labelpad=1.5)
        add_legend(made.figure, styles, content, line=False)
    return made.figure


def _draw_bar(ax: Axes, row: int, numbers: Mapping[str, Any], measure: str, style: Style | None) -> None:
    value, interval = numbers[measure], numbers.get(f"{measure}_interval")
    if value is None:
        return
    colour = style.colour if style else _PRINTED
    solid = style is None or style.filled
    ax.barh(
        row,
        value,
        height=0.62,
        color=colour if solid else "white",
        alpha=0.25 if style is None else 0.45 if solid else 1.0,
        edgecolor=colour,
        linewidth=0.6,
        hatch=None if solid else "////",
        zorder=2,
        gid=f"{style.key}-bar-{measure}" if style else None,
    )
    if style is PEOPLE:
        ax.axvline(value, color=colour, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    if interval:
        gid = f"{style.key}-interval-{measure}" if style else None
        ax.plot(interval, [row, row], color="0.15", linewidth=0.9, marker="|", markersize=3, zorder=4, gid=gid)


def _colour_names(ax: Axes, rows: Sequence[tuple[str, Mapping[str, Any], Style | None]]) -> None:
    """Set names of untrained networks in bold, and names of printed ones in grey."""
    for text, (_, _, style) in zip(ax.get_yticklabels(), rows, strict=False):
        text.set_fontweight("bold" if style and not style.filled else "normal")
        text.set_color(text.get_color() if style else "0.4")


def _draw_point(ax: Axes, numbers: Mapping[str, Any], across: str, up: str, style: Style) -> None:
    x, y = numbers[across], numbers[up]
    if x is None or y is None:
        return
    gid = f"{style.key}-{across}-{up}"
    line: dict[str, Any] = {"color": style.colour, "linewidth": 0.7, "zorder": 2}
    if interval := numbers[f"{across}_interval"]:
        ax.plot(interval, [y, y], **line, gid=f"{gid}-across")
    if interval := numbers[f"{up}_interval"]:
        ax.plot([x, x], interval, **line, gid=f"{gid}-up")
    size = 5.5 if style is PEOPLE else 4
    ax.plot([x], [y], **style.of_marker, markersize=size, markeredgewidth=0.4, zorder=4, gid=f"{gid}-point")


def _draw_expected(ax: Axes, people: float | None, up: str) -> None:
    """Draw the dashed line of independent observers."""
    limits = ax.get_xlim()
    x = np.linspace(*limits, 50)
    if up == "observed_consistency" and people is not None:
        y = x * people + (1 - x) * (1 - people)
    elif up == "error_consistency":
        y = np.zeros_like(x)
    else:
        return
    ax.plot(x, y, color="0.5", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    text = ax.annotate("expected", (x[30], y[30]), (2, -3), textcoords="offset points", fontsize=5.5, color="0.4")
    text.set_verticalalignment("top")
    if up == "error_consistency":
        ax.set_ylim(bottom=min(ax.get_ylim()[0], -0.05))
    ax.set_xlim(limits)
