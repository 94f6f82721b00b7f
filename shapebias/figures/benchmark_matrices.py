"""Matrix figures of the benchmark: error consistency of every pair of observers, and confusion of categories."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure

from runkit.figures import COLUMN_WIDTH, INK, PAGE_WIDTH
from shapebias.answers.raw_data import NO_ANSWER
from shapebias.figures.benchmark_style import PEOPLE, benchmark_styles, panels
from shapebias.results.benchmark_content import BenchmarkMeasures
from shapebias.results.benchmark_tables import order_networks
from shapebias.stimuli.categories import CATEGORIES

__all__ = ["draw_confusion", "draw_matrices"]

_LETTER = 0.043  # inches: mean width of a letter of an observer's name
_NAMES_PT = 5.5  # font size of an observer's name next to its row
_ROW = 0.092  # inches: minimal height of a row of a matrix, that of a line of text
_BAR = 0.45  # inches: height of the colour bar below the panels, with its numbers


def draw_matrices(content: BenchmarkMeasures, *, width: float = PAGE_WIDTH) -> Figure:
    """Draw the error consistency of every pair of observers over all trials, for each dataset without conditions.

    Networks are ordered by mean rank, followed by persons. Columns are in the order of the rows, and all panels share
    the colour scale. The diagonal, where an observer would be compared with itself, is left empty.

    Args:
        content: Content of `benchmark.json`.
        width: Width in inches: `PAGE_WIDTH` for two panels in a row, `COLUMN_WIDTH` for one.
    Raises: ValueError if every dataset has conditions.
    """
    datasets = {name: one for name, one in content["datasets"].items() if not one["conditions"]}
    if not datasets:
        raise ValueError("every dataset has conditions")
    ranked = order_networks(content)
    tables = {}
    for name, one in datasets.items():
        observers = list(one["matrix"]["observers"])
        chosen = [n for n in ranked if n in observers] + [n for n in observers if n not in content["networks"]]
        places = [observers.index(n) for n in chosen]
        values = np.array(one["matrix"]["error_consistency"], dtype=float)[np.ix_(places, places)]
        np.fill_diagonal(values, np.nan)
        tables[name] = (chosen, values)
    largest = max(np.nanmax(np.abs(values), initial=0.1) for _, values in tables.values())
    limit = min(1.0, math.ceil(10 * largest) / 10)
    norm, colours = Normalize(-limit, limit), matplotlib.colormaps["RdBu_r"]
    labels = {name: network["label"] for name, network in content["networks"].items()}
    left = 0.12 + _LETTER * max(len(labels.get(n, n)) for chosen, _ in tables.values() for n in chosen)
    columns = 1 if width <= COLUMN_WIDTH else min(2, len(tables))
    across = (width - columns * left - 0.1) / columns
    with panels(
        len(tables),
        columns=columns,
        width=width,
        height=max(across if columns > 1 else 0.0, _ROW * max(len(chosen) for chosen, _ in tables.values())),
        left=left,
        right=0.1,
        gap=(left, 0.3),
        bottom=0.1,
        footer=_BAR,
    ) as made:
        for ax, (name, (chosen, values)) in zip(made.all, tables.items(), strict=True):
            _draw_squares(ax, values, colours, norm)
            ax.set_yticks(range(len(chosen)), [labels.get(n, n) for n in chosen], fontsize=_NAMES_PT)
            ax.set_xticks([])
            ax.set_title(datasets[name]["title"], fontsize=7.5, pad=3)
            _dress_observers(ax, chosen, content)
        _draw_colour_bar(made.figure, colours, norm, "error consistency (columns in the order of the rows)")
    return made.figure


def draw_confusion(
    content: BenchmarkMeasures,
    *,
    observers: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Draw how often each answer was given to each category that was shown, in percent: a panel for each observer.

    The trials are those in conditions that count, of all datasets together or of the given ones.

    Args:
        content: Content of `benchmark.json`.
        observers: Names of networks, and "people"; None for people and all networks by mean rank.
        datasets: Names of datasets; None for all.
        width: Width in inches: `PAGE_WIDTH` for four panels in a row, `COLUMN_WIDTH` for two.
    """
    chosen = ["people", *order_networks(content)] if observers is None else list(observers)
    found = {name: _confusion(content, name, datasets) for name in chosen}
    tables = {name: table for name, table in found.items() if table is not None}
    columns = 2 if width <= COLUMN_WIDTH else 4
    left, gap = 0.5, 0.1
    columns = min(columns, len(tables))
    across = min((width - left - 0.08 - (columns - 1) * gap) / columns, 2.6)
    norm, colours = PowerNorm(0.4, 0, 100), matplotlib.colormaps["Greys"]  # keeps rare answers visible
    rows = [NO_ANSWER, *CATEGORIES]
    with panels(
        len(tables),
        columns=columns,
        width=left + 0.08 + (columns - 1) * gap + columns * across,
        height=across * len(rows) / len(CATEGORIES),
        left=left,
        bottom=0.55,
        gap=(gap, 0.22),
        footer=_BAR,
    ) as made:
        size = 4.5 if across < 1.6 else 5.5
        for ax, (name, table) in zip(made.all, tables.items(), strict=True):
            _draw_squares(ax, table, colours, norm)
            ax.set_yticks(range(len(rows)), rows if made.is_left(ax) else [], fontsize=size)
            names = CATEGORIES if made.is_bottom(ax) else []
            ax.set_xticks(range(len(CATEGORIES)), names or [""] * len(CATEGORIES), rotation=90, fontsize=size)
            label = "people" if name == "people" else content["networks"][name]["label"]
            ax.set_title(label, fontsize=6.5, pad=3, color=PEOPLE.colour if name == "people" else INK)
        label = "percent of the trials of a category (columns: shown, rows: answer)"
        _draw_colour_bar(made.figure, colours, norm, label, ticks=(0, 1, 5, 20, 50, 100))
    return made.figure


