"""How figures show observers: colour, marker and line, their order, and values with intervals."""

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
"""Number of letters of a label that fit into a line of the narrowest figure."""

_BELOW = 0.33
"""Distance, in rows, between the interval of people and the ticks of single persons."""

PEOPLE_COLOUR = "#A51E37"
_RANDOM_COLOUR = "#8A8A8A"
# Red is reserved for people. Ten colours and seven markers have no common factor, so 70 networks can be told apart.
_MARKERS = ("o", "s", "^", "v", "P", "X", "p")


@dataclass(frozen=True)
class Style:
    """How an observer is drawn.

    Attributes:
        key: Prefix of the ids of its elements in an SVG.
        colour, marker, line: As in matplotlib.
        filled: Whether the marker is filled, with a white edge; otherwise it is hollow.
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
        """Make a legend entry with line and marker."""
        options = self.of_marker | {"linestyle": self.line, "markeredgecolor": self.colour}
        return Line2D([], [], color=self.colour, linewidth=1.1, markersize=4.5, label=label, **options)


def choose_style(index: int, *, random: bool = False) -> Style:
    """Return the style of the network number `index`; networks with random weights are grey with hollow markers."""
    key, marker = f"observer-{index}", _MARKERS[index % len(_MARKERS)]
    if random:
        return Style(key, _RANDOM_COLOUR, marker, line=(0, (2, 2)), filled=False)
    return Style(key, COLOURS[index % len(COLOURS)], marker)


def choose_styles(measurements: Sequence[Measurement]) -> dict[str, Style]:
    """Return the style of each observer, by name. People are red diamonds, and take no colour from the networks."""
    networks = itertools.count()
    return {
        measurement.name: Style("observer-people", PEOPLE_COLOUR, "D")
        if is_people(measurement)
        else choose_style(next(networks), random=measurement.random)
        for measurement in measurements
    }


def is_people(measurement: Measurement) -> bool:
    """Whether a measurement is that of pooled people."""
    return measurement.kind == "people"


def rank(measurement: Measurement, key: str = "shape_bias") -> tuple[bool, bool, float]:
    """Sort key: people, then trained networks, then untrained ones; each by the measure `key`, highest first."""
    value = getattr(measurement, key).value
    return (not is_people(measurement), measurement.random, 1.0 if value is None else -value)


def order_categories(measurements: Sequence[Measurement], key: str = "shape_bias") -> list[str]:
    """Order categories by the measure `key` of people, or else by its mean over all observers, highest first.

    Categories of which no observer saw an image are left out, as for a head that does not cover them.
    """
    judges = [m for m in measurements if is_people(m)] or list(measurements)

    def mean(category: str) -> float:
        found = [m.categories[category][key].value for m in judges if category in m.categories]
        defined = [value for value in found if value is not None]
        return sum(defined) / len(defined) if defined else 0.0

    seen = [one for one in CATEGORIES if any(one in m.categories for m in measurements)]
    return sorted(seen or CATEGORIES, key=lambda category: -mean(category))


def in_lines(label: str) -> str:
    """Break an observer's label between words if it is too long for a line of a figure."""
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
        ax: Axes to draw on.
        estimates: Row -> estimate. One without a value is left out; one without an interval is only a marker.
        style: Style of the observer.
        size: Size of the markers, in points.
        width: Line width of the intervals, in points.
        caps: Half the height of the caps of intervals, in rows, which are visible even if the marker covers the
            interval.
        part: Id of the markers in an SVG, after the observer's key.
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
    """Draw each person's value of the measure `key` as a small tick below the interval of people."""
    values = [value for person in persons if (value := getattr(person, key).value) is not None]
    ax.plot(values, [row + _BELOW] * len(values), "|", color=style.colour, markersize=4, markeredgewidth=0.5,
            gid=f"{style.key}-persons-{key}")  # fmt: skip


def set_fraction_ticks(ax: Any) -> None:
    """Set the ticks of a fraction on the x axis of axes or of a secondary axis."""
    ax.xaxis.set_major_locator(MultipleLocator(0.2))
    ax.xaxis.set_minor_locator(MultipleLocator(0.1))
    # no decimals for whole numbers; rounding removes the errors of 1 - x, and adding 0.0 the sign of -0
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value, 6) + 0.0:g}"))
