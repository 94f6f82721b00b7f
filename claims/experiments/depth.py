"""How the effective receptive field of ResNets grows with their depth.

Only layers with kernels above 1×1 widen a field. In a bottleneck block this is one layer in three, in a basic block it
is every layer, so that ResNet-18 and ResNet-50 both have 17 of them. Widths are therefore fitted against their number.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from claims.claim import Experiment, Measurement, Options, Row, Verdict
from claims.experiments.fields import field_row, measure_fields, trained_or_random
from claims.intervals import LEVEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT"]

# network -> number of layers, and number of layers with kernels above 1×1, without shortcuts
LAYERS = {
    "resnet18.tv_in1k": (18, 17),
    "resnet34.tv_in1k": (34, 33),
    "resnet50.tv_in1k": (50, 17),
    "resnet101.tv_in1k": (101, 34),
    "resnet152.tv_in1k": (152, 51),
}
SIZE = 512
NUM_IMAGES = 5
SEEDS = 2
SQUARE_ROOT = 0.5


def _measure(options: Options) -> Measurement:
    weights = trained_or_random(list(LAYERS), options.weights)
    seeds = 1 if weights == "pretrained" else options.seeds or SEEDS
    rows: list[Row] = []
    records = []
    for seed in range(seeds):
        for result in measure_fields(
            options, "depth", list(LAYERS), weights, size=SIZE, num_images=NUM_IMAGES, seed=seed
        ):
            layers, spatial = LAYERS[result.name]
            rows.append({"layers": layers, "spatial_layers": spatial, **field_row(result, seed)})
            records.append(result.provenance["weights"])
    return Measurement(rows, {"weights": weights, "seeds": seeds}, records)


def _judge(rows: Sequence[Row]) -> Verdict:
    """Fit the width as a power of the number of spatial layers. The exponent's interval is that of the regression."""
    layers, spatial, sides = (
        np.array([row[key] for row in rows]) for key in ("layers", "spatial_layers", "mass_side_50_px")
    )
    fit = stats.linregress(np.log(spatial), np.log(sides))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(rows) - 2) * fit.stderr)
    exponent, low, high = float(fit.slope), float(fit.slope) - half, float(fit.slope) + half
    shallow, deep = layers == layers.min(), layers == layers.max()
    growth = float(sides[deep].mean() / sides[shallow].mean())
    field = {int(row["layers"]): row["theoretical_side_px"] for row in rows}
    holds = None if low < SQUARE_ROOT <= high else high < SQUARE_ROOT
    kinds = "untrained" if any(row["random"] for row in rows) else "trained"
    theoretical = field[layers.max()] / field[layers.min()]
    ours = (
        f"{kinds}: width as (spatial layers)^{exponent:.2f} [{low:.2f}, {high:.2f}]; "
        f"of {layers.min()} to {layers.max()} layers it grows {growth:.2f} times, the theoretical field "
        f"{theoretical:.2f} times"
    )
    return Verdict(holds, ours, {"exponent": exponent, "low": low, "high": high, "growth": growth})


def _label(row: Row) -> str:
    return row["weights"] if row["random"] else "trained"


def _draw(rows: Sequence[Row]) -> "Figure":
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator, NullLocator

    from runkit.figures import new_figure

    spatial = sorted({row["spatial_layers"] for row in rows})
    start = np.exp(np.mean([np.log(row["mass_side_50_px"]) for row in rows if row["spatial_layers"] == spatial[0]]))
    styles: dict[str, dict[str, Any]] = {
        label: {"color": f"C{i}", "markerfacecolor": f"C{i}" if label == "trained" else "white"}
        for i, label in enumerate(dict.fromkeys(map(_label, rows)))
    }
    numbered = next(iter(styles))
    with new_figure(4.4, 3.2) as figure:
        ax = figure.subplots()
        for row in rows:
            x, y, low, high = (row[key] for key in ("spatial_layers", "mass_side_50_px", "low", "high"))
            ends = None if low is None or high is None else [[y - low], [high - y]]
            ax.errorbar(x, y, yerr=ends, fmt="o", elinewidth=1.0, **styles[_label(row)])
            if _label(row) == numbered:
                ax.annotate(
                    str(row["layers"]),
                    (row["spatial_layers"], row["mass_side_50_px"]),
                    xytext=(5, 3),
                    textcoords="offset points",
                    fontsize=7.0,
                )
        ax.plot(spatial, [start * (n / spatial[0]) ** SQUARE_ROOT for n in spatial], ":", color="0.5", linewidth=0.8)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="layers with kernels above 1×1",
            ylabel="side holding 50% (pixels, 95% interval)",
        )
        ax.set_xticks([17, 34, 51], ["17", "34", "51"])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter("{x:.0f}")
        handles = [Line2D([], [], linestyle="", marker="o", label=label, **style) for label, style in styles.items()]
        handles.append(Line2D([], [], linestyle=":", color="0.5", label="square root"))
        ax.legend(handles=handles, title="ResNet of 18, 34, ... layers")
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
