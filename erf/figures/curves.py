"""Curves of receptive fields, several networks in one picture: mass against side, and the radial profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from erf.drawing import Drawing
from erf.figures.caption import caption, caption_height, row_name, text_width, wrap_caption, write_caption
from erf.measures.bootstrap import Resampled
from erf.measures.extent import squares_area
from erf.results.files import ErfResult
from erf.results.tables import note_on_intervals
from runkit.figures import axes_or_new, new_figure

__all__ = ["draw_curves", "plot_mass_curves", "plot_radial_profiles", "profile_of"]

_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)))
_MOST_LINES = 8  # in one panel
_BESIDE = 5.0  # inches from which both panels stand beside each other
_AXIS, _LEGEND_ROW = 0.42, 0.15  # inches below a panel, and for each line of the legend
_LOWEST_SIDE = 5  # pixels at the left end of a logarithmic axis


def plot_mass_curves(results: Sequence[ErfResult], *, ax: Axes | None = None) -> Axes:
    """Share of the mass in centred squares against their side, with bands of 95% intervals over images.

    Each network has a colour, each image size or stage of it a line style. Where all results are of one size and stage,
    networks with random weights are dashed. A dotted line, one for each image size, is a map that is even over the
    image.
    Where all fields are small beside the image, the axis of the sides is logarithmic.

    Args:
        results: At least one.
        ax: Where to draw; new Axes of pyplot if None.
    """
    with axes_or_new(ax) as ax:
        for index, (result, look) in enumerate(zip(results, _choose_looks(results), strict=True)):
            curve = result.measured.mass_curve
            _draw_curve(ax, 2 * np.arange(len(curve.estimate)) + 1, curve, result, look, f"mass-{index}")
        for shape in dict.fromkeys(result.contribution.shape for result in results):
            sides = np.geomspace(1, max(shape), 200)
            even = squares_area(sides, shape) / np.prod(shape)
            ax.plot(sides, even, color="0.5", linewidth=0.8, linestyle=":", zorder=1)
        largest = max(max(result.contribution.shape) for result in results)
        ax.set(xlabel="side of the centred square (pixels)", ylabel="share of the mass", xlim=(0, largest), ylim=(0, 1))
        if all(float(result.side(0.99)) < largest / 4 for result in results):
            ax.set_xscale("log")
            ax.set_xlim(_LOWEST_SIDE, largest)
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter("{x:.0%}")
    return ax


def plot_radial_profiles(results: Sequence[ErfResult], *, ax: Axes | None = None, decades: float = 2.0) -> Axes:
    """Mean of the map at each distance from the centre, over the mean of the whole map, on a logarithmic axis.

    Args:
        results: At least one.
        ax: Where to draw; new Axes of pyplot if None.
        decades: Powers of ten shown, at most, below the peak of the flattest profile.
    """
    profiles = [profile_of(result) for result in results]
    with axes_or_new(ax) as ax:
        for index, (result, profile, look) in enumerate(zip(results, profiles, _choose_looks(results), strict=True)):
            _draw_curve(ax, np.arange(len(profile.estimate)), profile, result, look, f"profile-{index}")
        positive = [profile.estimate[profile.estimate > 0] for profile in profiles]
        peaks = [float(values.max()) for values in positive]
        lowest = min(float(values.min()) for values in positive)
        ax.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":", zorder=1)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        largest = max(min(result.contribution.shape) // 2 for result in results)
        ax.set(xlabel="distance from the centre (pixels)", ylabel="density over that of an even map", xlim=(0, largest))
        ax.set_ylim(max(lowest / 1.5, min(peaks) * 10.0**-decades), max(peaks) * 1.5)
    return ax


def profile_of(result: ErfResult) -> Resampled:
    """Density at 0, 1, 2, ... pixels from the centre over that of an even map, as far as circles lie in the image."""
    profile, inside = result.measured.radial_profile, slice(0, min(result.contribution.shape) // 2)
    return Resampled(profile.estimate[inside], profile.resamples[:, inside], profile.num_images)


def draw_curves(results: Sequence[ErfResult], **options: Any) -> Figure:
    """Figure of the mass curves and the radial profiles, with a legend and a caption; at most eight results per row.

    Args:
        results: At least one.
        options: `width`, `labels` and `caption` as in `erf.drawing.Drawing`.

    Raises: ValueError for an invalid option.
    """
    drawing = Drawing(**options)
    width = drawing.width_in or 7.2
    parts = [results[i : i + _MOST_LINES] for i in range(0, len(results), _MOST_LINES)]
    beside = width >= _BESIDE
    across = width / 2 if beside else width
    panel = min(2.6, 0.8 * across)
    same_kind = len({_kind(result) for result in results}) == 1
    notes = "Bands: 95% intervals over images. Dotted: a map that is even over the image."
    notes += f" {few}" if (few := note_on_intervals(results)) else ""
    if same_kind and any(result.random_weights for result in results):
        notes += " Dashed: random weights."
    words = wrap_caption(f"{caption(results, shares=())}\n{notes}", width - 0.2)
    foot = caption_height(words) + 0.15 if drawing.caption else 0.08
    legends = [_LEGEND_ROW * len(part) + 0.1 for part in parts]
    each = (1 if beside else 2) * (panel + _AXIS)
    height = len(parts) * each + sum(legends) + foot + 0.08
    with new_figure(width, height, layout=None) as figure:
        top = height - 0.08
        for part, legend in zip(parts, legends, strict=True):
            for column, draw in enumerate((plot_mass_curves, plot_radial_profiles)):
                left = column * across if beside else 0.0
                below = top - panel - (0 if beside else column * (panel + _AXIS))
                place = ((left + 0.6) / width, below / height, (across - 0.72) / width, panel / height)
                ax = draw(part, ax=figure.add_axes(place))
            top -= each
            handles, _ = ax.get_legend_handles_labels()
            names = [row_name(result, drawing) for result in part]
            size = min(7.0, 72 * (width - 0.6) / max(map(text_width, names)))
            anchor = (0.08 / width, top / height)
            figure.legend(
                handles, names, loc="upper left", bbox_to_anchor=anchor, handlelength=2.4, fontsize=size,
                borderaxespad=0.0, labelspacing=0.35,
            )  # fmt: skip
            top -= legend
        if drawing.caption:
            write_caption(figure, (0.1 / width, 0.06 / height), words)
    return figure


@dataclass(frozen=True)
class _Look:
    """Colour (red, green, blue in 0..1) and line style of a result's curves."""

    colour: tuple[float, float, float]
    line: str | tuple[int, tuple[int, ...]]


