"""Figures of reliance: curves against the strength of a suppression, bars per cue, and suppressed images."""

import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from runkit.figure_text import fit_words, text_width
from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH, STYLE, axes_or_new, new_figure
from shapebias.figures.observers import Style, choose_style
from shapebias.measures.reliance import Reliance, ReliancePoint
from shapebias.measures.suppression_control import CONTROLS, ControlPoint
from shapebias.stimuli.suppressions import CUES, SUPPRESSIONS

__all__ = [
    "UNDEFINED",
    "draw_control",
    "draw_reliance",
    "draw_reliance_curves",
    "draw_suppressions",
    "left_of",
    "plot_reliance",
    "plot_reliance_curve",
    "styled",
]

_COLUMNS = 4  # number of panels side by side on a page; in one column of a paper it is two
_NAME_WIDTH = 0.85  # inches: width of the names next to images
_LEAST_RANGE = 0.2  # of the axis of reliance, which may be 0 for all cues
_ROOM = 20  # number of characters of tick labels that fit under a panel
_PANEL_SHARE = 0.7  # share of a panel's width in the figure that its title may take
_AS_IT_IS = "first point (–): the image as it is"
_ONLY = "yes"  # label of the strength of a suppression that has only one
UNDEFINED = "not defined: without suppression, the accuracy is not reliably above chance"
"""Explanation for figures of why a network has no reliance."""


def plot_reliance(measured: Sequence[Reliance], *, ax: Axes | None = None) -> Axes:
    """Plot reliance per cue as bars with 95% intervals, one group of bars per cue and one bar per network.

    If no network has a reliance, because none is better than chance, the panel says so.

    Args:
        measured: At least one network; all measured on the same suppressions.
        ax: Axes to draw on; new ones if None.

    Returns: The Axes.
    """
    cues = [cue for cue in CUES if any(cue in one.reliance for one in measured)]
    width = 0.8 / len(measured)
    with axes_or_new(ax) as axes:
        for index, (one, style) in enumerate(styled(measured)):
            known = [(at, one.reliance[cue]) for at, cue in enumerate(cues) if cue in one.reliance]
            x = [at + (index - (len(measured) - 1) / 2) * width for at, _ in known]
            values = [estimate.value or 0.0 for _, estimate in known]
            errors = np.abs(np.array([[e.low, e.high] for _, e in known], float).T - values) if known else None
            bars = axes.bar(
                x, values, width * 0.92, color=style.colour, label=_name(one), yerr=errors,
                error_kw={"linewidth": 0.8, "ecolor": "0.2"},
            )  # fmt: skip
            for bar, cue in zip(bars, (cue for cue in cues if cue in one.reliance), strict=True):
                bar.set_gid(f"{style.key}-bar-{cue}")
            if bars.errorbar is not None:
                bars.errorbar.lines[2][0].set_gid(f"{style.key}-intervals")
        axes.set_xticks(range(len(cues)), cues)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(f"reliance (1 − mean {left_of(measured)})")
        axes.axhline(0, color="0.2", linewidth=0.6)
        low, high = axes.get_ylim()
        axes.set_ylim(low, max(high, low + _LEAST_RANGE))
        if not cues:
            axes.set_ylim(0, 1)
            _say_undefined(axes, width=40)
    return axes


def draw_reliance(measured: Sequence[Reliance], *, width_in: float = PAGE_WIDTH / 2) -> Figure:
    """Draw `plot_reliance` as a figure, with a legend of the networks below."""
    with new_figure(width_in, 2.4 + 0.17 * len(measured)) as figure:
        ax = plot_reliance(measured, ax=figure.subplots())
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


def plot_reliance_curve(measured: Sequence[Reliance], suppression: str, *, ax: Axes | None = None) -> Axes:
    """Plot relative accuracy against the strength of one suppression, with 95% intervals as bands.

    The first point (–) stands for the original images. Without labels, the share of unchanged answers is plotted.
    Networks that are not better than chance have no curve; if there is no curve at all, the panel says why.

    Args:
        measured: At least one network.
        suppression: Name of the suppression.
        ax: Axes to draw on; new ones if None.
    """
    with axes_or_new(ax) as axes:
        for one, style in styled(measured):
            points = _points(one, suppression)
            x, middle, low, high = _curve(points)
            axes.plot(x, middle, color=style.colour, linestyle=style.line, marker=style.marker, label=_name(one),
                      markersize=2.8, gid=f"{style.key}-{suppression}")  # fmt: skip
            axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0,
                              gid=f"{style.key}-{suppression}-band")  # fmt: skip
        _label_strengths(axes, [point.strength for point in _points(measured[0], suppression)], suppression)
        axes.axhline(0, color="0.5", linewidth=0.6, linestyle=":")
        axes.set_ylim(top=max(1.05, min(axes.get_ylim()[1], 1.4)))
        if not any(point.left for one in measured for point in _points(one, suppression)):
            axes.set_ylim(0, 1.05)
            _say_undefined(axes, width=18)
    return axes


