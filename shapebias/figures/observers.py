"""How observers are drawn in every picture: colour, marker and line, their order, and a value with its interval."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MultipleLocator

from runkit.figures import COLOURS
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.shape_bias import Measurement
from shapebias.stimuli.categories import CATEGORIES

__all__ = [
    "PEOPLE_COLOUR",
    "Style",
    "choose_style",
    "choose_styles",
    "draw_estimates",
    "draw_persons",
    "in_lines",
    "is_people",
    "order_categories",
    "rank",
    "set_fraction_ticks",
]

_LINE = 46
"""Letters of a label that fit into a line of the narrowest picture."""

_BELOW = 0.33
"""Rows between people's interval and the ticks of single persons."""

PEOPLE_COLOUR = "#A51E37"
_RANDOM_COLOUR = "#8A8A8A"
# Red is left to people. Six colours and seven markers have no common factor: 42 observers differ in one or the other.
_MARKERS = ("o", "s", "^", "v", "P", "X", "p")


@dataclass(frozen=True)
class Style:
    """How an observer is drawn.

    Attributes:
        key: What the ids of its elements in an SVG begin with.
        colour, marker, line: As matplotlib takes them.
        filled: Whether the marker is filled, with a white edge, or hollow.
    """

    key: str
    colour: str
    marker: str
    line: Any = "-"
    filled: bool = True

    @property
    def of_marker(self) -> dict[str, Any]:
        """Options of `Axes.plot` for markers without a line."""
        face, edge = (self.colour, "white") if self.filled else ("white", self.colour)
        return {"linestyle": "none", "marker": self.marker, "markerfacecolor": face, "markeredgecolor": edge}

    def make_legend_handle(self, label: str) -> Line2D:
        """Line and marker together, for a legend."""
        options = self.of_marker | {"linestyle": self.line, "markeredgecolor": self.colour}
        return Line2D([], [], color=self.colour, linewidth=1.1, markersize=4.5, label=label, **options)


def choose_style(index: int, *, random: bool = False) -> Style:
    """Colour and marker of the observer number `index`; random weights are grey and hollow."""
    key, marker = f"observer-{index}", _MARKERS[index % len(_MARKERS)]
    if random:
        return Style(key, _RANDOM_COLOUR, marker, line=(0, (2, 2)), filled=False)
    return Style(key, COLOURS[index % len(COLOURS)], marker)


def choose_styles(measurements: Sequence[Measurement]) -> dict[str, Style]:
    """The style of each observer, by name: people are red diamonds, and do not use up a colour."""
    networks = itertools.count()
    return {
        measurement.name: Style("observer-people", PEOPLE_COLOUR, "D")
        if is_people(measurement)
        else choose_style(next(networks), random=measurement.random)
        for measurement in measurements
    }


def is_people(measurement: Measurement) -> bool:
    """Whether a measurement is of people pooled."""
    return measurement.kind == "people"


def rank(measurement: Measurement, key: str = "shape_bias") -> tuple[bool, bool, float]:
    """For sorting: people, then trained networks, then untrained ones; each by the measure `key`, highest first."""
    value = getattr(measurement, key).value
    return (not is_people(measurement), measurement.random, 1.0 if value is None else -value)


def order_categories(measurements: Sequence[Measurement], key: str = "shape_bias") -> list[str]:
    """Categories by people's value of the measure `key`, highest first, else by the mean of all observers."""
    judges = [m for m in measurements if is_people(m)] or list(measurements)

    def mean(category: str) -> float:
        found = [m.categories[category][key].value for m in judges if category in m.categories]
        defined = [value for value in found if value is not None]
        return sum(defined) / len(defined) if defined else 0.0

    return sorted(CATEGORIES, key=lambda category: -mean(category))


def in_lines(label: str) -> str:
    """An observer's label for a picture: one that is too long for a line is broken between words."""
    return "\n".join(textwrap.wrap(label, _LINE, break_long_words=False, break_on_hyphens=False))


def draw_estimates(
    ax: Axes,
    estimates: Mapping[float, Estimate],
    style: Style,
    *,
    size: float = 4.0,
    width: float = 0.8,
    caps: float = 0.0,
    part: str = "points",
) -> None:
    """Draw values with their intervals, one row each.

    Args:
        estimates: Row -> estimate; one without a value is left out, one without an interval is a marker alone.
        style: Style of the observer.
        size: Size of the markers, in points.
        width: Width of the lines that are the intervals, in points.
        caps: Half the height of the ends of the intervals, in rows, which are seen beside a marker that covers one.
        part: What the markers are called in an SVG, after the observer's key.
    """
    bounded = {row: e for row, e in estimates.items() if e.low is not None and e.high is not None}
    lows, highs = [e.low for e in bounded.values()], [e.high for e in bounded.values()]
    name = f"{style.key}-{part}"
    ax.hlines(list(bounded), lows, highs, color=style.colour, linewidth=width, zorder=3, gid=f"{name}-intervals")
    if caps:
        rows = np.repeat(np.array(list(bounded), float), 2)
        ends = np.ravel([[low, high] for low, high in zip(lows, highs, strict=True)])
        ax.vlines(ends, rows - caps, rows + caps, color=style.colour, linewidth=width, zorder=3, gid=f"{name}-caps")
    defined = {row: e.value for row, e in estimates.items() if e.value is not None}
    ax.plot(
        list(defined.values()),
        list(defined),
        **style.of_marker,
        markersize=size,
        markeredgewidth=0.4,
        clip_on=False,
        zorder=4,
        gid=name,
    )


def draw_persons(ax: Axes, persons: Sequence[Measurement], key: str, row: float, style: Style) -> None:
    """Draw each person's value of the measure `key` as a small tick below people's interval."""
    values = [value for person in persons if (value := getattr(person, key).value) is not None]
    ax.plot(values, [row + _BELOW] * len(values), "|", color=style.colour, markersize=4, markeredgewidth=0.5,
            gid=f"{style.key}-persons-{key}")  # fmt: skip


def set_fraction_ticks(ax: Any) -> None:
    """Ticks of a fraction on the x axis of axes or of a secondary axis."""
    ax.xaxis.set_major_locator(MultipleLocator(0.2))
    ax.xaxis.set_minor_locator(MultipleLocator(0.1))
    # whole numbers without decimals; 1 - x turns 0 into a tiny number of either sign
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 6) + 0.0:g}"))
