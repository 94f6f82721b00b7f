"""The picture of experiments with one cue: how often the object is named, category by category and overall."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shapebias.figures.shape_bias import RC, Style, choose_styles, order_categories, rank, set_fraction_ticks
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.shape_bias import Measurement
from shapebias.stimuli.categories import CATEGORIES

__all__ = ["draw_accuracy"]

CHANCE = 1 / len(CATEGORIES)


def draw_accuracy(
    measurements: Sequence[Measurement], *, persons: Sequence[Measurement] = (), width_in: float = 7.0
) -> Figure:
    """Accuracy with its 95% interval: left a row for each category, right one for each observer over all images.

    Categories are ordered by people's accuracy (without people by the mean), observers by their own, people first and
    random weights last; a dotted line is chance.

    Args:
        measurements: One for each observer, people pooled.
        persons: Single people, drawn as small ticks beside the pooled value.
        width_in: Width in inches.
    """
    with matplotlib.rc_context(RC):
        styles = choose_styles(measurements)
        measurements = sorted(measurements, key=lambda measurement: rank(measurement, "accuracy"))
        rows = len(CATEGORIES)
        figure = Figure(figsize=(width_in, 1.2 + 0.26 * rows), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        order = order_categories(measurements, "accuracy")
        offsets = np.linspace(-0.3, 0.3, len(measurements)) if len(measurements) > 1 else [0.0]
        for measurement, offset in zip(measurements, offsets, strict=True):
            style = styles[measurement.name]
            for row, category in enumerate(order):
                if category in measurement.categories:
                    _draw_estimate(left, measurement.categories[category]["accuracy"], row + offset, style, size=3)
        left.set_yticks(range(rows), order)
        left.set_ylim(rows - 0.5, -0.5)
        for boundary in range(1, rows):
            left.axhline(boundary - 0.5, color="0.85", linewidth=0.4, zorder=0)
        for row, measurement in enumerate(measurements):
            style = styles[measurement.name]
            if measurement.kind == "people":
                singles = [person.accuracy.value for person in persons]
                right.plot(singles, [row] * len(singles), "|", color=style.colour, markersize=6, markeredgewidth=0.4)
            _draw_estimate(right, measurement.accuracy, row, style, size=5)
            bold = "bold" if measurement.random else "normal"
            at = {"xytext": (0, 6), "textcoords": "offset points", "va": "bottom"}
            right.annotate(measurement.label, (0.01, row), fontsize=6.5, fontweight=bold, **at)
        right.set_yticks([])
        right.set_ylim(max(len(measurements), 8) - 0.5, -0.7)
        for ax in (left, right):
            ax.axvline(CHANCE, color="0.5", linewidth=0.7, linestyle=":", zorder=0)
            ax.set_xlim(0, 1)
            set_fraction_ticks(ax)
            ax.set_xlabel("accuracy (95% interval)")
            ax.tick_params(axis="y", length=0)
            ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_estimate(ax: Axes, estimate: Estimate, row: float, style: Style, *, size: float) -> None:
    """A marker with its interval."""
    assert estimate.value is not None  # every image has an answer
    if estimate.low is not None and estimate.high is not None:
        ax.plot([estimate.low, estimate.high], [row] * 2, color=style.colour, linewidth=0.8, zorder=3)
    ax.plot(
        [estimate.value],
        [row],
        **style.of_marker,
        markersize=size,
        markeredgewidth=0.3,
        clip_on=False,
        zorder=4,
    )
