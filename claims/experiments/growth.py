"""Growth of effective receptive fields with kernel and depth: contribution maps of plain stacks (Luo et al. 2016).

A stack has L layers. Each layer is a 1×1 convolution across channels and a K×K depthwise convolution, followed by a
ReLU in stacks of the kind 'relu'. There are three kinds:

- 'uniform': one channel, equal weights, linear. Its map is the convolution of L boxes of K×K, whose standard deviation
  along an axis is sqrt(L·(K² - 1) / 12).
- 'linear': weights drawn from a normal distribution, no ReLU. The gradient is then a sum of random terms whose
  variances form the map of 'uniform'. The map is therefore the square root of that one, and wider by sqrt(2) for many
  layers.
- 'relu': weights drawn likewise, with a ReLU after each layer: a plain network at initialisation.

The width of a map is its standard deviation along an axis, which is its RMS radius over sqrt(2).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of
from claims.intervals import mean_interval, power_law
from erf.gradient.contribution import contribution_map
from erf.gradient.lean.prepare import prepare
from erf.measures.extent import second_moments
from erf.measures.sums import map_sums
from replknet.ops import DepthwiseConv2d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "Stack", "map_width", "uniform_width"]

KINDS = ("uniform", "linear", "relu")
KERNELS = (3, 7, 13, 31)
LAYERS = (1, 4, 16, 64)
EQUAL_FIELDS = (7, 31)  # sides of single kernels that are compared with 3×3 stacks of the same theoretical field
CHANNELS = 16
SEEDS = 3
EXPONENTS = {"kernel": 1.0, "depth": 0.5}
TOLERANCE = 0.1
# the image's side is at least this many widths of the linear stack's map, unless the theoretical field is smaller
_WIDTHS = 6.0


class Stack(nn.Module):
    """A plain stack. The feature map of its module `layers` has the size of the image.

    Args:
        kind: 'uniform', 'linear' or 'relu'.
        kernel: Side K of the depthwise kernels; odd.
        layers: Number of layers L.
    """

    def __init__(self, kind: str, kernel: int, layers: int):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: take one of {', '.join(KINDS)}")
        channels = 1 if kind == "uniform" else CHANNELS
        modules: list[nn.Module] = []
        for layer in range(layers):
            mix = nn.Conv2d(channels if layer else 3, channels, 1, bias=False)
            reach = DepthwiseConv2d(channels, kernel, bias=False)
            if kind == "uniform":
                nn.init.constant_(mix.weight, 1 / mix.in_channels)
                nn.init.constant_(reach.weight, 1 / kernel**2)
            else:  # a variance that preserves the scale of signals; a ReLU halves it
                nn.init.normal_(mix.weight, std=(1 / mix.in_channels) ** 0.5)
                nn.init.normal_(reach.weight, std=((2 if kind == "relu" else 1) / kernel**2) ** 0.5)
            modules += [mix, reach, *([nn.ReLU()] if kind == "relu" else [])]
        self.layers = nn.Sequential(*modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, 3, H, W) to features (N, channels, H, W)."""
        return self.layers(x)


def uniform_width(kernel: int, layers: int) -> float:
    """Standard deviation along an axis of a uniform stack's map, in pixels."""
    return math.sqrt(layers * (kernel**2 - 1) / 12)


