"""Pictures of reliance: curves against the strength of a suppression, bars per cue, what was done to an image."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH, axes_or_new, new_figure
from shapebias.figures.observers import Style, choose_style
from shapebias.measures.reliance import Reliance, ReliancePoint
from shapebias.measures.suppression_control import CONTROLS, ControlPoint
from shapebias.stimuli.suppressions import CUES, SUPPRESSIONS

__all__ = [
    "draw_control",
    "draw_reliance",
    "draw_reliance_curves",
    "draw_suppressions",
    "left_of",
    "plot_reliance",
    "plot_reliance_curve",
    "styled",
]

_COLUMNS = 4  # of panels on a page; two in one column of a paper
_NAME_WIDTH = 0.85  # inches, of the names next to images
_ROOM = 20  # characters that fit under a panel


def plot_reliance(measured: Sequence[Reliance], *, ax: Axes | None = None) -> Axes:
    """Reliance per cue as bars with their 95% intervals, one group of bars per cue and one bar per network.

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
                x, values, width * 0.92, color=style.colour, label=one.label, yerr=errors,
                error_kw={"linewidth": 0.8, "ecolor": "0.2"},
            )  # fmt: skip
            for bar, cue in zip(bars, (cue for cue in cues if cue in one.reliance), strict=True):
                bar.set_gid(f"{style.key}-bar-{cue}")
            if bars.errorbar is not None:
                bars.errorbar.lines[2][0].set_gid(f"{style.key}-intervals")
        axes.set_xticks(range(len(cues)), cues)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(f"reliance (1 - mean {left_of(measured)})")
        axes.axhline(0, color="0.2", linewidth=0.6)
    return axes


def draw_reliance(measured: Sequence[Reliance], *, width_in: float = PAGE_WIDTH / 2) -> Figure:
    """`plot_reliance` as a figure, with a legend of the networks below."""
    with new_figure(width_in, 2.4 + 0.17 * len(measured)) as figure:
        ax = plot_reliance(measured, ax=figure.subplots())
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return figure


def plot_reliance_curve(measured: Sequence[Reliance], suppression: str, *, ax: Axes | None = None) -> Axes:
    """Relative accuracy against the strength of one suppression, with 95% intervals as bands.

    The first point (–) is the images as they are. Without labels the share of unchanged answers is drawn.

    Args:
        measured: At least one network.
        suppression: Name of the suppression.
        ax: Axes to draw on; new ones if None.
    """
    with axes_or_new(ax) as axes:
        for one, style in styled(measured):
            points = _points(one, suppression)
            x, middle, low, high = _curve(points)
            axes.plot(x, middle, color=style.colour, linestyle=style.line, marker=style.marker, label=one.label,
                      markersize=2.8, gid=f"{style.key}-{suppression}")  # fmt: skip
            axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0,
                              gid=f"{style.key}-{suppression}-band")  # fmt: skip
        _label_strengths(axes, [point.strength for point in _points(measured[0], suppression)], suppression)
        axes.axhline(0, color="0.5", linewidth=0.6, linestyle=":")
        axes.set_ylim(top=max(1.05, min(axes.get_ylim()[1], 1.4)))
    return axes


def draw_reliance_curves(measured: Sequence[Reliance], *, width_in: float = PAGE_WIDTH) -> Figure:
    """All suppressions, one panel each, with a legend of the networks below."""
    names = list(dict.fromkeys(point.suppression for point in measured[0].points if point.suppression))
    columns = min(_COLUMNS if width_in > COLUMN_WIDTH else 2, len(names))
    rows = -(-len(names) // columns)
    together = 3 if width_in > COLUMN_WIDTH else 1
    with new_figure(width_in, 1.65 * rows + 0.2 + 0.17 * -(-len(measured) // together)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, name in itertools.zip_longest(axes.flat, names):
            if name is None:
                ax.set_axis_off()
            else:
                plot_reliance_curve(measured, name, ax=ax)
        for ax in axes[:, 0]:
            ax.set_ylabel(left_of(measured))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=together)
    return figure


def draw_control(control: Sequence[ControlPoint], *, width_in: float = PAGE_WIDTH) -> Figure:
    """What suppressions leave of the images themselves: one panel each, one line per measure.

    Args:
        control: Control of every variant; the first is the images as they are.
        width_in: Width in inches.
    """
    names = list(dict.fromkeys(point.suppression for point in control if point.suppression))
    columns = min(_COLUMNS if width_in > COLUMN_WIDTH else 2, len(names))
    rows = -(-len(names) // columns)
    with new_figure(width_in, 1.6 * rows + 0.4) as figure:
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
            ax.set_ylabel("left of the image")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_suppressions(images: Mapping[str, np.ndarray], *, width_in: float = PAGE_WIDTH) -> Figure:
    """The same image under every suppression, so that a reader sees what was done: a row each, from weak to strong.

    Every row begins with the image as it is (–). In one column of a paper at most four strengths are shown.

    Args:
        images: Label of the variant -> uint8 (H, W, 3); "none" is the image as it is.
        width_in: Width in inches.
    """
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for label, shown in images.items():
        name, _, strength = label.rpartition("-")
        if name:
            rows.setdefault(name, []).append((strength, shown))
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
            row[0].text(-0.08, 0.5, name.replace("-patch", "\n-patch").replace("-grey", "\n-grey").lstrip("\n"),
                        transform=row[0].transAxes, ha="right", va="center", fontsize=6.5)  # fmt: skip
    return figure


def _some(shown: list[tuple[str, np.ndarray]], count: int) -> list[tuple[str, np.ndarray]]:
    """At most this many of them, the last one included."""
    chosen = {round((index + 1) * len(shown) / min(count, len(shown))) - 1 for index in range(min(count, len(shown)))}
    return [one for index, one in enumerate(shown) if index in chosen]


def _label_strengths(axes: Axes, strengths: Sequence[float | None], suppression: str) -> None:
    """Title and horizontal axis of a suppression's panel."""
    labels = ["–" if strength is None else f"{strength:g}" for strength in strengths]
    if sum(map(len, labels)) > _ROOM:
        labels[1::2] = [""] * len(labels[1::2])
    axes.set_xticks(range(len(labels)), labels)
    axes.set_title(suppression)
    axes.set_xlabel(SUPPRESSIONS[suppression].axis if suppression in SUPPRESSIONS else "strength")


def styled(measured: Sequence[Reliance]) -> list[tuple[Reliance, Style]]:
    """Each network with its colour and marker."""
    return [(one, choose_style(index, random=one.random)) for index, one in enumerate(measured)]


def _points(one: Reliance, suppression: str) -> list[ReliancePoint]:
    return [point for point in one.points if point.suppression in ("", suppression)]


def _curve(points: Sequence[ReliancePoint]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, values and ends of the intervals; NaN where a value is not defined."""
    rows = [[one.value, one.low, one.high] if (one := point.left) else [None] * 3 for point in points]
    values = np.array(rows, float).reshape(-1, 3)
    return np.arange(len(rows)), values[:, 0], values[:, 1], values[:, 2]


def left_of(measured: Sequence[Reliance]) -> str:
    """What curves show, in words."""
    return "unchanged answers" if measured[0].chance is None else "relative accuracy"
