"""The cost of large kernels: exact parameter and FLOP counts of RepLKNets that differ only in their kernels.

Networks are built without allocating memory for their weights, and PyTorch counts the operations of one forward pass.
FLOPs are multiply-accumulates, as in the paper.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from claims.claim import Experiment, Measurement, Options, Row, Verdict, rows_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EXPERIMENT", "count"]

# kernels of the four stages -> million parameters and GFLOPs of the paper's Table 5
PAPER = {
    (3, 3, 3, 3): (71.8, 12.9),
    (7, 7, 7, 7): (72.2, 13.1),
    (13, 13, 13, 13): (73.7, 13.4),
    (31, 29, 27, 13): (79.3, 15.3),
}
INCREASE = {"flops": 0.186, "parameters": 0.104}  # Guideline 1, of the last over the first
TOLERANCE = 0.005
SIZE = 224


def count(kernels: Sequence[int], size: int, *, merged: bool) -> tuple[int, int]:
    """Count parameters and multiply-accumulates of RepLKNet-31B with the given kernels.

    Args:
        kernels: Kernel sides of the four stages.
        size: Side in pixels of the single image for which multiply-accumulates are counted.
        merged: Whether to merge the parallel small kernels into the large ones first.
    """
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import replknet  # noqa: F401  registers the network

    with torch.device("meta"):
        model: Any = timm.create_model("replknet31b", kernel_sizes=tuple(kernels)).eval()
        if merged:
            model.reparameterize()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, size, size))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def _measure(options: Options) -> Measurement:
    size = options.size or SIZE
    rows: list[Row] = []
    for form in ("merged", "training"):
        counts = {kernels: count(kernels, size, merged=form == "merged") for kernels in PAPER}
        first = counts[next(iter(PAPER))]
        for kernels, (parameters, flops) in counts.items():
            rows.append(
                {
                    "kernels": "-".join(map(str, kernels)),
                    "form": form,
                    "parameters": parameters,
                    "flops": flops,
                    "more_parameters": parameters / first[0] - 1,
                    "more_flops": flops / first[1] - 1,
                    "paper_parameters_m": PAPER[kernels][0],
                    "paper_gflops": PAPER[kernels][1],
                }
            )
    return Measurement(rows, {"size_px": size, "network": "replknet31b"})


def _judge(rows: Sequence[Row]) -> Verdict:
    merged, training = (rows_of(rows, form=form)[-1] for form in ("merged", "training"))
    holds = all(abs(merged[f"more_{what}"] - paper) <= TOLERANCE for what, paper in INCREASE.items())
    parts = [
        f"{row['more_flops']:.1%} more FLOPs, {row['more_parameters']:.1%} more parameters ({row['form']} form)"
        for row in (merged, training)
    ]
    return Verdict(holds, "; ".join(parts))


def _draw(rows: Sequence[Row]) -> "Figure":
    from runkit.figures import new_figure

    panels = (
        ("flops", 1e9, "paper_gflops", "GMACs per image (the paper's GFLOPs)"),
        ("parameters", 1e6, "paper_parameters_m", "million parameters"),
    )
    with new_figure(6.4, 3.0) as figure:
        figure.suptitle("RepLKNet-31B with other kernels", fontsize=8.0)
        axes = figure.subplots(1, 2)
        for ax, (key, unit, paper, label) in zip(axes, panels, strict=True):
            for form, marker in (("merged", "o"), ("training", "s")):
                chosen = rows_of(rows, form=form)
                ax.plot(
                    [row["kernels"] for row in chosen],
                    [row[key] / unit for row in chosen],
                    marker=marker,
                    markersize=4,
                    linewidth=1.2,
                    label=f"ours, {form} form",
                )
            ax.plot(
                [row["kernels"] for row in chosen],
                [row[paper] for row in chosen],
                linestyle="",
                marker="x",
                color="0.2",
                label="paper, Table 5",
            )
            ax.set(xlabel="kernels of the four stages", ylabel=label)
            names = [row["kernels"] for row in chosen]
            ax.set_xticks(range(len(names)), ["-\n".join(re.findall(r"\d+-\d+", name)) for name in names])
        axes[0].legend()
    return figure


EXPERIMENT = Experiment(_measure, _judge, _draw)