def map_width(kind: str, kernel: int, layers: int, seed: int) -> float:
    """Standard deviation along an axis of a stack's contribution map on an image of noise, in pixels."""
    field = layers * (kernel - 1) + 1
    side = min(field, 2 * math.ceil(_WIDTHS / 2 * math.sqrt(2) * uniform_width(kernel, layers)) + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, memory_format = prepare(Stack(kind, kernel, layers).eval(), layer="layers")
        noise = torch.rand(1, 3, side, side).to(memory_format=memory_format)
    contribution = contribution_map(network, noise, layer="layers").numpy()
    moments = second_moments(map_sums(contribution).moments)
    return float(moments.rms_radius_px[0]) / math.sqrt(2)


def _measure(options: Options) -> Measurement:
    seeds = options.seeds or SEEDS
    grid = [("grid", kernel, layers) for kernel in KERNELS for layers in LAYERS]
    pairs = [("equal field", *shape) for side in EQUAL_FIELDS for shape in ((side, 1), (3, (side - 1) // 2))]
    rows = [
        {
            "set": part,
            "kind": kind,
            "kernel": kernel,
            "layers": layers,
            "seed": seed,
            "theoretical_side_px": layers * (kernel - 1) + 1,
            "width_px": map_width(kind, kernel, layers, seed),
            "uniform_width_px": uniform_width(kernel, layers),
        }
        for part, kernel, layers in [*grid, *pairs]
        for kind in KINDS
        for seed in range(1 if kind == "uniform" else seeds)
    ]
    return Measurement(rows, {"seeds": seeds, "channels": CHANNELS, "images": "uniform noise"})


def _judge(rows: Sequence[Row]) -> Verdict:
    exponents: dict[str, dict[str, tuple[float, float | None, float | None]]] = {}
    ratios: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        grid = rows_of(rows, set="grid", kind=kind)
        fits = [_fit(rows_of(grid, seed=seed)) for seed in dict.fromkeys(row["seed"] for row in grid)]
        exponents[kind] = {name: mean_interval([fit[i] for fit in fits]) for i, name in enumerate(EXPONENTS)}
        ratios[kind] = {
            f"{side}x{side}": _mean_width(rows, kind, side, 1) / _mean_width(rows, kind, 3, (side - 1) // 2)
            for side in EQUAL_FIELDS
        }
    as_expected = all(
        abs(fit[name][0] - expected) <= TOLERANCE for fit in exponents.values() for name, expected in EXPONENTS.items()
    )
    wider = all(ratio > 1 for by_side in ratios.values() for ratio in by_side.values())
    parts = [
        f"{kind} K^{_interval(fit['kernel'])} L^{_interval(fit['depth'])}, "
        + ", ".join(f"{side} {ratio:.2f} times as wide as its 3x3 stack" for side, ratio in ratios[kind].items())
        for kind, fit in exponents.items()
    ]
    return Verdict(as_expected and wider, "; ".join(parts), {"exponents": exponents, "width_ratios": ratios})


def _fit(rows: Sequence[Row]) -> list[float]:
    return power_law(*([row[key] for row in rows] for key in ("width_px", "kernel", "layers")))


def _mean_width(rows: Sequence[Row], kind: str, kernel: int, layers: int) -> float:
    chosen = rows_of(rows, set="equal field", kind=kind, kernel=kernel, layers=layers)
    return float(np.mean([row["width_px"] for row in chosen]))


def _interval(exponent: tuple[float, float | None, float | None]) -> str:
    mean, low, high = exponent
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _draw(rows: Sequence[Row]) -> "Figure":
    import seaborn as sns

    from runkit.figures import new_figure

    grid = rows_of(rows, set="grid")
    kinds = list(dict.fromkeys(row["kind"] for row in grid))
    kernels = sorted({row["kernel"] for row in grid})
    colours = sns.color_palette("mako", len(kernels) + 1)
    with new_figure(7.2, 2.9) as figure:
        axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)
        for ax, kind in zip(axes[0], kinds, strict=True):
            for kernel, colour in zip(kernels, colours, strict=False):
                chosen = rows_of(grid, kind=kind, kernel=kernel)
                layers = sorted({row["layers"] for row in chosen})
                ax.plot(layers, [uniform_width(kernel, n) for n in layers], color=colour, linewidth=0.8, linestyle=":")
                ax.plot(
                    [row["layers"] for row in chosen],
                    [row["width_px"] for row in chosen],
                    linestyle="",
                    marker="o",
                    markersize=3.5,
                    color=colour,
                    label=f"K = {kernel}",
                )
            ax.set(xscale="log", yscale="log", xlabel="layers L", title=kind)
            ax.set_xticks(layers, [str(n) for n in layers], minor=False)
            ax.minorticks_off()
        axes[0, 0].set_ylabel("standard deviation along an axis (pixels)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
        figure.supxlabel(
            "plain stacks of L layers with K×K kernels; dotted: sqrt(L (K² − 1) / 12), as for uniform ones",
            fontsize=7.0,
        )
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
