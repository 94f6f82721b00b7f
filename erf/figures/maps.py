"""Pictures of receptive fields, drawn from saved results alone.

The colour scale 'decades' is log10(score / max), from -4 to 0: four powers of ten, whatever the gradients' scale. The
scale 'published' is log10(score + 1) divided by its maximum, from 0 to 1, as in the paper's figure; where gradients are
small it is all but linear, and shows little beside the peak. Either way maps of several networks share their limits.
The colour map (seaborn's 'mako') rises evenly in lightness: it survives greyscale printing and colour blindness.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as path_effects
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mpl_toolkits.axes_grid1 import make_axes_locatable

from erf.measures.squares import LOG_THRESHOLDS, SquareArea, check_map, log_area, log_map
from erf.measures.sums import Centre
from erf.results.files import ErfResult
from runkit.figures import STYLE, axes_or_new, new_figure

__all__ = [
    "SCALES",
    "caption",
    "colour_map",
    "draw_comparison",
    "draw_result",
    "plot",
    "plot_comparison",
    "plot_contribution",
    "row_name",
    "write_caption",
]

# scale -> name for the colour bar, lower and upper limit, step between ticks
_SCALES = {
    "decades": (r"contribution: $\log_{10}$(score / max)", -4.0, 0.0, 1.0),
    "published": (r"contribution: $\log_{10}$(score + 1) / max", 0.0, 1.0, 0.2),
}
SCALES = tuple(_SCALES)
_WARNING_COLOUR = "#d1495b"


def plot(shown: Any, *, ax: Axes | None = None, scale: str = "decades", **options: Any) -> Axes:
    """Draw a map or a result.

    Args:
        shown: Contribution map (H, W), an array or a tensor on the CPU; or an `ErfResult`, which brings its centre and
            a title with its weights.
        ax, scale, options: As for `plot_contribution`.
    """
    if not isinstance(shown, ErfResult):
        return plot_contribution(np.asarray(shown), ax=ax, scale=scale, **options)
    ax = plot_contribution(shown.contribution, ax=ax, scale=scale, **{"centre": shown.centre, **options})
    ax.set_title(f"{shown.name}\n{shown.weights_label}")
    return ax


def plot_contribution(
    contribution: np.ndarray,
    *,
    ax: Axes | None = None,
    scale: str = "decades",
    thresholds: Sequence[float] = LOG_THRESHOLDS,
    centre: Centre | None = None,
    cbar: bool = True,
) -> Axes:
    """Draw one contribution map with the squares of the published measure.

    Args:
        contribution: (H, W), >= 0, unscaled.
        ax: Axes to draw on; new ones if None.
        scale: Of the colours: 'decades' or 'published'; the squares are those of the published measure either way.
        thresholds: Shares whose squares are drawn, those that no square reaches left out; empty for none.
        centre: Pixel that the squares lie round; (H // 2, W // 2) if None.
        cbar: Add a colour bar with the scale's name on the right.

    Returns: The Axes, with limits in pixels and the origin at the upper left.
    Raises: ValueError as `erf.measures.squares.check_map`.
    """
    _, low, high, _ = _scale(scale)
    shown = _scaled(contribution, scale)
    height, width = shown.shape
    centre = centre or (height // 2, width // 2)
    with axes_or_new(ax, 4.8, 3.6, layout=None) as ax:
        image = ax.imshow(shown, cmap=colour_map(), vmin=low, vmax=high, interpolation="antialiased")
        for i, area in enumerate(log_area(contribution, thresholds, centre=centre)):
            _draw_square(ax, area, _LABEL_CORNERS[i % len(_LABEL_CORNERS)], centre, (height, width))
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.set_xticks([0, width // 2, width - 1], ["0", str(width // 2), str(width)])
        ax.set_yticks([0, height // 2, height - 1], ["0", str(height // 2), str(height)])
        ax.tick_params(length=2, pad=2)
        ax.spines[:].set_visible(True)
        if cbar:
            cax = make_axes_locatable(ax).append_axes("right", size="4%", pad=0.08)
            _colour_bar(ax.figure, image, cax, scale)
    return ax


def _scaled(contribution: np.ndarray, scale: str = "decades") -> np.ndarray:
    """What the colours show of a map (H, W): from -4 to 0 in 'decades', from 0 to 1 as 'published'.

    Raises: ValueError as `erf.measures.squares.check_map`, or if there is no such scale.
    """
    _, low, _, _ = _scale(scale)
    if scale == "published":
        return log_map(contribution)
    contribution = check_map(contribution)
    return np.log10(np.maximum(contribution / contribution.max(), 10.0**low))


def colour_map() -> Colormap:
    """The colours of every map."""
    return sns.color_palette("mako", as_cmap=True)


def _colour_bar(figure: Any, image: Any, cax: Axes, scale: str) -> None:
    label, low, high, step = _scale(scale)
    figure.colorbar(image, cax=cax, label=label, ticks=np.arange(low, high + step / 2, step))


def _scale(name: str) -> tuple[str, float, float, float]:
    if name not in _SCALES:
        raise ValueError(f"scale={name!r}: take one of {', '.join(SCALES)}")
    return _SCALES[name]


# Where each square's label stands: (corner across, corner down), outside the square; so that labels of squares of
# nearly the same size do not cover each other.
_LABEL_CORNERS = ((0, 1), (1, 1), (0, 0), (1, 0))


def _draw_square(ax: Axes, area: SquareArea, corner: tuple[int, int], centre: Centre, shape: tuple[int, int]) -> None:
    """A square and its share; where it is larger than the map's shorter side, the part of it that lies in the map."""
    if area.side_px is None:
        return
    high, wide, shorter = min(area.side_px, shape[0]), min(area.side_px, shape[1]), min(shape)
    left = centre[1] - wide / 2 if area.side_px <= shape[1] else -0.5
    top = centre[0] - high / 2 if area.side_px <= shape[0] else -0.5
    outline = [path_effects.Stroke(linewidth=2.0, foreground="black"), path_effects.Normal()]
    square = Rectangle((left, top), wide, high, fill=False, edgecolor="white", linewidth=0.9)
    square.set_path_effects(outline)
    ax.add_patch(square)
    across, down = corner
    inside = area.side_px > 0.85 * shorter  # outside would leave the map
    small = area.side_px < 0.5 * shorter  # labels point away from the square, so as not to meet
    label = ax.annotate(
        f"{area.threshold:.0%}",
        (left + across * wide, top + down * high),
        xytext=(-2.0 if bool(across) != small else 2.0, 2.0 if bool(down) == inside else -2.0),
        textcoords="offset points",
        ha="right" if bool(across) != small else "left",
        va="bottom" if bool(down) == inside else "top",
        color="white",
        fontsize=6.5,
    )
    label.set_path_effects([path_effects.Stroke(linewidth=1.6, foreground="black"), path_effects.Normal()])


def draw_result(result: ErfResult, *, scale: str = "decades") -> Figure:
    """Figure of one result: heatmap, squares, and what made it underneath; `scale` as in `plot_contribution`."""
    high, wide = result.contribution.shape
    # in inches; a square map leaves room for its title, one that is higher does not, and one that is wider too much
    height, title = 4.3 - 3.3 * (1 - min(1.0, high / wide)), 0.45 if high > wide else 0.129
    with new_figure(4.2, height, layout=None) as figure:
        figure.subplots_adjust(left=0.1, right=0.85, top=1 - title / height, bottom=0.559 / height)
        ax = plot_contribution(result.contribution, ax=figure.subplots(), scale=scale, centre=result.centre)
        _title(ax, result)
        write_caption(figure, (0.1, 0.0645 / height), caption([result]))
    return figure


def draw_comparison(results: Sequence[ErfResult], *, scale: str = "decades") -> Figure:
    """Figure of several results side by side on shared limits, the area ratios as a table below.

    Args:
        results: At least one; drawn in this order, four in a row. Networks that all have as many results (several
            sizes, stages or weights) get a column each.
        scale: As in `plot_contribution`.
    """
    panels, columns = _arrange(results)
    rows = -(-len(panels) // columns)
    panel = 2.3 if columns > 2 else 2.9
    table_height = 0.55 + 0.21 * len(results)
    panel_height = panel * _flatness(results)
    width, height = max(columns * panel + 0.95, 6.4), rows * (panel_height + 0.45) + table_height + 0.67
    with new_figure(width, height, layout=None) as figure:
        grid = figure.add_gridspec(
            rows, columns, left=0.06, right=0.88, top=1 - 0.42 / height, bottom=(table_height + 0.74) / height,
            wspace=0.22, hspace=0.35,
        )  # fmt: skip
        axes = [figure.add_subplot(grid[i // columns, i % columns]) for i in range(len(panels))]
        for ax, result in zip(axes, panels, strict=True):
            plot_contribution(result.contribution, ax=ax, scale=scale, centre=result.centre, cbar=False)
            _title(ax, result)
        figure.draw_without_rendering()  # images keep their aspect ratio: only now are the panels' places known
        first, last = axes[0].get_position(), axes[min(columns, len(axes)) - 1].get_position()
        cax = figure.add_axes((last.x1 + 0.015, first.y0, 0.014, first.height))
        _colour_bar(figure, axes[0].images[0], cax, scale)
        table_ax = figure.add_axes((0.06, 0.48 / height, 0.88, table_height / height))
        _area_table(table_ax, results)
        write_caption(figure, (0.06, 0.06 / height), caption(results))
    return figure


def _flatness(results: Sequence[ErfResult]) -> float:
    """Height over width of the highest map, 1 where it is as high as wide, or higher."""
    shapes = (result.contribution.shape for result in results)
    return max(min(1.0, height / width) for height, width in shapes)


plot_comparison = draw_comparison
"""The older name of `draw_comparison`, which stays."""


def _arrange(results: Sequence[ErfResult], most: int = 6) -> tuple[list[ErfResult], int]:
    """The order of the panels, row by row, and how many there are in a row."""
    networks: dict[str, list[ErfResult]] = {}
    for result in results:
        model = result.provenance.get("identity", {}).get("model", result.name)
        networks.setdefault(model, []).append(result)
    alike = len({len(group) for group in networks.values()}) == 1 and len(networks) < len(results)
    if alike and 1 < len(networks) <= most:
        return [result for row in zip(*networks.values(), strict=True) for result in row], len(networks)
    return list(results), min(4, len(results))


def _title(ax: Axes, result: ErfResult) -> None:
    """Network on the first line, its weights on the second; random weights in bold colour."""
    width = ax.bbox.width * 72 / ax.figure.dpi  # points
    size = min(STYLE["axes.titlesize"], 1.15 * width / (0.62 * len(result.name)))  # a long name stays within its panel
    ax.set_title(result.name, fontweight="bold", pad=15, fontsize=size)
    ax.text(
        0.5,
        1.015,
        result.weights_label,
        transform=ax.transAxes,
        ha="center",
        va="bottom",
        fontsize=7.0,
        color=_WARNING_COLOUR if result.random_weights else "0.3",
        fontweight="bold" if result.random_weights else "normal",
    )


def _area_table(ax: Axes, results: Sequence[ErfResult]) -> None:
    """Published area ratios, a row for each result, ruled as tables are in print."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(len(results) + 1.9, 0))  # in rows, from the top
    rights = np.linspace(0.58, 1.0, len(LOG_THRESHOLDS))
    heading = (
        "Area ratio (side in pixels) of the smallest centred square that holds more than t of log10(score + 1) / max"
    )
    ax.text(0, 0.35, heading, fontsize=7.0, va="center")
    for right, threshold in zip(rights, LOG_THRESHOLDS, strict=True):
        ax.text(right, 1.25, f"t = {threshold:.0%}", fontsize=7.5, fontweight="bold", ha="right", va="center")
    for line, weight in ((0.8, 0.9), (1.7, 0.5), (len(results) + 1.85, 0.9)):
        ax.axhline(line, color="0.2", linewidth=weight, clip_on=False)
    for i, result in enumerate(results):
        colour = _WARNING_COLOUR if result.random_weights else "0.1"
        ax.text(0, 2.25 + i, row_name(result), fontsize=7.5, va="center", color=colour)
        for right, area in zip(rights, log_area(result.contribution, centre=result.centre), strict=True):
            ax.text(right, 2.25 + i, _cell(area), fontsize=7.5, ha="right", va="center")


def row_name(result: ErfResult) -> str:
    """The network's name, with its weights where the name does not say them."""
    weights = result.provenance["weights"]
    named_by_tag = result.name.startswith(weights["model"]) and weights.get("source") != "file"
    return result.name if named_by_tag and not result.random_weights else f"{result.name}, {result.weights_label}"


def _cell(area: SquareArea) -> str:
    return "not reached" if area.side_px is None or area.ratio is None else f"{area.ratio:.2%} ({area.side_px})"


def caption(results: Sequence[ErfResult], *, squares: bool = True) -> str:
    """What made the figure, shortly; the JSON has it whole. `squares`: say what the squares are."""
    first = results[0].provenance
    counts = sorted({result.num_images for result in results})
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    sizes = ", ".join(dict.fromkeys("{} × {}".format(*result.contribution.shape) for result in results))
    layers = ", ".join(dict.fromkeys(result.layer for result in results))
    commit = f", commit {found[:10]}" if (found := first.get("git_commit")) else ""
    software = " ".join(filter(None, ["replknet-analysis", first["versions"]["replknet-analysis"]]))
    shares = ", ".join(f"{t:.0%}" for t in LOG_THRESHOLDS)
    what = f"Squares hold {shares} of log10(score + 1) / max.\n" if squares else ""
    return (
        f"Mean of {images} images ({first['data']['name']}) at {sizes} pixels, {first['precision']}.\n"
        f"{what}"
        f"{software}{commit}, torch {first['versions']['torch']}, layer {layers}"
    )


def write_caption(figure: Figure, at: tuple[float, float], text: str) -> None:
    """Small text at the foot of a figure; `at` is its lower left corner in fractions of the figure."""
    figure.text(*at, text, fontsize=6.0, color="0.35", va="bottom", linespacing=1.4)
