"""Measure the share of the large depthwise convolutions in RepLKNet's inference time, as keyed CSV rows.

The paper reports 49.5% with PyTorch's convolutions and 12.3% with the authors' (arXiv:2203.06717, Section 3.1,
guideline 1). The network has merged kernels and processes a batch of images; times are measured on the device.

    python -m benchmarks.share --out benchmarks/results/share.csv --device cuda
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.table import SHARES, VERSIONS, describe_versions, device_name, merge_rows, percentile
from replknet import load_model, optimize
from replknet.optimize import preferred_memory_format, use_stock_convolutions
from replknet.used_kernels import large_depthwise
from runkit.compute.device import exact_float32

KEY = ("model", "provider", "precision", "batch", "size_px", "device")
FIELDS = (*KEY, "time_s", "share", "share_low", "share_high", "rounds", *VERSIONS)


class Clock:
    """Measures times on a device, by events in its stream on CUDA or by the clock on a CPU."""

    def __init__(self, device: str):
        self._on_cuda = device == "cuda"
        self.spans: list[tuple[Any, Any]] = []

    def now(self) -> Any:
        """A point in time; on a GPU it may still lie in the future."""
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Seconds between two points in time; waits for the later one."""
        if not self._on_cuda:
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


def time_large_kernels(model: nn.Module, clock: Clock, at_least: int = 13) -> int:
    """Let each depthwise convolution with a kernel side of `at_least` or more add its time span to `clock.spans`.

    Returns: The number of these convolutions.
    """
    large = large_depthwise(model, at_least)
    for module in large:
        begins: list[Any] = []
        module.register_forward_pre_hook(lambda *_, begins=begins: begins.append(clock.now()))
        module.register_forward_hook(lambda *_, begins=begins: clock.spans.append((begins.pop(), clock.now())))
    return len(large)


def times(model: nn.Module, images: torch.Tensor, clock: Clock) -> tuple[float, float]:
    """Seconds of one forward pass: in total, and in the large depthwise convolutions."""
    clock.spans.clear()
    with torch.inference_mode():
        begin = clock.now()
        model(images)
        whole = clock.seconds(begin, clock.now())
    return whole, sum(clock.seconds(*span) for span in clock.spans)


def measure(provider: str, precision: str, options: argparse.Namespace) -> dict[str, str]:
    """Measure one row, with PyTorch's convolutions ('stock') or this project's ('ours')."""
    dtype = getattr(torch, precision)
    model = load_model(options.model, "random", input_size=options.size).model
    model = optimize(model)
    if provider == "stock":
        model = use_stock_convolutions(model)
    model = model.to(options.device, dtype)
    clock = Clock(options.device)
    if not time_large_kernels(model, clock):
        raise SystemExit(f"{options.model} has no depthwise convolution of 13×13 or more")
    images = torch.randn(options.batch, 3, options.size, options.size).to(options.device, dtype)
    images = images.contiguous(memory_format=preferred_memory_format(model))
    with exact_float32():
        times(model, images, clock)
        rounds = [times(model, images, clock) for _ in range(options.rounds)]
    shares = [large / whole for whole, large in rounds]
    return {
        "model": options.model,
        "provider": provider,
        "precision": precision,
        "batch": str(options.batch),
        "size_px": str(options.size),
        "device": device_name(options.device),
        "time_s": f"{percentile([whole for whole, _ in rounds], 0.5):.4g}",
        **{name: f"{percentile(shares, share):.4f}" for name, share in zip(FIELDS[7:10], SHARES, strict=True)},
        "rounds": str(options.rounds),
        **describe_versions(options.device),
    }


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--model", default="replknet31b")
    parser.add_argument("--batch", type=int, default=64, help="images at a time (default: 64)")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels (default: 224)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "float16", "bfloat16"), nargs="+", default=["float32"])
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, with a line on stderr for each."""
    options = build_parser().parse_args(argv)
    for precision in options.precision:
        for provider in ("stock", "ours"):
            row = measure(provider, precision, options)
            merge_rows(options.out, [row], key=KEY, fields=FIELDS)
            sys.stderr.write(f"{row['model']} {provider} {precision}: {float(row['share']):.1%} of {row['time_s']} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
