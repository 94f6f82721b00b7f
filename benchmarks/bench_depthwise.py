"""Time the large-kernel depthwise convolution against stock PyTorch, as keyed CSV rows.

There are three experiments: `table1`, that of RepLKNet's Table 1 (arXiv:2203.06717: 24 layers of 384 channels, batch
64, input side 16 to 256, kernel 3 to 31); `stages`, the four stages of RepLKNet-31B at 224 and at 1024 pixels; and
`training`, the layers of a small network at 96 pixels. A fourth, `peak`, times a matrix product, for the roofline. The
24 layers of `table1` are identical, so only one is timed. On CPU, `table1` and `stages` use a batch of 1 instead of 64.

Method: all providers of a case and memory format run in turn, round after round, in one process. Each timed call
follows an untimed call of the same provider, so that the caches are not in the state that another provider left. A row
holds the median and the 20th and 80th percentile. On CPU, calls that the system interrupted for another process are
left out if at least three others remain; the column `calls` counts the calls that were used. On CUDA, calls are timed
by events, and the second-level cache is overwritten before each. A call that takes longer than `--patience` seconds is
timed once. A rerun replaces the rows of the same key.

    python -m benchmarks.bench_depthwise --out benchmarks/results/depthwise.csv
    python -m benchmarks.bench_depthwise --out d.csv --experiment stages --dtype bfloat16 --device cuda
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.table import VERSIONS, describe_versions, device_name, merge_rows, percentile
from replknet.ops.cpu import direct, forms, tables
from replknet.ops.depthwise import (
    depthwise_conv2d,
    depthwise_conv2d_input_grad,
    depthwise_conv2d_weight_grad,
)

_READY = direct.ready
MODES = ("forward", "backward_data", "backward_weight")
KERNELS = (3, 5, 7, 9, 13, 17, 21, 27, 29, 31)
STAGES = ((128, 4, 31), (256, 8, 29), (512, 16, 27), (1024, 32, 13))  # channels, reduction, kernel
TRAINING = ((32, 24, 31), (64, 12, 29), (128, 6, 27), (256, 3, 13))  # channels, side, kernel
KEY = ("experiment", "provider", "layout", "mode", "dtype", "n", "c", "side_px", "k", "device")
FIELDS = (*KEY, "time_ms", "low_ms", "high_ms", "gflop_nominal", "calls", *VERSIONS)


@dataclass(frozen=True)
class Case:
    """One shape: batch, channels, side of the map, side of the kernel."""

    experiment: str
    n: int
    c: int
    side_px: int
    k: int

    @property
    def gflop_nominal(self) -> float:
        """GFLOP of the case, two per tap and output, including taps on padding, as FLOP counters count them."""
        return 2e-9 * self.n * self.c * self.side_px**2 * self.k**2


def cases(experiment: str, on_cpu: bool) -> Iterator[Case]:
    """The shapes of an experiment."""
    if experiment == "table1":
        for side in (16, 32, 64, 112, 256):
            for k in KERNELS:
                yield Case(experiment, 1 if on_cpu else 64, 384, side, k)
    elif experiment == "stages":
        for image_px, n in ((224, 1 if on_cpu else 64), (1024, 1)):
            for c, reduction, k in STAGES:
                yield Case(experiment, n, c, image_px // reduction, k)
    else:
        for c, side, k in TRAINING:
            yield Case(experiment, 64, c, side, k)


def call(provider: str, mode: str, x: Tensor, grad: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """Return the call to be timed for one row. `x` and `grad` determine the memory format."""
    k, channels = weight.shape[2], weight.shape[0]
    pad = k // 2
    if provider == "ours":
        if mode == "forward":
            return lambda: depthwise_conv2d(x, weight)
        if mode == "backward_weight":
            return lambda: depthwise_conv2d_weight_grad(x, grad, k, k)
        return lambda: depthwise_conv2d_input_grad(grad, weight)
    if mode == "forward":
        return lambda: F.conv2d(x, weight, padding=pad, groups=channels)
    mask = [mode == "backward_data", mode == "backward_weight", False]

    def backward() -> Tensor:
        result = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], [pad, pad], [1, 1], False, [0, 0], channels, mask
        )
        return result[0] if mask[0] else result[1]

    return backward


def time_calls(
    calls: dict[str, Callable[[], Tensor]],
    *,
    rounds: int,
    seconds: float,
    patience: float,
    device: str,
    processor_time: bool = False,
) -> dict[str, list[float]]:
    """Time every provider's call in milliseconds, in turn, with the order reversed in every other round.

    A call that takes longer than `patience` seconds is timed once. The state of the caches and of the threads depends
    on the preceding call. All providers therefore use the same memory format: a slow call in another one would reduce
    the speed of the next by up to two fifths.
    """
    clean: dict[str, list[float]] = {name: [] for name in calls}
    every: dict[str, list[float]] = {name: [] for name in calls}
    once = set()
    for name, work in calls.items():
        if name in ("ours", "forms") or device == "cuda":
            work()  # the first call of a shape compiles or selects code: ours and cuDNN on CUDA, oneDNN on CPU
        first, interrupted = _time(work, device, processor_time)
        if first > 1e3 * patience:
            once.add(name)
            (every if interrupted else clean)[name].append(first)
    start = time.monotonic()
    for done in range(rounds):
        for name, work in list(calls.items())[:: -1 if done % 2 else 1]:
            if name not in once:
                work()
                milliseconds, interrupted = _time(work, device, processor_time)
                (every if interrupted else clean)[name].append(milliseconds)
        enough = all(len(clean[name]) >= 5 for name in calls if name not in once)
        if done >= 4 and time.monotonic() - start > (seconds if enough else 4 * seconds):
            break
    return {name: clean[name] if len(clean[name]) >= min(3, rounds) else clean[name] + every[name] for name in calls}


def _time(work: Callable[[], Tensor], device: str, processor_time: bool) -> tuple[float, bool]:
    """Milliseconds of a call, and whether another process interrupted it (never for CUDA or processor time)."""
    if device == "cuda":
        torch.empty(1 << 28, dtype=torch.uint8, device="cuda").zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end), False
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    clock = time.process_time if processor_time else time.perf_counter
    begin = clock()
    work()
    milliseconds = 1e3 * (clock() - begin)
    return milliseconds, not processor_time and resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > switches


def stock_settings(device: str) -> dict[str, Callable[[], None]]:
    """Stock providers with a function that switches to each: cuDNN and PyTorch's own kernels on CUDA, oneDNN on CPU."""

    def use_cudnn(enabled: bool) -> Callable[[], None]:
        return lambda: setattr(torch.backends.cudnn, "enabled", enabled)

    return {"cudnn": use_cudnn(True), "native": use_cudnn(False)} if device == "cuda" else {"stock": lambda: None}


