"""Common parts of the benchmark's figures: styles of observers, panels laid out in inches, and a legend below."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runkit.figures import PAGE_WIDTH, new_figure
from shapebias.figures.observers import PEOPLE_COLOUR, Style, choose_style
from shapebias.results.benchmark_content import BenchmarkMeasures

__all__ = ["PEOPLE", "Panels", "add_legend", "benchmark_styles", "legend_height", "name_network", "panels"]

PEOPLE = Style("observer-people", PEOPLE_COLOUR, "D")
_ROW = 0.14  # inches: height of a line of the legend
_LETTER = 0.052  # inches: mean width of a letter of the legend


@dataclass(frozen=True)
class Panels:
    """A grid of panels.

    Attributes:
        figure: The figure that holds them.
        axes: Array (rows, columns) of Axes; None in places without a panel.
    """

    figure: Figure
    axes: np.ndarray

    @property
    def all(self) -> list[Axes]:
        """All panels, row by row."""
        return [ax for ax in self.axes.flat if ax is not None]

    def is_left(self, ax: Axes) -> bool:
        """Whether a panel is the first of its row."""
        return any(row[0] is ax for row in self.axes)

    def is_bottom(self, ax: Axes) -> bool:
        """Whether there is no panel below a panel."""
        row, column = next((i, j) for (i, j), one in np.ndenumerate(self.axes) if one is ax)
        return row + 1 == len(self.axes) or self.axes[row + 1, column] is None


def benchmark_styles(content: BenchmarkMeasures) -> dict[str, Style]:
    """Return the style of each network by its name, in the order of the file. The style of people is `PEOPLE`."""
    return {
        name: choose_style(index, random=network["random"])
        for index, (name, network) in enumerate(content["networks"].items())
    }


def name_network(content: BenchmarkMeasures, name: str) -> str:
    """Return the name of a network for figures, which says if datasets are missing and means are not comparable."""
    network, total = content["networks"][name], len(content["datasets"])
    count = len(network["datasets"])
    return network["label"] if count == total else f"{network['label']} ({count} of {total})"


@contextmanager
def panels(
    count: int,
    *,
    columns: int,
    width: float,
    height: float,
    left: float,
    right: float = 0.08,
    bottom: float = 0.35,
    top: float = 0.2,
    gap: tuple[float, float] = (0.15, 0.3),
    footer: float = 0.0,
    shared: bool = False,
) -> Iterator[Panels]:
    """Make a figure of equal panels, laid out by hand: faster than a layout engine, and the same on every machine.

    Args:
        count: Number of panels.
        columns: Number of panels in a row.
        width: Width of the figure. All lengths are in inches.
        height: Height of a panel.
        left, right, bottom, top: Margins around all panels.
        gap: Horizontal and vertical gap between panels.
        footer: Additional space at the bottom, for a legend.
        shared: Whether all panels have the same axes, so that only the outer ones need tick labels.
    """
    rows = math.ceil(count / columns)
    total = top + rows * height + (rows - 1) * gap[1] + bottom + footer
    across = (width - left - right - (columns - 1) * gap[0]) / columns
    with new_figure(width, total, layout=None) as figure:
        axes = np.full((rows, columns), None)
        for number in range(count):
            row, column = divmod(number, columns)
            x, y = left + column * (across + gap[0]), total - top - (row + 1) * height - row * gap[1]
            axes[row, column] = figure.add_axes((x / width, y / total, across / width, height / total))
        made = Panels(figure, axes)
        if shared:
            for ax in made.all:
                ax.tick_params(labelleft=made.is_left(ax), labelbottom=made.is_bottom(ax))
        yield made


def add_legend(figure: Figure, styles: Mapping[str, Style], content: BenchmarkMeasures, *, line: bool = True) -> None:
    """Add a legend of networks and people below the panels, in as many columns as fit.

    Args:
        figure: The figure with the panels.
        styles: Name of a network -> its style.
        content: Content of `benchmark.json`.
        line: Whether observers are drawn as lines with markers, or only as markers.
    """
    handles = [PEOPLE.make_legend_handle("people")]
    handles += [style.make_legend_handle(name_network(content, name)) for name, style in styles.items()]
    if not line:
        for handle in handles:
            handle.set_linestyle("none")
    columns = _legend_columns([str(handle.get_label()) for handle in handles], figure.get_figwidth())
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=columns,
        handlelength=2.2 if line else 1.0,
        columnspacing=1.2,
        labelspacing=0.3,
        borderaxespad=0.3,
    )


def legend_height(content: BenchmarkMeasures, width: float = PAGE_WIDTH) -> float:
    """Return the height of the legend, in inches."""
    labels = ["people", *(name_network(content, name) for name in content["networks"])]
    return 0.1 + _ROW * math.ceil(len(labels) / _legend_columns(labels, width))


def _legend_columns(labels: Sequence[str], width: float) -> int:
    longest = 0.45 + _LETTER * max(map(len, labels))
    return max(1, min(len(labels), int(width / longest)))
