"""Profile a contribution map by kind of operation, with lower bounds of the times, as keyed CSV rows.

PyTorch's profiler records the operations of one map, after a map without profiling, and their times are summed by kind.
The compiled depthwise kernel (`replknet.ops.cpu.direct`) is not an operation of PyTorch and has a row of its own. The
lower bound of convolutions, `floor_s`, is the time of their nominal FLOPs (including taps on padding) at the rate of a
2048×2048 matrix product, which is measured just before. Other operations have no lower bound.

    python -m benchmarks.profile_erf --out benchmarks/results/erf-profile.csv
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.table import VERSIONS, describe_versions, device_name, merge_rows
from erf.gradient.contribution import contribution_maps
from erf.gradient.lean.prepare import prepare
from replknet import load_model
from replknet.ops.cpu import direct
from replknet.ops.products import ONEDNN_IS_FASTER, linear

KEY = ("model", "size_px", "kind", "device")
FIELDS = (*KEY, "calls", "time_s", "share", "gflop", "floor_s", *VERSIONS)
OTHER = "everything else"
COMPILED = "large depthwise convolutions, compiled kernel"
# Names under which the profiler records the work of convolutions. Of `_convolution`, only transposed ones do work
# themselves; for others it is a wrapper.
_CONVOLUTIONS = (
    "aten::mkldnn_convolution",
    "aten::_convolution",
    "aten::_slow_conv2d_forward",
    "aten::slow_conv_transpose2d",
)
_WRAPPER_US = 50
_KINDS = {
    COMPILED: COMPILED,
    "aten::copy_": "copies",
    "aten::gelu": "activations",
    "aten::gelu_backward": "activations",
    "aten::clamp_min": "activations",
    "aten::sign": "activations",
    "aten::mul_": "activations",
    "aten::add": "sums",
    "aten::add_": "sums",
    "aten::addmm": "linear layers",
    "aten::mm": "linear layers",
    "mkldnn::_linear_pointwise": "linear layers",
}


def gemm_gflops() -> float:
    """Rate of a 2048×2048 matrix product in float32, in GFLOP/s; the best of ten, by PyTorch's product or oneDNN's."""
    a, b = torch.randn(2, 2048, 2048).unbind()
    seconds = []
    with torch.no_grad():
        for multiply in (torch.mm, linear) if ONEDNN_IS_FASTER else (torch.mm,):
            for _ in range(10):
                begin = time.perf_counter()
                multiply(a, b)
                seconds.append(time.perf_counter() - begin)
    return 2e-9 * 2048**3 / min(seconds)


def convolution_kind(x: Sequence[int], weight: Sequence[int]) -> tuple[str, float]:
    """Kind and nominal GFLOP (with stride 1) of a convolution or its transpose, from the shapes of input and weight."""
    taps = weight[2] * weight[3]
    if taps == 1:
        return "1×1 convolutions", 2e-9 * x[0] * x[2] * x[3] * weight[0] * weight[1]
    if weight[1] == 1:
        kind = "large depthwise convolutions" if taps > 25 else "small depthwise convolutions"
        return kind, 2e-9 * x[0] * x[1] * x[2] * x[3] * taps
    return "other convolutions", 2e-9 * x[0] * x[2] * x[3] * weight[0] * weight[1] * taps


@contextmanager
def compiled_kernel_shown() -> Iterator[list[float]]:
    """Let the profiler record the compiled kernel under the name `COMPILED`; yields the nominal GFLOP of each call."""
    convolve = direct._convolve
    work: list[float] = []

    def shown(kernels: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *, turned: bool) -> Tensor:
        work.append(2e-9 * x.numel() * weight.shape[2] * weight.shape[3])
        with record_function(COMPILED):
            return convolve(kernels, x, weight, bias, turned=turned)

    direct._convolve = shown
    try:
        yield work
    finally:
        direct._convolve = convolve


def measure(model: str, size: int) -> list[dict[str, str]]:
    """Measure one row for each kind of operation."""
    network, memory_format = prepare(load_model(model, "random", input_size=size).model)
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    image = image.contiguous(memory_format=memory_format)
    contribution_maps(network, image)
    rate = gemm_gflops()
    with compiled_kernel_shown() as compiled, profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        contribution_maps(network, image)
    seconds, calls, work = defaultdict(float), defaultdict(int), defaultdict(float)
    for event in found.key_averages(group_by_input_shape=True):
        kind, gflop = _KINDS.get(event.key, OTHER), 0.0
        shapes = event.input_shapes
        if event.key in _CONVOLUTIONS and event.self_cpu_time_total > _WRAPPER_US * event.count:
            kind, gflop = convolution_kind(shapes[0], shapes[1])
        seconds[kind] += 1e-6 * event.self_cpu_time_total
        calls[kind] += event.count
        work[kind] += event.count * gflop
    if compiled:
        work[COMPILED] = sum(compiled)
    whole = sum(seconds.values())
    common = {"model": model, "size_px": str(size), "device": device_name("cpu"), **describe_versions("cpu")}
    return [
        {
            **common,
            "kind": kind,
            "calls": str(calls[kind]),
            "time_s": f"{seconds[kind]:.3f}",
            "share": f"{seconds[kind] / whole:.3f}",
            "gflop": f"{work[kind]:.1f}",
            "floor_s": f"{work[kind] / rate:.3f}",
        }
        for kind in sorted(seconds, key=lambda kind: -seconds[kind])
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, and print them on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--model", nargs="+", default=["replknet31b"])
    parser.add_argument("--size", type=int, default=1024, help="side of the image in pixels")
    options = parser.parse_args(argv)
    for model in options.model:
        rows = measure(model, options.size)
        merge_rows(options.out, rows, key=KEY, fields=FIELDS)
        for row in rows:
            sys.stderr.write("  ".join(row[name] for name in ("kind", "calls", "time_s", "share", "floor_s")) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
