"""The figure for experiments with one cue: how often the object is named, per category and overall."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from runkit.figures import PAGE_WIDTH, new_figure
from shapebias.figures.observers import (
    choose_styles,
    draw_estimates,
    draw_persons,
    is_people,
    order_categories,
    rank,
    set_fraction_ticks,
)
from shapebias.measures.shape_bias import Measurement
from shapebias.stimuli.categories import CATEGORIES

__all__ = ["draw_accuracy"]

CHANCE = 1 / len(CATEGORIES)
_LEAST_ROWS = 8  # of the height of the figure


def draw_accuracy(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), width_in: float = PAGE_WIDTH
) -> Figure:
    """Draw accuracies with 95% intervals: on the left a row per category, on the right a row per observer overall.

    Categories are ordered by people's accuracy (without people, by the mean). Observers are ordered by their own
    accuracy, with people first and random weights last. The dotted line is chance.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single persons, drawn as small ticks next to the pooled value.
        width_in: Width in inches.
    """
    styles = choose_styles(measurements)
    measurements = sorted(measurements, key=lambda measurement: rank(measurement, "accuracy"))
    order = order_categories(measurements, "accuracy")
    rows = len(order)
    offsets = np.linspace(-0.3, 0.3, len(measurements)) if len(measurements) > 1 else [0.0]
    with new_figure(width_in, 1.2 + 0.26 * max(rows, _LEAST_ROWS)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        for row, (measurement, offset) in enumerate(zip(measurements, offsets, strict=True)):
            style = styles[measurement.name]
            by_row = {
                order.index(category) + offset: estimates["accuracy"]
                for category, estimates in measurement.categories.items()
            }
            draw_estimates(left, by_row, style, size=3)
            if is_people(measurement):
                draw_persons(right, persons, "accuracy", row, style)
            draw_estimates(right, {row: measurement.accuracy}, style, size=5, caps=0.14, part="end")
            above: dict[str, Any] = {"xytext": (0, 6), "textcoords": "offset points", "va": "bottom", "fontsize": 6.5}
            weight = "bold" if measurement.random else "normal"
            right.annotate(measurement.label, (CHANCE + 0.01, row), **above, fontweight=weight, gid=f"{style.key}-name")
        for boundary in range(1, rows):
            left.axhline(boundary - 0.5, color="0.85", linewidth=0.4, zorder=0)
        left.set_yticks(range(rows), order)
        left.set_ylim(rows - 0.5, -0.5)
        right.set_yticks([])
        right.set_ylim(max(len(measurements), _LEAST_ROWS) - 0.5, -0.7)
        for ax in (left, right):
            ax.axvline(CHANCE, color="0.5", linewidth=0.7, linestyle=":", zorder=0)
            ax.set_xlim(0, 1)
            set_fraction_ticks(ax)
            ax.set_xlabel("accuracy (95% interval)")
            ax.tick_params(axis="y", length=0)
    return figure