def _confusion(content: BenchmarkMeasures, name: str, datasets: Sequence[str] | None) -> np.ndarray | None:
    """Percentage of the trials of each category with each answer, (17, 16); None without trials."""
    total = np.zeros((len(CATEGORIES) + 1, len(CATEGORIES)))
    for dataset in content["datasets"] if datasets is None else datasets:
        confusion = content["datasets"][dataset]["confusion"]
        counts = confusion["people"] if name == "people" else confusion["networks"].get(name)
        if counts is not None:
            total += np.array(counts)
    trials = total.sum(axis=0)
    return None if trials.sum() == 0 else 100 * total / np.maximum(trials, 1)


def _draw_squares(ax: Axes, values: np.ndarray, colours: Colormap, norm: Normalize) -> None:
    # "none" keeps the squares sharp in vector files; with "nearest", some viewers would blur them
    ax.imshow(values, cmap=colours, norm=norm, aspect="auto", interpolation="none")
    ax.tick_params(length=0, pad=2)
    ax.spines[["top", "right"]].set_visible(True)


def _dress_observers(ax: Axes, names: Sequence[str], content: BenchmarkMeasures) -> None:
    """Set persons' names in colour and those of untrained networks in bold, and separate networks from persons."""
    styles: Mapping[str, object] = benchmark_styles(content)
    for text, name in zip(ax.get_yticklabels(), names, strict=True):
        if name not in styles:
            text.set_color(PEOPLE.colour)
        elif content["networks"][name]["random"]:
            text.set_fontweight("bold")
    border = sum(name in styles for name in names) - 0.5
    if 0 < border < len(names) - 1:
        ax.axhline(border, color="0.15", linewidth=0.8)
        ax.axvline(border, color="0.15", linewidth=0.8)


def _draw_colour_bar(
    figure: Figure, colours: Colormap, norm: Normalize, label: str, *, ticks: Sequence[float] | None = None
) -> None:
    height = figure.get_figheight()
    ax = figure.add_axes((0.3, 0.3 / height, 0.4, 0.08 / height))
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, colours), cax=ax, orientation="horizontal", ticks=ticks)
    ax.minorticks_off()
    bar.outline.set_linewidth(0.6)  # type: ignore[operator]  # a spine; the stubs declare it as a function
    ax.tick_params(labelsize=6, pad=1.5, length=2)
    ax.set_xlabel(label, fontsize=6.5, labelpad=1.5)