def use_kernels(on: bool) -> None:
    """Let the operator use its compiled CPU kernels according to its tables, or not at all."""
    wanted = _READY if on else _never
    if direct.ready is not wanted:
        direct.ready = wanted  # type: ignore[assignment]
        for kept in (tables.select_form, forms.plan_forward, forms.plan_input_grad):
            kept.cache_clear()


def _never() -> bool:
    return False


def measure(case: Case, mode: str, options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Measure the rows of one case and mode, for every provider and layout."""
    device, dtype = options.device, getattr(torch, options.dtype)
    generator = torch.Generator().manual_seed(0)
    shape = (case.n, case.c, case.side_px, case.side_px)
    x, grad = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(2))
    weight = (torch.randn(case.c, 1, case.k, case.k, generator=generator) / case.k).to(device, dtype)
    for layout, memory_format in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        tensors = [t.contiguous(memory_format=memory_format) for t in (x, grad)]
        work = call("ours", mode, *tensors, weight)
        calls = {"ours": work}
        if device == "cpu" and _READY():
            calls = {
                provider: lambda on=on, work=work: (use_kernels(on), work())[1]
                for provider, on in (("ours", True), ("forms", False))
            }
        slow = options.dtype == "bfloat16" and device == "cpu" and case.k > 13 and layout == "contiguous"  # minutes
        slow |= mode == "backward_weight" and case.gflop_nominal > options.stock_limit_gflop  # tens of seconds on CPU
        if not slow:
            for provider, switch in stock_settings(device).items():
                work = call(provider, mode, *tensors, weight)
                calls[provider] = lambda switch=switch, work=work: (switch(), work())[1]
        limits = {"rounds": options.rounds, "seconds": options.seconds, "patience": options.patience}
        limits["processor_time"] = options.processor_time
        for provider, values in time_calls(calls, **limits, device=device).items():
            yield as_row(case, provider, layout, mode, options, values)


def as_row(
    case: Case, provider: str, layout: str, mode: str, options: argparse.Namespace, values: Sequence[float]
) -> dict[str, str]:
    """Build one row of the table from the milliseconds of its calls."""
    return {
        **{name: str(value) for name, value in asdict(case).items()},
        "provider": provider,
        "layout": layout,
        "mode": mode,
        "dtype": "tf32" if options.tf32 else options.dtype,
        "device": device_name(options.device),
        "time_ms": f"{statistics.median(values):.4g}",
        "low_ms": f"{percentile(values, 0.2):.4g}",
        "high_ms": f"{percentile(values, 0.8):.4g}",
        "gflop_nominal": f"{case.gflop_nominal:.4g}",
        "calls": str(len(values)),
        **describe_versions(options.device),
    }


def measure_peak(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Measure the row of a 2048 × 2048 matrix product, whose rate is the roofline of the plot."""
    side = 2048
    a, b = (torch.randn(side, side).to(options.device, getattr(torch, options.dtype)) for _ in range(2))
    calls = {"stock": lambda: a @ b}
    limits = {"rounds": 30, "seconds": 5.0, "patience": options.patience, "processor_time": options.processor_time}
    for values in time_calls(calls, **limits, device=options.device).values():
        case = Case("peak", 1, side, side, 1)
        yield as_row(case, "stock", "", "matmul", options, values) | {"gflop_nominal": f"{2e-9 * side**3:.4g}"}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--experiment", choices=("peak", "table1", "stages", "training"), nargs="+", default=None)
    parser.add_argument("--mode", choices=MODES, nargs="+", default=list(MODES))
    parser.add_argument("--side", type=int, nargs="+", default=None, help="only maps of these sides, in pixels")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--tf32", action="store_true", help="CUDA: tensor cores for float32, 10 bits of mantissa")
    parser.add_argument("--rounds", type=int, default=100, help="calls a row at most")
    parser.add_argument("--seconds", type=float, default=0.7, help="time a case and layout at most, after five rounds")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="a call that takes longer, in seconds, is timed once"
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="CPU: seconds of the processor instead of the clock, for a machine that others use; with one thread",
    )
    parser.add_argument("--stock-limit-gflop", type=float, default=None, help="no stock weight gradient above this")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, with a line of progress on stderr for each case and mode."""
    options = build_parser().parse_args(argv)
    torch.set_grad_enabled(False)
    if options.stock_limit_gflop is None:
        options.stock_limit_gflop = 8.0 if options.device == "cpu" else float("inf")
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = options.tf32
    for experiment in options.experiment or ("peak", "table1", "stages", "training"):
        if experiment == "peak":
            merge_rows(options.out, list(measure_peak(options)), key=KEY, fields=FIELDS)
            continue
        for case in cases(experiment, options.device == "cpu"):
            if options.side is not None and case.side_px not in options.side:
                continue
            for mode in options.mode:
                rows = list(measure(case, mode, options))
                merge_rows(options.out, rows, key=KEY, fields=FIELDS)
                figures = "  ".join(f"{row['provider']}/{row['layout']} {row['time_ms']}" for row in rows)
                sys.stderr.write(f"{asdict(case)} {mode}: {figures} ms\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
