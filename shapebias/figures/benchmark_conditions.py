"""Figures of accuracy, error consistency and entropy against the strength of a distortion, a panel for each dataset."""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH
from shapebias.figures.benchmark_style import PEOPLE, add_legend, benchmark_styles, legend_height, panels
from shapebias.figures.observers import Style
from shapebias.results.benchmark_content import BenchmarkMeasures, DatasetContent
from shapebias.stimuli.categories import CATEGORIES

__all__ = ["CURVES", "draw_conditions"]

Curve = Literal["accuracy", "error_consistency", "entropy"]
CURVES: tuple[Curve, ...] = ("accuracy", "error_consistency", "entropy")
"""Measures that have a value in every condition."""
_LABELS = {
    "accuracy": "accuracy",
    "error_consistency": "error consistency",
    "entropy": "entropy in bits",
}
_CHANCE = {"accuracy": 1 / len(CATEGORIES), "error_consistency": 0.0, "entropy": math.log2(len(CATEGORIES))}
_LIMITS = {"accuracy": (0.0, 1.0), "error_consistency": (-0.2, 1.0), "entropy": (0.0, math.log2(len(CATEGORIES)))}


def draw_conditions(content: BenchmarkMeasures, measure: Curve = "accuracy", *, width: float = PAGE_WIDTH) -> Figure:
    """Draw a panel for each dataset with conditions: lines for the networks and for people, and the range of persons.

    Conditions that do not count in the benchmark have a grey background. The dotted line is chance. The line of people
    is over all their trials (accuracy), or the mean over persons (other measures).

    Args:
        content: Content of `benchmark.json`.
        measure: One of `CURVES`.
        width: Width in inches: `PAGE_WIDTH` for four panels in a row, `COLUMN_WIDTH` for two.
    Raises: ValueError if no dataset has conditions.
    """
    datasets = {name: one for name, one in content["datasets"].items() if one["curves"] is not None}
    if not datasets:
        raise ValueError("no dataset has conditions")
    narrow = width <= COLUMN_WIDTH
    limits = _limits(datasets.values(), measure)
    styles = benchmark_styles(content)
    with panels(
        len(datasets),
        columns=min(2 if narrow else 4, len(datasets)),
        width=width,
        height=0.85 if narrow else 1.15,
        left=0.46,
        top=0.22,
        gap=(0.14, 0.52),
        bottom=0.4,
        footer=legend_height(content, width),
    ) as made:
        for ax, (name, dataset) in zip(made.all, datasets.items(), strict=True):
            _draw_dataset(ax, name, dataset, measure, styles)
            ax.set_ylim(*limits)
            ax.tick_params(labelleft=made.is_left(ax))
            if made.is_left(ax):
                ax.set_ylabel(_LABELS[measure], fontsize=6.5)
        add_legend(made.figure, styles, content)
    return made.figure


def _limits(datasets: Iterable[DatasetContent], measure: Curve) -> tuple[float, float]:
    """Limits of the vertical axis, the same for all panels: the measure's range; for error consistency, that of the
    values.
    """
    low, high = _LIMITS[measure]
    if measure != "error_consistency":
        return low, high
    curves = [one["curves"][measure] for one in datasets if one["curves"] is not None]
    rows = [row for curve in curves for group in ("networks", "persons") for row in curve[group].values()]
    values = [value for row in rows for value in row if value is not None]
    ends = min(values, default=low), max(values, default=high)
    return min(low, math.floor(10 * ends[0]) / 10), math.ceil(10 * ends[1]) / 10


def _draw_dataset(
    ax: Axes, dataset_name: str, dataset: DatasetContent, measure: Curve, styles: dict[str, Style]
) -> None:
    assert dataset["curves"] is not None  # others have no panel
    curve, conditions = dataset["curves"][measure], dataset["conditions"]
    x = np.arange(len(conditions))
    for position, condition in enumerate(conditions):
        if not condition["kept"]:
            ax.axvspan(position - 0.5, position + 0.5, color="0.94", linewidth=0, zorder=0)
    ax.axhline(_CHANCE[measure], color="0.5", linewidth=0.7, linestyle=":", zorder=1)
    persons = np.array([list(row) for row in curve["persons"].values()], dtype=float)  # None becomes NaN
    if len(persons) > 1:
        band = ax.fill_between(
            x, persons.min(axis=0), persons.max(axis=0), color=PEOPLE.colour, alpha=0.15, linewidth=0
        )
        band.set_gid(f"{PEOPLE.key}-{dataset_name}-range")
    for name, row in curve["networks"].items():
        style = styles[name]
        ax.plot(
            x,
            np.array(row, dtype=float),
            color=style.colour,
            **{**style.of_marker, "linestyle": style.line},
            linewidth=0.8,
            markersize=3,
            markeredgewidth=0.3,
            clip_on=False,
            zorder=3,
            gid=f"{style.key}-{dataset_name}",
        )
    ax.plot(
        x,
        np.array(curve["people"], dtype=float),
        color=PEOPLE.colour,
        **{**PEOPLE.of_marker, "linestyle": "-"},
        linewidth=1.2,
        markersize=3.2,
        markeredgewidth=0.3,
        clip_on=False,
        zorder=4,
        gid=f"{PEOPLE.key}-{dataset_name}",
    )
    labels = [condition["label"] for condition in conditions]
    ax.set_xticks(x, labels, fontsize=5.5 if len(labels) > 4 else 6)
    ax.tick_params(axis="x", pad=1.5)
    ax.tick_params(axis="y", labelsize=6)
    ax.set_xlim(-0.5, len(conditions) - 0.5)
    ax.set_xlabel(dataset["axis"], fontsize=6.5, labelpad=1.5)
    ax.set_title(dataset["title"], fontsize=7.5, pad=4)
