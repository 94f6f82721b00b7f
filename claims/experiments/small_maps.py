"""Large kernels on small maps: the taps that neighbouring outputs share, and the loss of shift equivariance.

On a map of n×n pixels, a unit applies only those taps of its kernel that lie within the map. With a kernel of side
2n - 1, each unit sees the whole map, but each through different taps.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from replknet.ops import depthwise_conv2d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "connected_pairs", "shared_taps", "shift_error"]

SMALL = 7
SIDES = (SMALL, 56)
KERNELS = (3, 7, 13)
CHANNELS = 64
SEEDS = 5


def _taps(kernel: int, side: int, position: int) -> set[int]:
    """Offsets along an axis of those taps of the unit at `position` that lie within the map."""
    reach = kernel // 2
    return {offset for offset in range(-reach, reach + 1) if 0 <= position + offset < side}


def shared_taps(kernel: int, side: int) -> float:
    """Share of common taps among all taps that two neighbouring units apply, averaged over all pairs of neighbours.

    Two neighbours apply the same taps along the other axis, so a single axis determines the share.
    """
    pairs = [(_taps(kernel, side, i), _taps(kernel, side, i + 1)) for i in range(side - 1)]
    return sum(len(a & b) / len(a | b) for a, b in pairs) / len(pairs)


def connected_pairs(kernel: int, side: int) -> float:
    """Share of connected pairs among all pairs of an output pixel and an input pixel."""
    along_axis = sum(len(_taps(kernel, side, i)) for i in range(side)) / side**2
    return along_axis**2


def shift_error(kernel: int, side: int, seed: int) -> float:
    """Relative L2 difference between the output for a shifted image and the shifted output, one pixel to the right.

    Both images are crops of the same noise, and only outputs that have a counterpart are compared. The difference would
    be 0 for a convolution on an infinite image.
    """
    generator = torch.Generator().manual_seed(seed)
    canvas = torch.randn(1, CHANNELS, side, side + 1, generator=generator)
    weight = torch.randn(CHANNELS, 1, kernel, kernel, generator=generator)
    here, shifted = (depthwise_conv2d(canvas[..., i : i + side].contiguous(), weight) for i in (1, 0))
    expected = here[..., :-1]
    return float((shifted[..., 1:] - expected).norm() / expected.norm())


def _measure(options: Options) -> Measurement:
    seeds = options.seeds or SEEDS
    rows = [
        {
            "map_px": side,
            "kernel": kernel,
            "seed": seed,
            "shared_taps": shared_taps(kernel, side),
            "connected_pairs": connected_pairs(kernel, side),
            "shift_error": shift_error(kernel, side, seed),
        }
        for side in SIDES
        for kernel in KERNELS
        for seed in range(seeds)
    ]
    return Measurement(rows, {"seeds": seeds, "channels": CHANNELS, "images": "normal noise"})


def _judge(rows: Sequence[Row]) -> Verdict:
    small = {
        kernel: rows_of(rows, map_px=SMALL, kernel=kernel)
        for kernel in sorted({row["kernel"] for row in rows_of(rows, map_px=SMALL)})
    }
    shared = {kernel: chosen[0]["shared_taps"] for kernel, chosen in small.items()}
    errors = {kernel: [row["shift_error"] for row in chosen] for kernel, chosen in small.items()}
    kernels = list(small)
    holds = all(
        shared[larger] < shared[smaller] and min(errors[larger]) > max(errors[smaller])
        for smaller, larger in pairwise(kernels)
    )
    parts = [
        f"K = {kernel} {shared[kernel]:.0%} shared, {sum(errors[kernel]) / len(errors[kernel]):.0%} off"
        for kernel in kernels
    ]
    return Verdict(
        holds, f"of {SMALL}x{SMALL} maps, taps shared by neighbours, and outputs after a shift: " + ", ".join(parts)
    )


def _draw(rows: Sequence[Row]) -> "Figure":
    from runkit.figures import new_figure

    panels = {
        "shared_taps": "taps shared by neighbours",
        "connected_pairs": "pairs of pixels connected",
        "shift_error": "error of a shift by one pixel",
    }
    with new_figure(7.2, 2.6) as figure:
        axes = figure.subplots(1, len(panels))
        for ax, (key, title) in zip(axes, panels.items(), strict=True):
            for side, marker in zip(sorted({row["map_px"] for row in rows}), "os", strict=False):
                chosen = rows_of(rows, map_px=side)
                ax.plot(
                    [row["kernel"] for row in chosen],
                    [row[key] for row in chosen],
                    linestyle="",
                    marker=marker,
                    markersize=4,
                    clip_on=False,
                    label=f"{side}×{side} map",
                )
            ax.set(xlabel="kernel side", title=title, ylim=(0, None))
            ax.set_xticks(sorted({row["kernel"] for row in rows}))
            ax.yaxis.set_major_formatter("{x:.0%}")
        axes[0].legend()
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
