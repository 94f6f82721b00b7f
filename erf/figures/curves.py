"""Curves of the receptive fields of several networks in one figure: mass against side, and the radial profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from erf.drawing import Drawing
from erf.figures.caption import OF_USER, caption, row_name
from erf.measures.bootstrap import Resampled
from erf.measures.centred import CentredSquares
from erf.results.files import ErfResult
from erf.results.tables import note_on_intervals
from runkit.figure_text import caption_height, fit_words, text_width, wrap_caption, write_caption
from runkit.figures import COLOURS, axes_or_new, new_figure

__all__ = ["draw_curves", "plot_mass_curves", "plot_radial_profiles", "profile_of"]

_LINES: tuple[Any, ...] = ("-", "-.", ":", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
_RANDOM: Any = "--"
_MOST_LINES = 8  # in one panel
_BESIDE = 5.0  # inches: width from which both panels fit side by side
_AXIS = 0.42  # inches below a panel
_LEGEND_ROW = 1.5  # height of a row of a legend over its font size
_LOWEST_SIDE = 5  # pixels at the left end of a logarithmic axis
_EVEN: dict[str, Any] = dict(color="0.5", linewidth=0.8, linestyle=":", zorder=1)
_LEGEND: dict[str, Any] = dict(handlelength=2.6, borderaxespad=0.0, labelspacing=0.35, columnspacing=1.2)
_KEY_SIZE = 6.5  # points
_HANDLE = 5.0  # width of an entry of a legend without its text, over its font size
_FIRST_RING = 2  # pixels: nearer to the centre, a ring has fewer than ten pixels, too few to estimate a density


def plot_mass_curves(results: Sequence[ErfResult], *, ax: Axes | None = None) -> Axes:
    """Plot the share of the contribution in centred squares against their side, with bands of intervals over images.

    Each network has a colour, or each size or stage of a single network. Lines are dashed for random weights and solid
    for all others. If several networks have the same sizes or stages, the line style shows these instead. A grey dotted
    line for each image size shows a map that is uniform over the image. The axis of the sides is logarithmic if all
    fields are small compared with the image.

    Args:
        results: At least one result.
        ax: Axes to draw on; new pyplot Axes if None.
    """
    with axes_or_new(ax) as ax:
        _draw_masses(ax, results, _choose_looks(results), results)
    return ax


def plot_radial_profiles(results: Sequence[ErfResult], *, ax: Axes | None = None, decades: float = 2.0) -> Axes:
    """Plot the mean of the map at each distance from the centre, over that of the whole map, on a logarithmic axis.

    Lines begin two pixels from the centre, because the centre pixel and the eight around it are too few to estimate a
    density.

    Args:
        results: At least one result.
        ax: Axes to draw on; new pyplot Axes if None.
        decades: Largest number of powers of ten shown below the peak of the flattest profile.
    """
    with axes_or_new(ax) as ax:
        _draw_profiles(ax, results, _choose_looks(results), results, decades)
    return ax


def _draw_masses(
    ax: Axes, results: Sequence[ErfResult], looks: Sequence["_Look"], together: Sequence[ErfResult]
) -> None:
    """Draw the curves of `results`, with axis limits that fit all results of the figure, `together`."""
    for index, (result, look) in enumerate(zip(results, looks, strict=True)):
        curve = result.measured.mass_curve
        _draw_curve(ax, 2 * np.arange(len(curve.estimate)) + 1, curve, result, look, f"mass-{index}")
    squares = dict.fromkeys(CentredSquares.around(result.contribution.shape, result.centre) for result in together)
    for around in squares:
        sides = np.geomspace(1, around.largest, 200)
        ax.plot(sides, around.ratio(sides), **_EVEN)
    largest = max(around.largest for around in squares)
    ax.set(
        xlabel="side of the centred square (pixels)", ylabel="share of the contribution", xlim=(0, largest), ylim=(0, 1)
    )
    if all(float(result.side(0.99)) < largest / 4 for result in together):
        ax.set_xscale("log")
        ax.set_xlim(_LOWEST_SIDE, largest)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter("{x:.0%}")


def _draw_profiles(
    ax: Axes,
    results: Sequence[ErfResult],
    looks: Sequence["_Look"],
    together: Sequence[ErfResult],
    decades: float = 2.0,
) -> None:
    """Draw the profiles of `results`, with axis limits that fit all results of the figure, `together`."""
    profiles = {id(result): _from_first_ring(profile_of(result)) for result in together}
    for index, (result, look) in enumerate(zip(results, looks, strict=True)):
        profile = profiles[id(result)]
        _draw_curve(ax, np.arange(len(profile.estimate)), profile, result, look, f"profile-{index}")
    positive = [profile.estimate[profile.estimate > 0] for profile in profiles.values()]
    peaks = [float(values.max()) for values in positive]
    lowest = min(float(values.min()) for values in positive)
    ax.axhline(1.0, **_EVEN)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    largest = max(min(result.contribution.shape) // 2 for result in together)
    ax.set(xlabel="distance from the centre (pixels)", ylabel="density relative to a uniform map", xlim=(0, largest))
    ax.set_ylim(max(lowest / 1.5, min(peaks) * 10.0**-decades), max(peaks) * 1.5)


def _from_first_ring(profile: Resampled) -> Resampled:
    """Remove the rings next to the centre from a profile, unless nothing positive would be left."""
    kept = np.arange(len(profile.estimate)) >= _FIRST_RING
    if not (profile.estimate[kept] > 0).any():
        return profile
    estimate, resamples = (np.where(kept, values, np.nan) for values in (profile.estimate, profile.resamples))
    return Resampled(estimate, resamples, profile.num_images)


def profile_of(result: ErfResult) -> Resampled:
    """Density at 0, 1, 2, ... pixels from the centre over that of a uniform map, for circles within the image."""
    profile, inside = result.measured.radial_profile, slice(0, min(result.contribution.shape) // 2)
    return Resampled(profile.estimate[inside], profile.resamples[:, inside], profile.num_images)


def draw_curves(results: Sequence[ErfResult], *, most: int = _MOST_LINES, **options: Any) -> Figure:
    """Draw a figure of the mass curves and the radial profiles, with a legend and a caption.

    Results are divided into rows of panels of about equal numbers of results; all rows have the same axis limits.

    Args:
        results: At least one result.
        most: Largest number of lines in one panel.
        options: `width`, `labels` and `caption` as in `erf.drawing.Drawing`.

    Raises: ValueError for an invalid option.
    """
    drawing = Drawing(**options)
    width = drawing.width_in or 7.2
    looks = _choose_looks(results)
    parts = _divide(results, most)
    beside = width >= _BESIDE
    across = width / 2 if beside else width
    panel = min(2.6, 0.8 * across)
    words = wrap_caption(
        "\n".join(filter(None, [caption(results, shares=(), labels=drawing.labels), note_on_intervals(results)])),
        width - 0.2,
    )
    foot = caption_height(words) + 0.12 if drawing.caption else 0.06
    names = [row_name(result, drawing) for result in results]
    fitted = [fit_words(name, 72 * (width - 0.6), size=7.0) for name in names]
    names, size = [name for name, _ in fitted], min(size for _, size in fitted)
    lines = [name.count("\n") + 1 for name in names]
    columns = _columns_for(names, 72 * (width - 0.16), size) if max(lines) == 1 else 1
    legends = [_height_of(sum(lines[part]), columns, size) + 0.06 for part in parts]
    key = _key(results, 72 * (width - 0.16))
    key_height = _height_of(len(key["handles"]), key["ncols"], _KEY_SIZE) + 0.06
    each = (1 if beside else 2) * (panel + _AXIS)
    height = len(parts) * each + sum(legends) + key_height + foot + 0.08
    with new_figure(width, height, layout=None) as figure:
        top = height - 0.08
        for part, legend in zip(parts, legends, strict=True):
            for column, draw in enumerate((_draw_masses, _draw_profiles)):
                left = column * across if beside else 0.0
                below = top - panel - (0 if beside else column * (panel + _AXIS))
                place = ((left + 0.6) / width, below / height, (across - 0.72) / width, panel / height)
                draw(ax := figure.add_axes(place), results[part], looks[part], results)
            top -= each
            handles, _ = ax.get_legend_handles_labels()
            figure.legend(
                handles, names[part], loc="upper left", bbox_to_anchor=(0.08 / width, top / height), fontsize=size,
                ncols=columns,
                **_LEGEND,
            )  # fmt: skip
            top -= legend
        figure.legend(**key, loc="upper left", bbox_to_anchor=(0.08 / width, top / height), **_LEGEND)
        if drawing.caption:
            write_caption(figure, (0.1 / width, 0.06 / height), words)
    return figure


def _divide(results: Sequence[ErfResult], most: int) -> list[slice]:
    """Divide results into rows of at most `most`, as evenly as possible with the results of a network together."""
    rows = -(-len(results) // most)
    each = -(-len(results) // rows)
    if _lines_are_kinds(results):
        kinds = len(_kinds(results))
        each = min(most, -(-each // kinds) * kinds)
        return [slice(i, i + each) for i in range(0, len(results), each)]
    parts, start = [], 0
    ends = [i + 1 for i, one in enumerate(results) if [*map(_network, results[i + 1 : i + 2])] != [_network(one)]]
    for end, next_end in zip(ends, [*ends[1:], len(results) + most], strict=True):
        if end - start >= each or next_end - start > most:
            step = most if end - start <= most else each  # a network with more results than a row holds
            parts += [slice(i, min(i + step, end)) for i in range(start, end, step)]
            start = end
    return parts


def _key(results: Sequence[ErfResult], points: float) -> dict[str, Any]:
    """Arguments of a grey legend that explains line styles and bands.

    Args:
        results: The results that are drawn.
        points: Available width in points.
    """
    grey: dict[str, Any] = {"color": "0.35", "linewidth": 1.2}
    handles: list[Any] = []
    if _weights_vary(results):
        given = any(result.provenance["weights"].get("source") in OF_USER for result in results)
        handles += [Line2D([], [], **grey, label="weights as given" if given else "trained weights"),
                    Line2D([], [], **grey, linestyle=_RANDOM, label="random weights")]  # fmt: skip
    elif _lines_are_kinds(results):
        for kind, line in zip(_kinds(results), _LINES, strict=False):
            handles.append(Line2D([], [], **grey, linestyle=line, label=_name_kind(kind, _kinds(results))))
    elif all(result.random_weights for result in results):
        handles.append(Line2D([], [], **grey, linestyle=_RANDOM, label="random weights"))
    handles.append(Line2D([], [], **{k: v for k, v in _EVEN.items() if k != "zorder"}, label="uniform map"))
    if any(len(result.measured.mass_curve.resamples) for result in results):
        handles.append(Patch(facecolor="0.35", alpha=0.25, linewidth=0, label="95% interval over images"))
    labels = [str(handle.get_label()) for handle in handles]
    return dict(handles=handles, ncols=_columns_for(labels, points, _KEY_SIZE), fontsize=_KEY_SIZE)


def _columns_for(labels: Sequence[str], points: float, size: float) -> int:
    """Number of columns of a legend, filled one after the other, that fit into a width in points."""
    widths = [text_width(label) + _HANDLE for label in labels]
    for columns in range(len(labels), 1, -1):
        if size * sum(max(column) for column in np.array_split(widths, columns)) <= points:
            return columns
    return 1


def _height_of(count: int, columns: int, size: float) -> float:
    """Height in inches of a legend with this many entries."""
    return -(-count // columns) * _LEGEND_ROW * size / 72


@dataclass(frozen=True)
class _Look:
    """Colour (red, green, blue in 0..1, or a name) and line style of a result's curves."""

    colour: Any
    line: Any


