"""Curves of receptive fields, several networks in one picture: mass against side, and the radial profile."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from erf.figures.maps import STYLE, caption, row_name
from erf.measures.bootstrap import Resampled
from erf.results.files import ErfResult

__all__ = ["choose_colours", "plot_curves", "plot_mass_curves", "plot_radial_profiles"]


def plot_mass_curves(results: Sequence[ErfResult], *, ax: Axes) -> Axes:
    """Share of the mass in centred squares against their side, with bands of 95% intervals over images.

    Networks with random weights are dashed; a dotted line is a map that is even over the image of the first result.
    """
    for result, colour in zip(results, choose_colours(results), strict=True):
        curve = result.measured.mass_curve
        _draw(ax, 2 * np.arange(len(curve.estimate)) + 1, curve, result, colour)
    side = min(results[0].contribution.shape)
    sides = np.linspace(0, side, 200)
    ax.plot(sides, sides**2 / results[0].contribution.size, color="0.5", linewidth=0.8, linestyle=":", zorder=1)
    largest = max(min(result.contribution.shape) for result in results)
    ax.set(xlabel="side of the centred square (pixels)", ylabel="share of the mass", xlim=(0, largest), ylim=(0, 1))
    ax.yaxis.set_major_formatter("{x:.0%}")
    return ax


def plot_radial_profiles(results: Sequence[ErfResult], *, ax: Axes, decades: float = 2.0) -> Axes:
    """Mean of the map at each distance from the centre, over the mean of the whole map, on a logarithmic axis.

    Args:
        decades: Powers of ten shown, at most, below the peak of the flattest profile.
    """
    lowest, flattest, highest = np.inf, np.inf, 0.0
    for result, colour in zip(results, choose_colours(results), strict=True):
        profile = result.measured.radial_profile
        inside = slice(0, min(result.contribution.shape) // 2)  # beyond, circles leave the image
        density = Resampled(profile.estimate[inside], profile.resamples[:, inside], profile.num_images)
        _draw(ax, np.arange(len(density.estimate)), density, result, colour)
        positive = density.estimate[density.estimate > 0]
        lowest, peak = min(lowest, float(positive.min())), float(positive.max())
        flattest, highest = min(flattest, peak), max(highest, peak)
    largest = max(min(result.contribution.shape) // 2 for result in results)
    ax.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":", zorder=1)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="distance from the centre (pixels)", ylabel="density over that of an even map", xlim=(0, largest))
    ax.set_ylim(max(lowest / 1.5, flattest * 10.0**-decades), highest * 1.5)
    return ax


def plot_curves(results: Sequence[ErfResult]) -> Figure:
    """Figure of both, with one legend and what made it underneath."""
    legend_height = 0.16 * len(results)
    height = 2.7 + legend_height + 1.2
    with sns.axes_style("ticks"), plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, height))
        figure.subplots_adjust(
            left=0.09, right=0.985, top=1 - 0.12 / height, bottom=(legend_height + 1.1) / height, wspace=0.28
        )
        plot_mass_curves(results, ax=left)
        plot_radial_profiles(results, ax=right)
        sns.despine(figure)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.08, 0.5 / height),
            frameon=False,
            fontsize=7.0,
            handlelength=2.4,
        )
        notes = "Bands: 95% intervals over images. Dashed: random weights. Dotted: a map that is even over the image."
        text = f"{caption(results, squares=False)}\n{notes}"
        figure.text(0.09, 0.06 / height, text, fontsize=6.0, color="0.35", va="bottom", linespacing=1.4)
    return figure


def choose_colours(results: Sequence[ErfResult]) -> list[tuple[float, float, float]]:
    """Red, green, blue in 0..1 of each result's curves."""
    return list(sns.color_palette("colorblind" if len(results) <= 10 else "husl", len(results)))


def _draw(ax: Axes, at: np.ndarray, curve: Resampled, result: ErfResult, colour: tuple[float, float, float]) -> None:
    style = "--" if result.random_weights else "-"
    ax.plot(at, curve.estimate, color=colour, linewidth=1.2, linestyle=style, label=row_name(result))
    if len(curve.resamples):
        low, high = curve.interval()
        ax.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
