"""Time a contribution map for one small network of each family, against plain autograd, as keyed CSV rows.

The question is whether this tool is slower than plain autograd for any of them. Both run in one process and take turns,
in reverse order in every second round, after an untimed map each. The clock is the wall clock, which needs an idle
machine, or the processor time of the process (`--processor-time`), for one thread on a busy machine. The rows go to the
table of `benchmarks.bench_erf`, as its experiment `families`: median, 20th and 80th percentile of the seconds and of
the ratio to `plain`, and the difference of the maps (relative L2).

    python -m benchmarks.bench_families --out benchmarks/results/erf.csv
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import erf_worker
from benchmarks.bench_erf import FIELDS, KEY, TIMES, Case, as_row
from benchmarks.table import merge_rows

__all__ = ["NETWORKS", "build_parser", "main", "measure"]

NETWORKS = (
    "resnet18",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "efficientnet_b0",
    "regnety_002",
    "convnextv2_atto",
    "inception_next_atto",
    "regnetx_002",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "van_b0",
    "replknet3n",
    "replknet31n",
    "poolformer_s12",
    "densenet121",
    "vgg11_bn",
    "resnext50_32x4d",
    "seresnet50",
    "repvgg_a0",
    "mobileone_s0",
    "repvit_m0_9",
    "fastvit_t8",
    "edgenext_xx_small",
    "efficientvit_b0",
    "ghostnet_100",
    "hardcorenas_a",
    "mnasnet_small",
    "starnet_s1",
    "hgnetv2_b0",
    "cspresnet50",
    "dla34",
    "inception_v3",
    "focalnet_tiny_srf",
    "xcit_nano_12_p16_224",
    "pvt_v2_b0",
    "mvitv2_tiny",
    "deit3_small_patch16_224",
    "hiera_tiny_224",
    "coatnet_nano_rw_224",
)
"""One network of each family, in order of how often maps of the family are requested."""


def measure(model: str, size: int, rounds: int, clock: Callable[[], float] = time.perf_counter) -> list[dict[str, str]]:
    """Time both ways of computing a network's map. Returns a row of `plain` and one of `ours`."""
    case = Case("families", model, size, providers=("plain", "ours"))
    image = torch.randn((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    makers = {"plain": erf_worker.plain, "ours": erf_worker.ours}
    providers: dict[str, Callable[[torch.Tensor], np.ndarray]] = {}
    maps: dict[str, np.ndarray] = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        providers[name] = make(model, size, case.precision, "cpu")
        maps[name] = providers[name](image)
    seconds: dict[str, list[float]] = {name: [] for name in providers}
    for number in range(rounds):
        for name in sorted(providers, reverse=number % 2 == 0):
            gc.collect()
            begin = clock()
            providers[name](image)
            seconds[name].append(clock() - begin)
    return [as_row(case, name, seconds, maps, "cpu") for name in providers]


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--model", nargs="+", default=NETWORKS, help="networks (default: one of each of 40 families)")
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="timed maps of each provider")
    parser.add_argument(
        "--processor-time", action="store_true", help="time that the process had of the processor; take one thread"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, with a line on stderr for each network."""
    options = build_parser().parse_args(argv)
    clock = time.process_time if options.processor_time else time.perf_counter
    for model in options.model:
        rows = measure(model, options.size, options.rounds, clock)
        merge_rows(options.out, rows, key=KEY, fields=FIELDS)
        sys.stderr.write("  ".join(f"{rows[1][name]}" for name in ("model", "time_s", *TIMES[3:], "difference")) + "\n")
        gc.collect()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
