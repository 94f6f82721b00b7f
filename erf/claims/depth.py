"""How the effective receptive field of ResNets grows with their depth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from erf.claims.claim import Experiment, Measurement, Options, Row, Verdict
from erf.claims.fields import field_row, measure_fields, trained_or_random
from erf.claims.intervals import LEVEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT"]

LAYERS = {f"resnet{layers}.tv_in1k": layers for layers in (18, 34, 50, 101, 152)}
SIZE = 1024
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
            rows.append({"layers": LAYERS[result.name], **field_row(result, seed)})
            records.append(result.provenance["weights"])
    return Measurement(rows, {"weights": weights, "seeds": seeds}, records)


def _judge(rows: Sequence[Row]) -> Verdict:
    """Fit a power of the depth to the width; its interval is that of the regression."""
    layers, sides = (np.array([row[key] for row in rows]) for key in ("layers", "mass_side_50_px"))
    fit = stats.linregress(np.log(layers), np.log(sides))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(rows) - 2) * fit.stderr)
    exponent, low, high = float(fit.slope), float(fit.slope) - half, float(fit.slope) + half
    shallow, deep = layers == layers.min(), layers == layers.max()
    growth = float(sides[deep].mean() / sides[shallow].mean())
    field = {int(row["layers"]): row["theoretical_side_px"] for row in rows}
    holds = None if low < SQUARE_ROOT <= high else high < SQUARE_ROOT
    kinds = "untrained" if any(row["random"] for row in rows) else "trained"
    ours = (
        f"{kinds}: width as depth^{exponent:.2f} [{low:.2f}, {high:.2f}]; of {layers.min()} to {layers.max()} layers "
        f"it grows {growth:.2f} times, the theoretical field {field[layers.max()] / field[layers.min()]:.2f} times"
    )
    return Verdict(holds, ours, {"exponent": exponent, "low": low, "high": high, "growth": growth})


def _draw(rows: Sequence[Row]) -> "Figure":
    import matplotlib.pyplot as plt
    import seaborn as sns

    from erf.plots import STYLE

    with sns.axes_style("ticks"), plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
        layers = sorted({row["layers"] for row in rows})
        first = float(np.mean([row["mass_side_50_px"] for row in rows if row["layers"] == layers[0]]))
        for label in dict.fromkeys(row["weights"] for row in rows):
            chosen = [row for row in rows if row["weights"] == label]
            style = "--" if chosen[0]["random"] else "-"
            ax.plot(
                [row["layers"] for row in chosen],
                [row["mass_side_50_px"] for row in chosen],
                marker="o",
                markersize=4,
                linewidth=1.2,
                linestyle=style,
                label=label if chosen[0]["random"] else "trained",
            )
        ax.plot(layers, [first * (n / layers[0]) ** SQUARE_ROOT for n in layers], color="0.5", linestyle=":",
                linewidth=0.8, label="square root of the depth")  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="layers of the ResNet", ylabel="side holding 50% (pixels)")
        ax.set_xticks(layers, [str(n) for n in layers])
        ax.yaxis.set_major_formatter("{x:.0f}")
        ax.yaxis.set_minor_formatter("{x:.0f}")
        ax.xaxis.set_minor_locator(plt.NullLocator())
        ax.legend(frameon=False, fontsize=7.0)
        sns.despine(figure)
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