def _kind(result: ErfResult) -> tuple[Any, ...]:
    """Properties in which results of a network with the same weights differ: size, stage, position of the unit."""
    provenance = result.provenance
    return (result.contribution.shape, provenance["layer"], str(provenance.get("config", {}).get("position", "centre")))


def _kinds(results: Sequence[ErfResult]) -> list[tuple[Any, ...]]:
    return list(dict.fromkeys(map(_kind, results)))


def _name_kind(kind: tuple[Any, ...], kinds: Sequence[tuple[Any, ...]]) -> str:
    """Describe a kind by the properties in which the kinds differ."""
    (height, width), layer, position = kind
    words = (f"{height} × {width} pixels", f"layer {layer}", f"position {position}")
    return ", ".join(word for i, word in enumerate(words) if len({one[i] for one in kinds}) > 1)


def _network(result: ErfResult) -> str:
    """The name of the network, regardless of its weights."""
    return str(result.provenance.get("identity", {}).get("model", result.name))


def _weights_vary(results: Sequence[ErfResult]) -> bool:
    return len({result.random_weights for result in results}) > 1


def _lines_are_kinds(results: Sequence[ErfResult]) -> bool:
    """Whether line styles show the size or stage, which is so if several networks share the same few of them."""
    networks, kinds = {_network(result) for result in results}, _kinds(results)
    crossed = len(networks) * len(kinds) >= len(results) > len(networks) > 1
    return crossed and 1 < len(kinds) <= len(_LINES) and not _weights_vary(results)