def _kind(result: ErfResult) -> tuple[Any, ...]:
    """What distinguishes the results of one network with one set of weights: size, stage, position of the unit."""
    provenance = result.provenance
    return (result.contribution.shape, provenance["layer"], str(provenance.get("config", {}).get("position")))


def _choose_looks(results: Sequence[ErfResult]) -> list[_Look]:
    """A colour for each network with its weights, a line style for each size or stage."""
    networks = [(r.provenance.get("identity", {}).get("model", r.name), r.weights_label) for r in results]
    colours = list(dict.fromkeys(networks))
    kinds = list(dict.fromkeys(map(_kind, results)))
    several = 1 < len(kinds) <= len(_LINES) and len(colours) * len(kinds) >= len(results) > len(colours)
    if not several:
        networks = [(result.name, str(index)) for index, result in enumerate(results)]
        colours = networks
    palette = sns.color_palette("colorblind" if len(colours) <= 10 else "husl", len(colours))
    return [
        _Look(
            palette[colours.index(network)],
            _LINES[kinds.index(_kind(result))] if several else "--" if result.random_weights else "-",
        )
        for result, network in zip(results, networks, strict=True)
    ]


def _draw_curve(ax: Axes, at: np.ndarray, curve: Resampled, result: ErfResult, look: _Look, gid: str) -> None:
    """A line with its band; `gid` is its id in an SVG."""
    ax.plot(at, curve.estimate, color=look.colour, linestyle=look.line, label=row_name(result), gid=gid)
    if len(curve.resamples):
        low, high = curve.interval()
        ax.fill_between(at, low, high, color=look.colour, alpha=0.25, linewidth=0, gid=f"{gid}-band")