def draw_reliance_curves(measured: Sequence[Reliance], *, width_in: float = PAGE_WIDTH) -> Figure:
    """Draw the curves of all suppressions, one panel each, with a legend of the networks below."""
    names = list(dict.fromkeys(point.suppression for point in measured[0].points if point.suppression))
    columns = min(_COLUMNS if width_in > COLUMN_WIDTH else 2, len(names))
    rows = -(-len(names) // columns)
    together = _legend_columns([*map(_name, measured), _AS_IT_IS], width_in)
    with new_figure(width_in, 1.65 * rows + 0.2 + 0.17 * -(-(len(measured) + 1) // together)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, name in itertools.zip_longest(axes.flat, names):
            if name is None:
                ax.set_axis_off()
            else:
                plot_reliance_curve(measured, name, ax=ax)
        for ax in axes[:, 0]:
            ax.set_ylabel(left_of(measured))
        _fit_titles(axes.flat, width_in / columns)
        _add_legend(figure, axes[0, 0], columns=together)
    return figure


def draw_control(control: Sequence[ControlPoint], *, width_in: float = PAGE_WIDTH) -> Figure:
    """Draw what suppressions leave of the images themselves: one panel per suppression, one line per measure.

    Args:
        control: Measures of every variant; the first is the original images.
        width_in: Width in inches.
    """
    names = list(dict.fromkeys(point.suppression for point in control if point.suppression))
    together = _legend_columns([*(name.replace("_", " ") for name in CONTROLS), _AS_IT_IS], width_in)
    columns = min(_COLUMNS if width_in > COLUMN_WIDTH else 2, len(names))
    rows = -(-len(names) // columns)
    with new_figure(width_in, 1.6 * rows + 0.17 * -(-(len(CONTROLS) + 1) // together)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, name in itertools.zip_longest(axes.flat, names):
            if name is None:
                ax.set_axis_off()
                continue
            points = [point for point in control if point.suppression in ("", name)]
            for index, measure in enumerate(CONTROLS):
                style = choose_style(index)
                values = [estimate.value if (estimate := point.left[measure]) else None for point in points]
                ax.plot(range(len(points)), np.array(values, float), color=style.colour, linestyle=style.line,
                        marker=style.marker, markersize=2.8, label=measure.replace("_", " "))  # fmt: skip
            ax.axhline(1, color="0.5", linewidth=0.6, linestyle=":", zorder=0)
            _label_strengths(ax, [point.strength for point in points], name)
        for ax in axes[:, 0]:
            ax.set_ylabel("relative to the\nimage as it is")
        _fit_titles(axes.flat, width_in / columns)
        _add_legend(figure, axes[0, 0], columns=together)
    return figure


def draw_suppressions(images: Mapping[str, np.ndarray], *, width_in: float = PAGE_WIDTH) -> Figure:
    """Draw the same image under every suppression, to illustrate their effect: a row each, from weak to strong.

    Every row begins with the original image (–). The number above an image is the strength of the suppression, in the
    unit beside the row. In one column of a paper, at most four strengths are shown.

    Args:
        images: Label of the variant -> uint8 (H, W, 3); "none" is the original image.
        width_in: Width in inches.
    """
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for label, shown in images.items():
        name, _, strength = label.rpartition("-")
        if name:
            rows.setdefault(name, []).append((strength, shown))
    rows = {name: shown if len(shown) > 1 else [(_ONLY, shown[0][1])] for name, shown in rows.items()}
    if width_in <= COLUMN_WIDTH:
        rows = {name: _some(shown, 4) for name, shown in rows.items()}
    columns = 1 + max(map(len, rows.values()))
    side = (width_in - _NAME_WIDTH) / columns
    height, width = images["none"].shape[:2]
    with new_figure(width_in, len(rows) * (side * height / width + 0.13)) as figure:
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for row, (name, strengths) in zip(axes, rows.items(), strict=True):
            for ax, one in itertools.zip_longest(row, [("–", images["none"]), *strengths]):
                ax.set_axis_off()
                if one is not None:
                    ax.imshow(one[1])
                    ax.set_title(one[0], fontsize=6, pad=1.5)
            words = name.replace("-patch", "\n-patch").replace("-grey", "\n-grey").lstrip("\n")
            beside = {"transform": row[0].transAxes, "ha": "right"}
            row[0].text(-0.08, 0.52, words, **beside, va="bottom", fontsize=6.5)
            unit = SUPPRESSIONS[name].axis if name in SUPPRESSIONS and len(strengths) > 1 else ""
            row[0].text(-0.08, 0.48, unit, **beside, va="top", fontsize=5.5, color="0.35")
    return figure


def _some(shown: list[tuple[str, np.ndarray]], count: int) -> list[tuple[str, np.ndarray]]:
    """Choose at most `count` of the images, evenly spread and including the last one."""
    chosen = {round((index + 1) * len(shown) / min(count, len(shown))) - 1 for index in range(min(count, len(shown)))}
    return [one for index, one in enumerate(shown) if index in chosen]


def _label_strengths(axes: Axes, strengths: Sequence[float | None], suppression: str) -> None:
    """Set the title and the horizontal axis of a suppression's panel."""
    labels = ["–" if strength is None else f"{strength:g}" for strength in strengths]
    if len(labels) == 2:
        labels[1] = _ONLY
    if sum(map(len, labels)) > _ROOM:
        labels[1::2] = [""] * len(labels[1::2])
    axes.set_xticks(range(len(labels)), labels)
    axes.set_title(suppression)
    axes.set_xlabel(SUPPRESSIONS[suppression].axis if suppression in SUPPRESSIONS else "strength")


def _fit_titles(panels: Iterable[Axes], width_in: float) -> None:
    """Break the titles of panels, each of which has a share of `width_in` inches of the figure's width."""
    for ax in panels:
        if not ax.get_title():
            continue
        words, size = fit_words(ax.get_title(), 72 * _PANEL_SHARE * width_in, size=STYLE["axes.titlesize"])
        ax.set_title(words, fontsize=size)


def _add_legend(figure: Figure, ax: Axes, *, columns: int) -> None:
    """Add a legend below all panels, which explains the lines of a panel and its first point."""
    handles, labels = ax.get_legend_handles_labels()
    handles.append(Line2D([], [], linestyle="none"))
    labels.append(_AS_IT_IS)
    size = min(STYLE["legend.fontsize"], 72 * figure.get_figwidth() / (columns * _width_of(labels)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=size)


def _legend_columns(labels: Sequence[str], width_in: float) -> int:
    """Number of columns of a legend that fit a width in inches, at most three."""
    return max(1, min(3, int(72 * width_in / (STYLE["legend.fontsize"] * _width_of(labels)))))


def _width_of(labels: Sequence[str]) -> float:
    """Width of a column of a legend, including handles and gaps, divided by the font size."""
    return max(map(text_width, labels)) + 5.0


def _name(one: Reliance) -> str:
    """A network's name in a legend, with a note if it has no reliance."""
    return one.label if one.reliance or one.areas else f"{one.label}: no better than chance"


def _say_undefined(ax: Axes, *, width: int) -> None:
    """Write into an empty panel why it is empty, in lines of at most `width` letters."""
    ax.text(
        0.5, 0.5, textwrap.fill(UNDEFINED, width), transform=ax.transAxes, ha="center", va="center", fontsize=6,
        color="0.35",
    )  # fmt: skip


def styled(measured: Sequence[Reliance]) -> list[tuple[Reliance, Style]]:
    """Return each network with its style."""
    return [(one, choose_style(index, random=one.random)) for index, one in enumerate(measured)]


def _points(one: Reliance, suppression: str) -> list[ReliancePoint]:
    return [point for point in one.points if point.suppression in ("", suppression)]


def _curve(points: Sequence[ReliancePoint]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, values and ends of the intervals; NaN where a value is not defined."""
    rows = [[one.value, one.low, one.high] if (one := point.left) else [None] * 3 for point in points]
    values = np.array(rows, float).reshape(-1, 3)
    return np.arange(len(rows)), values[:, 0], values[:, 1], values[:, 2]


def left_of(measured: Sequence[Reliance]) -> str:
    """Return the name of the quantity that the curves show."""
    return "unchanged answers" if measured[0].chance is None else "relative accuracy"
