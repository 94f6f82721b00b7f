"""Plot the time of a depthwise layer against its kernel, from the rows of `bench_depthwise`; nothing is measured.

Top: the time of one layer of Table 1 (384 channels, one map side), ours and stock, with the roofline, which is the time
of its nominal FLOPs at the rate of a matrix product. Bottom: the depthwise layer's share of a block's FLOPs. The rest
belongs to the two 1×1 layers around it and the feed-forward pair of four times the width (arXiv:2203.06717, figure 3).

    python -m benchmarks.plot_depthwise benchmarks/results/depthwise.csv --out benchmarks/results/depthwise.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from runkit.figures import axes_or_new, new_figure, save_figure

# Okabe and Ito's colours, which colour-blind readers can distinguish; markers repeat the distinction.
STYLES = {
    ("stock", "contiguous"): ("stock, contiguous", "#D55E00", "s"),
    ("cudnn", "contiguous"): ("cuDNN, contiguous", "#D55E00", "s"),
    ("native", "contiguous"): ("native, contiguous", "#CC79A7", "D"),
    ("stock", "channels_last"): ("stock, channels-last", "#E69F00", "^"),
    ("cudnn", "channels_last"): ("cuDNN, channels-last", "#E69F00", "^"),
    ("native", "channels_last"): ("native, channels-last", "#F0E442", "P"),
    ("ours", "contiguous"): ("ours, contiguous", "#56B4E9", "v"),
    ("ours", "channels_last"): ("ours, channels-last", "#0072B2", "o"),
}
BLOCK_FACTOR = 2 + 8  # number of multiplications per channel and position in the 1×1 layers, over the width


def plot_times(rows: pd.DataFrame, *, side_px: int, mode: str, ax: Axes | None = None) -> Axes:
    """Plot lines of time against K for one map side and mode, with the roofline if there is a `peak` row."""
    chosen = rows.query("experiment == 'table1' and side_px == @side_px and mode == @mode")
    with axes_or_new(ax) as ax:
        for (provider, layout), (label, colour, marker) in STYLES.items():
            line = chosen[(chosen.provider == provider) & (chosen.layout == layout)].sort_values("k")
            if not line.empty:
                ax.plot(line.k, line.time_ms, marker=marker, markersize=3.5, linewidth=1.2, color=colour, label=label)
                ax.fill_between(line.k, line.low_ms, line.high_ms, color=colour, alpha=0.2, linewidth=0)
        peak = rows.query("experiment == 'peak'")
        if not peak.empty:
            milliseconds_per_gflop = float((peak.time_ms / peak.gflop_nominal).iloc[0])
            work = chosen.drop_duplicates("k").sort_values("k")
            least = work.gflop_nominal * milliseconds_per_gflop
            ax.plot(work.k, least, "k:", linewidth=1, label="roofline (matrix product)")
        ax.set_yscale("log")
        ax.margins(y=0.05)
        low, high = ax.get_ylim()
        ax.set_ylim(low, 25 * high)  # room for the legend above the lines
        ax.set_ylabel("time of one layer (ms)")
    return ax


def plot_share(kernels: Sequence[int], *, channels: int = 384, ax: Axes | None = None) -> Axes:
    """Plot bars of the depthwise layer's share of a block's FLOPs, in percent."""
    shares = [100 * k * k / (k * k + BLOCK_FACTOR * channels) for k in kernels]
    with axes_or_new(ax) as ax:
        ax.bar(list(kernels), shares, width=1.2, color="#999999")
        for k, share in zip(kernels, shares, strict=True):
            if k in (3, 13, 31):
                ax.annotate(
                    f"{share:.1f}%" if share < 1 else f"{share:.0f}%", (k, share), ha="center", va="bottom", size=7
                )
        ax.set_ylim(0, 26)
        ax.set_ylabel("FLOP share (%)")
        ax.set_xlabel("kernel side K")
    return ax


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=64, help="side of the map in pixels")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default=None, help="name of the device as in the table; the first one if not given")
    options = parser.parse_args(argv)
    rows = pd.read_csv(options.csv)
    device = options.device or rows.device.iloc[0]
    rows = rows[(rows.device == device) & (rows.dtype == options.dtype)]
    table = rows.query("experiment == 'table1' and side_px == @options.side")
    kernels = sorted(int(k) for k in table.k.unique())
    with new_figure(3.5, 4.2) as figure:
        times, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        plot_times(rows, side_px=options.side, mode="forward", ax=times)
        times.legend(fontsize=6.5, frameon=False, loc="upper left")
        batch = int(table.n.iloc[0])
        times.set_title(
            f"384 channels, {options.side}×{options.side}, batch {batch}, {options.dtype}\n{device}", size=8
        )
        plot_share(kernels, ax=share)
        share.xaxis.set_major_locator(FixedLocator([k for k in kernels if k != 29]))
        share.xaxis.set_minor_locator(NullLocator())
    save_figure(figure, options.out.with_suffix(""), [options.out.suffix[1:]])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
