"""Curves of receptive fields, several networks in one picture: mass against side, and the radial profile."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from erf.figures.maps import caption, row_name, write_caption
from erf.measures.bootstrap import Resampled
from erf.measures.extent import squares_area
from erf.results.files import ErfResult
from runkit.figures import axes_or_new, new_figure

__all__ = ["draw_curves", "plot_mass_curves", "plot_radial_profiles", "profile_of"]


def plot_mass_curves(results: Sequence[ErfResult], *, ax: Axes | None = None) -> Axes:
    """Share of the mass in centred squares against their side, with bands of 95% intervals over images.

    Networks with random weights are dashed; a dotted line is a map that is even over the image of the first result.

    Args:
        results: At least one.
        ax: Where to draw; new Axes of pyplot if None.
    """
    with axes_or_new(ax) as ax:
        for index, (result, colour) in enumerate(zip(results, _choose_colours(results), strict=True)):
            curve = result.measured.mass_curve
            _draw_curve(ax, 2 * np.arange(len(curve.estimate)) + 1, curve, result, colour, f"mass-{index}")
        height, width = results[0].contribution.shape
        sides = np.linspace(0, max(height, width), 200)
        even = squares_area(sides, (height, width)) / results[0].contribution.size
        ax.plot(sides, even, color="0.5", linewidth=0.8, linestyle=":", zorder=1)
        largest = max(max(result.contribution.shape) for result in results)
        ax.set(xlabel="side of the centred square (pixels)", ylabel="share of the mass", xlim=(0, largest), ylim=(0, 1))
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
        for index, (result, profile) in enumerate(zip(results, profiles, strict=True)):
            colour = _choose_colours(results)[index]
            _draw_curve(ax, np.arange(len(profile.estimate)), profile, result, colour, f"profile-{index}")
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


def draw_curves(results: Sequence[ErfResult]) -> Figure:
    """Figure of both, with one legend and what made it underneath."""
    legend_height = 0.16 * len(results)
    height = 2.7 + legend_height + 1.2
    with new_figure(7.2, height, layout=None) as figure:
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(
            left=0.09, right=0.985, top=1 - 0.12 / height, bottom=(legend_height + 1.1) / height, wspace=0.28
        )
        plot_mass_curves(results, ax=left)
        plot_radial_profiles(results, ax=right)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.08, 0.5 / height), handlelength=2.4)
        notes = "Bands: 95% intervals over images. Dashed: random weights. Dotted: a map that is even over the image."
        write_caption(figure, (0.09, 0.06 / height), f"{caption(results, squares=False)}\n{notes}")
    return figure


def _choose_colours(results: Sequence[ErfResult]) -> list[tuple[float, float, float]]:
    """Red, green, blue in 0..1 of each result's curves."""
    return list(sns.color_palette("colorblind" if len(results) <= 10 else "husl", len(results)))


def _draw_curve(
    ax: Axes, at: np.ndarray, curve: Resampled, result: ErfResult, colour: tuple[float, float, float], gid: str
) -> None:
    """A line with its band; `gid` is its id in an SVG."""
    style = "--" if result.random_weights else "-"
    ax.plot(at, curve.estimate, color=colour, linestyle=style, label=row_name(result), gid=gid)
    if len(curve.resamples):
        low, high = curve.interval()
        ax.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0, gid=f"{gid}-band")
