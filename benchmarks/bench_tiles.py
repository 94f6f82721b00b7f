"""Find the fastest tile of a CUDA kernel for each shape: candidates are compiled in parallel, checked and timed.

`replknet.ops.cuda.kernels.choose_tile` is based on this table. A tile is a compiled variant of the kernel, defined by
the number of outputs that a thread or a warp computes and by how threads or warps cover a map. Every tile is compared
with `F.conv2d` in float64 before it is timed. Tiles that fail or give wrong results are named on stderr and left out.

    python -m benchmarks.bench_tiles --out benchmarks/results/tiles.csv
"""

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bench_depthwise import time_calls
from benchmarks.table import VERSIONS, describe_versions, device_name, merge_rows
from replknet.ops.cuda import nvrtc
from replknet.ops.cuda.kernels import Tile, direct_tile, launch_tile, mma_tile
from replknet.ops.cuda.source import DEVICE_HEADER, SOURCE

SHAPES = (  # images, channels, side of the map, side of the kernel
    *((1, 128, 256, 31), (1, 256, 128, 29), (1, 512, 64, 27), (1, 1024, 32, 13)),
    *((64, 128, 56, 31), (64, 256, 28, 29), (64, 512, 14, 27), (64, 1024, 7, 13)),
    *((64, 32, 56, 31), (1, 128, 256, 7), (64, 384, 64, 17)),
)
SCALARS = {"float32": 0, "bfloat16": 2, "tf32": 3}
LARGEST_ERROR = {"float32": 1e-5, "bfloat16": 6e-3, "tf32": 6e-3}
SHARED_BYTES = 110 << 10
KEY = ("tile", "dtype", "n", "c", "side_px", "k", "device")
FIELDS = (*KEY, "tile_threads", "shared_bytes", "time_ms", "tflops_nominal", "relative_error", *VERSIONS)


def candidates(dtype: str, side: int, k: int) -> Iterator[Tile]:
    """Tiles that neither cover much more than a map nor divide it into many more pieces than necessary."""

    def fits(unit: int, count: int) -> bool:
        return unit * count < 2 * side and 2 * unit * count > min(side, 32)

    if dtype == "float32":
        for (rows, cols), tx, ty, planes in itertools.product(
            ((4, 8), (8, 4), (8, 8), (4, 4)), (2, 4, 8, 16), (2, 4, 8, 16, 32), (1, 2, 4)
        ):
            if 32 <= tx * ty * planes <= 512 and fits(rows, ty) and fits(cols, tx):
                yield direct_tile(k, k, rows=rows, cols=cols, tx=tx, ty=ty, planes=planes)
    else:
        for tiles_n, warps, planes in itertools.product((1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4)):
            if 32 * warps * planes <= 256 and fits(8, tiles_n) and fits(16, warps):
                yield mma_tile(SCALARS[dtype], k, k, tiles_n=tiles_n, warps=warps, planes=planes)


def prepare(tile: Tile, image: bytes, x: Tensor, weight: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The output tensor of one compiled tile, filled with NaN, and a function that launches the kernel."""
    function = nvrtc.load_function(image, tile.kernel, device=x.device.index, shared_bytes=tile.shared_bytes)
    y = torch.full_like(x, float("nan"))

    def launch() -> Tensor:
        launch_tile(tile, function, x, weight, None, y)
        return y

    return y, launch


def measure(shape: Sequence[int], dtype: str, images: dict[Tile, bytes]) -> Iterator[dict[str, str]]:
    """Measure the rows of one shape and data type."""
    n, c, side, k = shape
    device = torch.device("cuda", torch.cuda.current_device())
    number_type = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    kernel = min(k, 2 * side - 1)  # the taps beyond meet nothing but padding
    x = torch.randn(n, c, side, side, device=device).to(number_type)
    weight = (torch.randn(c, 1, kernel, kernel, device=device) / kernel).to(number_type)
    expected = F.conv2d(x[:1].double(), weight.double(), padding=kernel // 2, groups=c)
    gflop = 2e-9 * n * c * side**2 * k**2
    for tile in candidates(dtype, side, kernel):
        if tile not in images:
            continue
        try:
            y, launch = prepare(tile, images[tile], x, weight)
            launch()
        except nvrtc.KernelUnavailable as error:
            sys.stderr.write(f"{tile.defines}: {error}\n")
            continue
        error = ((y[:1].double() - expected).norm() / expected.norm()).item()
        if not (error < LARGEST_ERROR[dtype] and torch.isfinite(y).all()):
            sys.stderr.write(f"{tile.defines}: WRONG by {error:.1e} for {tuple(shape)}\n")
            continue
        timed = time_calls({"ours": launch}, rounds=5, seconds=1.0, patience=1.0, device="cuda")["ours"]
        milliseconds = statistics.median(timed)
        yield {
            "tile": " ".join(tile.defines),
            "dtype": dtype,
            **{name: str(value) for name, value in zip(("n", "c", "side_px", "k"), shape, strict=True)},
            "device": device_name("cuda"),
            "tile_threads": str(tile.threads),
            "shared_bytes": str(tile.shared_bytes),
            "time_ms": f"{milliseconds:.4g}",
            "tflops_nominal": f"{gflop / milliseconds:.4g}",
            "relative_error": f"{error:.1e}",
            **describe_versions("cuda"),
        }


def compile_all(tiles: Sequence[Tile]) -> dict[Tile, bytes]:
    """Compile tiles to machine code for this device, in as many threads as there are processors."""
    major, minor = torch.cuda.get_device_capability()

    def build(tile: Tile) -> bytes:
        return nvrtc.compile_source(DEVICE_HEADER + SOURCE, architecture=f"sm_{major}{minor}", defines=tile.defines)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(tiles, pool.map(build, tiles), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the rows, with a line on stderr for each shape and data type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; rows of the same key are replaced")
    parser.add_argument("--dtype", choices=tuple(SCALARS), nargs="+", default=list(SCALARS))
    options = parser.parse_args(argv)
    cases = [(shape, dtype) for shape in SHAPES for dtype in options.dtype]
    tiles = dict.fromkeys(
        tile
        for (_, _, side, k), dtype in cases
        for tile in candidates(dtype, side, min(k, 2 * side - 1))
        if tile.shared_bytes <= SHARED_BYTES
    )
    images = compile_all(list(tiles))
    for shape, dtype in cases:
        rows = list(measure(shape, dtype, images))
        merge_rows(options.out, rows, key=KEY, fields=FIELDS)
        best = min(rows, key=lambda row: float(row["time_ms"]), default=None)
        sys.stderr.write(f"{shape} {dtype}: {best and (best['time_ms'], best['tile'])}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