def _choose_looks(results: Sequence[ErfResult]) -> list[_Look]:
    """Choose a colour for each network, or for each size or stage of a single network; dashes mark random weights.

    If results would still look alike, such as two checkpoints of a network, each result gets its own colour.
    """
    networks = list(dict.fromkeys(map(_network, results)))
    kinds = _kinds(results)
    by_kind = _lines_are_kinds(results)
    keys: list[Any] = [_network(r) if by_kind else (_network(r), _kind(r)) for r in results]
    if not by_kind and len(set(zip(keys, (r.random_weights for r in results), strict=True))) < len(results):
        keys = [result.name for result in results]
    shown = list(dict.fromkeys(keys))
    if len(networks) == 1 < len(kinds) and len(shown) == len(kinds):
        palette: list[Any] = [matplotlib.colormaps["viridis"](at) for at in np.linspace(0.0, 0.85, len(shown))]
    else:
        palette = [COLOURS[i % len(COLOURS)] for i in range(len(shown))]
    looks = []
    for result, key in zip(results, keys, strict=True):
        line: Any = _RANDOM if result.random_weights else "-"
        if by_kind:
            line = _LINES[kinds.index(_kind(result))]
        looks.append(_Look(palette[shown.index(key)], line))
    return looks


def _draw_curve(ax: Axes, at: np.ndarray, curve: Resampled, result: ErfResult, look: _Look, gid: str) -> None:
    """Draw a line with its band. `gid` is the id of the line in an SVG."""
    ax.plot(at, curve.estimate, color=look.colour, linestyle=look.line, label=row_name(result), gid=gid)
    if len(curve.resamples):
        low, high = curve.interval()
        ax.fill_between(at, low, high, color=look.colour, alpha=0.25, linewidth=0, gid=f"{gid}-band")
