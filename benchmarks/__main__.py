"""Run the main benchmarks on this machine and draw their plots: `python -m benchmarks --stimuli cue-conflict`.

This takes half an hour to an hour on two cores without other load. Each table can also be produced by its own module,
with more options. A rerun replaces the rows of this machine.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import bench_depthwise, bench_erf, bench_shapebias, plot_depthwise, plot_erf, profile_erf


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks one after the other and draw the plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of tables and plots")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--stimuli", type=Path, help="the 16 category folders; shape bias is left out without them")
    parser.add_argument("--released", type=Path, help="checkout of DingXiaoH/RepLKNet-pytorch, for rows of its script")
    options = parser.parse_args(argv)
    device = ["--device", options.device]
    depthwise, erf = (str(options.out / f"{name}.csv") for name in ("depthwise", "erf"))
    bench_depthwise.main(["--out", depthwise, *device])
    released = ["--released", str(options.released)] if options.released else []
    bench_erf.main(["--out", erf, *device, *released])
    if options.device == "cpu":
        profile_erf.main(["--out", str(options.out / "erf-profile.csv")])
    if options.stimuli:
        table = str(options.out / "shapebias.csv")
        bench_shapebias.main(["--out", table, *device, "--stimuli", str(options.stimuli)])
    plot_depthwise.main([depthwise, "--out", str(options.out / "depthwise.png")])
    return plot_erf.main([erf, "--out", str(options.out / "erf-growth.png")])


if __name__ == "__main__":
    raise SystemExit(main())
