"""Plot the growth of time and memory of contribution maps, from the rows of `bench_erf`, with fitted exponents.

For each experiment, one panel shows seconds (on logarithmic axes) and one peak memory (on a linear axis) against the
varied quantity. Exponents e of y ~ quantity^e are fitted by least squares on the logarithms. An exponent of time above
that of the FLOPs (dotted, through the first point) would mean that a step grows faster than the network's own work.

    python -m benchmarks.plot_erf benchmarks/results/erf.csv --out benchmarks/results/erf-growth.png
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from runkit.figures import axes_or_new, new_figure, save_figure

EXPERIMENTS = {
    "growth-size": ("size_px", "side of the image (pixels)"),
    "growth-batch": ("batch", "images at a time"),
    "growth-images": ("images", "images, one at a time"),
    "growth-network": ("gflop", "GFLOP of the forward pass"),
}
COLOURS = ("#0072B2", "#D55E00")  # Okabe and Ito's
TIME, MEMORY, WORK = "time_s", "peak_gb", "gflop"


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Fit e of y ~ x^e by least squares on the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def exponents(rows: pd.DataFrame) -> pd.DataFrame:
    """Exponents of seconds, memory and FLOPs for each experiment and network (one row for `growth-network`)."""
    found = []
    for experiment, (quantity, _) in EXPERIMENTS.items():
        for name, line in _lines(rows, experiment):
            row = {"experiment": experiment, "model": name, "cases": len(line)}
            found.append(row | {y: exponent(line[quantity], line[y]) for y in (TIME, MEMORY, WORK)})
    return pd.DataFrame(found)


def _lines(rows: pd.DataFrame, experiment: str) -> list[tuple[str, pd.DataFrame]]:
    quantity = EXPERIMENTS[experiment][0]
    chosen = rows.query("experiment == @experiment and provider == 'ours'").sort_values(quantity)
    if experiment == "growth-network":
        return [("RepLKNets", chosen)] if len(chosen) > 1 else []
    return [(str(model), line) for model, line in chosen.groupby("model") if len(line) > 1]


def plot_growth(rows: pd.DataFrame, experiment: str, *, y: str, ax: Axes | None = None) -> Axes:
    """Plot one panel: a line for each network, labelled with its exponent; for time also a line of the FLOPs."""
    quantity, label = EXPERIMENTS[experiment]
    with axes_or_new(ax) as ax:
        for (name, line), colour in zip(_lines(rows, experiment), COLOURS, strict=False):
            text = f"{name.partition('.')[0]}: exponent {exponent(line[quantity], line[y]):.2f}"
            ax.plot(line[quantity], line[y], "o-", color=colour, markersize=3.5, linewidth=1.2, label=text)
            if y == TIME:
                ax.fill_between(line[quantity], line["low_s"], line["high_s"], color=colour, alpha=0.2, linewidth=0)
                work = line[WORK] * (line[TIME].iloc[0] / line[WORK].iloc[0])
                ax.plot(line[quantity], work, ":", color=colour, linewidth=1, label="as the FLOPs")
        ax.set_xscale("log")
        ticks = sorted(set(rows.query("experiment == @experiment")[quantity].astype(int)))
        ax.xaxis.set_major_locator(FixedLocator([n for n, after in pairwise([*ticks, 10**9]) if after > 1.2 * n]))
        ax.xaxis.set_minor_locator(NullLocator())
        if y == TIME:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_minor_locator(NullLocator())
            ax.margins(y=0.2)
        else:
            ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:g}")
        ax.set_xlabel(label)
        ax.legend(fontsize=6.5, frameon=False, loc="upper left")
    return ax


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure, save it, and print the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default=None, help="as in the table's column; the first one if not given")
    options = parser.parse_args(argv)
    rows = pd.read_csv(options.csv)
    rows = rows[rows.device == (options.device or rows.device.iloc[0])]
    last = rows.iloc[-1]
    with new_figure(3.1 * len(EXPERIMENTS), 5.2) as figure:
        axes = figure.subplots(2, len(EXPERIMENTS))
        for column, experiment in enumerate(EXPERIMENTS):
            plot_growth(rows, experiment, y=TIME, ax=axes[0, column])
            plot_growth(rows, experiment, y=MEMORY, ax=axes[1, column])
            axes[0, column].set_xlabel("")
        axes[0, 0].set_ylabel("seconds")
        axes[1, 0].set_ylabel("peak memory of the process (GB)")
        title = f"Contribution maps, {last.device}, {int(last.threads)} threads, float32, torch {last.torch}"
        figure.suptitle(title, fontsize=9)
    save_figure(figure, options.out.with_suffix(""), [options.out.suffix[1:]])
    sys.stdout.write(exponents(rows).to_string(index=False, float_format="%.2f") + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
