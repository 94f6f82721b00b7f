"""Latency against FLOPs of large depthwise convolutions, from the table of `benchmarks.bench_depthwise`.

This module does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from claims.intervals import power_law
from runkit import UserError, sha256_of_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT"]

_COLUMNS = (
    "experiment",
    "provider",
    "layout",
    "mode",
    "dtype",
    "n",
    "side_px",
    "k",
    "device",
    "time_ms",
    "gflop_nominal",
)


def _measure(options: Options) -> Measurement:
    """Read the forward passes of the layers of the paper's Table 1, each in the provider's fastest memory format."""
    table = _read(options.table)
    chosen = table[(table["experiment"] == "table1") & (table["mode"] == "forward") & (table["dtype"] == "float32")]
    if chosen.empty:
        raise UserError(f"{options.table} has no forward pass of table1 in float32; run benchmarks.bench_depthwise")
    rows: list[Row] = []
    for (device, batch, provider, side), group in chosen.groupby(["device", "n", "provider", "side_px"]):
        fastest = group.sort_values("time_ms").drop_duplicates("k").sort_values("k")
        first = fastest.iloc[0]
        for _, case in fastest.iterrows():
            rows.append(
                {
                    "machine": f"{device}, batch {batch}",
                    "provider": provider,
                    "side_px": int(side),
                    "kernel": int(case["k"]),
                    "layout": case["layout"],
                    "gflop": float(case["gflop_nominal"]),
                    "time_ms": float(case["time_ms"]),
                    "times_flops": float(case["gflop_nominal"] / first["gflop_nominal"]),
                    "times_latency": float(case["time_ms"] / first["time_ms"]),
                }
            )
    return Measurement(rows, {"table": options.table.name, "sha256": sha256_of_file(options.table)})


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give a table of benchmarks.bench_depthwise by --table CSV") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no CSV table: {error}") from error
    if missing := [column for column in _COLUMNS if column not in table]:
        raise UserError(f"{path} has no column {', '.join(missing)}; it is not a table of benchmarks.bench_depthwise")
    return table


def _judge(rows: Sequence[Row]) -> Verdict:
    """Decide by our operator alone, because PyTorch's is the implementation that the paper improves on."""
    exponents: dict[str, dict[str, float]] = {}
    spans: dict[str, list[float]] = {}
    slower: list[bool] = []
    for provider in dict.fromkeys(row["provider"] for row in rows):
        by_provider = rows_of(rows, provider=provider)
        for machine, side in dict.fromkeys((row["machine"], row["side_px"]) for row in by_provider):
            cases = rows_of(by_provider, machine=machine, side_px=side)
            largest = cases[-1]
            exponent = power_law([row["time_ms"] for row in cases], [row["gflop"] for row in cases])[0]
            exponents.setdefault(provider, {})[f"{machine}, {side} px"] = exponent
            spans.setdefault(provider, []).append(largest["times_latency"])
            if provider == "ours":
                slower.append(exponent < 1 and largest["times_latency"] < largest["times_flops"])
    parts = [
        f"{provider} {min(ratios):.1f} to {max(ratios):.1f} times the latency, as FLOPs^"
        f"{min(exponents[provider].values()):.2f} to {max(exponents[provider].values()):.2f}"
        for provider, ratios in spans.items()
    ]
    flops, kernels = max(row["times_flops"] for row in rows), sorted({row["kernel"] for row in rows})
    ours = f"K {kernels[0]} to {kernels[-1]}, {flops:.0f} times the FLOPs: " + "; ".join(parts)
    return Verdict(all(slower) if slower else None, ours, {"exponents": exponents})


def _draw(rows: Sequence[Row]) -> "Figure":
    import seaborn as sns
    from matplotlib.lines import Line2D

    from runkit.figures import new_figure

    machines = list(dict.fromkeys(row["machine"] for row in rows))
    sides = sorted({row["side_px"] for row in rows})
    colours = sns.color_palette("mako", len(sides) + 1)
    styles = dict(zip(dict.fromkeys(row["provider"] for row in rows), ("-", "--", ":", "-."), strict=False))
    with new_figure(1.6 + 4.0 * len(machines), 3.4) as figure:
        axes = figure.subplots(1, len(machines), squeeze=False)
        for ax, machine in zip(axes[0], machines, strict=True):
            for side, colour in zip(sides, colours, strict=False):
                for provider, style in styles.items():
                    cases = rows_of(rows, machine=machine, provider=provider, side_px=side)
                    ax.plot(
                        [row["times_flops"] for row in cases],
                        [row["times_latency"] for row in cases],
                        color=colour,
                        linestyle=style,
                        marker=".",
                        linewidth=1.1,
                    )
            limits = [1, max(row["times_flops"] for row in rows)]
            ax.plot(limits, limits, color="0.5", linewidth=0.8, linestyle=":")
            ax.set(xscale="log", yscale="log", xlabel="FLOPs over those of K = 3", ylabel="latency over that of K = 3")
            ax.set_title(machine, fontsize=8.0)
        entries = {f"{side}×{side} map": {"color": colour} for side, colour in zip(sides, colours, strict=False)}
        names = {"ours": "replknet.ops", "stock": "PyTorch"}
        for provider, style in styles.items():
            entries[names.get(provider, str(provider))] = {"color": "0.2", "linestyle": style}
        entries["in proportion to FLOPs"] = {"color": "0.5", "linestyle": ":"}
        handles = [Line2D([], [], label=label, **style) for label, style in entries.items()]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
